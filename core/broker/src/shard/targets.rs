//! Which of the queues that a route names take a record, and how: held by the journal, or in memory only.

use crate::api::*;
use crate::shard::Shard;
use crate::shard::dispatch::published_qos;
use crate::shard::expiry::Deadlines;
use crate::shard::limits::{Added, dead_letters_refused, payload_bytes};
use crate::shard::ranks::Ranks;
use crate::state::routes::Route;
use bytes::Bytes;
use smallvec::SmallVec;

/// One record's targets, decided.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Durable queues that hold it.
    pub(super) holders: SmallVec<[QueueId; 4]>,
    /// Queues that get it in memory, with its QoS there.
    pub(super) memory: SmallVec<[(QueueId, u8); 4]>,
    pub(super) taken: bool,
    pub(super) rejected: bool,
    /// What the queues that hold it tell it apart by, if any of them does.
    pub(super) ranks: Ranks,
    /// Queues that are full and dead-letter what they refuse.
    pub(super) refused: SmallVec<[QueueId; 1]>,
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
                targets.holders.push(target.queue);
                continue;
            }
            // Unheld: it lives in memory. A session that is offline gets no QoS 0.
            let offline = subscribed && queue.consumers.is_empty();
            if qos == 0 && offline {
                continue;
            }
            let (bytes, memory_bytes) = (bytes as u64, queue.memory_bytes);
            let full = if subscribed || qos == 0 {
                memory_bytes + bytes > self.config.memory_queue_bytes_max
            } else {
                !self.may_take(target.queue, memory_bytes, bytes)
            };
            if full {
                if qos == 0 {
                    self.stats.dropped += 1;
                } else {
                    targets.rejected = true;
                }
                continue;
            }
            targets.taken = true;
            targets.memory.push((target.queue, qos));
        }
        targets
    }
}
