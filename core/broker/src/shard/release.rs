//! Releasing effects, in order, as frames become durable.

use crate::api::*;
use crate::server::Parcel;
use crate::shard::Shard;
use crate::shard::ahead::TOGETHER;
use crate::shard::dispatch::nothing;
use crate::state::retained::Kept;
use omnilog_ledger::{Completion, Lsn};
use smallvec::SmallVec;
use std::sync::Arc;

/// Something that must not happen before a frame is durable.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A parcel for a client, with the payload bytes it holds.
    Send(ClientId, Parcel, u64),
    /// A message is asked for by `basic.get`: client, correlation, queue, settled at once.
    Get(ClientId, u64, QueueId, bool),
    /// A consumer may be served from now on: its reply has gone out.
    Activate(QueueId, ClientId, ConsumerKey),
    /// Records up to this sequence may be delivered by these queues.
    Deliver(u64, SmallVec<[QueueId; 4]>),
    /// Records up to this sequence may be delivered by the queues of the set of this number.
    DeliverSet(u64, u32, Arc<[QueueId]>),
    /// A retained message for a new subscription, unheld: the queue, the message, its QoS.
    Retained(QueueId, Message, u8),
    /// The same for one whose record must be read: the queue, the record, the QoS granted.
    RetainedCold(QueueId, Kept, u8),
    /// A partition may be read up to this offset, and so may records up to this sequence; the first open transaction
    /// in it begins at the last.
    Watermark(u64, i64, u64, i64),
}

/// An effect and the frame it waits for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) at: Lsn,
    pub(crate) effect: Effect,
}

impl Shard {
    /// Lets an effect happen when this frame is durable: now, if it is.
    pub(crate) fn effect_at(&mut self, at: Lsn, effect: Effect) {
        if at <= self.durable {
            self.happen(effect);
        } else {
            self.urgent |= self.waited_for(&effect);
            self.effects.push_back(Pending { at, effect });
        }
    }

    /// Does anybody wait for this? Nobody does for a log that no reader follows, nor for a record that no queue holds.
    fn waited_for(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Watermark(key, ..) => {
                let partition = self.state.partitions.get(key);
                partition.is_some_and(|partition| partition.linked || !partition.waiters.is_empty())
            }
            Effect::Deliver(_, queues) => !queues.is_empty(),
            _ => true,
        }
    }

    /// Takes the journal's news and lets happen what they allow.
    pub(crate) fn release_durable(&mut self) {
        let wanted = self.config.durability;
        while let Some(completion) = self.journal.poll() {
            match completion {
                Completion::Written {
                    first_lsn,
                    last_lsn,
                } if wanted == Durability::Written => {
                    self.completed.insert(first_lsn, last_lsn);
                }
                Completion::Synced {
                    first_lsn,
                    last_lsn,
                } if wanted == Durability::Synced => {
                    self.completed.insert(first_lsn, last_lsn);
                }
                Completion::Failed(error) => self.fail(&error.to_string()),
                _ => {}
            }
        }
        if self.failed.is_some() {
            return;
        }
        // Groups may complete in any order; effects follow the contiguous prefix.
        while let Some((first, last)) = self.completed.first_key_value().map(|(a, b)| (*a, *b)) {
            if first > self.durable + 1 {
                break;
            }
            self.completed.remove(&first);
            self.durable = self.durable.max(last);
        }
        let mut looked_at = 0;
        while self
            .effects
            .front()
            .is_some_and(|pending| pending.at <= self.durable)
        {
            if looked_at == 0 {
                looked_at = TOGETHER;
                self.look_ahead_at_effects();
            }
            looked_at -= 1;
            if let Some(pending) = self.effects.pop_front() {
                self.happen(pending.effect);
            }
        }
    }

    fn happen(&mut self, effect: Effect) {
        // Behind a clean stop nothing is decided any more.
        if self.stopped && !matches!(effect, Effect::Send(..)) {
            return;
        }
        match effect {
            Effect::Send(client, parcel, bytes) => self.send_parcel(client, parcel, bytes),
            Effect::Activate(queue, client, consumer) => {
                self.begin(queue, (client, consumer));
            }
            Effect::Get(client, correlation, queue, no_ack) => {
                self.answer_get(client, correlation, queue, no_ack);
            }
            Effect::Deliver(sequence, queues) => {
                self.released = self.released.max(sequence);
                for queue in queues {
                    self.mark_dirty(queue);
                }
            }
            Effect::DeliverSet(sequence, id, queues) => {
                self.released = self.released.max(sequence);
                // Who sleeps has no consumer. After a checkpoint the set is forgotten, and all are awake.
                let some = self.state.sets.awake_where_others_sleep(id, &queues);
                let some = some.map(<[QueueId]>::to_vec);
                for queue in some.as_deref().unwrap_or(&queues) {
                    self.mark_dirty(*queue);
                }
            }
            Effect::Retained(queue, message, qos) => {
                self.enqueue_memory(queue, message, qos, true);
            }
            Effect::RetainedCold(queue, original, qos) => {
                let entry = self.enqueue_memory(queue, nothing(), qos, true);
                if let Some(queue) = self.state.queues.get_mut(&queue)
                    && let Some(kept) = queue.memory.get_mut(&entry)
                {
                    kept.original = Some(original);
                }
            }
            Effect::Watermark(partition, offset, sequence, stable) => {
                self.released = self.released.max(sequence);
                self.watermark(partition, offset, stable);
            }
        }
    }

    /// The shard can't go on: nothing is acknowledged any more, and clients are told.
    pub(crate) fn fail(&mut self, why: &str) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(
            shard = self.id.0,
            why,
            "the journal failed: nothing is acknowledged any more"
        );
        self.failed = Some(why.to_owned());
        self.effects.clear();
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            self.send(client, Event::ShardLost);
        }
    }

    /// Has this queue looked at before the step ends.
    pub(crate) fn mark_dirty(&mut self, queue: QueueId) {
        self.news.tell(queue);
    }
}
