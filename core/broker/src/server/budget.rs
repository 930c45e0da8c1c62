//! Bytes of commands that are on their way to the sequencer: of each connection, and of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Bytes of commands that one connection may have waiting for the sequencer before its socket is read no further.
const CONNECTION_BYTES_MAX: u64 = 8 << 20;

/// What all connections have waiting.
#[derive(Debug)]
pub(crate) struct TotalBudget {
    bytes: AtomicU64,
    bytes_max: u64,
}

impl TotalBudget {
    /// Beyond this, a connection with a command waiting is read no further.
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(0),
            bytes_max,
        })
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What a connection has waiting.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    total: Arc<TotalBudget>,
    /// The connection waits for room.
    wanted: AtomicBool,
    room: Notify,
}

impl Budget {
    pub(crate) fn new(total: Arc<TotalBudget>) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            total,
            wanted: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// A command's share, given back when it is dropped.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Cost {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.total.bytes.fetch_add(bytes, Ordering::Relaxed);
        Cost {
            bytes,
            budget: self.clone(),
        }
    }

    /// May more be taken?
    pub(crate) fn has_room(&self) -> bool {
        let bytes = self.bytes();
        bytes == 0 || (bytes < CONNECTION_BYTES_MAX && self.total.bytes() < self.total.bytes_max)
    }

    /// Waits until more may be taken: half of it, so that not every command wakes the connection.
    pub(crate) async fn room(&self) {
        loop {
            self.wanted.store(true, Ordering::SeqCst);
            if self.bytes() < CONNECTION_BYTES_MAX / 2 && self.has_room() {
                self.wanted.store(false, Ordering::SeqCst);
                return;
            }
            self.room.notified().await;
        }
    }

    fn give_back(&self, bytes: u64) {
        self.total.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        // The last one in any case: by then there is room, whatever others have.
        let roomy = before < CONNECTION_BYTES_MAX / 2 + bytes || before == bytes;
        if roomy && self.wanted.load(Ordering::SeqCst) {
            self.room.notify_one();
        }
    }
}

/// A command's share of its connection's budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Cost {
    bytes: u64,
    budget: Arc<Budget>,
}

impl Cost {
    /// How much it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Cost {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_connection_that_fills_its_budget_is_woken_when_half_is_given_back() {
        let budget = Arc::new(Budget::new(TotalBudget::new(1 << 30)));
        let mut costs: Vec<Cost> = (0..8).map(|_| budget.take(1 << 20)).collect();
        assert!(!budget.has_room());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let waited = budget.clone();
        let mut room = pin!(waited.room());
        assert!(room.as_mut().poll(&mut cx).is_pending());
        costs.truncate(5);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "more than half is taken");
        costs.truncate(3);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(matches!(room.as_mut().poll(&mut cx), Poll::Ready(())));
    }

    #[test]
    fn past_the_budget_of_all_each_connection_has_one_command_at_a_time() {
        let total = TotalBudget::new(1000);
        let (big, small) = (
            Arc::new(Budget::new(total.clone())),
            Arc::new(Budget::new(total.clone())),
        );
        let flood = big.take(5000);
        assert!(!big.has_room());
        assert!(small.has_room(), "nobody is shut out");
        let own = small.take(10);
        assert!(!small.has_room());
        drop(own);
        assert!(small.has_room());
        drop(flood);
        assert!(big.has_room());
        assert_eq!(total.bytes(), 0);
    }
}
