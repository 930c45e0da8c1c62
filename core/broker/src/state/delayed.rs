//! Records that are published later: an index by time over records in the journal, which it holds.

use crate::api::NamespaceId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// When a record is due, in Unix milliseconds, and its sequence: those of the same time in the order they came.
pub(crate) type Due = (i64, u64);

/// Sequences that a checkpoint keeps together.
const PART: u64 = 256;

/// The part that a sequence belongs to.
pub(crate) fn part_of(sequence: u64) -> u64 {
    sequence / PART
}

/// What is published later.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    by_time: BTreeSet<Due>,
    /// When each is due, and whose it is.
    records: BTreeMap<u64, (i64, NamespaceId)>,
}

impl Delayed {
    /// These records are published then.
    pub(crate) fn add(&mut self, namespace: NamespaceId, first: u64, last: u64, at_ms: i64) {
        for sequence in first..=last {
            self.by_time.insert((at_ms, sequence));
            self.records.insert(sequence, (at_ms, namespace));
        }
    }

    /// One of them is not here any more.
    pub(crate) fn remove(&mut self, due: Due) {
        if self.by_time.remove(&due) {
            self.records.remove(&due.1);
        }
    }

    /// Whose it is, if it is here.
    pub(crate) fn get(&self, (at_ms, sequence): Due) -> Option<NamespaceId> {
        let (known, namespace) = self.records.get(&sequence)?;
        (*known == at_ms).then_some(*namespace)
    }

    /// The first of all, or behind this one.
    pub(crate) fn next(&self, behind: Option<Due>) -> Option<Due> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_time.range((from, Bound::Unbounded)).next().copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The first record that it holds, from this sequence on.
    pub(crate) fn first_held_from(&self, sequence: u64) -> Option<u64> {
        self.records.range(sequence..).next().map(|(held, _)| *held)
    }

    /// The records that it holds from this sequence on, in order.
    pub(crate) fn held_from(&self, sequence: u64) -> impl Iterator<Item = u64> {
        self.records.range(sequence..).map(|(held, _)| *held)
    }

    /// A part, as it is saved.
    pub(crate) fn part(&self, part: u64) -> impl Iterator<Item = (u64, i64, NamespaceId)> {
        let first = part * PART;
        let records = self.records.range(first..first.saturating_add(PART));
        records.map(|(sequence, (at_ms, namespace))| (*sequence, *at_ms, *namespace))
    }

    /// The parts that hold anything.
    pub(crate) fn parts(&self) -> BTreeSet<u64> {
        self.records.keys().map(|held| part_of(*held)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_equal_times_in_order() {
        let mut delayed = Delayed::default();
        delayed.add(NamespaceId(0), 1, 2, 50);
        delayed.add(NamespaceId(1), 3, 3, 20);
        let mut order = Vec::new();
        let mut behind = None;
        while let Some(due) = delayed.next(behind) {
            order.push(due);
            behind = Some(due);
        }
        assert_eq!(order, [(20, 3), (50, 1), (50, 2)]);
        delayed.remove((50, 1));
        delayed.remove((50, 9));
        assert_eq!((delayed.len(), delayed.held_from(0).count()), (2, 2));
        assert_eq!(delayed.first_held_from(3), Some(3));
        assert_eq!(delayed.part(0).count(), 2);
        assert_eq!(delayed.get((20, 4)), None);
        assert_eq!(delayed.get((20, 3)), Some(NamespaceId(1)));
    }
    #[test]
    fn each_is_in_one_part_and_the_parts_are_those_that_hold_any() {
        let mut delayed = Delayed::default();
        // Up to the end of the first part, from the beginning of the third, and beyond its end.
        let held = [
            0..=0,
            PART - 1..=PART - 1,
            2 * PART..=2 * PART,
            3 * PART - 1..=3 * PART,
        ];
        for run in &held {
            delayed.add(NamespaceId(0), *run.start(), *run.end(), 7);
        }
        let parts: Vec<u64> = delayed.parts().into_iter().collect();
        assert_eq!(parts, [0, 2, 3]);
        let of = |part| delayed.part(part).map(|(held, ..)| held);
        let all: Vec<u64> = parts.iter().flat_map(|part| of(*part)).collect();
        assert_eq!(all, held.into_iter().flatten().collect::<Vec<_>>());
        assert!(
            delayed
                .parts()
                .iter()
                .all(|part| of(*part).all(|held| part_of(held) == *part))
        );
        assert_eq!(of(1).count(), 0);
    }
}
