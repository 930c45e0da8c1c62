//! How much those that are behind have taken out of their mailboxes, so that the shard gives them no more than that.

use std::sync::atomic::{AtomicU64, Ordering};

/// Parcels taken by those that are behind, all together since the start.
#[derive(Debug)]
pub(crate) struct Taken {
    count: AtomicU64,
    /// The shard waits until the count is this, if it waits.
    awaited: AtomicU64,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            awaited: AtomicU64::new(u64::MAX),
        }
    }
}

impl Taken {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// So many were taken.
    pub(crate) fn add(&self, count: usize) {
        self.count.fetch_add(count as u64, Ordering::SeqCst);
    }

    /// The shard waits for this count, and for none before.
    pub(crate) fn wait_for(&self, count: u64) {
        self.awaited.store(count, Ordering::SeqCst);
    }

    /// Is there now what the shard waited for? Says so once.
    pub(crate) fn is_awaited(&self) -> bool {
        let awaited = self.awaited.load(Ordering::SeqCst);
        awaited <= self.count()
            && self
                .awaited
                .compare_exchange(awaited, u64::MAX, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Taken;

    #[test]
    fn what_is_awaited_is_told_once() {
        let taken = Taken::default();
        taken.add(3);
        assert!(!taken.is_awaited(), "nobody waits");
        taken.wait_for(5);
        taken.add(1);
        assert!(!taken.is_awaited());
        taken.add(4);
        assert!(taken.is_awaited() && !taken.is_awaited());
        taken.wait_for(7);
        assert!(taken.is_awaited(), "it was there already");
    }
}
