//! The durable state as entries of an ordered key space: what a checkpoint holds.
//!
//! A key is a view's letter and a number or name, big-endian; a value is postcard's encoding. What belongs to a queue or
//! a partition lies behind it, under its key and another letter; large queues' entries are spread over several values.

mod load;

use crate::api::*;
use crate::sequence_set::SequenceSet;
use crate::state::State;
use crate::state::changes::{Named, Numbered};
use crate::state::partition::{Compacted, Partition, Topic};
use crate::state::queue::Queue;
use crate::state::saved::Saved;
use crate::state::session::Session;
use serde::{Deserialize, Serialize};

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
const RETRIES: u8 = b'o';
const TRANSACTIONAL: u8 = b'w';
const OPEN: u8 = b'x';
const ABORTED: u8 = b'y';
const BINDINGS: u8 = b't';
const DELAYED: u8 = b'z';
const PLACED: u8 = b'u';
const ORPHAN_TEMPLATE: u8 = b'v';
const TABLE_ENTRY: u8 = b'n';
const TABLE_COPY: u8 = b'A';
const RAW_VIEW: u8 = b'B';
const RAW_LOG: u8 = b'C';

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

/// What is known of a topic beside its log.
#[derive(Serialize, Deserialize)]
struct SavedPlaced {
    topic: TopicId,
    template: Option<String>,
    maker: Option<Name>,
}

/// More entries than this are encoded by whoever writes them.
const ENTRIES_AT_ONCE: u64 = 4096;

/// The view and the key of an object that has a number.
pub(crate) fn key_of(object: Numbered) -> (u8, [u8; 8]) {
    match object {
        Numbered::Topic(id) => (TOPIC, id.0.to_be_bytes()),
        Numbered::Partition(key) => (PARTITION, key.to_be_bytes()),
        Numbered::Queue(id) => (QUEUE, id.0.to_be_bytes()),
        Numbered::Session(id) => (SESSION, id.0.to_be_bytes()),
    }
}

/// Saves a queue's entries.
pub(crate) fn save_entries(queue: u64, entries: &SequenceSet, pages: &mut Saved) {
    let id = queue.to_be_bytes();
    let mut runs = entries.iter_runs();
    for number in 0u64.. {
        let chunk: Vec<(u64, u64)> = runs.by_ref().take(RUNS).collect();
        if chunk.is_empty() {
            return;
        }
        let key = [&id[..], &[ENTRIES], &number.to_be_bytes()];
        pages.add(QUEUE, &key, &(QueueId(queue), chunk));
    }
}

impl Topic {
    pub(crate) fn save_to(&self, pages: &mut Saved) {
        let id = self.id.0.to_be_bytes();
        pages.add_object(TOPIC, &id, self);
        if let Some(view) = &self.raw {
            pages.add(TOPIC, &[&id, &[RAW_VIEW]], &(self.id, view));
        }
    }
}

impl Session {
    pub(crate) fn save_to(&self, pages: &mut Saved) {
        pages.add(SESSION, &[&self.id.0.to_be_bytes()], self);
    }
}

impl Partition {
    pub(crate) fn save_to(&self, pages: &mut Saved) {
        let id = self.key.to_be_bytes();
        pages.add_object(PARTITION, &id, self);
        let Compacted { cleaned, raw } = &*self.compacted;
        if !cleaned.is_empty() {
            pages.add(PARTITION, &[&id, &[CLEANED]], &(self.key, cleaned));
        }
        if let Some(raw) = raw {
            pages.add(PARTITION, &[&id, &[RAW_LOG]], &(self.key, raw));
        }
        let Some(known) = &self.transactions else {
            return;
        };
        if !known.open.is_empty() {
            pages.add(PARTITION, &[&id, &[OPEN]], &(self.key, &known.open));
        }
        for (number, chunk) in known.aborted.chunks(RUNS).enumerate() {
            let at = [&id[..], &[ABORTED], &(number as u64).to_be_bytes()];
            pages.add(PARTITION, &at, &(self.key, chunk));
        }
    }
}

impl Queue {
    pub(crate) fn save_to(&self, pages: &mut Saved) {
        let mut held = self.held();
        // What is acknowledged and not journaled yet is held still.
        for (first, last) in self.acked.iter_runs() {
            held.insert_run(first, last);
        }
        let returned: Vec<(u64, u32)> = self
            .returned
            .iter()
            .filter(|(sequence, _)| held.contains(*sequence))
            .collect();
        let id = self.id.0.to_be_bytes();
        let saved = SavedQueue {
            namespace: self.namespace,
            kind: self.kind,
            declared: self.declared.clone(),
            returned,
            // A clean stop tells it, and without one everything may have been delivered.
            delivered_below: 0,
        };
        pages.add_object(QUEUE, &id, &saved);
        for (rank, runs) in self.ranked(&held) {
            for (number, chunk) in runs.chunks(RUNS).enumerate() {
                let number = (number as u64).to_be_bytes();
                let key = [&id[..], &[RANK], &rank.to_be_bytes(), &number];
                pages.add(QUEUE, &key, &(self.id, rank, chunk));
            }
        }
        let deadlines: Vec<(u64, u64, i64)> = self
            .deadlines
            .iter()
            .flat_map(|deadlines| deadlines.runs())
            .collect();
        for (number, chunk) in deadlines.chunks(RUNS).enumerate() {
            let key = [&id[..], &[DEADLINES], &(number as u64).to_be_bytes()];
            pages.add(QUEUE, &key, &(self.id, chunk));
        }
        let sizes: Vec<(u64, u64)> = self.sizes.iter().flat_map(|sizes| sizes.all()).collect();
        for (number, chunk) in sizes.chunks(RUNS).enumerate() {
            let key = [&id[..], &[SIZES], &(number as u64).to_be_bytes()];
            pages.add(QUEUE, &key, &(self.id, chunk));
        }
        let retries = self.retried();
        let retries: Vec<(u64, u32, i64)> = retries
            .filter(|(entry, ..)| held.contains(*entry))
            .collect();
        for (number, chunk) in retries.chunks(RUNS).enumerate() {
            let key = [&id[..], &[RETRIES], &(number as u64).to_be_bytes()];
            pages.add(QUEUE, &key, &(self.id, chunk));
        }
        if held.len() > ENTRIES_AT_ONCE {
            pages.add_set(self.id.0, held);
        } else {
            save_entries(self.id.0, &held, pages);
        }
    }
}

/// Adds an entry, or that there is none.
fn put(pages: &mut Saved, view: u8, key: &[&[u8]], value: Option<impl Serialize>) {
    match value {
        Some(value) => pages.add(view, key, &value),
        None => pages.remove(view, key),
    }
}

impl State {
    pub(crate) fn save_counters(&self, pages: &mut Saved) {
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
        );
    }

    /// Saves what has a name, or that it is gone.
    pub(crate) fn save_named(&self, named: &Named, pages: &mut Saved) {
        match named {
            Named::Exchange(id, name) => {
                let known = self
                    .namespace(*id)
                    .and_then(|names| names.exchanges.get(name));
                // Those that are there from the start need no saving.
                let durable =
                    known.filter(|exchange| exchange.declared.durable && !exchange.predeclared());
                let value = durable.map(|exchange| (id, &exchange.declared));
                put(pages, EXCHANGE, &[&id.0.to_be_bytes(), name], value);
            }
            Named::Bindings(id, source, destination, key) => {
                let bindings = self.durable_bindings(*id, source, destination, key);
                let value = (!bindings.is_empty()).then_some((id, bindings));
                let (kind, to) = match destination {
                    Destination::Queue(name) => (0u8, name),
                    Destination::Exchange(name) => (1u8, name),
                };
                let length = |name: &Name| u32::try_from(name.len()).unwrap_or(u32::MAX);
                let (from, at) = (length(source).to_be_bytes(), length(to).to_be_bytes());
                let id = id.0.to_be_bytes();
                let parts = [&id[..], &from, source, &[kind], &at, to, key];
                put(pages, BINDINGS, &parts, value);
            }
            Named::Group(id, name) => {
                let group = self.namespace(*id).and_then(|names| names.groups.get(name));
                let value = group.map(|group| (id, name, group));
                put(pages, GROUP, &[&id.0.to_be_bytes(), name], value);
            }
            Named::Transactional(id, name) => {
                let known = self.transactional(*id, name);
                let value = known.map(|known| (id, name, known));
                put(pages, TRANSACTIONAL, &[&id.0.to_be_bytes(), name], value);
            }
            Named::Retained(id, topic) => {
                let names = self.namespace(*id);
                let value = names
                    .and_then(|names| names.retained.get(topic))
                    .filter(|kept| kept.partition == 0)
                    .map(|kept| (id, topic, kept.sequence));
                put(pages, RETAINED, &[&id.0.to_be_bytes(), topic], value);
            }
            Named::TableEntry(id, topic) => {
                let names = self.namespace(*id);
                let value = names
                    .and_then(|names| names.retained.get(topic))
                    .filter(|kept| kept.partition != 0)
                    .map(|kept| (id, topic, kept.sequence, kept.partition));
                put(pages, TABLE_ENTRY, &[&id.0.to_be_bytes(), topic], value);
            }
            Named::Alias(at) => {
                let value = self.aliases.get(at).map(|alias| (at, alias));
                put(pages, ALIAS, &[&at.to_be_bytes()], value);
            }
            Named::TableCopy(at) => {
                let value = self.aliases.get(at).map(|alias| (at, alias));
                put(pages, TABLE_COPY, &[&at.to_be_bytes()], value);
            }
            Named::Link(partition, queue) => {
                let link = self.links.get(&(*partition, *queue));
                let value = link
                    .filter(|link| link.durable)
                    .map(|link| (partition, queue, link));
                let key = [&partition.to_be_bytes()[..], &queue.0.to_be_bytes()];
                put(pages, LINK, &key, value);
            }
            Named::Delayed(part) => {
                let records: Vec<_> = self.delayed.part(*part).collect();
                let value = (!records.is_empty()).then_some(records);
                put(pages, DELAYED, &[&part.to_be_bytes()], value);
            }
            Named::Orphan(partition) => {
                let value = self.orphans.get(partition).map(|topic| (partition, topic));
                put(pages, ORPHAN, &[&partition.to_be_bytes()], value);
            }
            Named::OrphanTemplate(partition) => {
                let template = self.orphan_templates.get(partition);
                let value = template.map(|template| (partition, template.to_string()));
                put(pages, ORPHAN_TEMPLATE, &[&partition.to_be_bytes()], value);
            }
            Named::Placed(topic) => {
                let known = self.topics.get(topic);
                let value = known.map(|known| SavedPlaced {
                    topic: *topic,
                    template: self.templates.get(topic).map(ToString::to_string),
                    maker: self
                        .namespace(known.namespace)
                        .and_then(|names| names.makers.get(topic))
                        .cloned(),
                });
                put(pages, PLACED, &[&topic.0.to_be_bytes()], value);
            }
        }
    }

    fn durable_bindings(
        &self,
        id: NamespaceId,
        source: &Name,
        destination: &Destination,
        key: &[u8],
    ) -> Vec<Binding> {
        let exchange = self
            .namespace(id)
            .and_then(|names| names.exchanges.get(source))
            .filter(|exchange| exchange.declared.durable);
        let Some(exchange) = exchange else {
            return Vec::new();
        };
        let mut bindings = exchange.bindings_by(destination, key);
        bindings.retain(|binding| self.binding_durable(id, binding));
        bindings
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
}
