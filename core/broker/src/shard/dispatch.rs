//! Dispatch: ready entries to consumers with credit, in order.

use crate::api::*;
use crate::event::Event as Decision;
use crate::link::Origin;
use crate::server::{ColdRecord, Parcel, Reached};
use crate::shard::Shard;
use crate::shard::expiry::is_past;
use crate::shard::route::path_head;
use crate::shard::straight::delivery_bytes;
use crate::state::consumers::Who;
use crate::state::queue::{Lease, MemoryEntry, Queue};
use crate::state::retained::Kept;
use std::sync::Arc;

/// A record, or where its readers will find it.
#[derive(Debug)]
pub(crate) enum Located {
    /// In the tail.
    Here(Message),
    /// In the files.
    Cold(ColdRecord),
}

/// An entry that was taken out of the ready ones.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) delivery: Delivery,
    /// What is kept of it until it is settled, if it lies in memory only.
    pub(crate) memory: Option<MemoryEntry>,
    pub(crate) rank: Option<u16>,
    /// Where its record is to be read. The delivery has no message before that.
    pub(crate) cold: Option<Box<ColdRecord>>,
}

/// Deliveries of a queue that has news, at once; one that has more waits in line with its like.
pub(super) const NEWS_MAX: usize = 64;
/// Deliveries of a queue that waited in line, in its turn.
const TURN_MAX: usize = 256;
/// Consumers of a queue of which each counts as having a backlog if the queue has one.
pub(super) const FEW: usize = 4;
/// Deliveries of a step, of queues with news: then what has come in meanwhile is decided first ...
pub(crate) const STEP_MAX: usize = 8192;
/// ... and of those in line.
pub(crate) const STEP_LINE_MAX: usize = 256;

impl Shard {
    /// Dispatches queues that have news, and then those in turn that have had more than a little: however many
    /// consumers have a backlog before them, what has just been published waits for one step of theirs.
    pub(crate) fn dispatch_dirty(&mut self) {
        let woken = self.wake_credited();
        let mut queues = self.news.take();
        let mut served = 0;
        for id in &queues {
            if self.may_dispatch == 0 {
                break;
            }
            served += 1;
            let given = self.serve(*id, NEWS_MAX);
            self.may_dispatch = self.may_dispatch.saturating_sub(given);
        }
        // Queues that got news meanwhile stay for the next round.
        queues.drain(..served);
        self.news.put_back(queues);
        while self.may_give_bursts > 0
            && let Some(id) = self.bursts.pop_front()
        {
            let given = self.serve(id, TURN_MAX);
            self.may_give_bursts = self.may_give_bursts.saturating_sub(given);
        }
        while self.may_give_backlogs > 0
            && !self.backlogs.is_empty()
            && self.may_give_ahead()
            && let Some(id) = self.backlogs.pop_front()
        {
            let given = self.serve(id, TURN_MAX);
            self.may_give_backlogs = self.may_give_backlogs.saturating_sub(given);
            if given == TURN_MAX {
                self.consumers_fall_behind(id);
            }
        }
        self.look_again(woken);
    }

    /// Dispatches up to so many entries of a queue; if it has more, it waits in line. Says how many there were.
    fn serve(&mut self, id: QueueId, most: usize) -> usize {
        self.news.served(id);
        let given = self.dispatch(id, most);
        if self.state.queues.get(&id).is_some_and(Queue::is_tended) {
            self.tend(id);
            self.read_on(id);
        }
        if given == most && self.state.queues.get(&id).is_some() {
            self.stand_in_line(id);
        }
        given
    }

    /// A queue waits for a turn, unless it waits already.
    pub(crate) fn stand_in_line(&mut self, id: QueueId) {
        if !self.news.note(id) {
            return;
        }
        if self.has_backlog(id) {
            self.backlogs.push_back(id);
        } else {
            self.bursts.push_back(id);
        }
    }

    /// Dispatches up to so many entries. Says how many it looked at.
    fn dispatch(&mut self, id: QueueId, most: usize) -> usize {
        for given in 0..most {
            let Some((who, entry)) = self.next_turn(id) else {
                return given;
            };
            let Some(queue) = self.state.queues.get_mut(&id) else {
                return given;
            };
            let Some(consumer) = queue.consumers.get(&who) else {
                return given;
            };
            let unsettled = !consumer.no_ack;
            if let Some(taken) = self.take_entry(id, entry, who.1, unsettled) {
                self.hand_out(id, who, taken);
            }
        }
        most
    }

    /// Gives a consumer what was taken out for it.
    fn hand_out(&mut self, id: QueueId, who: Who, taken: Taken) {
        let (client, key) = who;
        let Taken {
            delivery,
            memory,
            rank,
            cold,
        } = taken;
        if delivery.unsettled
            && let Some(queue) = self.state.queues.get_mut(&id)
        {
            let lease = Lease {
                client,
                consumer: Some(key),
                memory: memory.map(Box::new),
                rank,
            };
            queue.lease(delivery.entry, lease);
            if let Some(consumer) = queue.consumers.get_mut(&who) {
                consumer.outstanding += 1;
                let first = !std::mem::replace(&mut consumer.noted, true);
                if (first || consumer.group.is_some())
                    && let Some(state) = self.clients.get_mut(&client)
                {
                    state.count_in_group(consumer.group, true);
                    state.leased_from.insert(id);
                }
            }
        }
        self.stats.deliveries += 1;
        let (parcel, bytes) = match cold {
            None => {
                let bytes = delivery_bytes(&delivery);
                (Parcel::Delivery(delivery), bytes)
            }
            // Its size is not known here: count it as a small message.
            Some(record) => (Parcel::ColdDelivery(Box::new(delivery), record), 1024),
        };
        self.send_parcel(client, parcel, bytes);
    }

    /// Takes the next entry that may be delivered out of the ready ones. Expired ones go on the way.
    pub(crate) fn take_next(
        &mut self,
        id: QueueId,
        consumer: ConsumerKey,
        unsettled: bool,
    ) -> Option<Taken> {
        loop {
            let released = self.released;
            let entry = self.state.queues.get_mut(&id)?.next_entry(released)?;
            if let Some(taken) = self.take_entry(id, entry, consumer, unsettled) {
                return Some(taken);
            }
        }
    }

    /// Takes this entry out of the ready ones; `None`: it has expired, and is gone. `unsettled`: the consumer settles
    /// what it gets, if that is not a QoS 0 message of a session.
    fn take_entry(
        &mut self,
        id: QueueId,
        entry: u64,
        consumer: ConsumerKey,
        unsettled: bool,
    ) -> Option<Taken> {
        let queue = self.state.queues.get_mut(&id)?;
        // What came to the queue before times were decided, or passes it unheld, has its own only.
        let deadline = queue.deadline(entry);
        if deadline.is_some_and(|at_ms| is_past(at_ms, self.now.unix_ms)) {
            self.discard(id, &[entry], DeathReason::Expired);
            self.conclude_frame();
            return None;
        }
        let timed = deadline.is_some();
        let returned_count = queue.returned_count(entry);
        let policy = queue.policy.as_ref();
        let (delivery_count, acquired_count) = match policy.filter(|told| told.counts_deliveries) {
            None => (None, None),
            Some(policy) if policy.retry.is_some() => {
                (Some(queue.failures(entry)), Some(returned_count))
            }
            Some(_) => (Some(returned_count), None),
        };
        let delivery = |message: Message| Delivery {
            consumer,
            queue: id,
            entry: EntryId(entry),
            unsettled,
            redelivered: returned_count > 0,
            returned_count,
            qos: 1,
            retained: false,
            by_root: false,
            delivery_count,
            message,
            acquired_count,
        };
        let rank = queue.took(entry);
        if !queue.memory.is_empty()
            && let Some(kept) = queue.memory.remove(&entry)
        {
            queue.memory_bytes -= kept.bytes;
            if !timed && expired(&kept.message, self.now.unix_ms) {
                queue.forget(entry, entry);
                return None;
            }
            let by_root = by_root(queue, &kept.message);
            let unsettled = unsettled && (kept.qos > 0 || queue.kind == QueueKind::Classic);
            let (qos, retained, original) = (kept.qos, kept.retained, kept.original);
            let (message, memory) = if unsettled {
                (kept.message.clone(), Some(kept))
            } else {
                queue.forget(entry, entry);
                (kept.message, None)
            };
            let (message, cold) = match original.map(|original| self.locate_kept(original)) {
                None => (message, None),
                Some(Located::Here(message)) => (message, None),
                Some(Located::Cold(record)) => (message, Some(Box::new(record))),
            };
            let delivery = Delivery {
                unsettled,
                qos,
                retained,
                by_root,
                ..delivery(message)
            };
            return Some(Taken {
                delivery,
                memory,
                rank,
                cold,
            });
        }
        queue.ready.remove(entry);
        let redelivered = returned_count > 0 || entry < queue.suspect_below;
        queue.delivered_below = queue.delivered_below.max(entry + 1);
        let (durable, kind) = (queue.durable(), queue.kind);
        let located = self.locate(entry);
        if let Located::Here(message) = &located
            && !timed
            && expired(message, self.now.unix_ms)
        {
            let runs = vec![(entry, entry)];
            self.record_if(durable, &Decision::Removed { queue: id, runs });
            self.finish_frame();
            return None;
        }
        if !unsettled {
            self.acknowledge(id, entry);
        }
        let retained = self.state.copied_retained(entry);
        let queue = || {
            self.state
                .queues
                .get(&id)
                .filter(|_| kind == QueueKind::Classic)
        };
        let (message, cold) = match located {
            Located::Here(message) => (message, None),
            Located::Cold(record) => {
                let reached = queue().and_then(Reached::of);
                (nothing(), Some(Box::new(ColdRecord { reached, ..record })))
            }
        };
        // What came by AMQP came by the exchange that it names.
        let by_root = message.envelope().is_some_and(may_come_by_root)
            && queue().is_some_and(|queue| by_root(queue, &message));
        let delivery = Delivery {
            redelivered,
            qos: message.envelope().map_or(1, published_qos),
            retained,
            by_root,
            ..delivery(message)
        };
        Some(Taken {
            delivery,
            memory: None,
            rank,
            cold,
        })
    }

    /// Where the record of a retained message lies. What a Kafka client wrote is in memory as a whole batch only.
    pub(crate) fn locate_kept(&self, kept: Kept) -> Located {
        match kept.partition {
            0 => self.locate(kept.sequence),
            partition => Located::Cold(ColdRecord {
                shard: self.id,
                sequence: kept.sequence,
                origin: self.state.origin_of(partition),
                reached: None,
            }),
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
                origin: Origin::default(),
                reached: None,
            });
        };
        if partition == 0
            && let Some(entry) = self.tail.get(original)
        {
            return Located::Here(entry.message(original));
        }
        Located::Cold(ColdRecord {
            shard: self.id,
            sequence: original,
            origin: self.state.origin_of(partition),
            reached: None,
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
pub(super) fn by_root(queue: &Queue, message: &Message) -> bool {
    queue.kind == QueueKind::Classic
        && message.envelope().is_some_and(|envelope| {
            may_come_by_root(envelope)
                && queue.bound_to.contains(&b"amq.topic"[..])
                && came_by_root(envelope, |head| {
                    queue.declared.name == head || queue.bound_to.contains(head)
                })
        })
}

/// Is its road one that leads by `amq.topic` too?
fn may_come_by_root(envelope: &Envelope) -> bool {
    matches!(envelope.provenance, Provenance::Mqtt | Provenance::Kafka)
}

/// Did it come by `amq.topic`, for a queue with a binding there that has (or has not) roads from a first level?
fn came_by_root(envelope: &Envelope, reached_from: impl Fn(&[u8]) -> bool) -> bool {
    may_come_by_root(envelope) && !reached_from(path_head(envelope.provenance, &envelope.address))
}

impl Reached {
    /// What a reader needs to know of a queue with a binding of `amq.topic`.
    fn of(queue: &Queue) -> Option<Box<Self>> {
        let root = queue.kind == QueueKind::Classic && queue.bound_to.contains(&b"amq.topic"[..]);
        root.then(|| {
            Box::new(Self {
                queue: queue.declared.name.clone(),
                exchanges: queue.bound_to.iter().cloned().collect(),
            })
        })
    }

    /// Does its queue have this message by a binding of `amq.topic` alone?
    pub(crate) fn by_root(&self, message: &Message) -> bool {
        message.envelope().is_some_and(|envelope| {
            came_by_root(envelope, |head| {
                self.queue == head || self.exchanges.iter().any(|exchange| exchange == head)
            })
        })
    }
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
    Message {
        stored: Arc::new(StoredBatch::new(bytes::Bytes::new(), Vec::new())),
        index: 0,
        position: None,
    }
}

#[cfg(test)]
mod tests;
