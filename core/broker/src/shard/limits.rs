//! How much a queue holds: what is over its limits is dropped from its head, or refused when it is published.
//!
//! Ready entries count, and those that wait for their next try; those with consumers do not, as in RabbitMQ.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::policy::Overflow;
use crate::state::queue::Queue;
use bytes::Bytes;
use omnilog_record::{BatchHeader, Record, RecordBase};
use smallvec::SmallVec;

/// Entries dropped in one go.
const ROUND: u64 = 1024;

/// What a batch adds to queues that are limited, beside what is in them.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// For each queue: messages and bytes.
    queues: SmallVec<[(QueueId, u64, u64); 2]>,
    /// What records count for in queues limited by bytes.
    sizes: Vec<(u32, QueueId, u64)>,
}

impl Added {
    /// Is there room for a record in this queue? Counts it in, if so.
    pub(super) fn fits(&mut self, queue: &Queue, index: u32, payload: &dyn Fn() -> u64) -> bool {
        let Some(policy) = queue.policy.as_deref() else {
            return true;
        };
        if policy.length_max.is_none() && policy.bytes_max.is_none() {
            return true;
        }
        let bytes = policy.bytes_max.map_or(0, |_| payload());
        if policy.overflow != Overflow::DropHead {
            let at = match self.queues.iter().position(|(id, ..)| *id == queue.id) {
                Some(at) => at,
                None => {
                    self.queues.push((queue.id, 0, 0));
                    self.queues.len() - 1
                }
            };
            let Some((_, count, sum)) = self.queues.get_mut(at) else {
                return true;
            };
            let length = queue.ready_count() + queue.deferred_count() + *count + 1;
            let ready_bytes = queue.sizes.as_ref().map_or(0, |sizes| sizes.ready) + *sum + bytes;
            if policy.length_max.is_some_and(|max| length > max)
                || policy.bytes_max.is_some_and(|max| ready_bytes > max)
            {
                return false;
            }
            *count += 1;
            *sum += bytes;
        }
        if policy.bytes_max.is_some() && queue.durable() {
            self.sizes.push((index, queue.id, bytes));
        }
        true
    }

    /// The decisions for the batch whose first record has this sequence.
    pub(super) fn events(&mut self, base: u64) -> Vec<Decision> {
        self.sizes
            .sort_unstable_by_key(|(index, queue, _)| (*queue, *index));
        let runs = self.sizes.chunk_by(|a, b| a.1 == b.1 && a.0 + 1 == b.0);
        runs.filter_map(|run| {
            let (first, queue, _) = run.first()?;
            Some(Decision::Sized {
                queue: *queue,
                first: base + u64::from(*first),
                bytes: run.iter().map(|(_, _, bytes)| *bytes).collect(),
            })
        })
        .collect()
    }
}

/// Does a queue that refuses a message dead-letter it?
pub(super) fn dead_letters_refused(queue: &Queue) -> bool {
    queue
        .policy
        .as_ref()
        .is_some_and(|policy| policy.overflow == Overflow::RejectPublishDlx)
}

/// A record's payload in bytes.
pub(super) fn payload_bytes(batch: &Bytes, (position, length): (u32, u32)) -> u64 {
    let parse = || {
        let header = BatchHeader::peek(batch).ok()?;
        let end = position.checked_add(length)?;
        let body = batch.get(position as usize..end as usize)?;
        let record = Record::parse(body, &RecordBase::from(&header)).ok()?;
        Some(record.value.map_or(0, |value| value.len() as u64))
    };
    parse().unwrap_or(u64::from(length))
}

impl Shard {
    /// Drops what is over a queue's limits from its head; is there more than one round of it?
    pub(super) fn drop_head(&mut self, id: QueueId) -> bool {
        let released = self.released;
        for _ in 0..ROUND {
            let Some(queue) = self.state.queues.get_mut(&id) else {
                return false;
            };
            let over = queue.over(released);
            if over == 0 || !self.may_discard(id) {
                return false;
            }
            let Some(queue) = self.state.queues.get_mut(&id) else {
                return false;
            };
            let next = queue.next_entry(released);
            let deferred = queue.first_deferred();
            // What waits for its next try goes when it is the oldest. By bytes, and where entries have an order of
            // their own, one after the other.
            let entries: Vec<u64> = if let Some(entry) = deferred
                && next.is_none_or(|next| entry < next)
            {
                vec![entry]
            } else if deferred.is_some()
                || queue.order.is_some()
                || over == 1
                || queue.sizes.is_some()
            {
                next.into_iter().collect()
            } else if queue.memory.is_empty() {
                let until = |entry: &u64| *entry <= released;
                let take = usize::try_from(over.min(ROUND)).unwrap_or(0);
                queue.ready.iter().take_while(until).take(take).collect()
            } else {
                let take = usize::try_from(over.min(ROUND)).unwrap_or(0);
                queue.memory.keys().copied().take(take).collect()
            };
            if entries.is_empty() {
                return false;
            }
            self.discard(id, &entries, DeathReason::MaxLen);
        }
        true
    }
}

impl Queue {
    /// How many of its released entries are too many; by bytes, at least one. Where new messages are refused none are:
    /// what comes back may go over the limit.
    fn over(&self, released: u64) -> u64 {
        let Some(policy) = self.policy.as_deref() else {
            return 0;
        };
        let unlimited = policy.length_max.is_none() && policy.bytes_max.is_none();
        if unlimited || policy.overflow != Overflow::DropHead {
            return 0;
        }
        let unreleased: u64 = if self.ready.is_empty() {
            0
        } else {
            let runs = self.ready.runs_from(released + 1);
            runs.map(|(first, last)| last - first + 1).sum()
        };
        let count = self.ready_count() + self.deferred_count() - unreleased;
        let by_count = policy.length_max.map_or(0, |max| count.saturating_sub(max));
        let bytes = self.sizes.as_ref().map_or(0, |sizes| sizes.ready);
        let by_bytes = policy.bytes_max.is_some_and(|max| bytes > max && count > 0);
        by_count.max(u64::from(by_bytes))
    }
}
