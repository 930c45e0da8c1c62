//! A queue: the one subscription object. What holds records, and who takes them.

use crate::api::*;
use crate::leaves::Leaves;
use crate::sequence_set::SequenceSet;
use crate::state::changes::Mark;
use crate::state::consumers::{Consumer, Consumers, Who};
use crate::state::deadlines::{Deadlines, Sizes};
use crate::state::holder_sets::Asleep;
use crate::state::leases::Leases;
use crate::state::order::{Mode, Order};
use crate::state::policy::Policy;
use crate::state::rare::Rare;
use crate::state::retained::Kept;
use crate::state::retries::Retries;
use std::collections::{BTreeMap, BTreeSet};

/// A queue with its entries, leases and consumers.
///
/// In this order in memory, so that a message that goes to ten thousand of them touches a few neighbouring lines of
/// each: what every delivery asks for, what most queues don't have, and what a delivery doesn't need.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) mark: Mark,
    pub(crate) kind: QueueKind,
    /// Is it journaled?
    durable: bool,
    /// Who is served.
    pub(crate) mode: Mode,
    /// It had a consumer once, so that auto-delete may strike.
    pub(crate) had_consumer: bool,
    /// Entries that wait for a consumer: sequences of journaled records.
    pub(crate) ready: SequenceSet,
    pub(crate) consumers: Rare<Consumers>,
    /// Entries with a consumer.
    pub(crate) leases: Leases,
    /// Removals not journaled yet.
    pub(crate) acked: SequenceSet,
    /// Entries below this may have been delivered by an earlier run of the server.
    pub(crate) suspect_below: u64,
    /// Entries below this were delivered to somebody.
    pub(crate) delivered_below: u64,

    /// Entries that live in memory, by their number: all of a non-durable queue, and what passes a durable one
    /// unheld (QoS 0).
    pub(crate) memory: Rare<BTreeMap<u64, MemoryEntry>>,
    /// How often entries came back.
    pub(crate) returned: Rare<Leaves<u64, u32>>,
    /// What entries are told apart by beside their place.
    pub(crate) order: Option<Box<Order>>,
    /// What ends its entries, as declared.
    pub(crate) policy: Option<Box<Policy>>,
    /// When its entries expire, if any does.
    pub(crate) deadlines: Option<Box<Deadlines>>,
    /// What its entries count for, if it is limited by bytes.
    pub(crate) sizes: Option<Box<Sizes>>,
    /// What came back to be tried again later.
    pub(crate) retries: Option<Box<Retries>>,
    /// When its first entry is looked at, and when it goes for want of use: where it stands among the timers.
    pub(crate) timer_ms: Option<i64>,
    /// Partitions that it reads by links.
    pub(crate) linked_to: Rare<BTreeSet<u64>>,
    /// Sets of holders in which it sleeps.
    pub(crate) asleep: Rare<Vec<Asleep>>,

    /// Exchanges that have bindings to it.
    pub(crate) bound_to: Rare<BTreeSet<Name>>,
    pub(crate) memory_bytes: u64,
    /// The next number of a non-durable queue.
    pub(crate) next_entry: u64,
    pub(crate) namespace: NamespaceId,
    /// Shared subscriptions that it serves.
    pub(crate) subscriptions: u32,
    pub(crate) declared: DeclareQueue,
    /// The connection that it is for, if exclusive.
    pub(crate) owner: Option<ClientId>,
    /// When it was last used, in Unix milliseconds.
    pub(crate) used_ms: i64,
}

/// An entry in memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryEntry {
    pub(crate) message: Message,
    pub(crate) qos: u8,
    pub(crate) retained: bool,
    pub(crate) bytes: u64,
    /// The record that it stands for, where the message is not at hand.
    pub(crate) original: Option<Kept>,
}

/// An entry that a consumer has and has not settled.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) client: ClientId,
    pub(crate) consumer: Option<ConsumerKey>,
    /// Boxed: a consumer may have millions of journaled records, which have none.
    pub(crate) memory: Option<Box<MemoryEntry>>,
    /// Its priority or lane, where the queue tells its entries apart.
    pub(crate) rank: Option<u16>,
}

/// Who has an entry that waits: for its record to be read, or for the session that began it.
pub(crate) const NOBODY: ClientId = ClientId(0);

impl Lease {
    /// A record's entry that waits.
    pub(crate) fn of_nobody(rank: Option<u16>) -> Self {
        Self {
            client: NOBODY,
            consumer: None,
            memory: None,
            rank,
        }
    }

    fn holder(&self) -> Who {
        (self.client, self.consumer.unwrap_or_default())
    }
}

impl Queue {
    /// A queue as declared.
    pub(crate) fn new(
        id: QueueId,
        namespace: NamespaceId,
        kind: QueueKind,
        declared: DeclareQueue,
    ) -> Self {
        let (order, mode) = (Order::of(&declared), Mode::of(&declared));
        let policy = Policy::of(&declared);
        let durable = declared.durable && !declared.exclusive;
        Self {
            id,
            namespace,
            kind,
            declared,
            owner: None,
            ready: SequenceSet::default(),
            memory: Rare::default(),
            memory_bytes: 0,
            next_entry: 1,
            leases: Leases::default(),
            returned: Rare::default(),
            suspect_below: 0,
            delivered_below: 0,
            consumers: Rare::default(),
            had_consumer: false,
            durable,
            bound_to: Rare::default(),
            linked_to: Rare::default(),
            acked: SequenceSet::default(),
            order,
            mode,
            subscriptions: 0,
            policy,
            deadlines: None,
            sizes: None,
            timer_ms: None,
            used_ms: 0,
            mark: Mark::default(),
            retries: None,
            asleep: Rare::default(),
        }
    }

    /// Is it journaled?
    pub(crate) fn durable(&self) -> bool {
        self.durable
    }

    /// Messages that wait for a consumer.
    pub(crate) fn ready_count(&self) -> u64 {
        self.ready.len() + self.memory.len() as u64
    }

    /// Does a lease hold this journaled record, is it ready, or does it wait for its next try?
    pub(crate) fn holds(&self, sequence: u64) -> bool {
        self.ready.contains(sequence)
            || self
                .leases
                .get(&EntryId(sequence))
                .is_some_and(|lease| lease.memory.is_none())
            || self.deferred_from(sequence).next() == Some(sequence)
    }

    /// Its journaled entries, ready, leased and waiting for their next try.
    pub(crate) fn held(&self) -> SequenceSet {
        let mut held = self.ready.clone();
        for (entry, lease) in self.leases.iter() {
            if lease.memory.is_none() {
                held.insert(entry.0);
            }
        }
        for entry in self.deferred_from(0) {
            held.insert(entry);
        }
        held
    }

    /// The oldest journaled record it holds.
    pub(crate) fn first_held_from(&self, sequence: u64) -> Option<u64> {
        let ready = self.ready.first_at_or_after(sequence);
        let leased = self
            .leases
            .range(EntryId(sequence)..)
            .find(|(_, lease)| lease.memory.is_none())
            .map(|(entry, _)| entry.0);
        let deferred = self.deferred_from(sequence).next();
        [ready, leased, deferred].into_iter().flatten().min()
    }

    /// Gives back the memory of what has become empty.
    pub(crate) fn tidy(&mut self) {
        self.tidy_entries();
        self.consumers.tidy();
        self.bound_to.tidy();
        self.linked_to.tidy();
    }

    /// Is there anything to deliver, to end or to read on for, when something has changed?
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.memory.is_empty() || self.is_tended()
    }

    /// Is there anything to look after beside its deliveries?
    pub(crate) fn is_tended(&self) -> bool {
        self.policy.is_some()
            || self.deadlines.is_some()
            || self.retries.is_some()
            || self.timer_ms.is_some()
            || !self.linked_to.is_empty()
    }

    /// A delivery is settled: its consumer has room again, and a turn. Says under which credit group it was.
    pub(crate) fn credit(&mut self, lease: &Lease) -> Option<CreditGroup> {
        let who = (lease.client, lease.consumer?);
        let consumer = self.consumer_mut(who.0, who.1)?;
        consumer.outstanding = consumer.outstanding.saturating_sub(1);
        let group = consumer.group;
        self.offer(who);
        group
    }

    /// The same of what is known of its entries: nothing else is looked at.
    pub(crate) fn tidy_entries(&mut self) {
        self.memory.tidy();
        self.leases.tidy();
        self.returned.tidy();
    }

    /// The consumer of this client and key.
    pub(crate) fn consumer_mut(
        &mut self,
        client: ClientId,
        key: ConsumerKey,
    ) -> Option<&mut Consumer> {
        if self.consumers.is_empty() {
            return None;
        }
        self.consumers.get_mut(&(client, key))
    }

    /// The next entry that may be delivered: of records, at most this far.
    pub(crate) fn next_entry(&mut self, released: u64) -> Option<u64> {
        let memory = self.memory.first_key_value().map(|(entry, _)| *entry);
        let (ready, in_memory) = (&self.ready, &self.memory);
        match self.order.as_deref_mut() {
            None => {}
            Some(Order::Keys(keys)) => {
                let until = if memory.is_some() { u64::MAX } else { released };
                return keys.free_head(until).map(|(entry, _)| entry);
            }
            Some(order) => {
                let until = if memory.is_some() { u64::MAX } else { released };
                let there = |entry| ready.contains(entry) || in_memory.contains_key(&entry);
                if let Some(first) = order.first(until, there) {
                    return Some(first);
                }
            }
        }
        match (ready.first(), memory) {
            (Some(held), Some(memory)) if memory < held => Some(memory),
            (Some(held), _) => (held <= released).then_some(held),
            (None, memory) => memory,
        }
    }

    /// An entry has been taken out to be delivered: its rank.
    pub(crate) fn took(&mut self, entry: u64) -> Option<u16> {
        if let Some(sizes) = self.sizes.as_deref_mut() {
            sizes.took(entry);
        }
        let order = self.order.as_deref_mut()?;
        let rank = order.rank(entry);
        order.took(rank, entry);
        rank
    }

    /// Takes an entry out of the ready ones, if it is there: its rank.
    pub(crate) fn took_if_ready(&mut self, entry: u64) -> Option<u16> {
        if !self.ready.contains(entry) {
            return self.order.as_deref()?.rank(entry);
        }
        let rank = self.took(entry);
        self.ready.remove(entry);
        rank
    }

    /// An entry is ready (again), with its rank.
    pub(crate) fn put(&mut self, entry: u64, rank: Option<u16>) {
        if let Some(sizes) = self.sizes.as_deref_mut() {
            sizes.put(entry);
        }
        if let (Some(order), Some(rank)) = (self.order.as_deref_mut(), rank) {
            order.put(rank, entry, entry);
        }
    }

    /// What of these entries has a rank, in runs.
    pub(crate) fn ranked(&self, held: &SequenceSet) -> Vec<(u16, Vec<(u64, u64)>)> {
        let ranks = self.order.as_ref().map(|order| order.ranks());
        let mut found = Vec::new();
        for (rank, known) in ranks.into_iter().flatten() {
            let known: SequenceSet = known.iter().filter(|entry| held.contains(*entry)).collect();
            if !known.is_empty() {
                found.push((rank, known.iter_runs().collect()));
            }
        }
        found
    }

    /// A consumer has an entry.
    pub(crate) fn lease(&mut self, entry: EntryId, lease: Lease) {
        if let (Some(Order::Keys(keys)), Some(lane)) = (self.order.as_deref_mut(), lease.rank) {
            keys.leased(lane, lease.holder());
        }
        self.leases.insert(entry, lease);
    }

    /// A consumer has an entry no more.
    pub(crate) fn unlease(&mut self, entry: EntryId) -> Option<Lease> {
        let lease = self.leases.remove(&entry)?;
        if let (Some(Order::Keys(keys)), Some(lane)) = (self.order.as_deref_mut(), lease.rank) {
            keys.settled(lane);
        }
        Some(lease)
    }

    /// A consumer may be able to take an entry (again).
    pub(crate) fn offer(&mut self, who: Who) {
        if self.consumers.is_empty() {
            return;
        }
        self.consumers.offer(who);
        if let Some(Order::Keys(keys)) = self.order.as_deref_mut() {
            let room = self.consumers.get(&who).map_or(0, Consumer::room);
            keys.resume(who, room);
        }
    }

    /// These entries expire then.
    pub(crate) fn expires(&mut self, first: u64, last: u64, at_ms: i64) {
        self.deadlines
            .get_or_insert_default()
            .set(first, last, at_ms);
    }

    /// When an entry expires, if it does.
    pub(crate) fn deadline(&self, entry: u64) -> Option<i64> {
        self.deadlines.as_ref()?.get(entry).map(|(at, _)| at)
    }

    /// How often an entry came back.
    pub(crate) fn returned_count(&self, entry: u64) -> u32 {
        if self.returned.is_empty() {
            return 0;
        }
        self.returned.get(entry).unwrap_or(0)
    }

    /// These entries are done with. It is told before they are taken out of the ready ones.
    pub(crate) fn forget(&mut self, first: u64, last: u64) {
        self.forget_retries(first, last);
        if let Some(deadlines) = self.deadlines.as_deref_mut() {
            deadlines.forget(first, last);
            if deadlines.is_empty() {
                self.deadlines = None;
            }
        }
        if let Some(sizes) = self.sizes.as_deref_mut() {
            let (ready, memory) = (&self.ready, &self.memory);
            sizes.forget(first, last, |entry| {
                ready.contains(entry) || memory.contains_key(&entry)
            });
        }
        if let Some(order) = self.order.as_deref_mut() {
            order.forget(first, last);
        }
    }
}
