//! Links: which queues read which partitions that Kafka clients write, and what their reads bring.

use crate::api::*;
use crate::event::Event as Decision;
use crate::link::{LinkJob, Pulled};
use crate::shard::Shard;
use crate::shard::headers::Headers;
use crate::shard::release::Effect;
use crate::shard::topics::name_matches;
use crate::state::apply::first_level;
use crate::state::namespace::Namespace;
use crate::state::order::{Mode, lane};
use crate::state::partition::Partition;
use crate::state::queue::Queue;
use crate::state::routes::Target;
use crate::tail::TailEntry;
use bytes::Bytes;
use std::collections::BTreeSet;

/// A queue with more ready entries than this is not read for.
const READY_MAX: u64 = 1000;

/// Batches handed to a link's reader at a time.
const BATCHES_MAX: usize = 64;

impl Shard {
    /// A partition is written by a Kafka client for the first time: queues that its topic reaches read it from here.
    pub(crate) fn link_partition(&mut self, topic: TopicId, partition: u64, from: i64) {
        let Some(known) = self.state.topics.get(&topic) else {
            return;
        };
        let (namespace, name) = (known.namespace, known.name.clone());
        let Some(names) = self.state.namespace(namespace) else {
            return;
        };
        for queue in self.reached_by(names, &name) {
            self.add_link(queue, partition, from, from);
        }
    }

    /// A queue may be reached by a topic from now on: it reads what Kafka clients write there.
    pub(crate) fn link_queue(&mut self, namespace: NamespaceId, queue: QueueId, head: &[u8]) {
        let Some(names) = self.state.namespace(namespace) else {
            return;
        };
        let topics: Vec<TopicId> = if matches!(head, b"+" | b"#" | b"*") {
            let exposed = names.topics.iter().filter(|(name, _)| self.exposed(name));
            exposed.map(|(_, topic)| *topic).collect()
        } else {
            names.topics.get(head).copied().into_iter().collect()
        };
        for topic in topics {
            let keys = self
                .state
                .topics
                .get(&topic)
                .map(|topic| topic.partitions.clone());
            for key in keys.unwrap_or_default() {
                let Some(partition) = self.state.partitions.get(&key) else {
                    continue;
                };
                if partition.kafka_written && !self.state.links.contains_key(&(key, queue)) {
                    let next = partition.next_offset;
                    self.add_link(queue, key, next, next);
                }
            }
        }
    }

    /// An exchange leads somewhere from now on (`amq.topic`: for paths of one first level): queues behind it read what
    /// Kafka clients write to topics that lead to it.
    pub(crate) fn link_behind(
        &mut self,
        namespace: NamespaceId,
        source: &Name,
        root_head: Option<Bytes>,
        destination: &Destination,
    ) {
        let Some(names) = self.state.namespace(namespace) else {
            return;
        };
        let heads = match root_head {
            Some(head) => BTreeSet::from([head]),
            None => self.heads_leading_to(names, source),
        };
        let mut queues: BTreeSet<QueueId> = BTreeSet::new();
        let mut visited: BTreeSet<Name> = BTreeSet::new();
        let mut open = vec![destination.clone()];
        while let Some(destination) = open.pop() {
            match destination {
                Destination::Queue(queue) => queues.extend(names.queues.get(&queue)),
                Destination::Exchange(name) => {
                    if let Some(exchange) = names.exchanges.get(&name)
                        && visited.insert(name)
                    {
                        open.extend(exchange.destinations().map(|(to, _)| to.clone()));
                        open.extend(exchange.alternate().cloned().map(Destination::Exchange));
                    }
                }
            }
        }
        for queue in queues {
            for head in &heads {
                self.link_queue(namespace, queue, head);
            }
        }
    }

    /// First levels of paths that may come to an exchange: its own name, those of exchanges that lead to it, and those
    /// of `amq.topic`'s bindings on the way.
    fn heads_leading_to(&self, names: &Namespace, exchange: &Name) -> BTreeSet<Bytes> {
        let mut heads = BTreeSet::new();
        let mut visited: BTreeSet<&Name> = BTreeSet::new();
        let mut open = vec![exchange];
        while let Some(name) = open.pop() {
            if !visited.insert(name) {
                continue;
            }
            heads.insert(name.clone());
            open.extend(names.leading_to(name).filter(|from| *from != "amq.topic"));
            let root = names.exchanges.get(&b"amq.topic"[..]);
            for binding in root
                .into_iter()
                .flat_map(|root| root.bindings_to(&Destination::Exchange(name.clone())))
            {
                let head = first_level(&binding.routing_key, b'.');
                heads.insert(Bytes::copy_from_slice(head));
            }
        }
        heads
    }

    pub(crate) fn add_link(
        &mut self,
        queue: QueueId,
        partition: u64,
        offset: i64,
        routed_from: i64,
    ) {
        self.link_news.insert(partition);
        let durable = self
            .state
            .queues
            .get(&queue)
            .is_some_and(|queue| queue.durable());
        self.record_if(
            durable,
            &Decision::LinkCreated {
                queue,
                partition,
                offset,
                routed_from,
            },
        );
    }

    fn exposed(&self, topic: &Name) -> bool {
        self.config
            .expose
            .iter()
            .any(|pattern| name_matches(pattern, topic))
    }

    /// Does a pattern with this first level reach a topic?
    fn reaches(&self, head: &[u8], topic: &Name) -> bool {
        head == topic || matches!(head, b"+" | b"#" | b"*") && self.exposed(topic)
    }

    /// The queues that records of a topic may go to: its own, those bound to its exchange, those whose patterns may
    /// match. A few too many do no harm: what they read is matched.
    fn reached_by(&self, names: &Namespace, topic: &Name) -> BTreeSet<QueueId> {
        let mut reached = BTreeSet::new();
        reached.extend(names.queues.get(topic).copied().filter(|id| {
            let queue = self.state.queues.get(id);
            queue.is_some_and(|queue| !queue.declared.exclusive)
        }));
        let mut open: Vec<Name> = vec![topic.clone()];
        let filters = &names.routes.filters;
        filters.beginning_with(topic, self.exposed(topic), &mut |target| match target {
            Target::Subscribed { queue, .. } => {
                reached.insert(*queue);
            }
            Target::Bound(destination) => match &**destination {
                Destination::Queue(queue) => reached.extend(names.queues.get(queue)),
                Destination::Exchange(exchange) => open.push(exchange.clone()),
            },
        });
        let mut visited: BTreeSet<Name> = BTreeSet::new();
        while let Some(name) = open.pop() {
            if let Some(exchange) = names.exchanges.get(&name)
                && visited.insert(name)
            {
                for (destination, _) in exchange.destinations() {
                    match destination {
                        Destination::Queue(queue) => reached.extend(names.queues.get(queue)),
                        Destination::Exchange(exchange) => open.push(exchange.clone()),
                    }
                }
                open.extend(exchange.alternate().cloned());
            }
        }
        reached
    }

    /// Do records of a topic go to this queue, as far as can be said without a key?
    fn wants(&self, names: &Namespace, queue: &Queue, topic: &Name) -> bool {
        if queue.kind != QueueKind::Classic {
            let filters = names.filters_of(queue, &self.state.sessions);
            return filters
                .iter()
                .any(|filter| self.reaches(first_level(filter, b'/'), topic));
        }
        if queue.declared.name == topic {
            return true;
        }
        // Upwards, from what is bound to the queue.
        let by_root = |destination: &Destination| {
            let root = names.exchanges.get(&b"amq.topic"[..]);
            root.is_some_and(|root| {
                root.bindings_to(destination)
                    .iter()
                    .any(|binding| self.reaches(first_level(&binding.routing_key, b'.'), topic))
            })
        };
        if by_root(&Destination::Queue(queue.declared.name.clone())) {
            return true;
        }
        let mut visited: BTreeSet<&Name> = BTreeSet::new();
        let mut open: Vec<&Name> = queue.bound_to.iter().collect();
        while let Some(name) = open.pop() {
            if name == topic || by_root(&Destination::Exchange(name.clone())) {
                return true;
            }
            if visited.insert(name) {
                open.extend(names.leading_to(name));
            }
        }
        false
    }

    /// A queue lost a subscription or a binding: links that no other wants end.
    pub(crate) fn unlink_unwanted(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        let Some(names) = self.state.namespace(queue.namespace) else {
            return;
        };
        let unwanted: Vec<u64> = queue
            .linked_to
            .iter()
            .copied()
            .filter(|partition| {
                let partition = self.state.partitions.get(partition);
                let topic = partition.and_then(|known| self.state.topics.get(&known.topic));
                topic.is_some_and(|topic| !self.wants(names, queue, &topic.name))
            })
            .collect();
        let durable = queue.durable();
        for partition in unwanted {
            self.record_if(
                durable,
                &Decision::LinkDropped {
                    queue: id,
                    partition,
                },
            );
        }
    }

    /// Starts reads for links that have fallen behind and whose queues have room.
    pub(crate) fn pump_links(&mut self) {
        for partition in std::mem::take(&mut self.link_news) {
            let links = (partition, QueueId(0))..=(partition, QueueId(u64::MAX));
            let stable = self
                .state
                .partitions
                .get(&partition)
                .map_or(0, Partition::last_stable_offset);
            let mut from = None;
            let mut reading = false;
            for ((_, queue), link) in self.state.links.range(links) {
                reading |= link.reading;
                let behind = link.next_offset < stable;
                let room = self
                    .state
                    .queues
                    .get(queue)
                    .is_some_and(|queue| queue.ready_count() < READY_MAX);
                if behind && room {
                    from =
                        Some(from.map_or(link.next_offset, |from: i64| from.min(link.next_offset)));
                }
            }
            // What may be on its way out is not read before that is over.
            let from = from.filter(|from| *from >= self.cleaned_below(partition));
            // A read that is under way looks again when it comes back.
            if let Some(from) = from.filter(|_| !reading) {
                self.start_read(partition, from);
            }
        }
    }

    fn start_read(&mut self, key: u64, from: i64) {
        let Some(partition) = self.state.partitions.get(&key) else {
            return;
        };
        let Some(topic) = self.state.topics.get(&partition.topic) else {
            return;
        };
        let from = from.max(partition.log_start);
        let (aborted, stable) = partition.aborted_between(from, partition.last_stable_offset());
        let mut job = LinkJob {
            partition: key,
            topic: topic.name.clone(),
            from,
            until: stable,
            files: partition.files_from(from),
            here: Vec::new(),
            aborted,
        };
        let oldest = partition.recent.front().map_or(i64::MAX, |(base, _)| *base);
        if from < oldest {
            job.until = job.until.min(oldest);
        } else {
            let start = partition
                .recent
                .partition_point(|(base, _)| *base <= from)
                .saturating_sub(1);
            for (base, sequence) in partition.recent.range(start..) {
                if *base >= stable {
                    break;
                }
                if job.here.len() == BATCHES_MAX {
                    job.until = *base;
                    break;
                }
                if let Some(entry) = self.tail.get(*sequence) {
                    job.here.push((*base, *sequence, entry.stored.clone()));
                }
            }
        }
        for (_, link) in self
            .state
            .links
            .range_mut((key, QueueId(0))..=(key, QueueId(u64::MAX)))
        {
            link.reading = true;
        }
        self.link_jobs.push(job);
    }

    /// A read came back: each link takes what its queue is to have.
    pub(crate) fn pulled(&mut self, pulled: &Pulled) {
        let key = pulled.partition;
        if !pulled.failed {
            self.link_news.insert(key);
        }
        let links: Vec<QueueId> = self
            .state
            .links
            .range((key, QueueId(0))..=(key, QueueId(u64::MAX)))
            .map(|((_, queue), _)| *queue)
            .collect();
        for (_, link) in self
            .state
            .links
            .range_mut((key, QueueId(0))..=(key, QueueId(u64::MAX)))
        {
            link.reading = false;
        }
        let topic = self
            .state
            .partitions
            .get(&key)
            .map(|partition| partition.topic);
        let Some(namespace) = topic
            .and_then(|topic| self.state.topics.get(&topic))
            .map(|topic| topic.namespace)
        else {
            return;
        };
        // Whom each record goes to is found once for all links.
        let mut wanted = Vec::new();
        for batch in &pulled.batches {
            let mut rows = Vec::with_capacity(batch.records.len());
            for envelope in &batch.stored.envelopes {
                let provenance = envelope.provenance;
                let headers = Headers::InRecord {
                    batch: &batch.stored.batch,
                    envelope,
                };
                rows.push(self.route(namespace, provenance, &envelope.address, headers, &[]));
            }
            wanted.push(rows);
        }
        for queue in links {
            self.advance_link(key, queue, pulled, &wanted);
        }
    }

    fn advance_link(
        &mut self,
        key: u64,
        id: QueueId,
        pulled: &Pulled,
        wanted: &[Vec<std::sync::Arc<crate::state::routes::Route>>],
    ) {
        let Some(link) = self.state.links.get(&(key, id)) else {
            return;
        };
        let (start, routed_from, durable) = (link.next_offset, link.routed_from, link.durable);
        let log_start = self
            .state
            .partitions
            .get(&key)
            .map_or(0, |known| known.log_start);
        // A link whose queue had no room may be further behind than this read began.
        if start.max(log_start) < pulled.from || start >= pulled.next_offset {
            return;
        }
        if start < log_start {
            tracing::warn!(
                queue = id.0,
                start,
                log_start,
                "retention has passed a link: a gap"
            );
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut entries: Vec<TailEntry> = Vec::new();
        let mut memory: Vec<(Message, u8)> = Vec::new();
        let keyed = self
            .state
            .queues
            .get(&id)
            .is_some_and(|queue| queue.mode == Mode::KeyShared);
        let mut lanes: Vec<(u64, u16)> = Vec::new();
        let mut sequence = self.state.next_sequence;
        let first_sequence = sequence;
        for (batch, routes) in pulled.batches.iter().zip(wanted) {
            for (((offset, original), route), index) in batch.records.iter().zip(routes).zip(0u32..)
            {
                let target = route.queues.iter().find(|target| target.queue == id);
                let Some(target) = target else { continue };
                // What retention has passed meanwhile may be gone from the files.
                if *offset < start.max(log_start) || batch.routed && *offset >= routed_from {
                    continue;
                }
                if !durable {
                    let message = Message {
                        stored: batch.stored.clone(),
                        index,
                        position: None,
                    };
                    memory.push((message, target.qos.min(1)));
                    continue;
                }
                match entries.last_mut() {
                    Some(entry)
                        if std::sync::Arc::ptr_eq(&entry.stored, &batch.stored)
                            && u64::from(entry.index) + (sequence - entry.first)
                                == u64::from(index) =>
                    {
                        entry.last = sequence;
                    }
                    _ => entries.push(TailEntry {
                        first: sequence,
                        last: sequence,
                        index,
                        stored: batch.stored.clone(),
                        partition: 0,
                        partition_index: 0,
                        base_offset: -1,
                    }),
                }
                if keyed && let Some(envelope) = batch.stored.envelopes.get(index as usize) {
                    lanes.push((sequence, lane(&envelope.address, sequence)));
                }
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == *original => *last = *original,
                    _ => runs.push((*original, *original)),
                }
                sequence += 1;
            }
        }
        let any = !runs.is_empty();
        self.record_if(
            durable,
            &Decision::LinkAdvanced {
                queue: id,
                partition: key,
                next_offset: pulled.next_offset,
                first_sequence,
                runs,
            },
        );
        self.key_linked(id, &lanes);
        self.limit_linked(id, &entries);
        for entry in entries {
            self.tail.push(entry);
        }
        for (message, qos) in memory {
            self.enqueue_memory(id, message, qos, false);
        }
        if any {
            self.finish_frame();
            let head = self.head;
            self.effect_at(head, Effect::Deliver(sequence - 1, smallvec::smallvec![id]));
        }
    }
}
