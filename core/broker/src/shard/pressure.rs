//! Memory that messages of non-durable queues take: who fills it is blocked until it has drained.
//!
//! A publisher whose message takes a queue past its budget is told so and read no further; what it had under way is
//! still taken, up to twice the budget. When all such queues together take too much, every publisher is blocked. Both
//! end when a fifth of the budget is free again.

use crate::api::*;
use crate::shard::Shard;
use std::collections::{BTreeMap, BTreeSet};

/// Who is blocked for want of memory.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Queues past their budget, as far as the publish under way has met them.
    met: Vec<QueueId>,
    /// By queue past its budget: who has filled it.
    blocked: BTreeMap<QueueId, BTreeSet<ClientId>>,
    /// All such queues together take too much.
    pub(crate) all: bool,
    /// What they took when last looked at.
    pub(crate) queues_bytes: u64,
    /// Queues that may have messages in memory.
    filled: BTreeSet<QueueId>,
}

impl Pressure {
    /// A queue has a message in memory.
    pub(crate) fn filled(&mut self, queue: QueueId) {
        self.filled.insert(queue);
    }
}

/// Is there room again under this budget?
fn has_drained(bytes: u64, budget: u64) -> bool {
    bytes <= budget - budget / 5
}

impl Shard {
    /// May a non-durable queue take a message? Past its budget whoever publishes is blocked, past twice that it is
    /// refused.
    pub(crate) fn may_take(&mut self, queue: QueueId, memory_bytes: u64, bytes: u64) -> bool {
        let budget = self.config.memory_queue_bytes_max;
        if memory_bytes + bytes > budget && !self.pressure.met.contains(&queue) {
            self.pressure.met.push(queue);
        }
        memory_bytes + bytes <= budget.saturating_mul(2)
    }

    /// Blocks a client whose publish met queues past their budget.
    pub(crate) fn press(&mut self, client: ClientId) {
        for queue in std::mem::take(&mut self.pressure.met) {
            let new = self
                .pressure
                .blocked
                .entry(queue)
                .or_default()
                .insert(client);
            if new {
                self.send(client, Event::Blocked(BlockReason::Memory));
            }
        }
    }

    /// Why a client's publishes are not wanted now, if they are not.
    pub(crate) fn blocked_for(&self, client: ClientId) -> Option<BlockReason> {
        let of_queue = || {
            let mut queues = self.pressure.blocked.values();
            queues.any(|clients| clients.contains(&client))
        };
        if self.blocked {
            Some(BlockReason::Disk)
        } else {
            (self.pressure.all || of_queue()).then_some(BlockReason::Memory)
        }
    }

    /// Lets those go on whose queues have drained.
    pub(crate) fn relieve(&mut self) {
        if self.pressure.blocked.is_empty() {
            return;
        }
        let budget = self.config.memory_queue_bytes_max;
        let queues = &self.state.queues;
        let drained: Vec<QueueId> = self
            .pressure
            .blocked
            .keys()
            .copied()
            .filter(|id| {
                queues
                    .get(id)
                    .is_none_or(|queue| has_drained(queue.memory_bytes, budget))
            })
            .collect();
        for queue in drained {
            for client in self.pressure.blocked.remove(&queue).unwrap_or_default() {
                if self.blocked_for(client).is_none() {
                    self.send(client, Event::Unblocked);
                }
            }
        }
    }

    /// Looks what all queues take together.
    pub(crate) fn watch_memory(&mut self) {
        let queues = &self.state.queues;
        let mut bytes = 0;
        self.pressure.filled.retain(|id| {
            let taken = queues.get(id).map_or(0, |queue| queue.memory_bytes);
            bytes += taken;
            taken > 0
        });
        self.pressure.queues_bytes = bytes;
        let pressed = self.pressure.all;
        let past = |bytes, budget| bytes > budget || (pressed && !has_drained(bytes, budget));
        let sets = self.set_memory.bytes;
        let all = past(bytes, self.config.memory_queues_bytes_max)
            || past(sets, self.config.memory_sets_bytes_max);
        if all == self.pressure.all {
            return;
        }
        self.pressure.all = all;
        if all {
            tracing::warn!(bytes, sets, "queues take too much memory: publishers wait");
        }
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            let event = match self.blocked_for(client) {
                Some(reason) => Event::Blocked(reason),
                None => Event::Unblocked,
            };
            self.send(client, event);
        }
    }

    /// A client is gone.
    pub(crate) fn forget_pressure(&mut self, client: ClientId) {
        self.pressure.blocked.retain(|_, clients| {
            clients.remove(&client);
            !clients.is_empty()
        });
    }
}
