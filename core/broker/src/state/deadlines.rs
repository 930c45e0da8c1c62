//! When entries of a queue expire, in runs of the same time, and what they count for.

use std::collections::BTreeMap;

/// Expiry times by entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// By the first entry of a run: the last, and the time in Unix milliseconds.
    runs: BTreeMap<u64, (u64, i64)>,
}

impl Deadlines {
    /// These entries expire then.
    pub(crate) fn set(&mut self, first: u64, last: u64, at_ms: i64) {
        self.forget(first, last);
        if let Some((_, (end, at))) = self.runs.range_mut(..first).next_back()
            && *end + 1 == first
            && *at == at_ms
        {
            *end = last;
            return;
        }
        self.runs.insert(first, (last, at_ms));
    }

    /// When an entry expires, and the last entry of its run.
    pub(crate) fn get(&self, entry: u64) -> Option<(i64, u64)> {
        let (_, (last, at)) = self.runs.range(..=entry).next_back()?;
        (entry <= *last).then_some((*at, *last))
    }

    /// These entries are done with.
    pub(crate) fn forget(&mut self, first: u64, last: u64) {
        if let Some((start, (end, at))) =
            self.runs.range(..first).next_back().map(|(a, b)| (*a, *b))
            && end >= first
        {
            self.runs.insert(start, (first - 1, at));
            if end > last {
                self.runs.insert(last + 1, (end, at));
                return;
            }
        }
        while let Some((start, (end, at))) =
            self.runs.range(first..=last).next().map(|(a, b)| (*a, *b))
        {
            self.runs.remove(&start);
            if end > last {
                self.runs.insert(last + 1, (end, at));
            }
        }
    }

    /// All runs: first, last, time.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64, i64)> {
        self.runs
            .iter()
            .map(|(first, (last, at))| (*first, *last, *at))
    }

    /// How many runs there are.
    pub(crate) fn runs_len(&self) -> usize {
        self.runs.len()
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// What entries count for in a queue that is limited by bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    of: BTreeMap<u64, u64>,
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
        self.of.get(&entry).copied().unwrap_or(0)
    }

    /// These entries are done with; `ready` says which of them were.
    pub(crate) fn forget(&mut self, first: u64, last: u64, ready: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self
            .of
            .range(first..=last)
            .map(|(entry, _)| *entry)
            .collect();
        for entry in gone {
            if ready(entry) {
                self.took(entry);
            }
            self.of.remove(&entry);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.of.iter().map(|(entry, bytes)| (*entry, *bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
