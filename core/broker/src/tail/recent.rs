//! Which batches of each log lie in the tail.
//!
//! Beside the tail, and not in the logs: who writes to many of a million logs looks at a small table.

use crate::state::IdMap;
use std::collections::VecDeque;

/// A batch's base offset and first sequence.
type Batch = (i64, u64);

/// A table is moved when it grows: there are as many, so that nobody waits until all has moved.
const PARTS: usize = 64;

static NONE: VecDeque<Batch> = VecDeque::new();

/// Batches in the tail by their partitions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    parts: Vec<IdMap<u64, VecDeque<Batch>>>,
}

/// Which part has this partition.
fn part(partition: u64) -> usize {
    // The remainder is below 64.
    (partition % PARTS as u64) as usize
}

impl Recent {
    pub(super) fn of(&self, partition: u64) -> &VecDeque<Batch> {
        let part = self.parts.get(part(partition));
        part.and_then(|part| part.get(&partition)).unwrap_or(&NONE)
    }

    pub(super) fn push(&mut self, partition: u64, batch: Batch) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, IdMap::default);
        }
        if let Some(part) = self.parts.get_mut(part(partition)) {
            part.entry(partition).or_default().push_back(batch);
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
        if batches.front().is_some_and(|(_, first)| *first == sequence) {
            batches.pop_front();
            if batches.is_empty() {
                part.remove(&partition);
            }
        }
    }
}
