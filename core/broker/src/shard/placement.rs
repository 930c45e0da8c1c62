//! Where a record is kept: the log, its key there, its partition; logs that publishing makes by itself.
//!
//! The first mapping rule whose filter matches a path says its topic and key; else it is the topic of the path's first
//! level, if that topic's paths are the default ones; else the catch-all topic. Who gets a record is decided by its
//! path alone and never by where it is kept.

use crate::api::*;
use crate::event::Event as Decision;
use crate::mapping::{Placed, Rule};
use crate::partitioner::partition_of;
use crate::path::put_level;
use crate::shard::Shard;
use crate::shard::route::{path_head, path_rest};
use crate::state::apart;
use crate::state::namespace::Namespace;
use crate::state::routes::Route;
use bytes::{Bytes, BytesMut};
use omnilog_record::{
    BatchBuilder, BatchHeader, BatchOptions, NewRecord, Pieces, Record, RecordBase, RecordBatch,
};
use std::borrow::Cow;
use std::sync::Arc;

/// The log of a path.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) topic: Option<TopicId>,
    /// The key, if it is not the one that a path has by default.
    pub(crate) placed: Option<Box<Placed>>,
    /// It might have a log of its own, and hasn't.
    pub(crate) unlogged: bool,
}

/// Records of one batch that go to one partition, with their routes.
type Part = (Bytes, Vec<PublishRecord>, Vec<Arc<Route>>);

/// A log, and which of its partitions; none: any.
type Place = (Option<TopicId>, Option<usize>);

impl Shard {
    /// The log that keeps what is published to this path, if there is one.
    pub(crate) fn log_of(
        &self,
        names: &Namespace,
        provenance: Provenance,
        levels: &[&[u8]],
    ) -> Log {
        let Some(head) = levels.first() else {
            return Log::default();
        };
        if matches!(provenance, Provenance::AmqpPredeclared | Provenance::Kafka) {
            return Log::default();
        }
        let levels = spelled(provenance, levels);
        let levels: Vec<&[u8]> = levels.iter().map(|level| &**level).collect();
        if let Some((rule, placed)) = self.ruled(provenance, &levels) {
            let topic = names.topics.get(&self.state.topics, &rule.topic);
            return Log {
                topic,
                placed: Some(Box::new(placed)),
                unlogged: topic.is_none(),
            };
        }
        // What is addressed to a queue is logged where the queue has a log role; nothing else makes one.
        let own = names.topics.get(&self.state.topics, head);
        if let Some(topic) = own
            && !self.state.templates.contains_key(&topic)
        {
            return Log {
                topic: Some(topic),
                ..Log::default()
            };
        }
        let makes = matches!(provenance, Provenance::Mqtt | Provenance::AmqpTopic);
        let caught = self
            .mapping
            .catch_all
            .as_ref()
            .filter(|_| makes && self.may_be_caught(head))
            .and_then(|rule| {
                let topic = names.topics.get(&self.state.topics, &rule.topic)?;
                Some((topic, rule.place(&levels)?))
            });
        Log {
            topic: caught.as_ref().map(|(topic, _)| *topic),
            placed: caught.map(|(_, placed)| Box::new(placed)),
            // Not where there can't be one: nobody is to look again at every publish.
            unlogged: makes
                && (self.may_have_log(names, head)
                    || self.mapping.catch_all.is_some() && self.may_be_caught(head)),
        }
    }

    /// The first rule whose filter matches. What is addressed to a queue is in no rule's paths: a filter of all would
    /// keep every reply to a private queue.
    fn ruled(&self, provenance: Provenance, levels: &[&[u8]]) -> Option<(&Rule, Placed)> {
        if provenance == Provenance::AmqpDefault {
            return None;
        }
        let mut rules = self.mapping.rules.iter();
        rules.find_map(|rule| Some((rule, rule.place(levels)?)))
    }

    /// May paths of this first level be in the catch-all topic?
    fn may_be_caught(&self, head: &[u8]) -> bool {
        !head.starts_with(b"$")
            && !head.starts_with(b"amq.")
            && !self
                .config
                .log_none
                .iter()
                .any(|pattern| super::name_matches(pattern, head))
    }

    /// Publishing over MQTT, or to `amq.topic`, adds a bounded log to its first level, if it may have one; else, and
    /// where a rule says so, it makes the topic that keeps it. Says whether one was made.
    pub(crate) fn ensure_log(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        provenance: Provenance,
        address: &Address,
    ) -> bool {
        let head = path_head(provenance, address);
        let rest = path_rest(provenance, address);
        let levels: Vec<&[u8]> = std::iter::once(head).chain(rest).collect();
        let levels = spelled(provenance, &levels);
        let levels: Vec<&[u8]> = levels.iter().map(|level| &**level).collect();
        let ruled = self.ruled(provenance, &levels);
        let ruled = ruled.map(|(rule, _)| rule.topic.clone());
        let Some(names) = self.state.namespace(namespace) else {
            return false;
        };
        if let Some(topic) = ruled {
            if names.topics.contains(&self.state.topics, &topic) {
                return false;
            }
            self.add_provisional_log(namespace, topic);
            return true;
        }
        if !matches!(provenance, Provenance::Mqtt | Provenance::AmqpTopic) {
            return false;
        }
        let free =
            !names.topics.contains(&self.state.topics, head) && self.may_have_log(names, head);
        if free && self.may_name(client, namespace, head) {
            self.add_own_log(client, namespace, Bytes::copy_from_slice(head));
            return true;
        }
        if !self.may_be_caught(head) {
            return false;
        }
        let caught = self.mapping.catch_all.as_ref();
        let Some(topic) = caught.map(|rule| rule.topic.clone()) else {
            return false;
        };
        if self.state.topic_id(namespace, &topic).is_some() {
            return false;
        }
        self.add_provisional_log(namespace, topic);
        true
    }

    /// May this client's publishing make another name? What is declared already is nobody's to take.
    fn may_name(&mut self, client: ClientId, namespace: NamespaceId, head: &[u8]) -> bool {
        let principal = self.principal_of(client);
        let second = self.now.monotonic_ms / 1000;
        let config = self.config.clone();
        let is_queue = self.state.queue_id(namespace, head).is_some();
        let Some(names) = self.state.namespace_mut(namespace) else {
            return false;
        };
        if is_queue || names.exchanges.contains_key(head) {
            return true;
        }
        let made = names.made.get(&principal).copied().unwrap_or(0);
        if names.auto_names >= config.auto_names_max || made >= config.auto_names_principal_max {
            return false;
        }
        if config.auto_names_per_s_max == 0 {
            return true;
        }
        if names.made_now.0 != second {
            names.made_now = (second, std::collections::BTreeMap::new());
        }
        let now = names.made_now.1.entry(principal).or_insert(0);
        let may = *now < config.auto_names_per_s_max;
        *now += u64::from(may);
        may
    }

    fn add_own_log(&mut self, client: ClientId, namespace: NamespaceId, name: Name) {
        let declared = self.state.namespace(namespace).is_some_and(|names| {
            names.exchanges.contains_key(&name) || names.queues.contains(&self.state.queues, &name)
        });
        let topic = self.add_provisional_log(namespace, name);
        if !declared {
            let principal = self.principal_of(client);
            self.record(&Decision::AutoNamed { topic, principal });
        }
    }

    /// Whose connection it is; nobody's: a will's, a dead letter's.
    fn principal_of(&self, client: ClientId) -> Name {
        let known = self.clients.get(&client);
        known
            .map(|client| client.principal.clone())
            .unwrap_or_default()
    }

    /// First levels of paths of a topic's records: its own name, and its template's. `None`: they may begin with
    /// anything. What is not exposed stays out of that.
    pub(crate) fn heads_of(&self, id: TopicId, topic: &[u8]) -> Option<Vec<Name>> {
        match self
            .state
            .templates
            .get(&id)
            .map(|template| template.head())
        {
            Some(None) if self.exposed(topic) => None,
            None | Some(None) => Some(vec![apart(topic)]),
            Some(Some(head)) => Some(vec![apart(topic), head.clone()]),
        }
    }

    /// Topics whose records' paths may begin with this level.
    pub(crate) fn topics_of(&self, names: &Namespace, head: &[u8]) -> Vec<TopicId> {
        let mut topics: Vec<TopicId> = names
            .topics
            .get(&self.state.topics, head)
            .into_iter()
            .collect();
        if names.templated.is_empty() {
            return topics;
        }
        let literal = names.templated.get(&Some(Bytes::copy_from_slice(head)));
        topics.extend(literal.into_iter().flatten());
        let any = names.templated.get(&None);
        let any = any.filter(|_| !self.config.expose.is_empty());
        topics.extend(any.into_iter().flatten().filter(|id| {
            let topic = self.state.topics.get(id);
            topic.is_some_and(|topic| self.exposed(&topic.name))
        }));
        topics
    }

    /// Does a pattern with this first level reach a topic?
    pub(crate) fn reaches(&self, id: TopicId, head: &[u8], topic: &[u8]) -> bool {
        if head == topic {
            return true;
        }
        let wild = matches!(head, b"+" | b"#" | b"*");
        match self
            .state
            .templates
            .get(&id)
            .map(|template| template.head())
        {
            Some(Some(first)) if first == head => true,
            Some(None) => self.exposed(topic),
            _ => wild && self.exposed(topic),
        }
    }

    /// A batch's records by the partitions they go to, neighbours together, each under its key.
    pub(crate) fn split(
        &self,
        batch: Bytes,
        records: Vec<PublishRecord>,
        routes: Vec<Arc<Route>>,
    ) -> Result<Vec<Part>, Refusal> {
        let topic = routes.first().and_then(|route| route.topic);
        let spread = topic
            .and_then(|topic| self.state.topics.get(&topic))
            .is_some_and(|topic| topic.partitions.len() > 1);
        let together = routes
            .iter()
            .all(|route| route.topic == topic && route.placed.is_none());
        let clears = records
            .iter()
            .zip(&routes)
            .any(|(record, route)| self.is_tombstone(record, route));
        if together && !clears && (!spread || records.len() == 1) {
            return Ok(vec![(batch, records, routes)]);
        }
        let broken =
            || Refusal::InvalidRecord("a gathered batch that can't be taken apart".to_owned());
        let header = BatchHeader::peek(&batch).map_err(|_| broken())?;
        let mut parts: Vec<Part> = Vec::new();
        let mut open: Option<(Place, BatchBuilder)> = None;
        for (mut record, route) in records.into_iter().zip(routes) {
            let (position, length) = record.envelope.range;
            let end = position.checked_add(length).ok_or_else(broken)? as usize;
            let body = batch.get(position as usize..end).ok_or_else(broken)?;
            let parsed = Record::parse(body, &RecordBase::from(&header)).map_err(|_| broken())?;
            let key = match &route.placed {
                Some(placed) => placed.key.as_deref(),
                None => parsed.key,
            };
            let to = (route.topic, self.partition_index(&route, key));
            if open.as_ref().is_none_or(|(before, _)| *before != to) {
                close(open.take(), &mut parts).ok_or_else(broken)?;
                open = Some((to, BatchBuilder::new(BatchOptions::default())));
                parts.push((Bytes::new(), Vec::new(), Vec::new()));
            }
            let (Some((_, builder)), Some(part)) = (&mut open, parts.last_mut()) else {
                return Err(broken());
            };
            let appended = builder
                .append(&NewRecord {
                    timestamp: parsed.timestamp,
                    key,
                    value: parsed
                        .value
                        .filter(|_| !self.is_tombstone(&record, &route))
                        .map(Pieces::One),
                    headers: parsed.headers(),
                })
                .map_err(|_| broken())?;
            record.envelope.range = appended.range();
            part.1.push(record);
            part.2.push(route);
        }
        close(open, &mut parts).ok_or_else(broken)?;
        Ok(parts)
    }

    /// Does an MQTT client take a retained message away that is a key's value in a table? Its log has the mark of a
    /// deleted key then.
    fn is_tombstone(&self, record: &PublishRecord, route: &Route) -> bool {
        record.retain == Some(RetainAction::Clear)
            && route.topic.is_some_and(|topic| self.retains(topic))
    }

    /// Which of a topic's partitions takes a record with this key; none: any.
    fn partition_index(&self, route: &Route, key: Option<&[u8]>) -> Option<usize> {
        let topic = self.state.topics.get(&route.topic?)?;
        let count = topic.partitions.len();
        if count <= 1 {
            return Some(0);
        }
        let placed = route.placed.as_ref();
        let by = placed
            .and_then(|placed| placed.partition_key.as_deref())
            .or(key)?;
        Some(partition_of(by, count))
    }

    /// The partition of a route's topic for this batch, and its next offset.
    pub(crate) fn partition_for(&self, route: &Route, batch: &Bytes) -> Option<(u64, i64)> {
        let topic = self.state.topics.get(&route.topic?)?;
        let count = topic.partitions.len();
        let index = match count {
            0 | 1 => 0,
            _ => self
                .partition_index(route, record_key(batch).as_deref())
                .unwrap_or_else(|| usize::try_from(self.state.next_sequence).unwrap_or(0) % count),
        };
        let key = *topic.partitions.get(index)?;
        Some((key, self.state.partitions.get(&key)?.next_offset))
    }
}

/// Finishes the batch of the last part.
fn close(open: Option<(Place, BatchBuilder)>, parts: &mut [Part]) -> Option<()> {
    if let Some((_, builder)) = open {
        parts.last_mut()?.0 = builder.finish().ok()?.to_bytes();
    }
    Some(())
}

/// A path's levels as they stand in a Kafka key: AMQP's may have slashes in them.
fn spelled<'a>(provenance: Provenance, levels: &[&'a [u8]]) -> Vec<Cow<'a, [u8]>> {
    let raw = matches!(provenance, Provenance::Mqtt | Provenance::Kafka);
    levels
        .iter()
        .map(|level| {
            if raw || !level.iter().any(|byte| b"/%".contains(byte)) {
                return Cow::Borrowed(*level);
            }
            let mut out = BytesMut::new();
            put_level(&mut out, level, |byte| byte == b'/');
            Cow::Owned(out.to_vec())
        })
        .collect()
}

/// The first record's key.
fn record_key(batch: &Bytes) -> Option<Bytes> {
    let batch = RecordBatch::parse(batch.clone()).ok()?;
    let records = batch.records(batch.wire_bytes()).ok()?;
    let first = records.iter().next()?.ok()?;
    first.key.map(Bytes::copy_from_slice)
}
