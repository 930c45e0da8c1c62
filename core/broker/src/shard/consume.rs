//! Consumers and `basic.get`.

use crate::api::*;
use crate::server::Parcel;
use crate::shard::dispatch::Taken;
use crate::shard::release::Effect;
use crate::shard::{Outcome, Shard};
use crate::state::consumers::Consumer;
use crate::state::order::Mode;
use crate::state::queue::Lease;

impl Shard {
    pub(crate) fn consume(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        consume: Consume,
    ) -> Result<Reply, Refusal> {
        let id = match self.usable_queue(client, namespace, &consume.queue) {
            Err(Refusal::NotFound(..)) => self.queue_over_log(namespace, &consume.queue)?,
            known => known?,
        };
        let Some(state) = self.clients.get(&client) else {
            return Err(Refusal::ShardLost);
        };
        if state.consumers.contains_key(&consume.consumer) {
            return Err(Refusal::Conflict("consumer key".to_owned()));
        }
        let queue = self.state.queues.get_mut(&id).ok_or(Refusal::ShardLost)?;
        let failover = queue.mode == Mode::Failover;
        if queue.consumers.has_exclusive()
            || (consume.exclusive && (failover || !queue.consumers.is_empty()))
        {
            return Err(Refusal::ExclusiveUse(consume.queue));
        }
        queue.had_consumer = true;
        let mut consumer = Consumer::new(client, consume.consumer, consume.credit);
        consumer.no_ack = consume.no_ack;
        consumer.exclusive = consume.exclusive;
        consumer.group = consume.credit_group;
        consumer.priority = consume.priority;
        queue.consumers.add(consumer, failover);
        let info = QueueInfo {
            queue: id,
            name: queue.declared.name.clone(),
            ready: queue.ready_count(),
            consumers: u32::try_from(queue.consumers.len()).unwrap_or(u32::MAX),
        };
        if let Some(state) = self.clients.get_mut(&client) {
            state.consumers.insert(consume.consumer, id);
        }
        self.after
            .push(Effect::Activate(id, client, consume.consumer));
        Ok(Reply::Queue(info))
    }

    /// Consuming from a log's name where no queue is makes a durable queue over it, from the earliest record.
    fn queue_over_log(&mut self, namespace: NamespaceId, name: &Name) -> Result<QueueId, Refusal> {
        let missing = || Refusal::NotFound(Noun::Queue, name.clone());
        let topic = self
            .state
            .topic(namespace, &TopicRef::Name(name.clone()))
            .ok_or_else(missing)?;
        let written = |key: &u64| {
            self.state
                .partitions
                .get(key)
                .is_some_and(|partition| partition.kafka_written)
        };
        // Where paths begin with another name, they don't lead to a queue of this one.
        let elsewhere = self.state.templates.get(&topic.id);
        let elsewhere = elsewhere.is_some_and(|template| template.head() != Some(name));
        if elsewhere || !topic.partitions.iter().any(written) {
            return Err(missing());
        }
        let keys = topic.partitions.clone();
        let declared = DeclareQueue {
            name: name.clone(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Vec::new(),
        };
        let id = self.add_queue(namespace, QueueKind::Classic, declared);
        for key in keys {
            let Some(partition) = self.state.partitions.get(&key) else {
                continue;
            };
            let (from, routed_from) = (partition.log_start, partition.next_offset);
            self.add_link(id, key, from, routed_from);
        }
        Ok(id)
    }

    pub(crate) fn cancel(
        &mut self,
        client: ClientId,
        consumer: ConsumerKey,
    ) -> Result<Reply, Refusal> {
        let Some(state) = self.clients.get_mut(&client) else {
            return Err(Refusal::ShardLost);
        };
        let Some(id) = state.consumers.remove(&consumer) else {
            return Ok(Reply::Done);
        };
        self.remove_consumer(id, client, consumer);
        Ok(Reply::Done)
    }

    /// Takes a consumer off its queue; an auto-delete queue goes with its last one.
    pub(crate) fn remove_consumer(&mut self, id: QueueId, client: ClientId, key: ConsumerKey) {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        queue.consumers.remove((client, key));
        queue.tidy();
        if queue.declared.auto_delete && queue.had_consumer && queue.consumers.is_empty() {
            self.drop_queue(id);
            return;
        }
        // What a single active consumer leaves unsettled comes back before anything later goes to the next one, if its
        // channel ends now: as in RabbitMQ, cancelling alone serves nobody.
        let waits = queue.mode == Mode::Failover && !queue.leases.is_empty();
        self.used(id);
        if !waits {
            self.mark_dirty(id);
        }
    }

    pub(crate) fn set_credit(
        &mut self,
        client: ClientId,
        group: CreditGroup,
        limit: u32,
    ) -> Result<Reply, Refusal> {
        let Some(state) = self.clients.get_mut(&client) else {
            return Err(Refusal::ShardLost);
        };
        state.groups.entry(group).or_default().limit = limit;
        self.credited.push((client, group));
        Ok(Reply::Done)
    }

    /// A message asked for is looked for when all decided before it is durable, so that a publisher finds its own.
    pub(crate) fn get(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        correlation: u64,
        name: &Name,
        no_ack: bool,
    ) -> Outcome {
        match self.usable_queue(client, namespace, name) {
            Ok(id) => {
                self.used(id);
                self.after
                    .push(Effect::Get(client, correlation, id, no_ack));
                Outcome::Later
            }
            Err(refusal) => Outcome::Durable(Err(refusal)),
        }
    }

    pub(crate) fn answer_get(
        &mut self,
        client: ClientId,
        correlation: u64,
        id: QueueId,
        no_ack: bool,
    ) {
        // It may be gone by now, and nobody would give back what it got.
        if !self.clients.contains_key(&client) {
            return;
        }
        let taken = self.take_next(id, ConsumerKey(0), !no_ack);
        // The queue has another head now.
        self.mark_dirty(id);
        let Some(taken) = taken else {
            let result = Ok(Reply::Got(None));
            self.send(client, Event::reply(correlation, result));
            return;
        };
        let Taken {
            delivery,
            memory,
            rank,
            cold,
        } = taken;
        if delivery.unsettled {
            if let Some(queue) = self.state.queues.get_mut(&id) {
                let lease = Lease {
                    client,
                    consumer: None,
                    memory: memory.map(Box::new),
                    rank,
                };
                queue.lease(delivery.entry, lease);
            }
            if let Some(state) = self.clients.get_mut(&client) {
                state.leased_from.insert(id);
            }
        }
        let remaining = self
            .state
            .queues
            .get(&id)
            .map_or(0, |queue| queue.ready_count());
        match cold {
            None => {
                let result = Ok(Reply::Got(Some((Box::new(delivery), remaining))));
                self.send(client, Event::reply(correlation, result));
            }
            Some(record) => {
                let parcel = Parcel::ColdGot(correlation, Box::new(delivery), remaining, record);
                self.send_parcel(client, parcel, 0);
            }
        }
    }
}
