//! The durable state as entries of an ordered key space: what a checkpoint holds.
//!
//! A key is a view's letter and a number or name, big-endian; a value is postcard's encoding. Large queues' entries are
//! spread over several values.

use crate::api::*;
use crate::state::exchange::Exchange;
use crate::state::namespace::Group;
use crate::state::partition::{Partition, Topic};
use crate::state::queue::Queue;
use crate::state::saved::Saved;
use crate::state::session::Session;
use crate::state::transactions::{Aborted, Transactional};
use crate::state::{Alias, Link, State};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Runs of a queue's entries in one value.
const RUNS: usize = 8192;

const COUNTERS: u8 = b'a';
const EXCHANGE: u8 = b'b';
const TOPIC: u8 = b'c';
const PARTITION: u8 = b'd';
const QUEUE: u8 = b'e';
const ENTRIES: u8 = b'f';
const BINDING: u8 = b'g';
const SESSION: u8 = b'h';
const GROUP: u8 = b'i';
const RETAINED: u8 = b'j';
const ALIAS: u8 = b'k';
const LINK: u8 = b'l';
const RANK: u8 = b'p';
const ORPHAN: u8 = b'q';
const CLEANED: u8 = b'm';
const DEADLINES: u8 = b'r';
const SIZES: u8 = b's';
const TRANSACTIONAL: u8 = b'w';
const OPEN: u8 = b'x';
const ABORTED: u8 = b'y';

#[derive(Serialize, Deserialize)]
struct Counters {
    next_sequence: u64,
    next_topic: u64,
    next_queue: u64,
    next_session: u64,
    next_partition: u64,
    next_producer: i64,
    epoch: u32,
    epochs: Vec<(u32, u64)>,
}

#[derive(Serialize, Deserialize)]
struct SavedQueue {
    namespace: NamespaceId,
    kind: QueueKind,
    declared: DeclareQueue,
    returned: Vec<(u64, u32)>,
    delivered_below: u64,
}

impl State {
    /// The durable state.
    pub(crate) fn save(&self) -> Result<Saved, postcard::Error> {
        let mut pages = Saved::default();
        pages.add(
            COUNTERS,
            &[],
            &Counters {
                next_sequence: self.next_sequence,
                next_topic: self.next_topic,
                next_queue: self.next_queue,
                next_session: self.next_session,
                next_partition: self.next_partition,
                next_producer: self.next_producer,
                epoch: self.epoch,
                epochs: self.epochs.clone(),
            },
        )?;
        for names in &self.namespaces {
            let id = names.id.0.to_be_bytes();
            let mut number = 0u64;
            for exchange in names
                .exchanges
                .values()
                .filter(|exchange| exchange.declared.durable)
            {
                let name = &exchange.declared.name;
                pages.add(EXCHANGE, &[&id, name], &(names.id, &exchange.declared))?;
                for binding in exchange.bindings() {
                    if self.binding_durable(names.id, &binding) {
                        pages.add(BINDING, &[&id, &number.to_be_bytes()], &(names.id, binding))?;
                        number += 1;
                    }
                }
            }
            for (name, group) in &names.groups {
                pages.add(GROUP, &[&id, name], &(names.id, name, group))?;
            }
            for (name, known) in &names.transactions {
                pages.add(TRANSACTIONAL, &[&id, name], &(names.id, name, known))?;
            }
            for (number, (topic, sequence)) in names.retained.all().into_iter().enumerate() {
                let key = (number as u64).to_be_bytes();
                pages.add(RETAINED, &[&id, &key], &(names.id, topic, sequence))?;
            }
        }
        for topic in self.topics.values() {
            pages.add(TOPIC, &[&topic.id.0.to_be_bytes()], topic)?;
        }
        for partition in self.partitions.values() {
            pages.add(PARTITION, &[&partition.key.to_be_bytes()], partition)?;
            if !partition.cleaned.is_empty() {
                let value = (partition.key, &partition.cleaned);
                pages.add(CLEANED, &[&partition.key.to_be_bytes()], &value)?;
            }
        }
        self.save_transactions(&mut pages)?;
        for queue in self.queues.values().filter(|queue| queue.durable()) {
            self.save_queue(queue, &mut pages)?;
        }
        for session in self.sessions.values().filter(|session| session.durable()) {
            pages.add(SESSION, &[&session.id.0.to_be_bytes()], session)?;
        }
        for (at, alias) in &self.aliases {
            pages.add(ALIAS, &[&at.to_be_bytes()], &(at, alias))?;
        }
        for ((partition, queue), link) in self.links.iter().filter(|(_, link)| link.durable) {
            let key = [partition.to_be_bytes(), queue.0.to_be_bytes()];
            pages.add(LINK, &[&key.concat()], &(partition, queue, link))?;
        }
        let mut named: BTreeSet<u64> = BTreeSet::new();
        if !self.orphans.is_empty() {
            named.extend(self.aliases.values().map(|alias| alias.partition));
        }
        for (partition, topic) in &self.orphans {
            if named.contains(partition) {
                pages.add(ORPHAN, &[&partition.to_be_bytes()], &(partition, topic))?;
            }
        }
        Ok(pages)
    }

    fn save_queue(&self, queue: &Queue, pages: &mut Saved) -> Result<(), postcard::Error> {
        let mut returned: Vec<(u64, u32)> = queue
            .returned
            .iter()
            .filter(|(sequence, _)| queue.holds(**sequence))
            .map(|(sequence, count)| (*sequence, *count))
            .collect();
        returned.sort_unstable();
        let id = queue.id.0.to_be_bytes();
        let saved = SavedQueue {
            namespace: queue.namespace,
            kind: queue.kind,
            declared: queue.declared.clone(),
            returned,
            delivered_below: queue.delivered_below,
        };
        pages.add(QUEUE, &[&id], &saved)?;
        let held = queue.held();
        for (rank, runs) in queue.ranked(&held) {
            for (number, chunk) in runs.chunks(RUNS).enumerate() {
                let key = [&id[..], &rank.to_be_bytes(), &(number as u64).to_be_bytes()];
                pages.add(RANK, &key, &(queue.id, rank, chunk))?;
            }
        }
        let deadlines: Vec<(u64, u64, i64)> = queue
            .deadlines
            .iter()
            .flat_map(|deadlines| deadlines.runs())
            .collect();
        for (number, chunk) in deadlines.chunks(RUNS).enumerate() {
            let key = [&id[..], &(number as u64).to_be_bytes()];
            pages.add(DEADLINES, &key, &(queue.id, chunk))?;
        }
        let sizes: Vec<(u64, u64)> = queue.sizes.iter().flat_map(|sizes| sizes.all()).collect();
        for (number, chunk) in sizes.chunks(RUNS).enumerate() {
            let key = [&id[..], &(number as u64).to_be_bytes()];
            pages.add(SIZES, &key, &(queue.id, chunk))?;
        }
        let runs: Vec<(u64, u64)> = held.iter_runs().collect();
        for (number, chunk) in runs.chunks(RUNS).enumerate() {
            pages.add(
                ENTRIES,
                &[&id, &(number as u64).to_be_bytes()],
                &(queue.id, chunk),
            )?;
        }
        Ok(())
    }

    /// What transactions left in partitions.
    fn save_transactions(&self, pages: &mut Saved) -> Result<(), postcard::Error> {
        for partition in self.partitions.values() {
            let Some(known) = &partition.transactions else {
                continue;
            };
            let key = partition.key.to_be_bytes();
            if !known.open.is_empty() {
                pages.add(OPEN, &[&key], &(partition.key, &known.open))?;
            }
            for (number, chunk) in known.aborted.chunks(RUNS).enumerate() {
                let at = [&key[..], &(number as u64).to_be_bytes()];
                pages.add(ABORTED, &at, &(partition.key, chunk))?;
            }
        }
        Ok(())
    }

    fn binding_durable(&self, namespace: NamespaceId, binding: &Binding) -> bool {
        match &binding.destination {
            Destination::Queue(name) => self
                .queue_id(namespace, name)
                .and_then(|id| self.queues.get(&id))
                .is_some_and(Queue::durable),
            Destination::Exchange(name) => self
                .namespace(namespace)
                .and_then(|names| names.exchanges.get(name))
                .is_some_and(|exchange| exchange.declared.durable),
        }
    }

    /// Takes in an entry of a saved state; they come in key order.
    pub(crate) fn load_entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        let state = self;
        match key.first() {
            Some(&COUNTERS) => {
                let counters: Counters = postcard::from_bytes(value)?;
                state.next_sequence = counters.next_sequence;
                state.next_topic = counters.next_topic;
                state.next_queue = counters.next_queue;
                state.next_session = counters.next_session;
                state.next_partition = counters.next_partition;
                state.next_producer = counters.next_producer;
                state.epoch = counters.epoch;
                state.epochs = counters.epochs;
            }
            Some(&EXCHANGE) => {
                let (id, declared): (NamespaceId, DeclareExchange) = postcard::from_bytes(value)?;
                if let Some(names) = state.namespace_mut(id) {
                    names
                        .exchanges
                        .insert(declared.name.clone(), Exchange::new(declared));
                }
            }
            Some(&TOPIC) => {
                let topic: Topic = postcard::from_bytes(value)?;
                if let Some(names) = state.namespace_mut(topic.namespace) {
                    names.topics.insert(topic.name.clone(), topic.id);
                    names.topic_uuids.insert(topic.uuid, topic.id);
                }
                state.topics.insert(topic.id, topic);
            }
            Some(&PARTITION) => {
                let partition: Partition = postcard::from_bytes(value)?;
                state.partitions.insert(partition.key, partition);
            }
            Some(&QUEUE) => state.load_queue(key, value)?,
            Some(&ENTRIES) => {
                let (id, runs): (QueueId, Vec<(u64, u64)>) = postcard::from_bytes(value)?;
                if let Some(queue) = state.queues.get_mut(&id) {
                    for (first, last) in runs {
                        queue.ready.insert_run(first, last);
                    }
                }
            }
            Some(&RANK) => {
                let (id, rank, runs): (QueueId, u16, Vec<(u64, u64)>) =
                    postcard::from_bytes(value)?;
                if let Some(order) = state
                    .queues
                    .get_mut(&id)
                    .and_then(|queue| queue.order.as_deref_mut())
                {
                    for (first, last) in runs {
                        order.put(rank, first, last);
                    }
                }
            }
            Some(&DEADLINES) => {
                let (id, runs): (QueueId, Vec<(u64, u64, i64)>) = postcard::from_bytes(value)?;
                if let Some(queue) = state.queues.get_mut(&id) {
                    for (first, last, at_ms) in runs {
                        queue.expires(first, last, at_ms);
                    }
                }
            }
            Some(&SIZES) => {
                let (id, sizes): (QueueId, Vec<(u64, u64)>) = postcard::from_bytes(value)?;
                if let Some(queue) = state.queues.get_mut(&id) {
                    let known = queue.sizes.get_or_insert_default();
                    for (entry, bytes) in sizes {
                        known.set(entry, bytes);
                    }
                }
            }
            Some(&ORPHAN) => {
                let (partition, topic): (u64, Name) = postcard::from_bytes(value)?;
                state.orphans.insert(partition, topic);
            }
            Some(&BINDING) => {
                let (namespace, binding): (NamespaceId, Binding) = postcard::from_bytes(value)?;
                state.apply(&crate::event::Event::Bound { namespace, binding }, &[]);
            }
            Some(&SESSION) => state.load_session(postcard::from_bytes(value)?),
            Some(&GROUP) => {
                let (id, name, group): (NamespaceId, Name, Group) = postcard::from_bytes(value)?;
                if let Some(names) = state.namespace_mut(id) {
                    names.groups.insert(name, group);
                }
            }
            Some(&RETAINED) => {
                let (id, topic, sequence): (NamespaceId, Name, u64) = postcard::from_bytes(value)?;
                if let Some(names) = state.namespace_mut(id) {
                    names.retained.set(&topic, sequence);
                }
            }
            Some(&ALIAS) => {
                let (at, alias): (u64, Alias) = postcard::from_bytes(value)?;
                state.aliases.insert(at, alias);
            }
            Some(&LINK) => {
                let (partition, queue, link): (u64, QueueId, Link) = postcard::from_bytes(value)?;
                if let Some(taker) = state.queues.get_mut(&queue) {
                    taker.linked_to.insert(partition);
                }
                if let Some(partition) = state.partitions.get_mut(&partition) {
                    partition.linked = true;
                }
                state.links.insert((partition, queue), link);
            }
            Some(&CLEANED) => {
                let (key, cleaned): (u64, Vec<(i64, i64)>) = postcard::from_bytes(value)?;
                if let Some(partition) = state.partitions.get_mut(&key) {
                    partition.cleaned = cleaned;
                }
            }
            Some(&TRANSACTIONAL) => {
                let (id, name, known): (NamespaceId, Name, Transactional) =
                    postcard::from_bytes(value)?;
                if let Some(names) = state.namespace_mut(id) {
                    names.transactions.insert(name, known);
                }
            }
            Some(&OPEN) => {
                let (key, open): (u64, BTreeMap<i64, i64>) = postcard::from_bytes(value)?;
                if let Some(partition) = state.partitions.get_mut(&key) {
                    partition.transactions.get_or_insert_default().open = open;
                }
            }
            Some(&ABORTED) => {
                let (key, aborted): (u64, Vec<Aborted>) = postcard::from_bytes(value)?;
                if let Some(partition) = state.partitions.get_mut(&key) {
                    let known = partition.transactions.get_or_insert_default();
                    known.aborted.extend(aborted);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn load_queue(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        let id = key
            .get(1..9)
            .and_then(|id| id.try_into().ok())
            .map(u64::from_be_bytes);
        let Some(id) = id.map(QueueId) else {
            return Ok(());
        };
        let saved: SavedQueue = postcard::from_bytes(value)?;
        let mut queue = Queue::new(id, saved.namespace, saved.kind, saved.declared);
        queue.returned = saved.returned.into_iter().collect();
        queue.delivered_below = saved.delivered_below;
        if queue.kind == QueueKind::Classic
            && let Some(names) = self.namespace_mut(queue.namespace)
        {
            names.queues.insert(queue.declared.name.clone(), id);
        }
        self.queues.insert(id, queue);
        Ok(())
    }

    fn load_session(&mut self, session: Session) {
        let subscriptions = session.subscriptions.clone();
        let id = session.id;
        if let Some(names) = self.namespace_mut(session.namespace) {
            names.sessions.insert(session.client_id.clone(), id);
        }
        let mut bare = session;
        bare.subscriptions.clear();
        self.sessions.insert(id, bare);
        for (queue, subscription) in subscriptions.into_values() {
            let event = crate::event::Event::Subscribed {
                session: id,
                queue,
                subscription,
            };
            self.apply(&event, &[]);
        }
    }
}
