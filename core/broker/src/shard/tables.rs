//! `omnilog.retain=latest`: topics whose records, as far as Kafka clients write them, are retained messages.
//!
//! Each of such a topic's partitions has a link of its own, [`TABLE`], which stands where others have a queue. What it
//! reads is set and cleared in the frame that says how far it came. A message that is no newer than the one there is
//! changes nothing, so reading twice does no harm. Messages of a partition without that link are not shown any more,
//! and are forgotten slice by slice.

use crate::api::*;
use crate::event::Event as Decision;
use crate::link::Pulled;
use crate::shard::Shard;
use crate::state::TABLE;
use crate::state::partition::Topic;
use crate::state::retained::Kept;
use crate::table::Becomes;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What one frame changes, at the most; and what bytes of topics, but for the last.
const CHANGES_MAX: usize = if cfg!(test) { 3 } else { 1024 };
const CHANGES_BYTES_MAX: usize = 64 << 10;

/// Retained messages looked at in one slice for some that nobody keeps up any more.
const SLICE: usize = if cfg!(test) { 2 } else { 1024 };

/// It is said again that there are too many when so much time has passed.
const SAY_AGAIN_MS: u64 = 60_000;

/// How the tables stand.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Looking for messages that are to be forgotten: the namespace, and from which sequence on.
    forgetting: Option<(usize, u64)>,
    /// Topics that are read for retained messages once that is done: what is forgotten is theirs, perhaps, and the log
    /// may not say any more that it is gone.
    waiting: BTreeSet<TopicId>,
    /// When it was said last that there are too many.
    said_ms: Option<u64>,
}

impl Tables {
    /// Is there something to forget?
    pub(crate) fn forgets(&self) -> bool {
        self.forgetting.is_some()
    }
}

/// A frame's changes.
#[derive(Default)]
struct Changes {
    kept: Vec<(Bytes, u64)>,
    gone: Vec<Bytes>,
    bytes: usize,
}

impl Shard {
    /// Are a topic's records retained messages?
    pub(crate) fn retains(&self, topic: TopicId) -> bool {
        let topic = self.state.topics.get(&topic);
        topic.is_some_and(|topic| self.config.retains_latest(&topic.name, &topic.settings))
    }

    /// A topic's settings may have changed: its partitions are read for retained messages from the log's start on, or
    /// not any more.
    pub(crate) fn settle_table(&mut self, topic: TopicId) {
        let wanted = self.retains(topic);
        let Some(known) = self.state.topics.get(&topic) else {
            return;
        };
        for key in known.partitions.clone() {
            let Some(partition) = self.state.partitions.get(&key) else {
                continue;
            };
            // Another is linked by the first that a Kafka client writes to it.
            let from = partition.kafka_written.then_some(partition.log_start);
            let there = self.state.links.contains_key(&(key, TABLE));
            match (wanted, there, from) {
                (true, false, Some(_)) if self.tables.forgets() => {
                    self.tables.waiting.insert(topic);
                }
                (true, false, Some(from)) => self.add_link(TABLE, key, from, from),
                (false, true, _) => {
                    self.record(&Decision::LinkDropped {
                        queue: TABLE,
                        partition: key,
                    });
                    self.forget_tables();
                }
                _ => {}
            }
        }
    }

    /// The same for every topic, as the server's settings may have changed.
    pub(crate) fn settle_tables(&mut self) {
        let retains = |topic: &&Topic| self.config.retains_latest(&topic.name, &topic.settings);
        let wanted = self.state.topics.values().filter(retains);
        let mut topics: BTreeSet<TopicId> = wanted.map(|topic| topic.id).collect();
        let tables = self.state.links.keys().filter(|(_, queue)| *queue == TABLE);
        let linked = tables.filter_map(|(key, _)| self.state.partitions.get(key));
        topics.extend(linked.map(|partition| partition.topic));
        let mut names = self.state.namespaces.iter();
        if names.any(|names| names.retained.has_tables()) {
            self.forget_tables();
        }
        for topic in topics {
            self.settle_table(topic);
        }
        self.finish_frame();
    }

    /// Retained messages of a partition may be nobody's any more.
    pub(crate) fn forget_tables(&mut self) {
        self.tables.forgetting = Some((0, 0));
    }

    /// Is a retained message one, for somebody who subscribes with this filter? Those of tables are subject to
    /// `topics.expose`, like what Kafka clients write in general.
    pub(crate) fn shows(&self, kept: Kept, filter: &[u8]) -> bool {
        if kept.partition == 0 {
            return true;
        }
        if !self.state.links.contains_key(&(kept.partition, TABLE)) {
            return false;
        }
        let wild = filter.starts_with(b"+") || filter.starts_with(b"#");
        let partition = self.state.partitions.get(&kept.partition);
        let topic = partition.and_then(|partition| self.state.topics.get(&partition.topic));
        !wild || topic.is_some_and(|topic| self.exposed(&topic.name))
    }

    /// A read came back: what it says of retained messages takes effect.
    pub(crate) fn advance_table(&mut self, key: u64, pulled: &Pulled) {
        let Some(link) = self.state.links.get(&(key, TABLE)) else {
            return;
        };
        let start = link.next_offset;
        let Some(partition) = self.state.partitions.get(&key) else {
            return;
        };
        let (topic, log_start) = (partition.topic, partition.log_start);
        if start.max(log_start) < pulled.from || start >= pulled.next_offset {
            return;
        }
        let Some(namespace) = self.state.topics.get(&topic).map(|topic| topic.namespace) else {
            return;
        };
        if start < log_start {
            self.pass(key, TABLE, start, log_start, true);
        }
        // What was read may all be out of the log by now.
        if log_start >= pulled.next_offset {
            return;
        }
        let from = start.max(log_start);
        // Of each topic the last counts.
        let mut latest: BTreeMap<&Bytes, (u64, Becomes)> = BTreeMap::new();
        let mut too_long = 0;
        for change in &pulled.table {
            // The log may begin within a batch that is not decided yet: the rest of it comes later.
            if change.offset < from || change.offset >= pulled.next_offset {
                continue;
            }
            if change.becomes == Becomes::TooLong {
                too_long += 1;
                continue;
            }
            latest.insert(&change.topic, (change.sequence, change.becomes));
        }
        let mut changes = Changes::default();
        let mut beyond = 0;
        for (topic, (sequence, becomes)) in latest {
            let Some(names) = self.state.namespace(namespace) else {
                return;
            };
            let known = names.retained.get(topic);
            let newer = known.is_some_and(|known| known.sequence < sequence);
            match becomes {
                Becomes::Kept if known.is_none() => {
                    let all = names.retained.len() + changes.kept.len() as u64;
                    if all >= self.config.table_retained_max {
                        beyond += 1;
                        continue;
                    }
                    changes.kept.push((topic.clone(), sequence));
                }
                Becomes::Kept if newer => changes.kept.push((topic.clone(), sequence)),
                Becomes::Gone if newer => changes.gone.push(topic.clone()),
                _ => continue,
            }
            changes.bytes += topic.len();
            let full = changes.kept.len() + changes.gone.len() >= CHANGES_MAX;
            if full || changes.bytes >= CHANGES_BYTES_MAX {
                // It is read again from where it was, should this be the last that is left.
                self.change_table(namespace, key, from, std::mem::take(&mut changes));
                self.finish_frame();
            }
        }
        self.change_table(namespace, key, pulled.next_offset, changes);
        self.not_retained(topic, beyond, too_long);
    }

    fn change_table(
        &mut self,
        namespace: NamespaceId,
        partition: u64,
        next_offset: i64,
        changes: Changes,
    ) {
        self.record(&Decision::TableAdvanced {
            namespace,
            partition,
            next_offset,
            kept: changes.kept,
            gone: changes.gone,
        });
    }

    /// Some of a topic's records could not become retained messages.
    fn not_retained(&mut self, topic: TopicId, beyond: u64, too_long: u64) {
        if beyond + too_long == 0 {
            return;
        }
        self.stats.not_retained += beyond + too_long;
        let now = self.now.monotonic_ms;
        let said = self.tables.said_ms;
        if said.is_some_and(|said| now < said.saturating_add(SAY_AGAIN_MS)) {
            return;
        }
        self.tables.said_ms = Some(now);
        let topic = self.state.topics.get(&topic);
        let topic = topic.map(|topic| String::from_utf8_lossy(&topic.name));
        tracing::warn!(
            topic = topic.as_deref().unwrap_or_default(),
            beyond,
            too_long,
            "records are not retained: beyond topics.retain_latest_max, or with longer topics than MQTT clients may use"
        );
    }

    /// Forgets some of what nobody keeps up any more.
    pub(crate) fn forget_some(&mut self) {
        let Some((at, from)) = self.tables.forgetting else {
            return;
        };
        let Some(names) = self.state.namespaces.get(at) else {
            self.tables.forgetting = None;
            for topic in std::mem::take(&mut self.tables.waiting) {
                self.settle_table(topic);
            }
            self.finish_frame();
            return;
        };
        let namespace = names.id;
        let mut next = None;
        let mut gone = Vec::new();
        for (looked, (topic, kept)) in names.retained.starting_at(from).enumerate() {
            if looked == SLICE {
                next = Some(kept.sequence);
                break;
            }
            if kept.partition != 0 && !self.state.links.contains_key(&(kept.partition, TABLE)) {
                gone.push(topic.clone());
            }
        }
        self.tables.forgetting = Some(next.map_or((at + 1, 0), |next| (at, next)));
        for topic in gone {
            self.record(&Decision::RetainedCleared { namespace, topic });
        }
        self.finish_frame();
    }
}
