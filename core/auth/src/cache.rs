//! Remembers passwords that were right, so that a storm of reconnecting clients costs one slow check for each user.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;

/// Successes, one for each user. What is kept is keyed with a secret that never leaves the process, so that it helps
/// nobody who sees it.
pub(crate) struct SuccessCache {
    key: Option<hmac::Key>,
    proofs: Mutex<HashMap<String, hmac::Tag>>,
}

impl SuccessCache {
    pub(crate) fn new() -> Self {
        Self {
            // Without randomness nothing is remembered.
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            proofs: Mutex::default(),
        }
    }

    /// Was this password right before?
    pub(crate) fn knows(&self, user: &str, password: &[u8]) -> bool {
        let Some(key) = &self.key else { return false };
        let Some(proof) = self.proofs.lock().get(user).copied() else {
            return false;
        };
        hmac::verify(key, password, proof.as_ref()).is_ok()
    }

    /// Remembers that it is right. Called for users that exist, which bounds the memory.
    pub(crate) fn remember(&self, user: &str, password: &[u8]) {
        if let Some(key) = &self.key {
            let proof = hmac::sign(key, password);
            self.proofs.lock().insert(user.to_owned(), proof);
        }
    }

    /// A value that depends on `input` and this process only.
    pub(crate) fn derive(&self, input: &[u8]) -> Option<hmac::Tag> {
        self.key.as_ref().map(|key| hmac::sign(key, input))
    }
}

impl fmt::Debug for SuccessCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SuccessCache").finish_non_exhaustive()
    }
}
