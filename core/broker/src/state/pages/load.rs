//! Loading a checkpoint: each page into the state, in the order of their keys.

use super::{
    ABORTED, ALIAS, BINDING, BINDINGS, CLEANED, COUNTERS, Counters, DEADLINES, DELAYED, ENTRIES,
    EXCHANGE, GROUP, LINK, OPEN, ORPHAN, ORPHAN_TEMPLATE, PARTITION, PLACED, QUEUE, RANK, RAW_LOG,
    RAW_VIEW, RETAINED, RETRIES, SESSION, SIZES, SavedPlaced, SavedQueue, TABLE_COPY, TABLE_ENTRY,
    TOPIC, TRANSACTIONAL,
};
use crate::api::*;
use crate::state::namespace::Group;
use crate::state::partition::{Partition, Topic};
use crate::state::queue::Queue;
use crate::state::raw::{RawLog, RawView};
use crate::state::retained::Kept;
use crate::state::session::Session;
use crate::state::transactions::{Aborted, Transactional};
use crate::state::{Alias, Link, State};
use crate::template::PathTemplate;
use std::collections::BTreeMap;
use std::sync::Arc;

impl State {
    /// Takes in an entry of a saved state; they come in key order.
    pub(crate) fn load_entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        let state = self;
        // What belongs to a topic, a partition or a queue lies behind it; once, all of a kind lay together.
        let kind = match key.first() {
            Some(&(TOPIC | PARTITION | QUEUE)) if key.len() > 9 => key.get(9),
            kind => kind,
        };
        match kind {
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
                let declared = crate::event::Event::ExchangeDeclared {
                    namespace: id,
                    exchange: declared,
                };
                state.apply(&declared, &[]);
            }
            Some(&TOPIC) => {
                let topic: Topic = postcard::from_bytes(value)?;
                state.topics.insert(topic.id, topic);
            }
            Some(&PARTITION) => {
                let partition: Partition = postcard::from_bytes(value)?;
                state.kafka_written |= partition.kafka_written;
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
            Some(&RETRIES) => {
                let (id, retries): (QueueId, Vec<(u64, u32, i64)>) = postcard::from_bytes(value)?;
                if let Some(queue) = state.queues.get_mut(&id) {
                    for (entry, failures, until_ms) in retries {
                        queue.came_back(entry, failures, until_ms);
                    }
                }
            }
            Some(&PLACED) => {
                let saved: SavedPlaced = postcard::from_bytes(value)?;
                if let Some(text) = saved.template
                    && let Ok(template) = PathTemplate::parse(&text)
                {
                    state.template_is(saved.topic, Arc::new(template));
                }
                let topic = state.topics.get(&saved.topic);
                if let Some(id) = topic.map(|topic| topic.namespace)
                    && let Some(names) = state.namespace_mut(id)
                    && let Some(maker) = saved.maker
                {
                    names.made_by(&maker, saved.topic);
                }
            }
            Some(&ORPHAN_TEMPLATE) => {
                let (partition, text): (u64, String) = postcard::from_bytes(value)?;
                if let Ok(template) = PathTemplate::parse(&text) {
                    state.orphan_templates.insert(partition, Arc::new(template));
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
            Some(&BINDINGS) => {
                let (namespace, bindings): (NamespaceId, Vec<Binding>) =
                    postcard::from_bytes(value)?;
                for binding in bindings {
                    state.apply(&crate::event::Event::Bound { namespace, binding }, &[]);
                }
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
                    names.retained.set(&topic, Kept::published(sequence));
                }
            }
            Some(&TABLE_ENTRY) => {
                let (id, topic, sequence, partition): (NamespaceId, bytes::Bytes, u64, u64) =
                    postcard::from_bytes(value)?;
                let kept = Kept {
                    sequence,
                    partition,
                };
                if let Some(names) = state.namespace_mut(id) {
                    names.retained.set(&topic, kept);
                }
            }
            Some(&TABLE_COPY) => {
                let (at, mut alias): (u64, Alias) = postcard::from_bytes(value)?;
                alias.of_table = true;
                state.aliases.insert(at, alias);
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
                    partition.compacted.cleaned = cleaned;
                }
            }
            Some(&RAW_VIEW) => {
                let (id, view): (TopicId, RawView) = postcard::from_bytes(value)?;
                if let Some(topic) = state.topics.get_mut(&id) {
                    topic.raw = Some(Box::new(view));
                }
                state.name_raw(id);
            }
            Some(&RAW_LOG) => {
                let (key, raw): (u64, RawLog) = postcard::from_bytes(value)?;
                if let Some(partition) = state.partitions.get_mut(&key) {
                    partition.compacted.raw = Some(raw);
                }
            }
            Some(&DELAYED) => {
                let records: Vec<(u64, i64, NamespaceId)> = postcard::from_bytes(value)?;
                for (sequence, at_ms, namespace) in records {
                    state.delayed.add(namespace, sequence, sequence, at_ms);
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
        for (entry, count) in saved.returned {
            queue.returned.insert(entry, count);
        }
        queue.delivered_below = saved.delivered_below;
        let classic = queue.kind == QueueKind::Classic;
        let namespace = queue.namespace;
        self.queues.insert(id, queue);
        if classic {
            self.name_queue(namespace, id);
        }
        Ok(())
    }

    fn load_session(&mut self, session: Session) {
        let subscriptions = session.subscriptions.clone();
        let (id, namespace) = (session.id, session.namespace);
        let mut bare = session;
        bare.subscriptions.clear();
        self.sessions.insert(id, bare);
        self.name_session(namespace, id);
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
