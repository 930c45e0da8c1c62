//! Transactions: what is kept of a transactional id, and of transactions in a partition.

use crate::api::*;
use crate::state::State;
use crate::state::partition::Partition;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// No producer epoch.
pub(crate) const NO_EPOCH: i16 = -1;
/// No producer.
pub(crate) const NO_PRODUCER: i64 = -1;

/// A transactional id and its transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transactional {
    /// Who may use it: the producer id and its epoch.
    pub(crate) producer: i64,
    pub(crate) epoch: i16,
    /// What it was before, if the producer itself asked for the new epoch: it may ask once more.
    pub(crate) last_producer: i64,
    pub(crate) last_epoch: i16,
    pub(crate) timeout_ms: u32,
    pub(crate) phase: TransactionPhase,
    /// When the open transaction began; without one, when the id was used last. Unix milliseconds.
    pub(crate) since_ms: i64,
    /// Partitions in the open transaction.
    pub(crate) partitions: BTreeSet<u64>,
    /// Groups in it, with the positions that count when it is committed.
    pub(crate) groups: BTreeMap<Name, BTreeMap<(TopicId, i32), GroupOffset>>,
}

impl Transactional {
    pub(crate) fn is_open(&self) -> bool {
        self.phase == TransactionPhase::Ongoing
    }

    /// When its time is over: the transaction's, or the id's own.
    pub(crate) fn due_ms(&self, expiration_ms: i64) -> i64 {
        let after = match self.is_open() {
            true => i64::from(self.timeout_ms),
            false => expiration_ms,
        };
        self.since_ms.saturating_add(after)
    }
}

/// What transactions left in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionTransactions {
    /// The first offset of each open transaction, by producer.
    pub(crate) open: BTreeMap<i64, i64>,
    /// Aborted ones, in the order of their markers.
    pub(crate) aborted: Vec<Aborted>,
    /// The first offset of an open one, as far as readers may know of it; `i64::MAX` without any.
    pub(crate) released: i64,
}

/// An aborted transaction in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aborted {
    pub(crate) producer: i64,
    pub(crate) first_offset: i64,
    /// Its marker's.
    pub(crate) last_offset: i64,
    /// Transactions that are aborted later begin here or after it.
    pub(crate) stable_offset: i64,
}

impl Aborted {
    /// Does a transactional batch of this producer at this offset belong to it?
    pub(crate) fn covers(&self, producer: i64, base_offset: i64) -> bool {
        self.producer == producer && (self.first_offset..=self.last_offset).contains(&base_offset)
    }

    /// Does a transactional batch belong to any of these? They are in the order of their markers.
    pub(crate) fn any_covers(all: &[Self], producer: i64, base_offset: i64) -> bool {
        let start = all.partition_point(|known| known.last_offset < base_offset);
        let ended_after = all.iter().skip(start);
        // Those that end later than one of this stable offset begin behind it.
        let mut before = None;
        ended_after
            .take_while(|known| {
                let last = before.replace(known.stable_offset);
                last.is_none_or(|stable| stable <= base_offset)
            })
            .any(|known| known.covers(producer, base_offset))
    }
}

impl Default for PartitionTransactions {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            aborted: Vec::new(),
            released: i64::MAX,
        }
    }
}

/// More aborted transactions than this are not told at once, where that can be.
const ABORTED_MAX: usize = 1024;

impl Partition {
    /// The first offset of an open transaction; `i64::MAX` without any.
    pub(crate) fn first_open(&self) -> i64 {
        let open = self.transactions.as_ref().map(|known| &known.open);
        let firsts = open.into_iter().flat_map(BTreeMap::values);
        firsts.min().copied().unwrap_or(i64::MAX)
    }

    /// The end of what is decided, in every transaction (KIP-98's last stable offset), for readers.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        match &self.transactions {
            Some(known) => known.released.max(self.log_start).min(self.high_watermark),
            None => self.high_watermark,
        }
    }

    /// Aborted transactions with records at or after an offset and before another, in the order of their first; and
    /// how far that is the whole of them, which may be less than was asked for, but never nothing.
    pub(crate) fn aborted_between(&self, from: i64, until: i64) -> (Vec<Aborted>, i64) {
        let Some(known) = &self.transactions else {
            return (Vec::new(), until);
        };
        let mut found = Vec::new();
        let mut end = until;
        let start = known
            .aborted
            .partition_point(|aborted| aborted.last_offset < from);
        for aborted in known.aborted.iter().skip(start) {
            if aborted.first_offset < end {
                found.push(*aborted);
            }
            if aborted.stable_offset >= end {
                break;
            }
            if found.len() >= ABORTED_MAX && aborted.stable_offset > from {
                end = aborted.stable_offset;
                break;
            }
        }
        found.retain(|aborted| aborted.first_offset < end);
        found.sort_unstable_by_key(|aborted| aborted.first_offset);
        (found, end)
    }

    /// All aborted transactions, in the order of their markers.
    pub(crate) fn aborted(&self) -> &[Aborted] {
        self.transactions
            .as_ref()
            .map_or(&[], |known| &known.aborted)
    }

    /// A producer's batch belongs to its transaction.
    pub(crate) fn joined(&mut self, producer: i64, base_offset: i64) {
        let known = self.transactions.get_or_insert_default();
        known.open.entry(producer).or_insert(base_offset);
    }

    /// The marker of a transaction's end is at this offset.
    pub(crate) fn marked(&mut self, producer: i64, offset: i64, committed: bool) {
        let Some(known) = &mut self.transactions else {
            return;
        };
        let Some(first_offset) = known.open.remove(&producer) else {
            return;
        };
        if !committed {
            let open = known.open.values().min().copied();
            known.aborted.push(Aborted {
                producer,
                first_offset,
                last_offset: offset,
                stable_offset: open.unwrap_or(offset + 1),
            });
        }
    }

    /// Forgets aborted transactions of which nothing is left below an offset, and nothing is in the raw view.
    pub(crate) fn forget_aborted(&mut self, below: i64) {
        let raw = self
            .compacted
            .raw
            .as_ref()
            .map_or(i64::MAX, |raw| raw.log_start);
        let below = below.min(raw);
        if let Some(known) = &mut self.transactions {
            known.aborted.retain(|aborted| aborted.last_offset >= below);
        }
    }
}

impl State {
    /// The transactional id of this name.
    pub(crate) fn transactional(
        &self,
        namespace: NamespaceId,
        id: &[u8],
    ) -> Option<&Transactional> {
        self.namespace(namespace)?.transactions.get(id)
    }

    /// Positions of a topic, or of all, are not committed any more.
    pub(crate) fn forget_pending(
        transactions: &mut BTreeMap<Name, Transactional>,
        gone: &dyn Fn(&Name, TopicId) -> bool,
    ) {
        for known in transactions.values_mut() {
            for (group, offsets) in &mut known.groups {
                offsets.retain(|(topic, _), _| !gone(group, *topic));
            }
        }
    }
}
