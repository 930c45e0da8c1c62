//! Deliveries that the client has not settled, by their tags.

use omnilog_broker::{EntryId, QueueId};
use std::collections::BTreeMap;

/// A channel's unsettled deliveries.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// The newest tag given.
    last_tag: u64,
    open: BTreeMap<u64, (QueueId, EntryId)>,
}

/// One that was settled: tag, queue, entry.
pub(crate) type Taken = (u64, QueueId, EntryId);

impl Unsettled {
    /// The tag of a delivery that needs no settlement.
    pub(crate) fn pass(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// The tag of a delivery that does.
    pub(crate) fn hold(&mut self, queue: QueueId, entry: EntryId) -> u64 {
        let tag = self.pass();
        self.open.insert(tag, (queue, entry));
        tag
    }

    /// Takes those that a settlement names; `None` if it names one that is not open.
    ///
    /// With `multiple`, tag 0 means all there are, even if that is none.
    pub(crate) fn take(&mut self, tag: u64, multiple: bool) -> Option<Vec<Taken>> {
        if !multiple {
            let (queue, entry) = self.open.remove(&tag)?;
            return Some(vec![(tag, queue, entry)]);
        }
        let taken = if tag == 0 {
            std::mem::take(&mut self.open)
        } else {
            if !self.open.contains_key(&tag) {
                return None;
            }
            let rest = self.open.split_off(&(tag + 1));
            std::mem::replace(&mut self.open, rest)
        };
        Some(
            taken
                .into_iter()
                .map(|(tag, (queue, entry))| (tag, queue, entry))
                .collect(),
        )
    }

    /// Puts back what a rolled back transaction had settled.
    pub(crate) fn put_back(&mut self, taken: impl IntoIterator<Item = Taken>) {
        self.open.extend(
            taken
                .into_iter()
                .map(|(tag, queue, entry)| (tag, (queue, entry))),
        );
    }

    /// Takes all, oldest first.
    pub(crate) fn take_all(&mut self) -> Vec<(QueueId, EntryId)> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}
