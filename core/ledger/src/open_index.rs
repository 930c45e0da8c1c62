//! Where the batches of the file being written lie: grown by the sequencer, read by reader threads.

use crate::format::Entry;
use crate::frame::ShardId;
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// The entries of the file being written.
#[derive(Debug, Default)]
pub(crate) struct OpenIndex(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// In the order of writing.
    entries: Vec<Entry>,
    /// Of each shard, in the order of its sequences.
    shards: BTreeMap<ShardId, Vec<u32>>,
    /// Of each log, in the order of its offsets. The broker allots their numbers: no client can choose them to collide.
    partitions: HashMap<u64, Places, FixedState>,
}

/// Most logs have a batch or two in a file.
#[derive(Debug)]
enum Places {
    One(u32),
    Many(Vec<u32>),
}

impl Places {
    fn push(&mut self, at: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, at]),
            Self::Many(places) => places.push(at),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(at) => std::slice::from_ref(at),
            Self::Many(places) => places,
        }
    }
}

impl Inner {
    fn at(&self, at: &u32) -> Option<&Entry> {
        self.entries.get(*at as usize)
    }
}

impl OpenIndex {
    /// Adds entries, in the order of writing; leaves `new` empty.
    pub(crate) fn append(&self, new: &mut Vec<Entry>) {
        let mut inner = self.0.lock();
        for entry in new.drain(..) {
            let at = u32::try_from(inner.entries.len()).unwrap_or(u32::MAX);
            inner.shards.entry(entry.shard).or_default().push(at);
            if entry.partition != 0 {
                inner
                    .partitions
                    .entry(entry.partition)
                    .and_modify(|places| places.push(at))
                    .or_insert(Places::One(at));
            }
            inner.entries.push(entry);
        }
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().entries.clone()
    }

    /// The sequences of each shard: first and last.
    pub(crate) fn sequences(&self) -> Vec<(ShardId, u64, u64)> {
        let inner = self.0.lock();
        let range = |(shard, places): (&ShardId, &Vec<u32>)| {
            let first = inner.at(places.first()?)?;
            let last = inner.at(places.last()?)?;
            let end = last.base_sequence + u64::from(last.last_delta);
            Some((*shard, first.base_sequence, end))
        };
        inner.shards.iter().filter_map(range).collect()
    }

    /// The entry with this sequence.
    pub(crate) fn by_sequence(&self, shard: ShardId, sequence: u64) -> Option<Entry> {
        let inner = self.0.lock();
        let places = inner.shards.get(&shard)?;
        let after = places.partition_point(|at| {
            inner
                .at(at)
                .is_some_and(|entry| entry.base_sequence <= sequence)
        });
        let entry = inner.at(places.get(after.checked_sub(1)?)?)?;
        (sequence <= entry.base_sequence + u64::from(entry.last_delta)).then_some(*entry)
    }

    /// Calls `each` with a log's entries from the one that holds this offset, or the next after a gap, until it
    /// returns `false`.
    pub(crate) fn each_from(
        &self,
        partition: u64,
        offset: i64,
        each: &mut dyn FnMut(&Entry) -> bool,
    ) {
        let inner = self.0.lock();
        let Some(places) = inner.partitions.get(&partition) else {
            return;
        };
        let places = places.as_slice();
        let start = places.partition_point(|at| {
            inner
                .at(at)
                .is_some_and(|entry| entry.base_offset + i64::from(entry.last_delta) < offset)
        });
        for at in places.iter().skip(start) {
            if !inner.at(at).is_some_and(&mut *each) {
                return;
            }
        }
    }
}
