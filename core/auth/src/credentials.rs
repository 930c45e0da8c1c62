//! The users and their passwords, as the configuration names them.

use crate::sasl::scram::{Hash, Keys};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The largest argon2 memory cost that is accepted, KiB: a check must not exhaust the machine.
const ARGON2_MEMORY_KIB_MAX: u32 = 1 << 20;

/// All users.
#[derive(Debug, Default)]
pub struct Credentials {
    users: HashMap<String, User>,
}

/// A user.
pub struct User {
    secret: Secret,
    /// May connect from this machine only.
    loopback_only: bool,
    scram: [OnceLock<Option<Keys>>; 2],
}

enum Secret {
    /// For development: the password itself.
    Plain(Vec<u8>),
    /// An argon2 hash in PHC format.
    Argon2(String),
}

/// Why a user can't be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// The name is taken.
    #[error("user '{0}' is defined twice")]
    Twice(String),
    /// The hash can't be read.
    #[error(
        "user '{0}': not an argon2 hash in PHC format ($argon2id$v=19$m=...,t=...,p=...$salt$hash)"
    )]
    BadHash(String),
    /// Checking it would take too much memory.
    #[error("user '{0}': an argon2 memory cost above {ARGON2_MEMORY_KIB_MAX} KiB is not accepted")]
    TooCostly(String),
    /// A new hash could not be made.
    #[error("the password could not be hashed")]
    NotHashed,
}

impl Credentials {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// What RabbitMQ has on its first day: `guest` with the password `guest`, from this machine only.
    pub fn guest() -> Self {
        let mut guest = User::plain("guest");
        guest.loopback_only = true;
        Self {
            users: HashMap::from([("guest".to_owned(), guest)]),
        }
    }

    /// Adds a user.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add(&mut self, name: &str, user: User) -> Result<(), CredentialError> {
        if self.users.contains_key(name) {
            return Err(CredentialError::Twice(name.to_owned()));
        }
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Is there nobody?
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Does any check take long? Then one for an unknown user must as well.
    pub(crate) fn slow_hash(&self) -> Option<&str> {
        self.users.values().find_map(|user| match &user.secret {
            Secret::Argon2(hash) => Some(hash.as_str()),
            Secret::Plain(_) => None,
        })
    }
}

impl User {
    /// A user with a password known in the clear.
    pub fn plain(password: impl Into<Vec<u8>>) -> Self {
        Self::with(Secret::Plain(password.into()))
    }

    /// A user with an argon2 hash in PHC format. `name` is for the error message.
    ///
    /// # Errors
    /// The hash can't be read, or is too costly to check.
    pub fn argon2(name: &str, hash: &str) -> Result<Self, CredentialError> {
        let bad = || CredentialError::BadHash(name.to_owned());
        let parsed = PasswordHash::new(hash).map_err(|_| bad())?;
        let params = argon2::Params::try_from(&parsed).map_err(|_| bad())?;
        if !parsed.algorithm.as_str().starts_with("argon2") || parsed.hash.is_none() {
            return Err(bad());
        }
        if params.m_cost() > ARGON2_MEMORY_KIB_MAX {
            return Err(CredentialError::TooCostly(name.to_owned()));
        }
        Ok(Self::with(Secret::Argon2(hash.to_owned())))
    }

    /// The same user, from this machine only.
    #[must_use]
    pub fn loopback_only(mut self, only: bool) -> Self {
        self.loopback_only = only;
        self
    }

    fn with(secret: Secret) -> Self {
        Self {
            secret,
            loopback_only: false,
            scram: [OnceLock::new(), OnceLock::new()],
        }
    }

    pub(crate) fn is_loopback_only(&self) -> bool {
        self.loopback_only
    }

    /// Is it this password? `Err` with the hash where finding out takes long.
    pub(crate) fn check(&self, password: &[u8]) -> Result<bool, &str> {
        match &self.secret {
            Secret::Plain(known) => Ok(known.ct_eq(password).into()),
            Secret::Argon2(hash) => Err(hash),
        }
    }

    /// The keys for SCRAM, where the password is known in the clear. `salt` is used the first time.
    pub(crate) fn scram_keys(&self, hash: Hash, salt: &[u8]) -> Option<&Keys> {
        let Secret::Plain(password) = &self.secret else {
            return None;
        };
        let slot = self.scram.get(hash as usize)?;
        slot.get_or_init(|| Some(Keys::derive(hash, password, salt)))
            .as_ref()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret.
        f.debug_struct("User")
            .field("loopback_only", &self.loopback_only)
            .finish_non_exhaustive()
    }
}

/// Hashes a password as the configuration wants it, with argon2id's recommended costs and a random salt.
///
/// # Errors
/// The system has no randomness.
pub fn hash_password(password: &[u8]) -> Result<String, CredentialError> {
    let hash: Result<PasswordHash, _> = Argon2::default().hash_password(password);
    hash.map(|hash| hash.to_string())
        .map_err(|_| CredentialError::NotHashed)
}

/// Does the password fit the hash? Slow on purpose.
pub(crate) fn verify_argon2(hash: &str, password: &[u8]) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}
