//! Batches that were read back and taken apart, for the deliveries of their other records.

use crate::link::PulledBatch;
use omnilog_ledger::ShardId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of batches kept.
const BYTES_MAX: usize = 16 << 20;

/// A batch that was read back.
#[derive(Debug)]
pub(crate) struct ReadBatch {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The log that keeps it, or 0, and its base offset there.
    pub(crate) partition: u64,
    pub(crate) base_offset: i64,
    pub(crate) apart: PulledBatch,
}

impl ReadBatch {
    fn bytes(&self) -> usize {
        let stored = &self.apart.stored;
        256 + stored.batch.len() + 256 * stored.envelopes.len()
    }
}

/// The batches read last, bounded in bytes.
#[derive(Debug, Default)]
pub(crate) struct Apart(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By shard and first sequence, with when each was wanted last.
    held: BTreeMap<(ShardId, u64), (Arc<ReadBatch>, u64)>,
    /// The same by when they were wanted.
    order: BTreeMap<u64, (ShardId, u64)>,
    wanted: u64,
    bytes: usize,
}

impl Apart {
    /// The batch with this record.
    pub(crate) fn get(&self, shard: ShardId, sequence: u64) -> Option<Arc<ReadBatch>> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let upto = (shard, 0)..=(shard, sequence);
        let (at, (batch, wanted)) = inner.held.range_mut(upto).next_back()?;
        if batch.last < sequence {
            return None;
        }
        inner.wanted += 1;
        inner.order.remove(wanted);
        inner.order.insert(inner.wanted, *at);
        *wanted = inner.wanted;
        Some(batch.clone())
    }

    /// Keeps a batch; those not wanted for the longest time go.
    pub(crate) fn put(&self, shard: ShardId, batch: Arc<ReadBatch>) {
        let mut inner = self.0.lock();
        let at = (shard, batch.first);
        inner.wanted += 1;
        let wanted = inner.wanted;
        inner.bytes += batch.bytes();
        if let Some((before, order)) = inner.held.insert(at, (batch, wanted)) {
            inner.order.remove(&order);
            inner.bytes -= before.bytes();
        }
        inner.order.insert(wanted, at);
        while inner.bytes > BYTES_MAX && inner.held.len() > 1 {
            let Some((_, oldest)) = inner.order.pop_first() else {
                break;
            };
            if let Some((batch, _)) = inner.held.remove(&oldest) {
                inner.bytes -= batch.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Apart, BYTES_MAX, ReadBatch};
    use crate::api::StoredBatch;
    use crate::link::PulledBatch;
    use bytes::Bytes;
    use omnilog_ledger::ShardId;
    use std::sync::Arc;

    fn batch(first: u64) -> Arc<ReadBatch> {
        let stored = StoredBatch::new(Bytes::from(vec![0; BYTES_MAX / 4]), Vec::new());
        Arc::new(ReadBatch {
            first,
            last: first + 9,
            partition: 0,
            base_offset: -1,
            apart: PulledBatch {
                routed: true,
                stored: Arc::new(stored),
                records: Vec::new(),
            },
        })
    }

    #[test]
    fn batches_are_found_by_any_record_and_the_longest_unwanted_goes() {
        let apart = Apart::default();
        for first in [10, 20, 30] {
            apart.put(ShardId(0), batch(first));
        }
        assert_eq!(apart.get(ShardId(0), 19).map(|b| b.first), Some(10));
        assert!(apart.get(ShardId(0), 40).is_none() && apart.get(ShardId(1), 19).is_none());
        apart.put(ShardId(0), batch(40));
        assert!(apart.get(ShardId(0), 25).is_none());
        assert_eq!(apart.get(ShardId(0), 10).map(|b| b.first), Some(10));
        assert_eq!(apart.get(ShardId(0), 45).map(|b| b.first), Some(40));
    }
}
