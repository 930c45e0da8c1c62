//! Answers who a connection may be.

use crate::cache::SuccessCache;
use crate::credentials::verify_argon2;
use crate::sasl::scram::{Hash, Keys, SALT_BYTES};
use crate::{AccessRules, AllowAll, Credentials, Denied, Origin, Principal};
use std::sync::Arc;

/// The server's word on who is who and who may what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authority {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    credentials: Credentials,
    rules: Box<dyn AccessRules>,
    cache: SuccessCache,
}

/// What becomes of a password.
#[derive(Debug)]
pub enum Verdict {
    /// Known at once.
    Now(Result<Principal, Denied>),
    /// To be found out, slowly, by [`PasswordCheck::run`].
    Slow(PasswordCheck),
}

/// A password check that takes its time and a good deal of memory. Run it off the runtime's threads.
pub struct PasswordCheck {
    authority: Authority,
    hash: String,
    password: Vec<u8>,
    /// `None`: there is no such user, but that should take as long to find out.
    user: Option<String>,
}

impl Authority {
    /// With these users, everybody who gets in may do everything.
    pub fn new(credentials: Credentials) -> Self {
        Self::with_rules(credentials, Box::new(AllowAll))
    }

    /// With these users and rules.
    pub fn with_rules(credentials: Credentials, rules: Box<dyn AccessRules>) -> Self {
        Self {
            inner: Arc::new(Inner {
                credentials,
                rules,
                cache: SuccessCache::new(),
            }),
        }
    }

    /// The rules of access.
    pub fn rules(&self) -> &dyn AccessRules {
        &*self.inner.rules
    }

    /// Is this the user's password? Names and passwords are as the protocol gives them: any bytes.
    pub fn password(&self, user: &[u8], password: &[u8], origin: &Origin) -> Verdict {
        let inner = &self.inner;
        let known = std::str::from_utf8(user)
            .ok()
            .and_then(|name| Some((name, inner.credentials.get(name)?)));
        let Some((name, user)) = known else {
            return match inner.credentials.slow_hash() {
                Some(hash) => Verdict::Slow(self.slow(hash, password, None)),
                None => Verdict::Now(Err(Denied::BadCredentials)),
            };
        };
        if user.is_loopback_only() && !origin.loopback {
            return Verdict::Now(Err(Denied::LoopbackOnly));
        }
        match user.check(password) {
            Ok(true) => Verdict::Now(Ok(Principal::user(name))),
            Ok(false) => Verdict::Now(Err(Denied::BadCredentials)),
            Err(_) if inner.cache.knows(name, password) => Verdict::Now(Ok(Principal::user(name))),
            Err(hash) => Verdict::Slow(self.slow(hash, password, Some(name))),
        }
    }

    /// May somebody come in without saying who they are?
    ///
    /// # Errors
    /// They may not.
    pub fn anonymous(&self, origin: &Origin) -> Result<Principal, Denied> {
        if origin.anonymous.unwrap_or(origin.loopback) {
            Ok(Principal::anonymous())
        } else {
            Err(Denied::AnonymousNotAllowed)
        }
    }

    fn slow(&self, hash: &str, password: &[u8], user: Option<&str>) -> PasswordCheck {
        PasswordCheck {
            authority: self.clone(),
            hash: hash.to_owned(),
            password: password.to_vec(),
            user: user.map(str::to_owned),
        }
    }

    /// A user's SCRAM keys, and whether they may be used at all. Unknown users get keys too, which nothing fits, so that
    /// the exchange does not tell who exists.
    pub(crate) fn scram_keys(
        &self,
        hash: Hash,
        user: &str,
        origin: &Origin,
    ) -> (Keys, Result<Principal, Denied>) {
        let salt = self.inner.cache.derive(user.as_bytes());
        let salt = salt.as_ref().map_or(&[0; SALT_BYTES][..], AsRef::as_ref);
        let salt = salt.get(..SALT_BYTES).unwrap_or(salt);
        match self.inner.credentials.get(user) {
            Some(known) if known.is_loopback_only() && !origin.loopback => {
                (Keys::nobody(hash, salt), Err(Denied::LoopbackOnly))
            }
            Some(known) => match known.scram_keys(hash, salt) {
                Some(keys) => (keys.clone(), Ok(Principal::user(user))),
                None => (Keys::nobody(hash, salt), Err(Denied::BadCredentials)),
            },
            None => (Keys::nobody(hash, salt), Err(Denied::BadCredentials)),
        }
    }
}

impl PasswordCheck {
    /// Finds out.
    ///
    /// # Errors
    /// It is not the password, or there is no such user.
    pub fn run(self) -> Result<Principal, Denied> {
        let fits = verify_argon2(&self.hash, &self.password);
        match self.user {
            Some(user) if fits => {
                self.authority.inner.cache.remember(&user, &self.password);
                Ok(Principal::user(&user))
            }
            _ => Err(Denied::BadCredentials),
        }
    }
}

impl std::fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordCheck")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
