//! Which batches of each log lie in the tail.
//!
//! Beside the tail, and not in the logs: who writes to many of a million logs looks at a small table.

use crate::state::IdMap;
use std::collections::VecDeque;

/// A batch's base offset and first sequence.
type Batch = (i64, u64);

/// A table is moved when it grows: there are as many, so that nobody waits until all has moved.
const PARTS: usize = 64;

/// Batches in the tail by their partitions.
#[derive(Debug, Default)]
pub(super) struct Recent {
    parts: Vec<IdMap<u64, Batches>>,
}

/// Of one log, oldest first. Where many logs are written to, most have one or two: they need no memory beside the table.
#[derive(Debug)]
enum Batches {
    One(Batch),
    Two(Batch, Batch),
    Many(VecDeque<Batch>),
}

impl Batches {
    fn first(&self) -> Option<&Batch> {
        match self {
            Self::One(first) | Self::Two(first, _) => Some(first),
            Self::Many(batches) => batches.front(),
        }
    }

    fn push(&mut self, batch: Batch) {
        match self {
            Self::One(first) => *self = Self::Two(*first, batch),
            Self::Two(first, second) => {
                *self = Self::Many(VecDeque::from([*first, *second, batch]));
            }
            Self::Many(batches) => batches.push_back(batch),
        }
    }

    /// Takes the oldest out; says whether there is another.
    fn pop(&mut self) -> bool {
        match self {
            Self::One(_) => return false,
            Self::Two(_, second) => *self = Self::One(*second),
            Self::Many(batches) => {
                batches.pop_front();
                return !batches.is_empty();
            }
        }
        true
    }

    /// Those from the one on that holds this offset, or from the first on.
    fn from(&self, offset: i64) -> impl Iterator<Item = Batch> {
        let (few, many) = match self {
            Self::One(first) => ([Some(*first), None], None),
            Self::Two(first, second) => ([Some(*first), Some(*second)], None),
            Self::Many(batches) => ([None, None], Some(batches)),
        };
        let skip = few.iter().flatten().filter(|(base, _)| *base <= offset);
        let skip = skip.count().saturating_sub(1);
        let many = many.map(|batches| {
            let after = batches.partition_point(|(base, _)| *base <= offset);
            batches.range(after.saturating_sub(1)..).copied()
        });
        let few = few.into_iter().flatten().skip(skip);
        few.chain(many.into_iter().flatten())
    }
}

/// Which part has this partition.
fn part(partition: u64) -> usize {
    // The remainder is below 64.
    (partition % PARTS as u64) as usize
}

impl Recent {
    fn of(&self, partition: u64) -> Option<&Batches> {
        self.parts.get(part(partition))?.get(&partition)
    }

    /// The base offset of a partition's oldest batch.
    pub(super) fn oldest(&self, partition: u64) -> Option<i64> {
        Some(self.of(partition)?.first()?.0)
    }

    /// A partition's batches from the one on that holds this offset, or from the first on.
    pub(super) fn from(&self, partition: u64, offset: i64) -> impl Iterator<Item = Batch> {
        let batches = self.of(partition).into_iter();
        batches.flat_map(move |batches| batches.from(offset))
    }

    pub(super) fn push(&mut self, partition: u64, batch: Batch) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, IdMap::default);
        }
        if let Some(part) = self.parts.get_mut(part(partition)) {
            part.entry(partition)
                .and_modify(|batches| batches.push(batch))
                .or_insert(Batches::One(batch));
        }
    }

    /// What begins with this sequence has left the tail.
    pub(super) fn pop(&mut self, partition: u64, sequence: u64) {
        let Some(part) = self.parts.get_mut(part(partition)) else {
            return;
        };
        let Some(batches) = part.get_mut(&partition) else {
            return;
        };
        let oldest = batches.first();
        if oldest.is_some_and(|(_, first)| *first == sequence) && !batches.pop() {
            part.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn batches_are_found_by_offset_and_leave_in_order() {
        let mut recent = Recent::default();
        let batch = |at: u64| (i64::try_from(at).unwrap_or_default() * 10, at);
        for at in 0..5 {
            recent.push(7, batch(at));
            let all: Vec<_> = (0..=at).map(batch).collect();
            assert!(recent.from(7, 0).eq(all.iter().copied()));
            assert!(recent.from(7, -1).eq(all.iter().copied()));
            // The one that holds the offset comes first.
            let last = batch(at);
            assert!(recent.from(7, last.0).eq([last]));
            assert!(recent.from(7, last.0 + 9).eq([last]));
            assert!(
                recent
                    .from(7, last.0 - 1)
                    .eq(all[all.len().saturating_sub(2)..].to_vec())
            );
        }
        for at in 0..5 {
            assert_eq!(recent.oldest(7), Some(batch(at).0));
            // What is not the oldest is not there any more.
            recent.pop(7, 77);
            recent.pop(7, at);
            recent.pop(7, at);
            assert!(recent.from(7, 0).eq((at + 1..5).map(batch)));
        }
        assert_eq!(recent.oldest(7), None);
        assert!(recent.of(7).is_none());
    }
}
