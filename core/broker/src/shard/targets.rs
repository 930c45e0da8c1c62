//! Which of the queues that a route names take a record, and how: held by the journal, or in memory only.

use crate::api::*;
use crate::event::{Event as Decision, Holders};
use crate::shard::Shard;
use crate::shard::dispatch::published_qos;
use crate::shard::expiry::Deadlines;
use crate::shard::limits::{Added, dead_letters_refused, payload_bytes};
use crate::shard::ranks::Ranks;
use crate::shard::release::Effect;
use crate::state::routes::{Crowd, Route};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// More queues than these are a set that is defined once.
const INLINE_HOLDERS: usize = 4;

/// One record's targets, decided.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Durable queues that hold it.
    pub(super) holders: Holding,
    /// Queues that get it in memory, with its QoS there.
    pub(super) memory: SmallVec<[(QueueId, u8); 4]>,
    pub(super) taken: bool,
    pub(super) rejected: bool,
    /// What the queues that hold it tell it apart by, if any of them does.
    pub(super) ranks: Ranks,
    /// Queues that are full and dead-letter what they refuse.
    pub(super) refused: SmallVec<[QueueId; 1]>,
}

/// Durable queues that hold a record.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Those that were looked at.
    pub(super) queues: SmallVec<[QueueId; 4]>,
    /// And those of whom nothing is to be known.
    pub(super) crowd: Option<Crowd>,
}

impl PartialEq for Holding {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.crowd, &other.crowd) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        };
        same && self.queues == other.queues
    }
}

impl Holding {
    /// Does no queue hold it?
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.crowd.is_none()
    }

    /// All of them, in order.
    fn together(&self) -> Vec<QueueId> {
        let crowd = self.crowd.as_deref().unwrap_or_default();
        let mut all = [&self.queues[..], crowd].concat();
        all.sort_unstable();
        all
    }
}

/// What a batch's queues are told of its records beside that they hold them.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) ranks: Vec<(u32, Ranks)>,
    pub(super) deadlines: Deadlines,
    pub(super) added: Added,
}

impl Shard {
    /// Which queues hold a record, and which get it in memory.
    pub(super) fn targets(
        &mut self,
        envelope: &Envelope,
        route: &Route,
        batch: &Bytes,
        index: u32,
        beside: &mut Beside,
    ) -> Targets {
        let mut targets = Targets::default();
        let now_ms = self.now.unix_ms;
        let bytes = batch.len();
        let payload = || payload_bytes(batch, envelope.range);
        beside.deadlines.record(index, envelope, now_ms);
        let mqtt = envelope.provenance == Provenance::Mqtt;
        for target in &route.queues {
            let Some(queue) = self.state.queues.get(&target.queue) else {
                continue;
            };
            if target.not_from.is_some()
                && mqtt
                && target.not_from.as_ref() == Some(&envelope.publisher)
            {
                continue;
            }
            let subscribed = queue.kind != QueueKind::Classic;
            let qos = if subscribed {
                published_qos(envelope).min(target.qos)
            } else {
                target.qos
            };
            let held = queue.durable() && (!subscribed || qos > 0);
            if !beside.added.fits(queue, index, &payload) {
                targets.rejected = true;
                if dead_letters_refused(queue) {
                    targets.refused.push(target.queue);
                }
                continue;
            }
            if held {
                targets.ranks.add(queue, envelope);
                beside.deadlines.held(index, queue, envelope, now_ms);
                targets.taken = true;
                targets.holders.queues.push(target.queue);
                continue;
            }
            self.pass_unheld(target.queue, qos, bytes as u64, &mut targets);
        }
        let Some(crowd) = &route.crowd else {
            return targets;
        };
        if published_qos(envelope) > 0 {
            targets.taken = true;
            targets.holders.crowd = Some(crowd.clone());
            return targets;
        }
        let awake = self.state.sets.awake_of_crowd(crowd).to_vec();
        for id in awake {
            let queue = self.state.queues.get(&id);
            if queue.is_some_and(|queue| queue.kind == QueueKind::Classic) {
                targets.taken = true;
                targets.holders.queues.push(id);
            } else {
                self.pass_unheld(id, 0, bytes as u64, &mut targets);
            }
        }
        targets
    }

    /// A queue gets a record unheld: it lives in memory. A session that is offline gets no QoS 0.
    fn pass_unheld(&mut self, id: QueueId, qos: u8, bytes: u64, targets: &mut Targets) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        let subscribed = queue.kind != QueueKind::Classic;
        if qos == 0 && subscribed && queue.consumers.is_empty() {
            return;
        }
        let memory_bytes = queue.memory_bytes;
        let full = if subscribed || qos == 0 {
            memory_bytes + bytes > self.config.memory_queue_bytes_max
        } else {
            !self.may_take(id, memory_bytes, bytes)
        };
        if full {
            if qos == 0 {
                self.stats.dropped += 1;
            } else {
                targets.rejected = true;
            }
            return;
        }
        targets.taken = true;
        targets.memory.push((id, qos));
    }

    /// How a frame names the queues that hold records up to this one, and what happens when it is durable.
    pub(super) fn holders(&mut self, last: u64, holding: Holding) -> Holders {
        let number = match &holding.crowd {
            None if holding.queues.len() <= INLINE_HOLDERS => {
                let queues = holding.queues;
                self.after.push(Effect::Deliver(last, queues.clone()));
                return Holders::Inline(queues);
            }
            None => self.state.sets.number(&holding.queues),
            Some(crowd) if holding.queues.is_empty() => self.state.sets.number_of_crowd(crowd),
            Some(_) => self.state.sets.number(&holding.together()),
        };
        let id = number.unwrap_or_else(|id| {
            let queues = holding.together();
            self.record(&Decision::HoldersDefined { id, queues });
            id
        });
        if let Some(queues) = self.state.sets.queues(id).cloned() {
            self.after.push(Effect::DeliverSet(last, id, queues));
        }
        Holders::Set(id)
    }
}
