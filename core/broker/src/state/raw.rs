//! Raw views: a compacted topic's records as they were written, in a read-only topic beside it, for a window of its own.
//!
//! What was not cleaned yet is in the topic's own log. What was is in copies, under another key in the clustered files
//! ([`crate::shard::raw`]).

use crate::api::*;
use crate::state::State;
use crate::state::changes::Named;
use crate::state::namespace::Namespace;
use crate::state::partition::{Partition, Span, Topic, drop_passed};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The raw view of a topic, as a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawView {
    pub(crate) id: TopicId,
    pub(crate) uuid: u128,
}

/// The raw view of a partition. Its offsets are the partition's, and so is its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawLog {
    /// The partition that holds the copies of what was cleaned.
    pub(crate) key: u64,
    /// Where the view begins.
    pub(crate) log_start: i64,
    /// The files its records were written to, oldest first.
    pub(crate) spans: SmallVec<[Span; 1]>,
}

impl RawLog {
    /// The view begins here from now on.
    pub(crate) fn start_at(&mut self, offset: i64, next_offset: i64) {
        self.log_start = self.log_start.max(offset);
        drop_passed(&mut self.spans, self.log_start, next_offset);
    }
}

/// The name of a topic's raw view.
pub(crate) fn raw_name(topic: &[u8]) -> Name {
    Name::from([topic, RAW_SUFFIX.as_bytes()].concat())
}

/// A topic that can be read: itself, or its raw view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readable<'a> {
    pub(crate) topic: &'a Topic,
    /// Which raw view of it.
    pub(crate) raw: Option<&'a RawView>,
}

impl Readable<'_> {
    /// Its incarnation.
    pub(crate) fn id(&self) -> TopicId {
        self.raw.map_or(self.topic.id, |view| view.id)
    }
}

/// A partition that can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadablePartition<'a> {
    pub(crate) partition: &'a Partition,
    /// It is read as it was written.
    pub(crate) raw: Option<&'a RawLog>,
}

impl ReadablePartition<'_> {
    /// The first offset that can be read.
    pub(crate) fn log_start(&self) -> i64 {
        let own = self.partition.log_start;
        self.raw.map_or(own, |raw| raw.log_start)
    }

    /// The files that it lies in, oldest first.
    fn spans(&self) -> &[Span] {
        self.raw.map_or(&self.partition.spans, |raw| &raw.spans)
    }

    /// The files that a read from this offset on begins with.
    pub(crate) fn files_from(&self, offset: i64) -> Vec<u32> {
        Span::files_from(self.spans(), offset)
    }

    /// The first file with a record of this time or later.
    pub(crate) fn files_since(&self, time_ms: i64) -> Vec<u32> {
        let mut spans = self.spans().iter();
        let first = spans.find(|span| span.max_timestamp >= time_ms);
        first.map(|span| span.file).into_iter().collect()
    }

    /// Where copies are.
    pub(crate) fn copies(&self) -> Option<u64> {
        self.raw.map(|raw| raw.key)
    }
}

impl State {
    /// The topic that a request reads.
    pub(crate) fn readable(
        &self,
        namespace: NamespaceId,
        reference: &TopicRef,
    ) -> Option<Readable<'_>> {
        if let Some(topic) = self.topic(namespace, reference) {
            return Some(Readable { topic, raw: None });
        }
        let topic = self.raw_topic(namespace, reference)?;
        Some(Readable {
            topic,
            raw: topic.raw.as_deref(),
        })
    }

    /// The topic whose raw view a request names.
    pub(crate) fn raw_topic(&self, namespace: NamespaceId, reference: &TopicRef) -> Option<&Topic> {
        let names = self.namespace(namespace)?;
        let topic = match reference {
            TopicRef::Name(name) => names.raws.get(name)?,
            TopicRef::Uuid(uuid) => names.raw_uuids.get(uuid)?,
        };
        self.topics.get(topic)
    }

    /// A partition's raw view, to change it.
    pub(crate) fn raw_log_mut(&mut self, partition: u64) -> Option<(&mut RawLog, i64)> {
        self.touch_partition(partition);
        let partition = self.partitions.get_mut(&partition)?;
        let next_offset = partition.next_offset;
        partition.compacted.raw.as_ref()?;
        Some((partition.compacted.raw.as_mut()?, next_offset))
    }

    /// A topic has a raw view, with these logs: partitions, the keys of their copies, and where they begin.
    pub(crate) fn raw_viewed(&mut self, topic: TopicId, view: &RawView, logs: &[(u64, u64, i64)]) {
        self.next_topic = self.next_topic.max(view.id.0 + 1);
        let numbers = logs.iter().map(|(_, key, _)| key & !omnilog_ledger::COPIES);
        let next = numbers.max().map_or(0, |number| number + 1);
        self.next_partition = self.next_partition.max(next);
        let Some(known) = self.topics.get_mut(&topic) else {
            return;
        };
        self.changes.touch(known);
        known.raw = Some(Box::new(view.clone()));
        self.name_raw(topic);
        for (partition, key, start) in logs {
            self.touch_partition(*partition);
            let Some(partition) = self.partitions.get_mut(partition) else {
                continue;
            };
            let mut raw = RawLog {
                key: *key,
                log_start: 0,
                spans: partition.spans.clone(),
            };
            raw.start_at(*start, partition.next_offset);
            partition.compacted.raw = Some(raw);
        }
    }

    /// Makes the names of a topic's raw view known.
    pub(crate) fn name_raw(&mut self, topic: TopicId) {
        let Some(known) = self.topics.get(&topic) else {
            return;
        };
        let (namespace, name) = (known.namespace, raw_name(&known.name));
        let Some(uuid) = known.raw.as_ref().map(|view| view.uuid) else {
            return;
        };
        if let Some(names) = self.namespace_mut(namespace) {
            names.routes.touch(&name);
            names.raw_uuids.insert(uuid, topic);
            names.raws.insert(name, topic);
        }
    }

    /// A topic has no raw view any more.
    pub(crate) fn raw_dropped(&mut self, topic: TopicId) {
        let Some(view) = self
            .topics
            .get(&topic)
            .and_then(|known| known.raw.as_deref().cloned())
        else {
            return;
        };
        for user in self.users_of(topic, view.id) {
            self.touch(user);
        }
        let Some(known) = self.topics.get_mut(&topic) else {
            return;
        };
        self.changes.touch(known);
        known.raw = None;
        let (namespace, name) = (known.namespace, raw_name(&known.name));
        let partitions = known.partitions.clone();
        if let Some(names) = self.namespace_mut(namespace) {
            names.routes.touch(&name);
            names.raws.remove(&name);
            names.raw_uuids.remove(&view.uuid);
            names.forget_positions(view.id);
        }
        for key in partitions {
            self.touch_partition(key);
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.compacted.raw = None;
                partition.compacted.tidy();
                partition.forget_aborted(partition.log_start);
            }
        }
    }

    /// Groups and transactions that have positions of a topic incarnation, or partitions of a topic.
    pub(crate) fn users_of(&self, topic: TopicId, incarnation: TopicId) -> Vec<Named> {
        let Some(known) = self.topics.get(&topic) else {
            return Vec::new();
        };
        let Some(names) = self.namespace(known.namespace) else {
            return Vec::new();
        };
        let id = names.id;
        let groups = names.groups.iter().filter(|(_, group)| {
            group.offsets.keys().any(|(of, _)| *of == incarnation)
                || group.state.is_none() && group.offsets.is_empty()
        });
        let groups = groups.map(|(name, _)| Named::Group(id, name.clone()));
        let transactions = names.transactions.iter().filter(|(_, transactional)| {
            let partitions = &transactional.partitions;
            let mut pending = transactional.groups.values().flat_map(|group| group.keys());
            known.partitions.iter().any(|key| partitions.contains(key))
                || pending.any(|(of, _)| *of == incarnation)
        });
        let transactions = transactions.map(|(name, _)| Named::Transactional(id, name.clone()));
        groups.chain(transactions).collect()
    }
}

impl Namespace {
    /// Groups, and transactions, forget their positions of a topic incarnation.
    pub(crate) fn forget_positions(&mut self, topic: TopicId) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|(of, _), _| *of != topic);
        }
        State::forget_pending(&mut self.transactions, &|_, of| of == topic);
        self.groups
            .retain(|_, group| group.state.is_some() || !group.offsets.is_empty());
    }
}
