//! Settling deliveries. Acknowledgements are gathered into ranges and ride with the next group of frames.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::pieces::PIECE;
use crate::shard::{Outcome, Shard};
use crate::state::queue::Lease;

/// Acknowledgements wait at most this long for company; a crash redelivers what they covered.
const ACK_DELAY_MS: u64 = 200;

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
            if queue
                .leases
                .get(&entry)
                .is_none_or(|lease| lease.client != client)
            {
                continue;
            }
            // As it is while the entry still counts as held.
            self.state.changes.touch(queue);
            let Some(lease) = queue.unlease(entry) else {
                continue;
            };
            self.credit_back(id, &lease);
            match settle.settlement {
                Settlement::Ack => self.done_with(id, entry.0, &lease),
                Settlement::Reject => self.refuse(id, entry.0, &lease, DeathReason::Rejected),
                Settlement::Requeue => self.come_back(id, entry, lease, false, &mut returned),
                Settlement::Fail => self.come_back(id, entry, lease, true, &mut returned),
                Settlement::Undelivered => {
                    self.give_back(id, entry, lease, false);
                }
            }
            self.mark_dirty(id);
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
        let Some(key) = lease.consumer else { return };
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let Some(consumer) = queue.consumer_mut(lease.client, key) else {
            return;
        };
        consumer.outstanding = consumer.outstanding.saturating_sub(1);
        let group = consumer.group;
        let Some(client) = self.clients.get_mut(&lease.client) else {
            return;
        };
        client.count_in_group(group, false);
        if let Some(group) = group
            && client
                .groups
                .get(&group)
                .is_some_and(|credit| !credit.waiting.is_empty())
        {
            self.credited.push((lease.client, group));
        }
        self.offer(id, (lease.client, key));
    }

    /// A journaled entry is done with: gathered, to be journaled with others.
    pub(crate) fn acknowledge(&mut self, id: QueueId, sequence: u64) {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        if !queue.durable() {
            return;
        }
        if queue.acked.is_empty() {
            self.acked.push(id);
            self.acked_since_ms.get_or_insert(self.now.monotonic_ms);
        }
        queue.acked.insert(sequence);
    }

    /// Journals gathered acknowledgements: with other frames, when they have waited long enough, or now.
    pub(crate) fn flush_acked(&mut self, now: bool) {
        let Some(since) = self.acked_since_ms else {
            return;
        };
        let due =
            now || self.journal.group_bytes() > 0 || self.now.monotonic_ms >= since + ACK_DELAY_MS;
        // While frames are held, ranges cost less memory than frames.
        if !due || (self.held.any() && !now) {
            return;
        }
        self.acked_since_ms = None;
        for id in std::mem::take(&mut self.acked) {
            let Some(queue) = self.state.queues.get_mut(&id) else {
                continue;
            };
            // While they still count as held.
            self.state.changes.touch(queue);
            let runs: Vec<(u64, u64)> = queue.acked.iter_runs().collect();
            queue.acked.clear();
            queue.tidy();
            if !runs.is_empty() {
                self.record(&Decision::Removed { queue: id, runs });
            }
        }
        self.finish_frame();
    }

    /// When gathered acknowledgements are due.
    pub(crate) fn acked_due_ms(&self) -> Option<u64> {
        self.acked_since_ms
            .filter(|_| !self.held.any())
            .map(|since| since + ACK_DELAY_MS)
    }
}
