//! Settling deliveries. Acknowledgements are gathered into ranges and ride with the next group of frames.

use crate::api::*;
use crate::event::Event as Decision;
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
        let mut returned: Vec<(QueueId, u64, u32)> = Vec::new();
        for (id, entry) in settle.entries {
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
                Settlement::Requeue if self.too_often(id, entry.0) => {
                    self.refuse(id, entry.0, &lease, DeathReason::DeliveryLimit);
                }
                Settlement::Requeue => {
                    if let Some(count) = self.give_back(id, entry, lease, true) {
                        returned.push((id, entry.0, count));
                    }
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
            queue.returned.remove(&entry);
            queue.forget(entry, entry);
        }
    }

    /// An entry that a consumer had is refused for good.
    fn refuse(&mut self, id: QueueId, entry: u64, lease: &Lease, reason: DeathReason) {
        match &lease.memory {
            None if self.dead_letters_of(id) => self.discard(id, &[entry], reason),
            None => self.done_with(id, entry, lease),
            Some(kept) => {
                self.discard_message(id, &kept.message, reason);
                self.done_with(id, entry, lease);
            }
        }
    }

    /// Has an entry come back as often as it may?
    fn too_often(&self, id: QueueId, entry: u64) -> bool {
        let Some(queue) = self.state.queues.get(&id) else {
            return false;
        };
        let limit = queue
            .policy
            .as_ref()
            .and_then(|policy| policy.delivery_limit);
        let returned = queue.returned.get(&entry).copied().unwrap_or(0);
        limit.is_some_and(|limit| returned >= limit)
    }

    fn journal_returns(&mut self, mut returned: Vec<(QueueId, u64, u32)>) {
        returned.sort_unstable();
        for run in returned.chunk_by(|a, b| a.0 == b.0) {
            let Some((queue, _, _)) = run.first() else {
                continue;
            };
            let durable = self
                .state
                .queues
                .get(queue)
                .is_some_and(|queue| queue.durable());
            if durable {
                let entries = run
                    .iter()
                    .map(|(_, entry, count)| (*entry, *count))
                    .collect();
                self.record(&Decision::Returned {
                    queue: *queue,
                    entries,
                });
            }
        }
    }

    /// A delivery is settled: its consumer has room again.
    fn credit_back(&mut self, id: QueueId, lease: &Lease) {
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

    /// Puts an entry back to its original place; returns how often it has come back, if that counts.
    fn give_back(
        &mut self,
        id: QueueId,
        entry: EntryId,
        lease: Lease,
        counts: bool,
    ) -> Option<u32> {
        let queue = self.state.queues.get_mut(&id)?;
        if counts {
            self.state.changes.touch(queue);
        }
        match lease.memory {
            Some(memory) => {
                self.pressure.filled(id);
                queue.memory_bytes += memory.bytes;
                queue.memory.insert(entry.0, memory);
            }
            None => queue.ready.insert(entry.0),
        }
        queue.put(entry.0, lease.rank);
        counts.then(|| {
            let count = queue.returned.entry(entry.0).or_insert(0);
            *count += 1;
            *count
        })
    }

    /// A connection is gone: what it had of this queue goes back.
    pub(crate) fn requeue_of(&mut self, client: ClientId, id: QueueId) {
        self.requeue_but(client, id, &[]);
    }

    /// The same, but for these, which stay with it.
    pub(crate) fn requeue_but(&mut self, client: ClientId, id: QueueId, kept: &[EntryId]) {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let subscribed = queue.kind == QueueKind::Session;
        let entries: Vec<EntryId> = queue
            .leases
            .iter()
            .filter(|(_, lease)| lease.client == client)
            .map(|(entry, _)| *entry)
            .filter(|entry| !kept.contains(entry))
            .collect();
        let mut returned = Vec::new();
        self.state.touch_queue(id);
        for entry in entries {
            let Some(lease) = self
                .state
                .queues
                .get_mut(&id)
                .and_then(|queue| queue.unlease(entry))
            else {
                continue;
            };
            self.credit_back(id, &lease);
            if self.too_often(id, entry.0) {
                self.refuse(id, entry.0, &lease, DeathReason::DeliveryLimit);
                continue;
            }
            // A session that resumes is no second consumer.
            if let Some(count) = self.give_back(id, entry, lease, !subscribed) {
                returned.push((id, entry.0, count));
            }
        }
        self.journal_returns(returned);
        self.conclude_frame();
        self.mark_dirty(id);
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
