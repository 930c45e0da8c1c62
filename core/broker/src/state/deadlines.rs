//! When entries of a queue expire, in runs of the same time, and what they count for.

use crate::leaves::Leaves;

/// Expiry times by entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// By the first entry of a run: the last, and the time in Unix milliseconds.
    runs: Leaves<u64, (u64, i64)>,
}

impl Deadlines {
    /// These entries expire then.
    pub(crate) fn set(&mut self, first: u64, last: u64, at_ms: i64) {
        let newest = self.runs.last();
        let before = if newest.is_none_or(|(_, (end, _))| end < first) {
            newest
        } else {
            self.forget(first, last);
            first.checked_sub(1).and_then(|end| self.runs.last_to(end))
        };
        if let Some((start, (end, at))) = before
            && end + 1 == first
            && at == at_ms
        {
            self.runs.insert(start, (last, at_ms));
            return;
        }
        self.runs.insert(first, (last, at_ms));
    }

    /// When an entry expires, and the last entry of its run.
    pub(crate) fn get(&self, entry: u64) -> Option<(i64, u64)> {
        let (_, (last, at)) = self.runs.last_to(entry)?;
        (entry <= last).then_some((at, last))
    }

    /// These entries are done with.
    pub(crate) fn forget(&mut self, first: u64, last: u64) {
        let before = first.checked_sub(1).and_then(|end| self.runs.last_to(end));
        if let Some((start, (end, at))) = before
            && end >= first
        {
            self.runs.insert(start, (first - 1, at));
            if end > last {
                self.runs.insert(last + 1, (end, at));
                return;
            }
        }
        let mut behind = None;
        self.runs.remove_run(first, last, |_, (end, at)| {
            if end > last {
                behind = Some((end, at));
            }
        });
        if let Some(behind) = behind {
            self.runs.insert(last + 1, behind);
        }
    }

    /// All runs: first, last, time.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64, i64)> {
        self.runs
            .iter()
            .map(|(first, (last, at))| (first, last, at))
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes that they take, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.runs.memory_bytes()
    }
}

/// What entries count for in a queue that is limited by bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    of: Leaves<u64, u64>,
    /// Of all that are ready.
    pub(crate) ready: u64,
}

impl Sizes {
    /// A ready entry counts for this much.
    pub(crate) fn set(&mut self, entry: u64, bytes: u64) {
        self.of.insert(entry, bytes);
        self.ready += bytes;
    }

    /// An entry is not ready any more.
    pub(crate) fn took(&mut self, entry: u64) {
        self.ready -= self.get(entry).min(self.ready);
    }

    /// An entry is ready again.
    pub(crate) fn put(&mut self, entry: u64) {
        self.ready += self.get(entry);
    }

    fn get(&self, entry: u64) -> u64 {
        self.of.get(entry).unwrap_or(0)
    }

    /// These entries are done with; `ready` says which of them were.
    pub(crate) fn forget(&mut self, first: u64, last: u64, ready: impl Fn(u64) -> bool) {
        let mut gone = 0;
        self.of.remove_run(first, last, |entry, bytes| {
            if ready(entry) {
                gone += bytes;
            }
        });
        self.ready -= gone.min(self.ready);
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.of.iter()
    }

    /// Bytes that they take, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.of.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn runs_are_what_single_entries_would_be(
            steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12, 0i64..4), 1..60)
        ) {
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            for (set, first, more, at) in steps {
                let last = first + more;
                if set {
                    deadlines.set(first, last, at);
                    model.extend((first..=last).map(|entry| (entry, at)));
                } else {
                    deadlines.forget(first, last);
                    model.retain(|entry, _| !(first..=last).contains(entry));
                }
                for entry in 0..80 {
                    let found = deadlines.get(entry).map(|(at, _)| at);
                    prop_assert_eq!(found, model.get(&entry).copied());
                }
            }
        }
    }
}
