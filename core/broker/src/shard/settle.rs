//! Settling deliveries. Acknowledgements are gathered into ranges and ride with the next group of frames.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::clients::GroupCredit;
use crate::shard::pieces::PIECE;
use crate::shard::{Outcome, Shard};
use crate::state::queue::{Lease, Queue};

/// Acknowledgements wait at most this long for company; a crash redelivers what they covered.
const ACK_DELAY_MS: u64 = 200;

/// Runs for which room is kept.
const RUNS: usize = 1024;

/// Acknowledgements that are not journaled yet: each queue has its own.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Queues that have some.
    queues: Vec<QueueId>,
    since_ms: Option<u64>,
    /// Room for the runs of one queue.
    runs: Vec<(u64, u64)>,
}

impl Acked {
    /// A journaled entry is done with.
    fn add(&mut self, queue: &mut Queue, sequence: u64, now_ms: u64) {
        if !queue.durable() {
            return;
        }
        if queue.acked.is_empty() {
            self.queues.push(queue.id);
            self.since_ms.get_or_insert(now_ms);
        }
        queue.acked.insert(sequence);
    }

    /// All is journaled: the room is kept, but for that of a queue with very many runs.
    fn emptied(mut self) -> Self {
        self.queues.clear();
        self.runs.shrink_to(RUNS);
        self.since_ms = None;
        self
    }
}

impl Shard {
    pub(crate) fn settle(&mut self, client: ClientId, correlation: u64, settle: Settle) -> Outcome {
        self.settle_entries(client, settle);
        if correlation == 0 {
            return Outcome::Later;
        }
        // Somebody waits for it: journal it now.
        self.flush_acked(true);
        Outcome::Durable(Ok(Reply::Done))
    }

    pub(crate) fn settle_entries(&mut self, client: ClientId, settle: Settle) {
        let mut returned = Vec::new();
        for (id, entry) in settle.entries {
            if settle.settlement != Settlement::Ack && self.is_crowded(id, entry.0) {
                self.journal_returns(std::mem::take(&mut returned));
                self.conclude_frame();
            } else if returned.len() >= PIECE {
                self.journal_returns(std::mem::take(&mut returned));
            }
            let Some(queue) = self.state.queues.get_mut(&id) else {
                continue;
            };
            let lease = queue.leases.get(&entry);
            if lease.is_none_or(|lease| lease.client != client) {
                continue;
            }
            // As it is while the entry still counts as held.
            self.state.changes.touch(queue);
            let Some(lease) = queue.unlease(entry) else {
                continue;
            };
            let group = queue.credit(&lease);
            let acked = settle.settlement == Settlement::Ack && lease.memory.is_none();
            if acked {
                self.acked.add(queue, entry.0, self.now.monotonic_ms);
            }
            let idle = acked && !queue.has_work();
            self.credit_group(client, group);
            match settle.settlement {
                Settlement::Ack if acked => {}
                Settlement::Ack => self.done_with(id, entry.0, &lease),
                Settlement::Reject => self.refuse(id, entry.0, &lease, DeathReason::Rejected),
                Settlement::Requeue => self.come_back(id, entry, lease, false, &mut returned),
                Settlement::Fail => self.come_back(id, entry, lease, true, &mut returned),
                Settlement::Undelivered => {
                    self.give_back(id, entry, lease, false);
                }
            }
            if !idle {
                self.mark_dirty(id);
            }
        }
        self.journal_returns(returned);
    }

    /// An entry that a consumer had is done with.
    fn done_with(&mut self, id: QueueId, entry: u64, lease: &Lease) {
        if lease.memory.is_none() {
            self.acknowledge(id, entry);
        } else if let Some(queue) = self.state.queues.get_mut(&id) {
            queue.returned.remove(entry);
            queue.forget(entry, entry);
        }
    }

    /// An entry that a consumer had is refused for good.
    pub(super) fn refuse(&mut self, id: QueueId, entry: u64, lease: &Lease, reason: DeathReason) {
        match &lease.memory {
            None if self.dead_letters_of(id) => self.discard(id, &[entry], reason),
            None => self.done_with(id, entry, lease),
            Some(kept) => {
                self.discard_message(id, &kept.message, reason);
                self.done_with(id, entry, lease);
            }
        }
    }

    /// A delivery is settled: its consumer has room again.
    pub(super) fn credit_back(&mut self, id: QueueId, lease: &Lease) {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let group = queue.credit(lease);
        self.credit_group(lease.client, group);
        self.mark_dirty(id);
    }

    /// A delivery is settled: its credit group, if it has one, has room again.
    fn credit_group(&mut self, client: ClientId, group: Option<CreditGroup>) {
        let Some(group) = group else { return };
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        state.count_in_group(Some(group), false);
        let waiting = |credit: &GroupCredit| !credit.waiting.is_empty();
        if state.groups.get(&group).is_some_and(waiting) {
            self.credited.push((client, group));
        }
    }

    /// A journaled entry is done with: gathered, to be journaled with others.
    pub(crate) fn acknowledge(&mut self, id: QueueId, sequence: u64) {
        if let Some(queue) = self.state.queues.get_mut(&id) {
            self.acked.add(queue, sequence, self.now.monotonic_ms);
        }
    }

    /// Journals gathered acknowledgements: with other frames, when they have waited long enough, or now.
    pub(crate) fn flush_acked(&mut self, now: bool) {
        let Some(since) = self.acked.since_ms else {
            return;
        };
        let due =
            now || self.journal.group_bytes() > 0 || self.now.monotonic_ms >= since + ACK_DELAY_MS;
        // While frames are held, ranges cost less memory than frames.
        if !due || (self.held.any() && !now) {
            return;
        }
        let mut acked = std::mem::take(&mut self.acked);
        // Those next to each other in memory, and in the frame.
        acked.queues.sort_unstable();
        for id in acked.queues.drain(..) {
            let Some(queue) = self.state.queues.get_mut(&id) else {
                continue;
            };
            // While they still count as held.
            self.state.changes.touch(queue);
            let mut runs = std::mem::take(&mut acked.runs);
            runs.extend(queue.acked.iter_runs());
            queue.acked.clear();
            queue.tidy_entries();
            if runs.is_empty() {
                continue;
            }
            let removed = Decision::Removed { queue: id, runs };
            self.record(&removed);
            if let Decision::Removed { runs, .. } = removed {
                acked.runs = runs;
                acked.runs.clear();
            }
        }
        self.acked = acked.emptied();
        self.finish_frame();
    }

    /// When gathered acknowledgements are due.
    pub(crate) fn acked_due_ms(&self) -> Option<u64> {
        self.acked
            .since_ms
            .filter(|_| !self.held.any())
            .map(|since| since + ACK_DELAY_MS)
    }
}
