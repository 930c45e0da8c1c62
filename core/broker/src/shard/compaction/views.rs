//! Raw views in a compaction: what of a log must stay as it was written, and where.
//!
//! A round of cleaning copies each batch that it covers to the view's own partition, as a whole, in the same swap of
//! files. The last copy says up to where the log has been cleaned since it has the view, and stays for that: nothing
//! that is journaled has to agree with the files.

use crate::state::IdMap;
use crate::state::raw::RawLog;
use omnilog_ledger::format::Entry;

/// A raw view, as it was when the facts were gathered.
#[derive(Debug, Clone, Copy)]
struct View {
    /// The partition that holds the copies.
    key: u64,
    /// Where the view begins.
    start: i64,
    /// The offset behind the last copy, if there is any.
    copied: Option<i64>,
}

impl View {
    /// From here on the log's own batches are the view's.
    fn from(&self) -> i64 {
        self.copied.map_or(self.start, |end| end.max(self.start))
    }
}

/// The raw views there are.
#[derive(Debug, Default)]
pub(super) struct Views {
    /// By the partitions that they are views of.
    logs: IdMap<u64, View>,
    /// By the partitions that hold the copies.
    copies: IdMap<u64, View>,
}

impl Views {
    /// A partition has a view, of which there are copies up to here.
    pub(super) fn add(&mut self, partition: u64, raw: &RawLog, copied: Option<i64>) {
        let view = View {
            key: raw.key,
            start: raw.log_start,
            copied,
        };
        self.logs.insert(partition, view);
        self.copies.insert(raw.key, view);
    }

    /// From here on a partition's batches are those of its view; `i64::MAX` if it has none.
    pub(super) fn from(&self, partition: u64) -> i64 {
        self.logs.get(&partition).map_or(i64::MAX, View::from)
    }

    /// Does an entry have to stay as it is, if it is not copied?
    pub(super) fn want(&self, entry: &Entry) -> bool {
        entry.end() > self.from(entry.partition)
    }

    /// Where an entry is to be copied by a round that cleans its log up to an offset.
    pub(super) fn copy_to(&self, entry: &Entry, until: i64) -> Option<u64> {
        let view = self.logs.get(&entry.partition)?;
        let new = view.copied.is_none_or(|copied| entry.end() > copied);
        let wanted = entry.end() > view.start || entry.end() == until;
        (new && wanted && entry.end() <= until).then_some(view.key)
    }

    /// Does a copy live: is it inside its view's window, or the last one?
    pub(super) fn keep(&self, copy: &Entry) -> bool {
        self.copies.get(&copy.partition).is_some_and(|view| {
            copy.end() > view.start || view.copied.is_some_and(|copied| copy.end() >= copied)
        })
    }
}
