//! What comes back to its queue: it is ready again at once, waits for its next try, or is refused because it has come
//! back too often.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::shard::pieces::PIECE;
use crate::state::queue::Lease;
use crate::state::retries::Schedule;

/// An entry that has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Return {
    queue: QueueId,
    entry: u64,
    /// How often it has by now.
    count: u32,
    /// Its consumer failed at it.
    failed: bool,
}

impl Shard {
    /// When is tried again what came back to this queue?
    fn schedule(&self, id: QueueId) -> Option<Schedule> {
        let queue = self.state.queues.get(&id)?;
        queue.policy.as_ref()?.retry
    }

    /// A consumer gave an entry back, or failed at it.
    pub(super) fn come_back(
        &mut self,
        id: QueueId,
        entry: EntryId,
        lease: Lease,
        failed: bool,
        returned: &mut Vec<Return>,
    ) {
        if self.too_often(id, entry.0, failed) {
            self.refuse(id, entry.0, &lease, DeathReason::DeliveryLimit);
        } else if let Some(count) = self.give_back(id, entry, lease, true) {
            returned.push(Return {
                queue: id,
                entry: entry.0,
                count,
                failed,
            });
        }
    }

    /// Has an entry come back as often as it may? Where it is tried again later, only failures count.
    fn too_often(&self, id: QueueId, entry: u64, failed: bool) -> bool {
        let Some(queue) = self.state.queues.get(&id) else {
            return false;
        };
        let limit = queue
            .policy
            .as_ref()
            .and_then(|policy| policy.delivery_limit);
        let Some(limit) = limit else {
            return false;
        };
        match self.schedule(id) {
            Some(_) => failed && queue.failures(entry) >= limit,
            None => queue.returned.get(entry).unwrap_or(0) >= limit,
        }
    }

    /// Journals what came back, and takes out of the ready ones what waits for its next try.
    pub(super) fn journal_returns(&mut self, mut returned: Vec<Return>) {
        returned.sort_unstable();
        for run in returned.chunk_by(|a, b| a.queue == b.queue) {
            let Some(id) = run.first().map(|first| first.queue) else {
                continue;
            };
            let schedule = self.schedule(id);
            let Some(queue) = self.state.queues.get(&id) else {
                continue;
            };
            let durable = queue.durable();
            let Some(schedule) = schedule else {
                if durable {
                    let entries = run.iter().map(|back| (back.entry, back.count)).collect();
                    self.record(&Decision::Returned { queue: id, entries });
                }
                continue;
            };
            let now = self.now.unix_ms;
            let entries: Vec<_> = run
                .iter()
                .map(|back| {
                    let before = queue.failures(back.entry);
                    let failures = before.saturating_add(u32::from(back.failed));
                    let delay_ms = schedule.delay_ms(back.failed, failures);
                    let until_ms = if delay_ms > 0 { now + delay_ms } else { 0 };
                    (back.entry, back.count, failures, until_ms)
                })
                .collect();
            let waits =
                |(entry, .., until_ms): &(u64, u32, u32, i64)| (*until_ms > now).then_some(*entry);
            let waiting: Vec<u64> = entries.iter().filter_map(waits).collect();
            self.record_if(durable, &Decision::Deferred { queue: id, entries });
            if let Some(queue) = self.state.queues.get_mut(&id) {
                for entry in waiting {
                    queue.defer(entry);
                }
            }
        }
    }

    /// Puts an entry back to its original place; returns how often it has come back, if that counts.
    pub(super) fn give_back(
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
                queue.memory.insert(entry.0, *memory);
            }
            None => queue.ready.insert(entry.0),
        }
        queue.put(entry.0, lease.rank);
        counts.then(|| {
            let count = queue.returned.get(entry.0).unwrap_or(0) + 1;
            queue.returned.insert(entry.0, count);
            count
        })
    }

    /// A connection is gone: what it had of this queue goes back.
    pub(crate) fn requeue_of(&mut self, client: ClientId, id: QueueId) {
        self.requeue_all(client, id, &[], true);
    }

    /// A client wants no more of this queue: what it had goes back, but for these, which stay with it.
    pub(crate) fn requeue_but(&mut self, client: ClientId, id: QueueId, kept: &[EntryId]) {
        self.requeue_all(client, id, kept, false);
    }

    fn requeue_all(&mut self, client: ClientId, id: QueueId, kept: &[EntryId], failed: bool) {
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
            if self.is_crowded(id, entry.0) {
                self.journal_returns(std::mem::take(&mut returned));
                self.conclude_frame();
            } else if returned.len() >= PIECE {
                self.journal_returns(std::mem::take(&mut returned));
            }
            let Some(lease) = self
                .state
                .queues
                .get_mut(&id)
                .and_then(|queue| queue.unlease(entry))
            else {
                continue;
            };
            self.credit_back(id, &lease);
            if subscribed {
                // A session that resumes is no second consumer.
                self.give_back(id, entry, lease, false);
            } else {
                self.come_back(id, entry, lease, failed, &mut returned);
            }
        }
        self.journal_returns(returned);
        self.conclude_frame();
        self.mark_dirty(id);
    }
}

#[cfg(test)]
mod tests;
