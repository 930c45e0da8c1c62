//! Where the batches of the file being written lie: grown by the sequencer, read by reader threads.

use crate::format::Entry;
use crate::frame::ShardId;
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// The entries of the file being written. The sequencer only adds to them: whoever reads logs there puts them in order.
#[derive(Debug, Default)]
pub(crate) struct OpenIndex {
    written: Mutex<Written>,
    /// Locked before what was written.
    ordered: Mutex<Ordered>,
}

#[derive(Debug, Default)]
struct Written {
    /// In the order of writing.
    entries: Vec<Entry>,
    /// Of each shard, in the order of its sequences.
    shards: BTreeMap<ShardId, Vec<u32>>,
}

#[derive(Debug, Default)]
struct Ordered {
    /// How many of the entries have been put in order.
    count: usize,
    /// Of each log, in the order of its offsets. The broker allots their numbers: no client can choose them to collide.
    partitions: HashMap<u64, Vec<u32>, FixedState>,
}

/// Entries that are put in order at a time: the sequencer waits for no more than that they are copied.
const ORDERED: usize = 1024;

impl Written {
    fn at(&self, at: &u32) -> Option<&Entry> {
        self.entries.get(*at as usize)
    }
}

impl Ordered {
    /// Puts in order what has been written since.
    fn go_on(&mut self, written: &Mutex<Written>) {
        loop {
            let new: Vec<u64> = {
                let written = written.lock();
                let new = written.entries.iter().skip(self.count).take(ORDERED);
                new.map(|entry| entry.partition).collect()
            };
            if new.is_empty() {
                return;
            }
            for partition in new {
                let at = u32::try_from(self.count).unwrap_or(u32::MAX);
                self.count += 1;
                if partition != 0 {
                    self.partitions.entry(partition).or_default().push(at);
                }
            }
        }
    }
}

impl OpenIndex {
    /// Adds entries, in the order of writing; leaves `new` empty.
    pub(crate) fn append(&self, new: &mut Vec<Entry>) {
        let mut written = self.written.lock();
        for entry in new.drain(..) {
            let at = u32::try_from(written.entries.len()).unwrap_or(u32::MAX);
            written.shards.entry(entry.shard).or_default().push(at);
            written.entries.push(entry);
        }
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.written.lock().entries.clone()
    }

    /// The sequences of each shard: first and last.
    pub(crate) fn sequences(&self) -> Vec<(ShardId, u64, u64)> {
        let written = self.written.lock();
        let range = |(shard, places): (&ShardId, &Vec<u32>)| {
            let first = written.at(places.first()?)?;
            let last = written.at(places.last()?)?;
            let end = last.base_sequence + u64::from(last.last_delta);
            Some((*shard, first.base_sequence, end))
        };
        written.shards.iter().filter_map(range).collect()
    }

    /// The entry with this sequence.
    pub(crate) fn by_sequence(&self, shard: ShardId, sequence: u64) -> Option<Entry> {
        let written = self.written.lock();
        let places = written.shards.get(&shard)?;
        let after = places.partition_point(|at| {
            written
                .at(at)
                .is_some_and(|entry| entry.base_sequence <= sequence)
        });
        let entry = written.at(places.get(after.checked_sub(1)?)?)?;
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
        let mut ordered = self.ordered.lock();
        ordered.go_on(&self.written);
        let Some(places) = ordered.partitions.get(&partition) else {
            return;
        };
        let written = self.written.lock();
        let start = places.partition_point(|at| {
            written
                .at(at)
                .is_some_and(|entry| entry.base_offset + i64::from(entry.last_delta) < offset)
        });
        for at in places.iter().skip(start) {
            if !written.at(at).is_some_and(&mut *each) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ORDERED, OpenIndex};
    use crate::format::Entry;
    use crate::frame::ShardId;

    #[test]
    fn what_is_written_after_a_look_is_found_by_the_next() {
        let index = OpenIndex::default();
        let (mut new, mut written) = (Vec::new(), 0);
        let mut write = |count: u32| {
            new.extend((written..written + count).map(|at| Entry {
                partition: u64::from(at % 3),
                base_offset: i64::from(at / 3) * 2,
                base_sequence: u64::from(at) * 2,
                last_delta: 1,
                max_timestamp: 0,
                shard: ShardId(0),
                position: at,
                length: 1,
            }));
            written += count;
            index.append(&mut new);
        };
        let found = |partition, offset| {
            let mut found = Vec::new();
            index.each_from(partition, offset, &mut |entry| {
                found.push(entry.position);
                found.len() < 2
            });
            found
        };
        assert_eq!(found(1, 0), []);
        write(5);
        assert_eq!(found(1, 1), [1, 4]);
        assert_eq!(found(2, 1), [2]);
        // No log keeps what has no partition.
        assert_eq!(found(0, 0), []);
        write(3 * u32::try_from(ORDERED).unwrap_or_default());
        assert_eq!(found(2, 1), [2, 5]);
        assert_eq!(found(1, 2 * 1000), [3001, 3004]);
        assert_eq!(
            index.by_sequence(ShardId(0), 7).map(|at| at.position),
            Some(3)
        );
    }
}
