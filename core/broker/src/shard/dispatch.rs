//! Dispatch: ready entries to consumers with credit, in order.

use crate::api::*;
use crate::event::Event as Decision;
use crate::server::{ColdRecord, Parcel};
use crate::shard::Shard;
use crate::shard::route::path_head;
use crate::state::queue::{Lease, MemoryEntry, Queue};
use std::sync::Arc;

/// A record, or where its readers will find it.
#[derive(Debug)]
pub(crate) enum Located {
    /// In the tail.
    Here(Message),
    /// In the files.
    Cold(ColdRecord),
}

/// Deliveries of one queue in a row before others have their turn.
const BURST: usize = 4096;

impl Shard {
    /// Dispatches every queue that has news.
    pub(crate) fn dispatch_dirty(&mut self) {
        let mut queues = std::mem::take(&mut self.dirty);
        for id in &queues {
            if let Some(queue) = self.state.queues.get_mut(id) {
                queue.dirty = false;
            }
            self.dispatch(*id);
            // A queue with room again wants more of what its links read.
            if let Some(queue) = self.state.queues.get(id)
                && !queue.linked_to.is_empty()
            {
                self.link_news.extend(&queue.linked_to);
            }
        }
        // Queues that became dirty meanwhile stay for the next round; the buffer is kept.
        queues.clear();
        if self.dirty.is_empty() {
            self.dirty = queues;
        }
    }

    fn dispatch(&mut self, id: QueueId) {
        for _ in 0..BURST {
            let Some(at) = self.next_consumer(id) else {
                return;
            };
            let Some(queue) = self.state.queues.get(&id) else {
                return;
            };
            let Some(consumer) = queue.consumers.get(at) else {
                return;
            };
            let (client, key, no_ack, group) = (
                consumer.client,
                consumer.key,
                consumer.no_ack,
                consumer.group,
            );
            let subscribed = queue.kind != QueueKind::Classic;
            let Some(((mut delivery, memory), located)) = self.take_next(id, key, !no_ack) else {
                return;
            };
            let passes = memory.as_ref().is_some_and(|entry| entry.qos == 0) && subscribed;
            delivery.unsettled = !no_ack && !passes;
            if delivery.unsettled {
                if let Some(queue) = self.state.queues.get_mut(&id) {
                    if let Some(consumer) = queue.consumers.get_mut(at) {
                        consumer.outstanding += 1;
                    }
                    queue.leases.insert(
                        delivery.entry,
                        Lease {
                            client,
                            consumer: Some(key),
                            memory,
                        },
                    );
                }
                if let Some(state) = self.clients.get_mut(&client) {
                    state.count_in_group(group, true);
                    state.leased_from.insert(id);
                }
            }
            self.stats.deliveries += 1;
            match located {
                Located::Here(message) => {
                    let bytes = message
                        .envelope()
                        .map_or(0, |envelope| u64::from(envelope.range.1) + 128);
                    delivery.message = message;
                    self.send_parcel(
                        client,
                        Parcel::Event(Event::Delivery(Box::new(delivery))),
                        bytes,
                    );
                }
                Located::Cold(record) => {
                    // Its size is not known here: count it as a small message.
                    self.send_parcel(
                        client,
                        Parcel::ColdDelivery(Box::new(delivery), record),
                        1024,
                    );
                }
            }
        }
        self.mark_dirty(id);
    }

    /// The consumer whose turn it is: of the highest priority among those that can take one, in rotation.
    fn next_consumer(&mut self, id: QueueId) -> Option<usize> {
        let clients = &self.clients;
        let queue = self.state.queues.get_mut(&id)?;
        if queue.ready.is_empty() && queue.memory.is_empty() {
            return None;
        }
        let count = queue.consumers.len();
        let mut best: Option<(usize, i32)> = None;
        for step in 0..count {
            let at = (queue.turn + step) % count;
            let Some(consumer) = queue.consumers.get(at) else {
                continue;
            };
            if best.is_some_and(|(_, priority)| priority >= consumer.priority) {
                continue;
            }
            let credit =
                consumer.no_ack || consumer.limit == 0 || consumer.outstanding < consumer.limit;
            let takes = consumer.active
                && credit
                && clients.get(&consumer.client).is_some_and(|client| {
                    !client.paused && (consumer.no_ack || client.group_has_credit(consumer.group))
                });
            if takes {
                best = Some((at, consumer.priority));
            }
        }
        let (at, _) = best?;
        queue.turn = at + 1;
        Some(at)
    }

    /// Takes the next entry that may be delivered out of the ready ones. Expired ones go on the way.
    pub(crate) fn take_next(
        &mut self,
        id: QueueId,
        consumer: ConsumerKey,
        unsettled: bool,
    ) -> Option<((Delivery, Option<MemoryEntry>), Located)> {
        loop {
            let queue = self.state.queues.get_mut(&id)?;
            let held = queue.ready.first();
            let memory = queue.memory.first_key_value().map(|(entry, _)| *entry);
            let delivery = |entry: u64, message: Message| Delivery {
                consumer,
                queue: id,
                entry: EntryId(entry),
                unsettled,
                redelivered: false,
                returned_count: 0,
                qos: 1,
                retained: false,
                by_root: false,
                message,
            };
            let from_memory = match (held, memory) {
                (None, None) => return None,
                (Some(held), Some(memory)) => memory < held,
                (held, _) => held.is_none(),
            };
            if from_memory {
                let (entry, kept) = queue.memory.pop_first()?;
                queue.memory_bytes -= kept.bytes;
                let returned = queue.returned.get(&entry).copied().unwrap_or(0);
                if expired(&kept.message, self.now.unix_ms) {
                    continue;
                }
                let mut delivery = delivery(entry, kept.message.clone());
                delivery.redelivered = returned > 0;
                delivery.returned_count = returned;
                delivery.qos = kept.qos;
                delivery.by_root = by_root(queue, &kept.message);
                delivery.retained = kept.retained;
                let message = kept.message.clone();
                return Some(((delivery, Some(kept)), Located::Here(message)));
            }
            let sequence = held?;
            if sequence > self.released {
                return None;
            }
            queue.ready.remove(sequence);
            let returned = queue.returned.get(&sequence).copied().unwrap_or(0);
            let redelivered = returned > 0 || sequence < queue.suspect_below;
            queue.delivered_below = queue.delivered_below.max(sequence + 1);
            let durable = queue.durable();
            let located = self.locate(sequence);
            if let Located::Here(message) = &located
                && expired(message, self.now.unix_ms)
            {
                let runs = vec![(sequence, sequence)];
                self.record_if(durable, &Decision::Removed { queue: id, runs });
                self.finish_frame();
                continue;
            }
            if !unsettled {
                self.acknowledge(id, sequence);
            }
            let mut delivery = delivery(sequence, nothing());
            delivery.redelivered = redelivered;
            delivery.returned_count = returned;
            if let Located::Here(message) = &located
                && let Some(envelope) = message.envelope()
            {
                delivery.qos = published_qos(envelope);
            }
            delivery.retained = self.state.copied_retained(sequence);
            if let Located::Here(message) = &located
                && let Some(queue) = self.state.queues.get(&id)
            {
                delivery.by_root = by_root(queue, message);
            }
            return Some(((delivery, None), located));
        }
    }

    /// Where the record of a queue's entry lies.
    pub(crate) fn locate(&self, sequence: u64) -> Located {
        if let Some(entry) = self.tail.get(sequence) {
            return Located::Here(entry.message(sequence));
        }
        let Some((original, partition)) = self.state.original(sequence) else {
            return Located::Cold(ColdRecord {
                shard: self.id,
                sequence,
                topic: Name::new(),
            });
        };
        if partition == 0
            && let Some(entry) = self.tail.get(original)
        {
            return Located::Here(entry.message(original));
        }
        let topic = self
            .state
            .partitions
            .get(&partition)
            .and_then(|partition| self.state.topics.get(&partition.topic))
            .map(|topic| topic.name.clone())
            .unwrap_or_default();
        Located::Cold(ColdRecord {
            shard: self.id,
            sequence: original,
            topic,
        })
    }
}

/// The QoS that a record counts as having been published with. Only MQTT's QoS 0 may be lost on the way to an MQTT
/// session: AMQP's delivery mode says what a confirm waits for, nothing else.
pub(crate) fn published_qos(envelope: &Envelope) -> u8 {
    match envelope.provenance {
        Provenance::Mqtt => envelope.qos,
        _ => envelope.qos.max(1),
    }
}

/// Does an AMQP queue have this message by a binding of `amq.topic` alone?
fn by_root(queue: &Queue, message: &Message) -> bool {
    let Some(envelope) = message.envelope() else {
        return false;
    };
    let foreign = matches!(envelope.provenance, Provenance::Mqtt | Provenance::Kafka);
    if queue.kind != QueueKind::Classic || !foreign {
        return false;
    }
    let head = path_head(envelope.provenance, &envelope.address);
    queue.declared.name != head
        && !queue.bound_to.contains(head)
        && queue.bound_to.contains(&b"amq.topic"[..])
}

/// Is it past its time?
pub(crate) fn expired(message: &Message, now_ms: i64) -> bool {
    message
        .envelope()
        .and_then(|envelope| envelope.expires_at_ms)
        .is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
}

/// The message of a delivery whose record is yet to be read.
pub(crate) fn nothing() -> Message {
    let stored = StoredBatch {
        batch: bytes::Bytes::new(),
        envelopes: Vec::new(),
    };
    Message {
        stored: Arc::new(stored),
        index: 0,
        position: None,
    }
}
