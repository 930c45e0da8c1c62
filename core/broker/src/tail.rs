//! The in-memory tail: the newest records, by sequence, bounded in bytes.

mod recent;

use crate::api::{Message, StoredBatch};
use recent::Recent;
use std::collections::VecDeque;
use std::sync::Arc;

/// The newest records.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<TailEntry>,
    recent: Recent,
    bytes: u64,
    bytes_max: u64,
}

/// A run of sequences and the batch they lie in.
#[derive(Debug, Clone)]
pub(crate) struct TailEntry {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Which of the batch's records the first sequence stands for.
    pub(crate) index: u32,
    pub(crate) stored: Arc<StoredBatch>,
    /// The log that keeps it, or 0.
    pub(crate) partition: u64,
    pub(crate) partition_index: i32,
    pub(crate) base_offset: i64,
}

/// What an entry costs beside its batch.
const ENTRY_BYTES: u64 = 192;

impl TailEntry {
    fn bytes(&self) -> u64 {
        ENTRY_BYTES + self.stored.batch.len() as u64 + 96 * self.stored.envelopes.len() as u64
    }

    /// The record at this sequence.
    pub(crate) fn message(&self, sequence: u64) -> Message {
        let distance = u32::try_from(sequence.saturating_sub(self.first)).unwrap_or(u32::MAX);
        let index = self.index.saturating_add(distance);
        Message {
            stored: self.stored.clone(),
            index,
            position: (self.partition != 0)
                .then(|| (self.partition_index, self.base_offset + i64::from(index))),
        }
    }
}

impl Tail {
    /// An empty tail.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            recent: Recent::default(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds the newest records.
    pub(crate) fn push(&mut self, entry: TailEntry) {
        self.bytes += entry.bytes();
        // A frame that waited for space on the disk comes after what links have pulled meanwhile.
        let newer = self.entries.iter().rev();
        let newer = newer.take_while(|known| known.first > entry.first).count();
        self.entries.insert(self.entries.len() - newer, entry);
    }

    /// The entry with this sequence.
    pub(crate) fn get(&self, sequence: u64) -> Option<&TailEntry> {
        // Most are asked for as soon as they have come.
        let newest = self.entries.back()?;
        if newest.first <= sequence {
            return (sequence <= newest.last).then_some(newest);
        }
        let at = self.entries.partition_point(|entry| entry.last < sequence);
        self.entries.get(at).filter(|entry| entry.first <= sequence)
    }

    /// Adds the newest records of a log.
    pub(crate) fn push_logged(&mut self, entry: TailEntry) {
        self.recent
            .push(entry.partition, (entry.base_offset, entry.first));
        self.push(entry);
    }

    /// The offset from which on a partition's log is here.
    pub(crate) fn log_begins(&self, partition: u64) -> Option<i64> {
        self.recent.oldest(partition)
    }

    /// Batches of a partition's log that are here, from the one on that holds this offset, or from the first on: base
    /// offset and sequence.
    pub(crate) fn log_from(&self, partition: u64, offset: i64) -> impl Iterator<Item = (i64, u64)> {
        self.recent.from(partition, offset)
    }

    /// Takes out the oldest entries that are released while the tail is over its bound.
    pub(crate) fn evict(&mut self, released: u64) {
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.entries.pop_front_if(|oldest| oldest.last <= released)
        {
            self.bytes -= oldest.bytes();
            self.recent.pop(oldest.partition, oldest.first);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
