//! The end of entries and queues by time. Times are decided when a message is published and journaled, so that an entry
//! whose record is in the files expires without being read.
//!
//! As in RabbitMQ, entries leave a queue when they have come to its head; before that, they are not delivered.

use crate::api::*;
use crate::event::{Event as Decision, Holders};
use crate::shard::Shard;
use crate::shard::limits::payload_bytes;
use crate::state::queue::Queue;
use crate::tail::TailEntry;

/// Entries that end in one go.
const ROUND: usize = 1024;

/// Deliver at once, or not at all: the time of what has none left when it comes.
const AT_ONCE: i64 = 0;

/// When a message of this queue expires, by its own time and the queue's.
pub(crate) fn deadline(queue: &Queue, envelope: &Envelope, now_ms: i64) -> Option<i64> {
    let own = own_deadline(envelope, now_ms);
    let ttl_ms = queue
        .policy
        .as_ref()
        .and_then(|policy| policy.message_ttl_ms);
    let by_queue = ttl_ms.map(|ttl_ms| deadline_in(ttl_ms, now_ms));
    own.into_iter().chain(by_queue).min()
}

fn deadline_in(ttl_ms: i64, now_ms: i64) -> i64 {
    match ttl_ms {
        0 => AT_ONCE,
        more => now_ms.saturating_add(more),
    }
}

fn own_deadline(envelope: &Envelope, now_ms: i64) -> Option<i64> {
    let at = envelope.expires_at_ms?;
    Some(if at <= now_ms { AT_ONCE } else { at })
}

/// Is this time over? What was to be delivered at once, or not at all, is if there is somebody to deliver it to.
pub(super) fn is_past(at_ms: i64, now_ms: i64) -> bool {
    at_ms != AT_ONCE && at_ms <= now_ms
}

/// When the records of a batch expire, where they do.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// By their own time, for all that hold them.
    own: Vec<(u32, i64)>,
    /// In this queue.
    queues: Vec<(u32, QueueId, i64)>,
}

impl Deadlines {
    /// A record of the batch.
    pub(super) fn record(&mut self, index: u32, envelope: &Envelope, now_ms: i64) {
        self.own
            .extend(own_deadline(envelope, now_ms).map(|at| (index, at)));
    }

    /// A queue holds it.
    pub(super) fn held(&mut self, index: u32, queue: &Queue, envelope: &Envelope, now_ms: i64) {
        let ttl = queue
            .policy
            .as_ref()
            .and_then(|policy| policy.message_ttl_ms);
        if ttl.is_some() {
            let at = deadline(queue, envelope, now_ms);
            self.queues.extend(at.map(|at| (index, queue.id, at)));
        }
    }

    /// The decisions for the batch whose first record has this sequence: later ones count.
    pub(super) fn events(&self, base: u64, holders: &[(u32, Holders)]) -> Vec<Decision> {
        let mut events = Vec::new();
        let mut own = self.own.iter().peekable();
        let mut end = 0;
        for (count, queues) in holders {
            end += count;
            while let Some((index, at_ms)) = own.next_if(|(index, _)| *index < end) {
                if *queues == Holders::Inline(smallvec::SmallVec::new()) {
                    continue;
                }
                let mut last = *index;
                while let Some((next, _)) =
                    own.next_if(|(next, at)| *next < end && *next == last + 1 && at == at_ms)
                {
                    last = *next;
                }
                events.push(Decision::Expires {
                    queues: queues.clone(),
                    first: base + u64::from(*index),
                    last: base + u64::from(last),
                    at_ms: *at_ms,
                });
            }
        }
        let mut queues = self.queues.clone();
        queues.sort_unstable_by_key(|(index, queue, _)| (*queue, *index));
        for run in queues.chunk_by(|a, b| a.1 == b.1 && a.2 == b.2 && a.0 + 1 == b.0) {
            if let (Some((first, queue, at_ms)), Some((last, ..))) = (run.first(), run.last()) {
                events.push(Decision::Expires {
                    queues: Holders::Inline(smallvec::smallvec![*queue]),
                    first: base + u64::from(*first),
                    last: base + u64::from(*last),
                    at_ms: *at_ms,
                });
            }
        }
        events
    }
}

impl Shard {
    /// What a link put into a queue with a time or a limit in bytes.
    pub(super) fn limit_linked(&mut self, id: QueueId, entries: &[TailEntry]) {
        let policy = self
            .state
            .queues
            .get(&id)
            .and_then(|queue| queue.policy.as_deref());
        let Some(policy) = policy else {
            return;
        };
        let (ttl_ms, limited) = (policy.message_ttl_ms, policy.bytes_max.is_some());
        for entry in entries {
            if let Some(ttl_ms) = ttl_ms {
                self.record(&Decision::Expires {
                    queues: Holders::Inline(smallvec::smallvec![id]),
                    first: entry.first,
                    last: entry.last,
                    at_ms: deadline_in(ttl_ms, self.now.unix_ms),
                });
            }
            if limited {
                let of = |sequence| {
                    let message = entry.message(sequence);
                    let range = message.envelope().map(|envelope| envelope.range);
                    range.map_or(0, |range| payload_bytes(&message.stored.batch, range))
                };
                self.record(&Decision::Sized {
                    queue: id,
                    first: entry.first,
                    bytes: (entry.first..=entry.last).map(of).collect(),
                });
            }
        }
    }

    /// Looks after a queue's limits and times, when it has been dispatched.
    pub(crate) fn tend(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        let timed = queue.deadlines.is_some() || queue.retries.is_some();
        if queue.policy.is_none() && !timed && queue.timer_ms.is_none() {
            return;
        }
        // What it has yet to take over may come before what it has.
        self.state.take_over(id);
        let more = self.expire_head(id) | self.drop_head(id);
        self.conclude_frame();
        if more {
            self.mark_dirty(id);
        }
        self.arm_queue(id);
    }

    /// Ends what has expired at a queue's head; is there more than one round of it?
    fn expire_head(&mut self, id: QueueId) -> bool {
        let (released, now) = (self.released, self.now.unix_ms);
        let mut left = ROUND;
        while left > 0 && self.may_discard(id) {
            let Some(queue) = self.state.queues.get_mut(&id) else {
                return false;
            };
            let Some((entry, last)) = queue.expired_head(released, now) else {
                return false;
            };
            queue.recall(entry);
            let queue = &*queue;
            let run: Vec<u64> = if queue.memory.contains_key(&entry) {
                vec![entry]
            } else {
                let until = last.min(released);
                let ready = queue.ready.runs_from(entry);
                ready
                    .take_while(|(first, _)| *first <= until)
                    .flat_map(|(first, last)| first..=last.min(until))
                    .take(left)
                    .collect()
            };
            left = left.saturating_sub(run.len().max(1));
            self.discard(id, &run, DeathReason::Expired);
        }
        left == 0
    }

    /// Puts a queue among the timers, by what is due first: its head's time, a retry's, or its own.
    pub(crate) fn arm_queue(&mut self, id: QueueId) {
        let released = self.released;
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let head = queue.head_deadline(released);
        let unused = queue.unused_until();
        let due = [head, unused, queue.retry_due_ms()]
            .into_iter()
            .flatten()
            .min();
        if due == queue.timer_ms {
            return;
        }
        if let Some(before) = std::mem::replace(&mut queue.timer_ms, due) {
            self.queue_timers.remove(&(before, id));
        }
        self.queue_timers.extend(due.map(|due| (due, id)));
    }

    /// A queue is used: declared, asked for a message, left by its last consumer.
    pub(crate) fn used(&mut self, id: QueueId) {
        let now = self.now.unix_ms;
        if let Some(queue) = self.state.queues.get_mut(&id)
            && queue
                .policy
                .as_ref()
                .is_some_and(|policy| policy.expires_ms.is_some())
        {
            queue.used_ms = now;
            self.arm_queue(id);
        }
    }

    /// Queues of which something is due.
    pub(crate) fn run_queue_timers(&mut self) {
        let now = self.now.unix_ms;
        while let Some((at, id)) = self
            .queue_timers
            .first()
            .copied()
            .filter(|(at, _)| *at <= now)
        {
            self.queue_timers.remove(&(at, id));
            let Some(queue) = self.state.queues.get_mut(&id) else {
                continue;
            };
            queue.timer_ms = None;
            if queue.unused_until().is_some_and(|until| until <= now) {
                self.drop_queue(id);
                self.conclude_frame();
            } else {
                queue.recall_due(now, ROUND);
                self.mark_dirty(id);
            }
        }
    }

    /// Finds what is due after a start: a queue's time of disuse begins anew, what waits for its next try goes on
    /// waiting.
    pub(crate) fn arm_queues(&mut self) {
        let mut ids: Vec<QueueId> = self
            .state
            .queues
            .values()
            .filter(|queue| {
                queue.policy.is_some() || queue.deadlines.is_some() || queue.retries.is_some()
            })
            .map(|queue| queue.id)
            .collect();
        ids.sort_unstable();
        let now = self.now.unix_ms;
        for id in ids {
            if let Some(queue) = self.state.queues.get_mut(&id) {
                queue.defer_all(now);
            }
            self.used(id);
            self.arm_queue(id);
            self.mark_dirty(id);
        }
    }
}

impl Queue {
    /// When it goes, if it stays unused.
    fn unused_until(&self) -> Option<i64> {
        let expires_ms = self
            .policy
            .as_deref()
            .and_then(|policy| policy.expires_ms)?;
        self.consumers
            .is_empty()
            .then(|| self.used_ms.saturating_add(expires_ms))
    }

    /// The entries at its head: in order of delivery, of age, and of age among those that wait for their next try.
    fn heads(&mut self, released: u64) -> [Option<u64>; 3] {
        let oldest = match (self.ready.first(), self.memory.first_key_value()) {
            (Some(held), Some((memory, _))) => Some(held.min(*memory)),
            (Some(held), None) => Some(held),
            (None, memory) => memory.map(|(entry, _)| *entry),
        };
        let next = match self.order {
            None => None,
            Some(_) => self.next_entry(released),
        };
        [
            next,
            oldest.filter(|entry| *entry <= released || self.memory.contains_key(entry)),
            self.first_deferred(),
        ]
    }

    /// An entry at its head that has expired, and the last of those that expire with it.
    fn expired_head(&mut self, released: u64, now_ms: i64) -> Option<(u64, u64)> {
        self.deadlines.as_ref()?;
        let heads = self.heads(released);
        let deadlines = self.deadlines.as_ref()?;
        heads.into_iter().flatten().find_map(|entry| {
            let (at, last) = deadlines.get(entry)?;
            (at <= now_ms).then_some((entry, last))
        })
    }

    /// When its head expires.
    fn head_deadline(&mut self, released: u64) -> Option<i64> {
        self.deadlines.as_ref()?;
        let heads = self.heads(released);
        let deadlines = self.deadlines.as_ref()?;
        let times = heads.into_iter().flatten();
        times
            .filter_map(|entry| Some(deadlines.get(entry)?.0))
            .min()
    }
}
