//! Links: which queues read which partitions that Kafka clients write. `read` reads for them, `advance` gives each what
//! its queue is to have.

mod advance;
mod budget;
mod hold;
mod read;

pub(crate) use read::LinkReads;

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::shard::topics::name_matches;
use crate::state::apply::first_level;
use crate::state::namespace::Namespace;
use crate::state::partition::Partition;
use crate::state::queue::Queue;
use crate::state::routes::Target;
use crate::state::{Link, TABLE};
use bytes::Bytes;
use std::collections::BTreeSet;

impl Shard {
    /// A partition is written by a Kafka client for the first time: queues that its topic reaches read it from here.
    pub(crate) fn link_partition(&mut self, topic: TopicId, partition: u64, from: i64) {
        let Some(known) = self.state.topics.get(&topic) else {
            return;
        };
        let (namespace, name) = (known.namespace, known.name.name());
        let Some(names) = self.state.namespace(namespace) else {
            return;
        };
        for queue in self.reached_by(names, topic, &name) {
            self.add_link(queue, partition, from, from);
        }
        if self.retains(topic) {
            self.add_link(TABLE, partition, from, from);
        }
    }

    /// A queue may be reached by a topic from now on: it reads what Kafka clients write there.
    pub(crate) fn link_queue(&mut self, namespace: NamespaceId, queue: QueueId, head: &[u8]) {
        self.link_queue_from(namespace, queue, head, false);
    }

    /// The same, for a subscription that retained messages come before if so asked: what has not become one yet, it
    /// reads.
    pub(crate) fn link_queue_from(
        &mut self,
        namespace: NamespaceId,
        queue: QueueId,
        head: &[u8],
        retained: bool,
    ) {
        if !self.state.kafka_written {
            return;
        }
        let Some(names) = self.state.namespace(namespace) else {
            return;
        };
        let topics = if matches!(head, b"+" | b"#" | b"*") {
            self.exposed_topics(names)
        } else {
            self.topics_of(names, head)
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
                    let mut next = partition.next_offset;
                    let table = self.state.links.get(&(key, TABLE));
                    if let Some(table) = table.filter(|_| retained) {
                        next = next.min(table.next_offset.max(partition.log_start));
                    }
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
                Destination::Queue(queue) => {
                    queues.extend(names.queues.get(&self.state.queues, &queue))
                }
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
        self.link_reads.news.insert(partition);
        let taker = self.state.queues.get(&queue);
        let durable = queue == TABLE || taker.is_some_and(Queue::durable);
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

    /// Offsets that a link has yet to look at.
    pub(crate) fn link_lag(&self, partition: u64, link: &Link) -> u64 {
        let partition = self.state.partitions.get(&partition);
        let stable = partition.map_or(0, Partition::last_stable_offset);
        u64::try_from(stable.saturating_sub(link.next_offset)).unwrap_or(0)
    }

    pub(crate) fn exposed(&self, topic: &[u8]) -> bool {
        self.config
            .expose
            .iter()
            .any(|pattern| name_matches(pattern, topic))
    }

    /// Topics that wildcards at the first level reach. They are looked up by name: there may be a million others.
    fn exposed_topics(&self, names: &Namespace) -> Vec<TopicId> {
        let mut found = Vec::new();
        let topics = &self.state.topics;
        for pattern in &self.config.expose {
            let Some(prefix) = pattern.strip_suffix(b"*") else {
                found.extend(names.topics.get(topics, pattern));
                continue;
            };
            let named = names.topics.from(topics, prefix);
            found.extend(named.take_while(|id| {
                let topic = topics.get(id);
                topic.is_some_and(|topic| topic.name.starts_with(prefix))
            }));
        }
        found
    }

    /// The queues that records of a topic may go to: its own, those bound to its exchange, those whose patterns may
    /// match. A few too many do no harm: what they read is matched.
    fn reached_by(&self, names: &Namespace, id: TopicId, topic: &[u8]) -> BTreeSet<QueueId> {
        let mut reached = BTreeSet::new();
        let exposed = self.exposed(topic);
        let mut open: Vec<Name> = Vec::new();
        let filters = &names.routes.filters;
        let addressed = |id: &QueueId| {
            let queue = self.state.queues.get(id);
            queue.is_some_and(|queue| !queue.declared.exclusive)
        };
        let mut bound: Vec<Name> = Vec::new();
        let mut take = |target: &Target, reached: &mut BTreeSet<QueueId>| match target {
            Target::Subscribed { queue, .. } => {
                reached.insert(*queue);
            }
            Target::Bound(destination) => match &**destination {
                Destination::Queue(queue) => {
                    reached.extend(names.queues.get(&self.state.queues, queue))
                }
                Destination::Exchange(exchange) => bound.push(exchange.clone()),
            },
        };
        match self.heads_of(id, topic) {
            Some(heads) => {
                for head in &heads {
                    let queue = names.queues.get(&self.state.queues, head);
                    reached.extend(queue.filter(&addressed));
                    let wild = exposed && head == topic;
                    filters.beginning_with(head, wild, &mut |target| take(target, &mut reached));
                }
                open.extend(heads);
            }
            None => {
                reached.extend(names.queues.iter().filter(&addressed));
                filters.every(&mut |target| take(target, &mut reached));
                open.extend(names.exchanges.keys().cloned());
            }
        }
        open.append(&mut bound);
        let mut visited: BTreeSet<Name> = BTreeSet::new();
        while let Some(name) = open.pop() {
            if let Some(exchange) = names.exchanges.get(&name)
                && visited.insert(name)
            {
                for (destination, _) in exchange.destinations() {
                    match destination {
                        Destination::Queue(queue) => {
                            reached.extend(names.queues.get(&self.state.queues, queue))
                        }
                        Destination::Exchange(exchange) => open.push(exchange.clone()),
                    }
                }
                open.extend(exchange.alternate().cloned());
            }
        }
        reached
    }

    /// Do records of a topic go to this queue, as far as can be said without a key?
    fn wants(&self, names: &Namespace, queue: &Queue, id: TopicId, topic: &[u8]) -> bool {
        let reaches = |head: &[u8]| self.reaches(id, head, topic);
        if queue.kind != QueueKind::Classic {
            let filters = names.filters_of(queue, &self.state.sessions);
            return filters
                .iter()
                .any(|filter| reaches(first_level(filter, b'/')));
        }
        if reaches(&queue.declared.name) {
            return true;
        }
        // Upwards, from what is bound to the queue.
        let by_root = |destination: &Destination| {
            let root = names.exchanges.get(&b"amq.topic"[..]);
            root.is_some_and(|root| {
                root.bindings_to(destination)
                    .iter()
                    .any(|binding| reaches(first_level(&binding.routing_key, b'.')))
            })
        };
        if by_root(&Destination::Queue(queue.declared.name.clone())) {
            return true;
        }
        let mut visited: BTreeSet<&Name> = BTreeSet::new();
        let mut open: Vec<&Name> = queue.bound_to.iter().collect();
        while let Some(name) = open.pop() {
            if reaches(name) || by_root(&Destination::Exchange(name.clone())) {
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
        if self.state.links.is_empty() {
            return;
        }
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
                topic.is_some_and(|topic| !self.wants(names, queue, topic.id, &topic.name))
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
}

#[cfg(test)]
mod tests;
