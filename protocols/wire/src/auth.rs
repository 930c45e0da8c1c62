//! Checking passwords, which is slow on purpose, off the runtime's threads and a few at a time.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Runs password checks for sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authenticator {
    slots: Arc<Semaphore>,
}

impl Authenticator {
    /// At most this many checks at once; the others wait their turn.
    pub fn new(parallel_max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(parallel_max.max(1))),
        }
    }

    /// Runs `check` when there is a slot and hands its outcome to `reply`, typically a
    /// [`crate::SignalSender`]'s `send`. Must be called on the runtime.
    pub fn run<T: Send + 'static>(
        &self,
        check: impl FnOnce() -> T + Send + 'static,
        reply: impl FnOnce(T) + Send + 'static,
    ) {
        let slots = self.slots.clone();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            if let Ok(outcome) = tokio::task::spawn_blocking(check).await {
                reply(outcome);
            }
        });
    }
}
