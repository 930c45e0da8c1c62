//! Authentication for sessions: slow password checks run off the runtime's threads and a few at a time.

use omnilog_auth::{Authority, Denied, Origin, PasswordCheck, Principal, Verdict};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The server's authority, with the means to ask it from a synchronous session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authenticator {
    authority: Authority,
    slots: Arc<Semaphore>,
}

impl Authenticator {
    /// At most this many slow checks at once; the others wait their turn.
    pub fn new(authority: Authority, parallel_max: usize) -> Self {
        Self {
            authority,
            slots: Arc::new(Semaphore::new(parallel_max.max(1))),
        }
    }

    /// Who decides.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Is this the user's password? The outcome goes to `reply`, typically a [`crate::SignalSender`]'s `send`: before
    /// this returns where it is known at once, else later.
    pub fn password(
        &self,
        user: &[u8],
        password: &[u8],
        origin: &Origin,
        reply: impl FnOnce(Result<Principal, Denied>) + Send + 'static,
    ) {
        match self.authority.password(user, password, origin) {
            Verdict::Now(outcome) => reply(outcome),
            Verdict::Slow(check) => self.run(check, reply),
        }
    }

    /// Runs a slow check when there is a slot. Must be called on the runtime.
    pub fn run(
        &self,
        check: PasswordCheck,
        reply: impl FnOnce(Result<Principal, Denied>) + Send + 'static,
    ) {
        let slots = self.slots.clone();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            let outcome = tokio::task::spawn_blocking(move || check.run()).await;
            reply(outcome.unwrap_or(Err(Denied::BadCredentials)));
        });
    }
}
