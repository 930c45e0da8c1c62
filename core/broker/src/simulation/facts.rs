//! What the clients know: what was sent, what was acknowledged, what was seen. Every check is made from their side.

use crate::api::*;
use crate::simulation::delays::Delays;
use crate::simulation::dying::Dying;
use crate::simulation::ends::Ends;
use crate::simulation::gaps::Gaps;
use crate::simulation::lifetimes::Lifetimes;
use crate::simulation::limits::Heads;
use crate::simulation::placed::Places;
use crate::simulation::raw::Raw;
use crate::simulation::retries::Retries;
use std::collections::{BTreeMap, BTreeSet};

/// Queues of which every message is followed: by AMQP name, and the steady session's.
pub(super) const STEADY: &str = "steady";
pub(super) const WORK: &str = "work";
pub(super) const LOG: &str = "log";
pub(super) const SESSION: &str = "session";
/// Queues that get the same messages: with priorities, shared by key, with a single active consumer.
pub(super) const RANKED: &str = "ranked";
pub(super) const KEYED: &str = "keyed";
pub(super) const SOLE: &str = "sole";
/// The highest priority of [`RANKED`].
pub(super) const PRIORITY_MAX: u8 = 3;
/// The compacted log.
pub(super) const TABLE: &str = "table";

/// The key under which the compacted log has a message.
pub(super) fn key_of(id: u64) -> u8 {
    u8::try_from(id % 5).unwrap_or(0)
}

/// The facts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    next_id: u64,
    /// Who sent what: a publisher's number, whose messages keep their order.
    publishers: BTreeMap<u64, u64>,
    /// Where an acknowledged record of a log lies.
    pub(super) logged: BTreeMap<(Name, i32), BTreeMap<i64, u64>>,
    /// What was fetched.
    read: BTreeMap<(Name, i32), BTreeMap<i64, u64>>,
    /// Records of the compacted log that were not there any more: each must have a later one of its key.
    compacted: BTreeMap<i64, u64>,
    /// How far the last fetch came.
    pub(super) read_end: i64,
    /// The same of the raw view.
    pub(super) raw_end: i64,
    pub(super) raw: Raw,
    /// Followed queues and their incarnations.
    pub(super) followed: BTreeMap<QueueId, &'static str>,
    /// Which message an entry is, once it was seen.
    entries: BTreeMap<QueueId, BTreeMap<EntryId, u64>>,
    messages: BTreeMap<(QueueId, u64), EntryId>,
    /// What a followed queue must hold until it is settled.
    due: BTreeSet<(&'static str, u64)>,
    /// Settled by somebody, or excused: it may be there or not.
    tried: BTreeSet<(&'static str, u64)>,
    /// Settled, and the reply came: it must not come again.
    gone: BTreeSet<(QueueId, EntryId)>,
    /// What was settled in one transaction with a message's publishing.
    bound: BTreeMap<u64, Vec<(QueueId, EntryId)>>,
    /// Entries that end before they are consumed.
    pub(super) ends: Ends,
    /// Entries that are to be dead letters.
    pub(super) dying: Dying,
    /// What passed links by.
    pub(super) gaps: Gaps,
    /// Where records are kept.
    pub(super) places: Places,
    /// What comes to an end by itself.
    pub(super) lifetimes: Lifetimes,
    /// Messages that are published later.
    pub(super) delays: Delays,
    /// Entries that come back.
    pub(super) retries: Retries,
    /// Entries that are dropped.
    pub(super) heads: Heads,
    /// Group offsets: those asked for, and which of them was acknowledged last.
    pub(super) commits: Vec<i64>,
    pub(super) committed: Option<usize>,
    /// Retained topics: what was asked for in order, and which of them was acknowledged last.
    pub(super) retained: BTreeMap<Name, (Vec<Option<u64>>, Option<usize>)>,
    /// By lane of the queue that shares by key: the newest entry that was ever delivered.
    pub(super) newest_of_lane: BTreeMap<u16, u64>,
    /// Its entries that were delivered.
    pub(super) seen_of_lane: BTreeSet<u64>,
    /// What the last consumer of a queue got last, with nothing else going on.
    last_drained: BTreeMap<&'static str, EntryId>,
    /// What the last consumer of the queue with priorities got last: priority and entry.
    drained: Option<(std::cmp::Reverse<u8>, EntryId)>,
    /// How often an entry came back, as far as that was acknowledged.
    returns: BTreeMap<(QueueId, EntryId), u32>,
    /// Transactions.
    pub(super) transactions: crate::simulation::transactions::Transactions,
    /// Entries begun at QoS 2, and the session that has them.
    pub(super) begun: BTreeMap<(QueueId, EntryId), SessionId>,
    /// Topics whose records are retained messages.
    pub(super) tables: crate::simulation::tables::Tables,
    /// Figures, to see that the simulation does anything.
    pub(super) deliveries: u64,
    pub(super) acknowledged: u64,
}

impl Facts {
    /// Numbers for new messages of a publisher.
    pub(super) fn number(&mut self, publisher: u64, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                self.next_id += 1;
                self.publishers.insert(self.next_id, publisher);
                self.next_id
            })
            .collect()
    }

    /// A followed queue must hold these.
    pub(super) fn expect(&mut self, queue: &'static str, ids: &[u64]) {
        self.acknowledged += ids.len() as u64;
        self.due.extend(ids.iter().map(|id| (queue, *id)));
    }

    /// A log holds this from this offset on.
    pub(super) fn appended(&mut self, topic: &Name, partition: i32, base: i64, ids: &[u64]) {
        self.acknowledged += ids.len() as u64;
        let log = self.logged.entry((topic.clone(), partition)).or_default();
        for (offset, id) in (base..).zip(ids) {
            let before = log.insert(offset, *id);
            assert!(
                before.is_none_or(|before| before == *id),
                "offset {offset} of {topic:?} was given twice: to {before:?} and {id}"
            );
        }
    }

    /// A log was read.
    pub(super) fn fetched(
        &mut self,
        topic: &Name,
        partition: i32,
        from: i64,
        records: &[(i64, u64)],
        end: i64,
    ) {
        let key = (topic.clone(), partition);
        let read = self.read.entry(key.clone()).or_default();
        for (offset, id) in records {
            assert!(
                self.publishers.contains_key(id),
                "offset {offset} of {topic:?} holds {id}, which nobody sent"
            );
            let before = read.insert(*offset, *id);
            assert!(
                before.is_none_or(|before| before == *id),
                "offset {offset} of {topic:?} was {before:?} and is {id}"
            );
        }
        let there: BTreeMap<i64, u64> = records.iter().copied().collect();
        if let Some(log) = self.logged.get(&key) {
            for (offset, id) in log.range(from.min(end)..end) {
                if topic == TABLE.as_bytes() && !there.contains_key(offset) {
                    self.compacted.insert(*offset, *id);
                    continue;
                }
                assert_eq!(
                    there.get(offset),
                    Some(id),
                    "offset {offset} of {topic:?} was acknowledged with {id}"
                );
            }
        }
    }

    /// Every message lies in a log at most once, and each publisher's in its order.
    pub(super) fn check_logs(&self) {
        let table = (Name::from_static(TABLE.as_bytes()), 0);
        for (offset, id) in &self.compacted {
            // Aborted records go by themselves, and none goes for their sake.
            if !self.transactions.must_be_visible(*id) {
                continue;
            }
            let mut later = self.read.get(&table).into_iter();
            let later = later.any(|log| {
                log.range(offset + 1..).any(|(_, newer)| {
                    key_of(*newer) == key_of(*id) && self.transactions.may_be_committed(*newer)
                })
            });
            assert!(
                later,
                "offset {offset} of the compacted log is lost: it was {id}"
            );
        }
        for ((topic, partition), log) in &self.read {
            let mut seen = BTreeSet::new();
            let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
            for (offset, id) in log {
                assert!(seen.insert(*id), "{id} is twice in {topic:?}/{partition}");
                let publisher = self.publishers[id];
                let before = newest.insert(publisher, *id);
                assert!(
                    before.is_none_or(|before| before < *id),
                    "{topic:?}/{partition}: {id} at {offset} comes after {before:?} of the same publisher"
                );
            }
        }
    }

    /// A queue's entry was delivered.
    pub(super) fn delivered(
        &mut self,
        queue: QueueId,
        entry: EntryId,
        id: Option<u64>,
        redelivered: Option<bool>,
    ) {
        self.deliveries += 1;
        let Some(name) = self.followed.get(&queue).copied() else {
            return;
        };
        let Some(id) = id else {
            panic!("{name}: entry {entry} was delivered without its content");
        };
        assert!(
            !self.gone.contains(&(queue, entry)),
            "{name}: entry {entry} ({id}) is delivered after its settlement was acknowledged"
        );
        assert!(
            self.publishers.contains_key(&id),
            "{name}: {id} was never sent"
        );
        self.delays.check(name, queue, entry, id);
        // Whoever sees a transaction's message sees all of the transaction.
        for (queue, entry) in self.bound.remove(&id).unwrap_or_default() {
            self.settled(queue, entry);
        }
        let entries = self.entries.entry(queue).or_default();
        match entries.insert(entry, id) {
            Some(before) => {
                assert_eq!(before, id, "{name}: entry {entry} is another message");
                assert_ne!(
                    redelivered,
                    Some(false),
                    "{name}: entry {entry} ({id}) comes again unmarked"
                );
            }
            None => {
                let other = self.messages.insert((queue, id), entry);
                assert!(
                    other.is_none_or(|other| other == entry),
                    "{name}: {id} is there twice: {other:?} and {entry}"
                );
            }
        }
    }

    /// Entries came back, and that was acknowledged.
    pub(super) fn returned(&mut self, entries: &[(QueueId, EntryId)]) {
        for entry in entries {
            *self.returns.entry(*entry).or_default() += 1;
        }
    }

    /// How often it came back is not forgotten.
    pub(super) fn check_returns(&self, delivery: &Delivery) {
        let known = self.returns.get(&(delivery.queue, delivery.entry));
        let (known, told) = (known.copied().unwrap_or(0), delivery.returned_count);
        assert!(
            told >= known,
            "{} of {} came back {known} times, and {told} are told",
            delivery.entry,
            delivery.queue
        );
    }

    /// The queue with priorities is drained, with nothing else going on.
    pub(super) fn drained(&mut self, priority: u8, entry: EntryId) {
        let this = (std::cmp::Reverse(priority.min(PRIORITY_MAX)), entry);
        if let Some(before) = self.drained.replace(this) {
            assert!(before < this, "{RANKED}: {this:?} comes after {before:?}");
        }
    }

    /// A queue without an order of its own is drained: what came back is in its old place.
    pub(super) fn drained_in_order(&mut self, name: &'static str, entry: EntryId) {
        if let Some(before) = self.last_drained.insert(name, entry) {
            assert!(before < entry, "{name}: {entry} comes after {before}");
        }
    }

    /// A session gets an entry: nobody else has begun it.
    pub(super) fn check_begun(&self, queue: QueueId, entry: EntryId, session: SessionId) {
        if let Some(by) = self.begun.get(&(queue, entry)) {
            assert_eq!(
                *by, session,
                "entry {entry} of {queue} was begun at QoS 2 by another session"
            );
        }
    }

    /// Messages that go to the three queues together.
    pub(super) fn expect_together(&mut self, queue: &'static str, ids: &[u64]) {
        self.expect(queue, ids);
        if queue == KEYED {
            self.expect(RANKED, ids);
            self.expect(SOLE, ids);
        }
    }

    /// An entry is in flight when its session resumes.
    pub(super) fn resumed(&mut self, queue: QueueId, entry: EntryId, id: Option<u64>) {
        let known = self
            .entries
            .get(&queue)
            .and_then(|entries| entries.get(&entry))
            .copied();
        if let (Some(known), Some(id)) = (known, id) {
            assert_eq!(known, id, "entry {entry} resumes as another message");
        }
        let tried = known.is_none_or(|known| self.tried.contains(&(SESSION, known)));
        assert!(
            id.is_some() || tried,
            "entry {entry} ({known:?}) is lost in flight"
        );
    }

    /// These messages are published if and only if these entries are settled.
    pub(super) fn bound(&mut self, ids: &[u64], settled: &[(QueueId, EntryId)]) {
        for id in ids {
            self.bound.insert(*id, settled.to_vec());
        }
    }

    /// A settlement was sent.
    pub(super) fn trying(&mut self, queue: QueueId, id: u64) {
        if let Some(name) = self.followed.get(&queue) {
            self.tried.insert((name, id));
        }
    }

    /// A settlement was acknowledged.
    pub(super) fn settled(&mut self, queue: QueueId, entry: EntryId) {
        if self.followed.contains_key(&queue) {
            self.gone.insert((queue, entry));
        }
        self.ends.taken(queue, entry);
    }

    /// A message has left a queue, by a frame that was seen.
    pub(super) fn ended(&mut self, name: &'static str, id: u64) {
        self.tried.insert((name, id));
        for (queue, known) in &self.followed {
            if *known == name
                && let Some(entry) = self.messages.get(&(*queue, id))
            {
                self.gone.insert((*queue, *entry));
            }
        }
    }

    /// A queue's entries that were seen.
    pub(super) fn entries_of(&self, queue: QueueId) -> impl Iterator<Item = (&EntryId, &u64)> {
        self.entries.get(&queue).into_iter().flatten()
    }

    /// Which entry of a queue a message is, if it was seen.
    pub(super) fn entry_of(&self, name: &'static str, id: u64) -> Option<EntryId> {
        let mut queues = self.followed.iter().filter(|(_, known)| **known == name);
        queues.find_map(|(queue, _)| self.messages.get(&(*queue, id)).copied())
    }

    /// Was a message settled or excused in a queue?
    pub(super) fn may_be_missing(&self, queue: &'static str, id: u64) -> bool {
        self.tried.contains(&(queue, id))
    }

    /// A message may be missing in a queue.
    pub(super) fn excuse_one(&mut self, queue: &'static str, id: u64) {
        self.tried.insert((queue, id));
    }

    /// What a queue holds by now may be dropped.
    pub(super) fn excuse(&mut self, queue: &'static str) {
        for id in 1..=self.next_id {
            self.tried.insert((queue, id));
        }
    }

    /// At the end, after everything was drained.
    pub(super) fn check_queues(&self) {
        for (queue, name) in &self.followed {
            if let Some(entries) = self.entries.get(queue) {
                self.delays.check_order(name, entries);
            }
            let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
            for (entry, id) in self.entries.get(queue).into_iter().flatten() {
                let publisher = self.publishers[id];
                let before = newest.insert(publisher, *id);
                assert!(
                    before.is_none_or(|before| before < *id),
                    "{name}: {id} at {entry} comes after {before:?} of the same publisher"
                );
            }
        }
        let seen = self.messages.keys();
        let seen = seen.filter_map(|(queue, id)| Some((*self.followed.get(queue)?, *id)));
        for (name, id) in seen.chain(self.due.iter().copied()) {
            assert!(
                self.tried.contains(&(name, id)),
                "{name}: {id} was acknowledged or seen, and is lost"
            );
        }
        self.ends.check_letters();
    }
}
