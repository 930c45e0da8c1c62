//! Applying decisions: the same code live and in replay. An unknown number is passed over, never an error.

use crate::api::*;
use crate::event::{Event, Holders};
use crate::state::exchange::Exchange;
use crate::state::partition::{Partition, ProducedBatch, Topic, add_sequence};
use crate::state::queue::Queue;
use crate::state::routes::{PatternKind, Target};
use crate::state::session::{OutgoingState, Session};
use crate::state::{Alias, Link, State};
use bytes::Bytes;
use omnilog_ledger::Section;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl State {
    /// Makes a decision take effect. `sections` are its frame's.
    pub(crate) fn apply(&mut self, event: &Event, sections: &[Section]) {
        match event {
            Event::EpochBegan {
                epoch,
                first_sequence,
            } => {
                self.epoch = *epoch;
                self.epochs.push((*epoch, *first_sequence));
                self.next_sequence = self.next_sequence.max(*first_sequence);
            }
            Event::TopicCreated { .. }
            | Event::TopicAltered { .. }
            | Event::PartitionsAdded { .. }
            | Event::TopicDeleted { .. }
            | Event::LogStartMoved { .. } => self.apply_topic(event),
            Event::Appended { section } => {
                if let Some(section) = sections.get(*section as usize) {
                    self.sequences_taken(section);
                    self.appended(section, true);
                }
            }
            Event::Published {
                section, holders, ..
            } => {
                if let Some(section) = sections.get(*section as usize) {
                    self.sequences_taken(section);
                    self.appended(section, false);
                    self.held(section.base_sequence, holders);
                }
            }
            Event::HoldersDefined { id, queues } => {
                self.next_set = self.next_set.max(id + 1);
                self.set_ids.insert(queues.clone(), *id);
                self.sets.insert(*id, Arc::from(queues.as_slice()));
            }
            Event::ExchangeDeclared { .. }
            | Event::ExchangeDeleted { .. }
            | Event::Bound { .. }
            | Event::Unbound { .. } => self.apply_exchange(event),
            Event::QueueDeclared { .. }
            | Event::QueueDeleted { .. }
            | Event::Removed { .. }
            | Event::Returned { .. }
            | Event::Stopped { .. }
            | Event::Copied { .. } => self.apply_queue(event),
            Event::OffsetsCommitted {
                namespace,
                group,
                offsets,
            } => {
                let Some(namespace) = self.namespace_mut(*namespace) else {
                    return;
                };
                let group = namespace.groups.entry(group.clone()).or_default();
                for (topic, offset) in offsets {
                    group
                        .offsets
                        .insert((*topic, offset.partition), offset.clone());
                }
            }
            Event::GroupPut {
                namespace,
                group,
                state,
            } => {
                let Some(namespace) = self.namespace_mut(*namespace) else {
                    return;
                };
                match state {
                    Some(state) => {
                        namespace.groups.entry(group.clone()).or_default().state =
                            Some(state.clone());
                    }
                    None => {
                        namespace.groups.remove(group);
                    }
                }
            }
            Event::ProducersAllotted { next } => self.next_producer = self.next_producer.max(*next),
            Event::RetainedSet {
                namespace,
                topic,
                sequence,
            } => {
                if let Some(namespace) = self.namespace_mut(*namespace) {
                    namespace.retained.set(topic, *sequence);
                }
            }
            Event::RetainedCleared { namespace, topic } => {
                if let Some(namespace) = self.namespace_mut(*namespace) {
                    namespace.retained.clear(topic);
                }
            }
            Event::LinkCreated { .. } | Event::LinkAdvanced { .. } | Event::LinkDropped { .. } => {
                self.apply_link(event);
            }
            _ => self.apply_session(event),
        }
    }

    fn apply_topic(&mut self, event: &Event) {
        match event {
            Event::TopicCreated {
                namespace,
                topic,
                uuid,
                name,
                first_partition,
                partitions,
                settings,
                provisional,
            } => {
                self.next_topic = self.next_topic.max(topic.0 + 1);
                self.next_partition = self
                    .next_partition
                    .max(first_partition + u64::from(*partitions));
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.topics.insert(name.clone(), *topic);
                names.topic_uuids.insert(*uuid, *topic);
                names.routes.touch(name);
                let keys: Vec<u64> = (0..u64::from(*partitions))
                    .map(|n| first_partition + n)
                    .collect();
                for (key, index) in keys.iter().zip(0i32..) {
                    self.partitions
                        .insert(*key, Partition::new(*key, *topic, index));
                }
                self.topics.insert(
                    *topic,
                    Topic {
                        id: *topic,
                        uuid: *uuid,
                        namespace: *namespace,
                        name: name.clone(),
                        partitions: keys,
                        settings: settings.clone(),
                        provisional: *provisional,
                    },
                );
            }
            Event::TopicAltered {
                topic,
                settings,
                provisional,
            } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.settings = settings.clone();
                    topic.provisional = *provisional;
                }
            }
            Event::PartitionsAdded {
                topic,
                first_partition,
                count,
            } => {
                self.next_partition = self.next_partition.max(first_partition + u64::from(*count));
                let Some(topic) = self.topics.get_mut(topic) else {
                    return;
                };
                for key in (0..u64::from(*count)).map(|n| first_partition + n) {
                    let index = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    topic.partitions.push(key);
                    self.partitions
                        .insert(key, Partition::new(key, topic.id, index));
                }
            }
            Event::TopicDeleted { topic } => {
                let Some(topic) = self.topics.remove(topic) else {
                    return;
                };
                for key in &topic.partitions {
                    self.partitions.remove(key);
                    let linked: Vec<_> = self
                        .links
                        .range((*key, QueueId(0))..=(*key, QueueId(u64::MAX)))
                        .map(|(at, _)| *at)
                        .collect();
                    for at in linked {
                        self.links.remove(&at);
                        if let Some(taker) = self.queues.get_mut(&at.1) {
                            taker.linked_to.remove(key);
                        }
                    }
                }
                let Some(names) = self.namespace_mut(topic.namespace) else {
                    return;
                };
                names.topics.remove(&topic.name);
                names.topic_uuids.remove(&topic.uuid);
                names.routes.touch(&topic.name);
                for group in names.groups.values_mut() {
                    group.offsets.retain(|(of, _), _| *of != topic.id);
                }
                names
                    .groups
                    .retain(|_, group| group.state.is_some() || !group.offsets.is_empty());
            }
            Event::LogStartMoved { partition, offset } => {
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.log_start = partition.log_start.max(*offset);
                    let dead = partition
                        .spans
                        .windows(2)
                        .take_while(|pair| {
                            pair.get(1).is_some_and(|next| next.first_offset <= *offset)
                        })
                        .count();
                    partition.spans.drain(..dead);
                    if partition.log_start >= partition.next_offset {
                        partition.spans.clear();
                    }
                }
            }
            _ => {}
        }
    }

    /// A section takes its sequences.
    fn sequences_taken(&mut self, section: &Section) {
        let next = section.base_sequence + u64::from(section.last_delta) + 1;
        self.next_sequence = self.next_sequence.max(next);
    }

    /// A batch is in its partition's log, if a log keeps it.
    fn appended(&mut self, section: &Section, by_kafka: bool) {
        let epoch = self.epoch;
        let Some(partition) = self.partitions.get_mut(&section.partition) else {
            return;
        };
        if partition
            .epochs
            .last()
            .is_none_or(|(newest, _)| *newest != epoch)
        {
            partition.epochs.push((epoch, section.base_offset));
        }
        partition.next_offset = section.base_offset + i64::from(section.last_delta) + 1;
        partition.max_timestamp = partition.max_timestamp.max(section.max_timestamp);
        if !by_kafka {
            return;
        }
        partition.kafka_written = true;
        if let Some((producer, epoch, first)) = producer_fields(&section.batch)
            && producer >= 0
            && first >= 0
        {
            // A batch's records number their sequences from its first, whatever compaction left of them.
            let last = add_sequence(first, i32::try_from(section.last_delta).unwrap_or(0));
            partition.produced(
                producer,
                epoch,
                ProducedBatch {
                    first,
                    last,
                    base_offset: section.base_offset,
                },
            );
        }
    }

    /// Queues hold a batch's records, in runs from its first on.
    fn held(&mut self, first: u64, holders: &[(u32, Holders)]) {
        let mut at = first;
        for (count, holders) in holders {
            let last = at + u64::from(*count) - 1;
            match holders {
                Holders::Inline(queues) => {
                    for queue in queues {
                        if let Some(queue) = self.queues.get_mut(queue) {
                            queue.ready.insert_run(at, last);
                        }
                    }
                }
                Holders::Set(id) => {
                    let Some(set) = self.sets.get(id).cloned() else {
                        continue;
                    };
                    for queue in set.iter() {
                        if let Some(queue) = self.queues.get_mut(queue) {
                            queue.ready.insert_run(at, last);
                        }
                    }
                }
            }
            at = last + 1;
        }
    }

    fn apply_exchange(&mut self, event: &Event) {
        match event {
            Event::ExchangeDeclared {
                namespace,
                exchange,
            } => {
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.routes.touch_all();
                names
                    .exchanges
                    .insert(exchange.name.clone(), Exchange::new(exchange.clone()));
            }
            Event::ExchangeDeleted { namespace, name } => {
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.routes.touch_all();
                names.exchanges.remove(name);
                for exchange in names.exchanges.values_mut() {
                    let gone: Vec<Binding> = exchange
                        .bindings
                        .iter()
                        .filter(|binding| {
                            binding.destination == Destination::Exchange(name.clone())
                        })
                        .cloned()
                        .collect();
                    for binding in gone {
                        exchange.unbind(&binding);
                    }
                }
            }
            Event::Bound { namespace, binding } => {
                let id = *namespace;
                let queue = match &binding.destination {
                    Destination::Queue(name) => self.queue_id(id, name),
                    Destination::Exchange(_) => None,
                };
                if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(&queue)) {
                    queue.bound_to.insert(binding.source.clone());
                }
                let Some(names) = self.namespace_mut(id) else {
                    return;
                };
                let Some(exchange) = names.exchanges.get_mut(&binding.source) else {
                    return;
                };
                // The pattern was checked when it was decided.
                let new = exchange.bind(binding.clone()).unwrap_or(false);
                if new && binding.source == b"amq.topic"[..] {
                    let target = Target::Bound(binding.destination.clone());
                    let _ = names.routes.filters.insert(
                        PatternKind::Amqp,
                        &binding.routing_key,
                        target,
                    );
                    names
                        .routes
                        .touch_pattern(first_level(&binding.routing_key, b'.'));
                }
                // Another exchange may lead to this one, or have it as its alternate.
                names.routes.touch_all();
            }
            Event::Unbound { namespace, binding } => {
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                let Some(exchange) = names.exchanges.get_mut(&binding.source) else {
                    return;
                };
                let gone = exchange.unbind(binding);
                if gone && binding.source == b"amq.topic"[..] {
                    let target = Target::Bound(binding.destination.clone());
                    names
                        .routes
                        .filters
                        .remove(PatternKind::Amqp, &binding.routing_key, &target);
                    names
                        .routes
                        .touch_pattern(first_level(&binding.routing_key, b'.'));
                }
                // Another exchange may lead to this one, or have it as its alternate.
                names.routes.touch_all();
            }
            _ => {}
        }
    }

    fn apply_queue(&mut self, event: &Event) {
        match event {
            Event::QueueDeclared {
                namespace,
                queue,
                kind,
                declared,
            } => {
                self.next_queue = self.next_queue.max(queue.0 + 1);
                let mut made = Queue::new(*queue, *namespace, *kind, declared.clone());
                // A queue that is replayed has no consumers and no deliveries of this run.
                made.suspect_below = 0;
                self.queues.insert(*queue, made);
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                if *kind == QueueKind::Classic {
                    names.queues.insert(declared.name.clone(), *queue);
                    names.routes.touch(&declared.name);
                }
            }
            Event::QueueDeleted { queue } => {
                let Some(queue) = self.queues.remove(queue) else {
                    return;
                };
                self.aliases.retain(|_, alias| alias.queue != queue.id);
                self.links.retain(|(_, of), _| *of != queue.id);
                let name = queue.declared.name;
                let Some(names) = self.namespace_mut(queue.namespace) else {
                    return;
                };
                if queue.kind == QueueKind::Classic {
                    names.queues.remove(&name);
                    names.routes.touch(&name);
                } else if queue.kind == QueueKind::Shared {
                    names.shared.retain(|_, of| *of != queue.id);
                }
                for source in queue.bound_to {
                    let Some(exchange) = names.exchanges.get_mut(&source) else {
                        continue;
                    };
                    let gone: Vec<Binding> = exchange
                        .bindings
                        .iter()
                        .filter(|binding| binding.destination == Destination::Queue(name.clone()))
                        .cloned()
                        .collect();
                    for binding in gone {
                        exchange.unbind(&binding);
                        if source == b"amq.topic"[..] {
                            let target = Target::Bound(binding.destination.clone());
                            names.routes.filters.remove(
                                PatternKind::Amqp,
                                &binding.routing_key,
                                &target,
                            );
                        }
                    }
                    names.routes.touch_all();
                }
            }
            Event::Removed { queue, runs } => {
                let id = *queue;
                let Some(queue) = self.queues.get_mut(queue) else {
                    return;
                };
                for (first, last) in runs {
                    queue.ready.remove_run(*first, *last);
                    if !queue.returned.is_empty() {
                        queue
                            .returned
                            .retain(|sequence, _| !(*first..=*last).contains(sequence));
                    }
                }
                if !self.aliases.is_empty() {
                    self.drop_aliases(id, runs);
                }
            }
            Event::Returned { queue, entries } => {
                let Some(queue) = self.queues.get_mut(queue) else {
                    return;
                };
                for (sequence, count) in entries {
                    if queue.holds(*sequence) {
                        queue.returned.insert(*sequence, *count);
                    }
                }
            }
            Event::Stopped { delivered } => {
                for (queue, below) in delivered {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        queue.delivered_below = *below;
                    }
                }
            }
            Event::Copied {
                queue,
                sequence,
                original,
            } => {
                self.next_sequence = self.next_sequence.max(sequence + 1);
                let Some(held) = self.queues.get_mut(queue) else {
                    return;
                };
                held.ready.insert(*sequence);
                let alias = Alias {
                    count: 1,
                    queue: *queue,
                    original: *original,
                    partition: 0,
                };
                self.aliases.insert(*sequence, alias);
            }
            _ => {}
        }
    }

    /// Aliases whose whole run a queue has let go of are forgotten.
    fn drop_aliases(&mut self, queue: QueueId, runs: &[(u64, u64)]) {
        let Some(held) = self.queues.get(&queue) else {
            return;
        };
        let mut gone = Vec::new();
        for (first, last) in runs {
            let from = self
                .aliases
                .range(..=*first)
                .next_back()
                .map_or(*first, |(at, _)| *at);
            for (at, alias) in self.aliases.range(from..=*last) {
                let end = at + alias.count;
                if alias.queue == queue && held.first_held_from(*at).is_none_or(|next| next >= end)
                {
                    gone.push(*at);
                }
            }
        }
        for at in gone {
            self.aliases.remove(&at);
        }
    }

    fn apply_link(&mut self, event: &Event) {
        match event {
            Event::LinkCreated {
                queue,
                partition,
                offset,
                routed_from,
            } => {
                let Some(taker) = self.queues.get_mut(queue) else {
                    return;
                };
                taker.linked_to.insert(*partition);
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.linked = true;
                }
                let durable = taker.durable();
                self.links.insert(
                    (*partition, *queue),
                    Link {
                        next_offset: *offset,
                        routed_from: *routed_from,
                        durable,
                        reading: false,
                    },
                );
            }
            Event::LinkAdvanced {
                queue,
                partition,
                next_offset,
                first_sequence,
                runs,
            } => {
                if let Some(link) = self.links.get_mut(&(*partition, *queue)) {
                    link.next_offset = *next_offset;
                }
                let mut at = *first_sequence;
                for (first, last) in runs {
                    let count = last.abs_diff(*first) + 1;
                    if let Some(held) = self.queues.get_mut(queue) {
                        held.ready.insert_run(at, at + count - 1);
                        let (original, partition) = (*first, *partition);
                        self.aliases.insert(
                            at,
                            Alias {
                                count,
                                queue: *queue,
                                original,
                                partition,
                            },
                        );
                    }
                    at += count;
                }
                self.next_sequence = self.next_sequence.max(at);
            }
            Event::LinkDropped { queue, partition } => {
                self.links.remove(&(*partition, *queue));
                if let Some(taker) = self.queues.get_mut(queue) {
                    taker.linked_to.remove(partition);
                }
            }
            _ => {}
        }
    }

    fn apply_session(&mut self, event: &Event) {
        match event {
            Event::SessionOpened {
                namespace,
                session,
                client_id,
                queue,
                expiry,
                will,
            } => {
                self.next_session = self.next_session.max(session.0 + 1);
                let durable = self.queues.get(queue).is_some_and(Queue::durable);
                let open = self.sessions.entry(*session).or_insert_with(|| Session {
                    id: *session,
                    namespace: *namespace,
                    client_id: client_id.clone(),
                    queue: *queue,
                    durable,
                    expiry: *expiry,
                    expires_at_ms: None,
                    will: None,
                    subscriptions: BTreeMap::new(),
                    incoming: BTreeSet::new(),
                    outgoing: Vec::new(),
                    client: None,
                    handed_back: Vec::new(),
                    will_at_ms: None,
                    cut_off_at_ms: None,
                    waiting: Vec::new(),
                });
                open.expiry = *expiry;
                open.expires_at_ms = None;
                open.will.clone_from(will);
                open.will_at_ms = None;
                if let Some(names) = self.namespace_mut(*namespace) {
                    names.sessions.insert(client_id.clone(), *session);
                }
            }
            Event::SessionClosed {
                session,
                expiry,
                expires_at_ms,
            } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.expiry = *expiry;
                    session.expires_at_ms = *expires_at_ms;
                }
            }
            Event::WillGone { session } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.will = None;
                    session.will_at_ms = None;
                }
            }
            Event::SessionEnded { session } => {
                let Some(session) = self.sessions.remove(session) else {
                    return;
                };
                for (queue, subscription) in session.subscriptions.values() {
                    self.unsubscribe(
                        session.namespace,
                        session.id,
                        &session.client_id,
                        *queue,
                        subscription,
                    );
                }
                if let Some(names) = self.namespace_mut(session.namespace)
                    && names.sessions.get(&session.client_id) == Some(&session.id)
                {
                    names.sessions.remove(&session.client_id);
                }
            }
            Event::Subscribed {
                session,
                queue,
                subscription,
            } => {
                let id = *session;
                let Some(session) = self.sessions.get_mut(session) else {
                    return;
                };
                let key = (subscription.filter.clone(), subscription.share.clone());
                let before = session
                    .subscriptions
                    .insert(key, (*queue, subscription.clone()));
                let (namespace, client_id) = (session.namespace, session.client_id.clone());
                if let Some((queue, subscription)) = before {
                    self.unsubscribe(namespace, id, &client_id, queue, &subscription);
                }
                let target = subscribed_target(id, &client_id, *queue, subscription);
                let Some(names) = self.namespace_mut(namespace) else {
                    return;
                };
                if let Some(group) = &subscription.share {
                    names
                        .shared
                        .insert((group.clone(), subscription.filter.clone()), *queue);
                }
                // The filter was checked when it was decided.
                let _ =
                    names
                        .routes
                        .filters
                        .insert(PatternKind::Mqtt, &subscription.filter, target);
                names
                    .routes
                    .touch_pattern(first_level(&subscription.filter, b'/'));
            }
            Event::Unsubscribed {
                session,
                filter,
                share,
            } => {
                let id = *session;
                let Some(session) = self.sessions.get_mut(session) else {
                    return;
                };
                let key = (filter.clone(), share.clone());
                let Some((queue, subscription)) = session.subscriptions.remove(&key) else {
                    return;
                };
                let (namespace, client_id) = (session.namespace, session.client_id.clone());
                self.unsubscribe(namespace, id, &client_id, queue, &subscription);
            }
            Event::IncomingReserved { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.incoming.insert(*packet_id);
                }
            }
            Event::IncomingReleased { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.incoming.remove(packet_id);
                }
            }
            Event::OutgoingAssigned {
                session,
                packet_id,
                queue,
                entry,
            } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.outgoing.retain(|(known, _)| known != packet_id);
                    session
                        .outgoing
                        .push((*packet_id, OutgoingState::Published(*queue, *entry)));
                }
            }
            Event::OutgoingReceived { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session)
                    && let Some((_, state)) = session
                        .outgoing
                        .iter_mut()
                        .find(|(known, _)| known == packet_id)
                {
                    *state = OutgoingState::Received;
                }
            }
            Event::OutgoingCompleted { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.outgoing.retain(|(known, _)| known != packet_id);
                }
            }
            _ => {}
        }
    }

    fn unsubscribe(
        &mut self,
        namespace: NamespaceId,
        session: SessionId,
        client_id: &Name,
        queue: QueueId,
        subscription: &Subscription,
    ) {
        let target = subscribed_target(session, client_id, queue, subscription);
        let Some(names) = self.namespace_mut(namespace) else {
            return;
        };
        names
            .routes
            .filters
            .remove(PatternKind::Mqtt, &subscription.filter, &target);
        names
            .routes
            .touch_pattern(first_level(&subscription.filter, b'/'));
    }
}

/// The matcher's target for a subscription.
fn subscribed_target(
    session: SessionId,
    client_id: &Name,
    queue: QueueId,
    subscription: &Subscription,
) -> Target {
    Target::Subscribed {
        queue,
        qos: subscription.qos,
        session,
        not_from: subscription.no_local.then(|| client_id.clone()),
    }
}

/// A pattern's or name's first level.
pub(crate) fn first_level(path: &[u8], separator: u8) -> &[u8] {
    path.split(|byte| *byte == separator).next().unwrap_or(path)
}

/// A batch's producer id, producer epoch and base sequence.
fn producer_fields(batch: &Bytes) -> Option<(i64, i16, i32)> {
    let producer = i64::from_be_bytes(batch.get(43..51)?.try_into().ok()?);
    let epoch = i16::from_be_bytes(batch.get(51..53)?.try_into().ok()?);
    let first = i32::from_be_bytes(batch.get(53..57)?.try_into().ok()?);
    Some((producer, epoch, first))
}
