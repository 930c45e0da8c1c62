//! A queue: the one subscription object. What holds records, and who takes them.

use crate::api::*;
use crate::sequence_set::SequenceSet;
use crate::state::rare::Rare;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A queue with its entries, leases and consumers.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) namespace: NamespaceId,
    pub(crate) kind: QueueKind,
    pub(crate) declared: DeclareQueue,
    /// The connection that it is for, if exclusive.
    pub(crate) owner: Option<ClientId>,
    /// Entries that wait for a consumer: sequences of journaled records.
    pub(crate) ready: SequenceSet,
    /// Entries that live in memory, by their number: all of a non-durable queue, and what passes a durable one
    /// unheld (QoS 0).
    pub(crate) memory: Rare<BTreeMap<u64, MemoryEntry>>,
    pub(crate) memory_bytes: u64,
    /// The next number of a non-durable queue.
    pub(crate) next_entry: u64,
    /// Entries with a consumer.
    pub(crate) leases: Rare<BTreeMap<EntryId, Lease>>,
    /// How often entries came back.
    pub(crate) returned: Rare<HashMap<u64, u32, foldhash::fast::FixedState>>,
    /// Entries below this may have been delivered by an earlier run of the server.
    pub(crate) suspect_below: u64,
    /// Entries below this were delivered to somebody.
    pub(crate) delivered_below: u64,
    pub(crate) consumers: Rare<Vec<Consumer>>,
    /// The consumer whose turn it is.
    pub(crate) turn: usize,
    /// It had a consumer once, so that auto-delete may strike.
    pub(crate) had_consumer: bool,
    /// It waits to be dispatched in this step.
    pub(crate) dirty: bool,
    /// Exchanges that have bindings to it.
    pub(crate) bound_to: Rare<BTreeSet<Name>>,
    /// Partitions that it reads by links.
    pub(crate) linked_to: Rare<BTreeSet<u64>>,
    /// Removals not journaled yet.
    pub(crate) acked: SequenceSet,
}

/// An entry in memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryEntry {
    pub(crate) message: Message,
    pub(crate) qos: u8,
    pub(crate) retained: bool,
    pub(crate) bytes: u64,
}

/// An entry that a consumer has and has not settled.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) client: ClientId,
    pub(crate) consumer: Option<ConsumerKey>,
    pub(crate) memory: Option<MemoryEntry>,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) client: ClientId,
    pub(crate) key: ConsumerKey,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) limit: u32,
    pub(crate) outstanding: u32,
    pub(crate) group: Option<CreditGroup>,
    pub(crate) priority: i32,
    /// Its reply has been released.
    pub(crate) active: bool,
}

impl Queue {
    /// A queue as declared.
    pub(crate) fn new(
        id: QueueId,
        namespace: NamespaceId,
        kind: QueueKind,
        declared: DeclareQueue,
    ) -> Self {
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
            leases: Rare::default(),
            returned: Rare::default(),
            suspect_below: 0,
            delivered_below: 0,
            consumers: Rare::default(),
            turn: 0,
            had_consumer: false,
            dirty: false,
            bound_to: Rare::default(),
            linked_to: Rare::default(),
            acked: SequenceSet::default(),
        }
    }

    /// Is it journaled?
    pub(crate) fn durable(&self) -> bool {
        self.declared.durable && !self.declared.exclusive
    }

    /// Messages that wait for a consumer.
    pub(crate) fn ready_count(&self) -> u64 {
        self.ready.len() + self.memory.len() as u64
    }

    /// Does a lease hold this journaled record or is it ready?
    pub(crate) fn holds(&self, sequence: u64) -> bool {
        self.ready.contains(sequence)
            || self
                .leases
                .get(&EntryId(sequence))
                .is_some_and(|lease| lease.memory.is_none())
    }

    /// Its journaled entries, ready and leased.
    pub(crate) fn held(&self) -> SequenceSet {
        let mut held = self.ready.clone();
        for (entry, lease) in &self.leases {
            if lease.memory.is_none() {
                held.insert(entry.0);
            }
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
        match (ready, leased) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Gives back the memory of what has become empty.
    pub(crate) fn tidy(&mut self) {
        self.memory.tidy();
        self.leases.tidy();
        self.returned.tidy();
        self.consumers.tidy();
        self.bound_to.tidy();
        self.linked_to.tidy();
    }

    /// The consumer of this client and key.
    pub(crate) fn consumer_mut(
        &mut self,
        client: ClientId,
        key: ConsumerKey,
    ) -> Option<&mut Consumer> {
        self.consumers
            .iter_mut()
            .find(|consumer| consumer.client == client && consumer.key == key)
    }
}
