//! A shard's views over its journal: everything that replay rebuilds, and beside it what lives in memory only.
//!
//! Durable and non-durable objects share the maps; a non-durable one is never journaled and never checkpointed.

pub(crate) mod apply;
pub(crate) mod changes;
pub(crate) mod consumers;
pub(crate) mod deadlines;
pub(crate) mod delayed;
pub(crate) mod exchange;
pub(crate) mod holder_sets;
pub(crate) mod index;
pub(crate) mod label;
pub(crate) mod leases;
pub(crate) mod named;
pub(crate) mod names;
pub(crate) mod namespace;
pub(crate) mod objects;
pub(crate) mod order;
pub(crate) mod pages;
pub(crate) mod partition;
pub(crate) mod placed;
pub(crate) mod policy;
pub(crate) mod prefetch;
pub(crate) mod queue;
pub(crate) mod rare;
pub(crate) mod raw;
pub(crate) mod retained;
pub(crate) mod retries;
pub(crate) mod route_cache;
pub(crate) mod routes;
pub(crate) mod saved;
pub(crate) mod session;
pub(crate) mod small_map;
pub(crate) mod subscriptions;
pub(crate) mod transactions;

use crate::api::*;
use crate::link::Origin;
use crate::template::PathTemplate;
use foldhash::fast::FixedState;
use namespace::Namespace;
use objects::Objects;
use partition::{Partition, Topic};
use queue::Queue;
use session::Session;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A map whose keys the broker allots itself: no client can choose them to collide, and its order never varies.
pub(crate) type IdMap<K, V> = HashMap<K, V, FixedState>;

/// The state of a shard.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The next record's sequence.
    pub(crate) next_sequence: u64,
    pub(crate) next_topic: u64,
    pub(crate) next_queue: u64,
    pub(crate) next_session: u64,
    pub(crate) next_partition: u64,
    pub(crate) next_producer: i64,
    /// The journal's epoch, and the first sequence of each epoch.
    pub(crate) epoch: u32,
    pub(crate) epochs: Vec<(u32, u64)>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) topics: Objects<TopicId, Topic>,
    pub(crate) partitions: Objects<u64, Partition>,
    pub(crate) queues: Objects<QueueId, Queue>,
    pub(crate) sessions: Objects<SessionId, Session>,
    /// Interned sets of holders since the last checkpoint.
    pub(crate) sets: holder_sets::HolderSets,
    /// Sequences under which a queue holds a record that lies elsewhere.
    pub(crate) aliases: BTreeMap<u64, Alias>,
    /// Links by partition.
    pub(crate) links: BTreeMap<(u64, QueueId), Link>,
    /// Names of deleted topics by their partitions of which queues may hold records.
    pub(crate) orphans: BTreeMap<u64, Name>,
    /// What has changed since the last checkpoint.
    pub(crate) changes: changes::Changes,
    /// Records that are published later.
    pub(crate) delayed: delayed::Delayed,
    /// Path templates of topics that don't have the default one, and of such orphans.
    pub(crate) templates: BTreeMap<TopicId, Arc<PathTemplate>>,
    pub(crate) orphan_templates: BTreeMap<u64, Arc<PathTemplate>>,
    /// A Kafka client has written something: there may be logs for links.
    pub(crate) kafka_written: bool,
}

/// A run of sequences that stand for records stored under other numbers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Alias {
    /// How many sequences.
    pub(crate) count: u64,
    /// The queue that holds them.
    pub(crate) queue: QueueId,
    /// The sequence of the record that the first stands for.
    pub(crate) original: u64,
    /// The partition from which a link pulled it, or 0 for a retained message of an MQTT client.
    pub(crate) partition: u64,
    /// It stands for a retained message that a Kafka client wrote.
    #[serde(skip)]
    pub(crate) of_table: bool,
}

/// What stands where a queue does in the link by which a partition's retained messages are read: no queue has this
/// number.
pub(crate) const TABLE: QueueId = QueueId(0);

/// How a queue reads a partition that Kafka clients write.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Link {
    /// The next offset to look at.
    pub(crate) next_offset: i64,
    /// Records of other protocols from this offset on were routed, and are passed over.
    pub(crate) routed_from: i64,
    /// Is it to survive a restart?
    pub(crate) durable: bool,
    /// A reader is at work on it.
    #[serde(skip)]
    pub(crate) reading: bool,
}

/// A copy of a name that is kept for long. One that shares its bytes keeps a count of who does beside them, and all of
/// the buffer that it was read in.
pub(crate) fn apart(name: &[u8]) -> Name {
    Name::copy_from_slice(name)
}

impl State {
    /// An empty shard with these namespaces.
    pub(crate) fn new(namespaces: &[Name]) -> Self {
        Self {
            namespaces: (0u32..)
                .take(namespaces.len())
                .map(|id| Namespace::new(NamespaceId(id)))
                .collect(),
            next_sequence: 1,
            next_topic: 1,
            next_queue: 1,
            next_session: 1,
            next_partition: 1,
            next_producer: 1,
            ..Self::default()
        }
    }

    /// The namespace; those of clients exist always.
    pub(crate) fn namespace(&self, id: NamespaceId) -> Option<&Namespace> {
        self.namespaces.get(id.0 as usize)
    }

    /// The namespace, to change it.
    pub(crate) fn namespace_mut(&mut self, id: NamespaceId) -> Option<&mut Namespace> {
        self.namespaces.get_mut(id.0 as usize)
    }

    /// The topic that a request names.
    pub(crate) fn topic(&self, namespace: NamespaceId, reference: &TopicRef) -> Option<&Topic> {
        let id = match reference {
            TopicRef::Name(name) => self.topic_id(namespace, name),
            TopicRef::Uuid(uuid) => self.topic_of_uuid(namespace, *uuid),
        };
        self.topics.get(&id?)
    }

    /// What an alias at this sequence stands for: the record's own sequence, and the partition it was pulled from.
    pub(crate) fn original(&self, sequence: u64) -> Option<(u64, u64)> {
        let (first, alias) = self.aliases.range(..=sequence).next_back()?;
        let distance = sequence - first;
        (distance < alias.count).then_some((alias.original + distance, alias.partition))
    }

    /// Does this entry stand for a retained message sent because of a new subscription?
    pub(crate) fn copied_retained(&self, sequence: u64) -> bool {
        self.aliases
            .get(&sequence)
            .is_some_and(|alias| alias.partition == 0 || alias.of_table)
    }

    /// The topic that a partition belongs, or belonged, to: what its records' paths are made of.
    pub(crate) fn origin_of(&self, partition: u64) -> Origin {
        let known = self.partitions.get(&partition);
        if let Some(topic) = known.and_then(|partition| self.topics.get(&partition.topic)) {
            return Origin {
                topic: topic.name.name(),
                template: self.templates.get(&topic.id).cloned(),
            };
        }
        Origin {
            topic: self.orphans.get(&partition).cloned().unwrap_or_default(),
            template: self.orphan_templates.get(&partition).cloned(),
        }
    }
}
