//! Entries of a queue that came back and are tried again later: how often each has failed, until when it waits, and
//! those that wait now.
//!
//! An entry that waits is in its queue like one that is ready, in its place, and counts for what limits the queue; it is
//! only not delivered. Until when it waits is a journaled decision; that it waits follows from that and the clock, so
//! that replay needs none: there every entry is ready, and those whose time is yet to come are taken out of the ready
//! ones when the server has started.

use crate::api::*;
use crate::leaves::Leaves;
use crate::sequence_set::SequenceSet;
use crate::state::exchange::argument;
use crate::state::queue::{MemoryEntry, Queue};
use std::collections::BTreeMap;

/// Nothing waits for longer than this: ten years.
const DELAY_MS_MAX: i64 = 3660 * 24 * 60 * 60 * 1000;

/// When what came back to a queue is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// What its consumer failed at waits.
    failed: bool,
    /// What its consumer gave back untried waits.
    returned: bool,
    min_ms: i64,
    max_ms: i64,
    /// Times this for each failure after the first; `None`: as many times as it failed.
    multiplier: Option<i64>,
}

impl Schedule {
    /// What a declaration asks for.
    pub(crate) fn of(declared: &DeclareQueue) -> Option<Self> {
        let given = |name: &str| argument(&declared.arguments, name.as_bytes());
        let int = |name: &str| given(name).and_then(Value::as_int);
        let (failed, returned) = match &given("x-delayed-retry-type")?.as_bytes()?[..] {
            b"all" => (true, true),
            b"failed" => (true, false),
            b"returned" => (false, true),
            _ => return None,
        };
        let max_ms = int("x-delayed-retry-max").unwrap_or(DELAY_MS_MAX);
        Some(Self {
            failed,
            returned,
            min_ms: int("x-delayed-retry-min")?.max(0),
            max_ms: max_ms.clamp(0, DELAY_MS_MAX),
            multiplier: int("x-delayed-retry-multiplier"),
        })
    }

    /// How long an entry waits that came back: because its consumer failed, or untried; after so many failures in all.
    pub(crate) fn delay_ms(&self, has_failed: bool, failures: u32) -> i64 {
        let waits = if has_failed {
            self.failed
        } else {
            self.returned
        };
        if !waits {
            return 0;
        }
        let turn = failures.max(1);
        let times = match self.multiplier {
            None => i64::from(turn),
            Some(multiplier) => multiplier.saturating_pow(turn - 1),
        };
        self.min_ms.saturating_mul(times).min(self.max_ms)
    }
}

/// What is known of an entry that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retry {
    failures: u32,
    until_ms: i64,
}

/// Entries that came back.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    /// As decided, as long as the queue holds them.
    known: Leaves<u64, Retry>,
    /// Those that wait now: journaled records, and entries in memory.
    waiting: SequenceSet,
    in_memory: BTreeMap<u64, MemoryEntry>,
    by_time: Leaves<(i64, u64), ()>,
}

impl Retries {
    /// Bytes that these take, roughly, without what is in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.known.memory_bytes() + self.waiting.memory_bytes() + self.by_time.memory_bytes()
    }
}

impl Queue {
    /// How often an entry has failed, where the queue tells failures from other returns.
    pub(crate) fn failures(&self, entry: u64) -> u32 {
        let known = |retries: &Retries| retries.known.get(entry).map(|retry| retry.failures);
        self.retries.as_deref().and_then(known).unwrap_or(0)
    }

    /// An entry came back, and has failed so often: it is not delivered before this time (Unix milliseconds).
    pub(crate) fn came_back(&mut self, entry: u64, failures: u32, until_ms: i64) {
        self.recall(entry);
        let retries = self.retries.get_or_insert_default();
        retries.known.insert(entry, Retry { failures, until_ms });
    }

    /// What is known of entries that came back: entry, failures, until when it waits.
    pub(crate) fn retried(&self) -> impl Iterator<Item = (u64, u32, i64)> {
        let known = self.retries.iter().flat_map(|retries| retries.known.iter());
        known.map(|(entry, retry)| (entry, retry.failures, retry.until_ms))
    }

    /// Does it wait for its next try?
    #[cfg(test)]
    pub(crate) fn defers(&self, entry: u64) -> bool {
        let waits = |retries: &Retries| {
            retries.waiting.contains(entry) || retries.in_memory.contains_key(&entry)
        };
        self.retries.as_deref().is_some_and(waits)
    }

    /// How many wait for their next try.
    pub(crate) fn deferred_count(&self) -> u64 {
        self.retries.as_ref().map_or(0, |retries| {
            retries.waiting.len() + retries.in_memory.len() as u64
        })
    }

    /// Journaled records that wait for their next try, from this one on.
    pub(crate) fn deferred_from(&self, entry: u64) -> impl Iterator<Item = u64> {
        let waiting = self.retries.iter();
        let runs = waiting.flat_map(move |retries| retries.waiting.runs_from(entry));
        runs.flat_map(|(first, last)| first..=last)
    }

    /// Entries in memory that wait for their next try.
    pub(crate) fn deferred_memory(&self) -> impl Iterator<Item = &MemoryEntry> {
        let waiting = self.retries.iter();
        waiting.flat_map(|retries| retries.in_memory.values())
    }

    /// The oldest that waits for its next try.
    pub(crate) fn first_deferred(&self) -> Option<u64> {
        let retries = self.retries.as_ref()?;
        let in_memory = retries.in_memory.first_key_value().map(|(entry, _)| *entry);
        [retries.waiting.first(), in_memory]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the first that waits is due.
    pub(crate) fn retry_due_ms(&self) -> Option<i64> {
        let ((until_ms, _), ()) = self.retries.as_ref()?.by_time.first()?;
        Some(until_ms)
    }

    /// Takes a ready entry out of the ready ones until its time has come.
    pub(crate) fn defer(&mut self, entry: u64) {
        let known = |retries: &Retries| retries.known.get(entry);
        let Some(retry) = self.retries.as_deref().and_then(known) else {
            return;
        };
        let memory = if self.memory.is_empty() {
            None
        } else {
            self.memory.remove(&entry)
        };
        if memory.is_none() && !self.ready.remove(entry) {
            return;
        }
        if let Some(order) = self.order.as_deref_mut() {
            let rank = order.rank(entry);
            order.defer(rank, entry);
        }
        let retries = self.retries.get_or_insert_default();
        retries.by_time.insert((retry.until_ms, entry), ());
        match memory {
            Some(memory) => {
                retries.in_memory.insert(entry, memory);
            }
            None => retries.waiting.insert(entry),
        }
    }

    /// Takes those whose time is yet to come out of the ready ones.
    pub(crate) fn defer_all(&mut self, now_ms: i64) {
        let later: Vec<u64> = self
            .retried()
            .filter(|(_, _, until_ms)| *until_ms > now_ms)
            .map(|(entry, ..)| entry)
            .collect();
        for entry in later {
            self.defer(entry);
        }
    }

    /// An entry that waits is ready again, in its old place.
    pub(crate) fn recall(&mut self, entry: u64) {
        let Some(retries) = self.retries.as_deref_mut() else {
            return;
        };
        if retries.waiting.remove(entry) {
            self.ready.insert(entry);
        } else if let Some(memory) = retries.in_memory.remove(&entry) {
            self.memory.insert(entry, memory);
        } else {
            return;
        }
        if let Some(retry) = retries.known.get(entry) {
            retries.by_time.remove((retry.until_ms, entry));
        }
        if let Some(order) = self.order.as_deref_mut() {
            let rank = order.rank(entry);
            order.recall(rank, entry);
        }
    }

    /// The same for those whose time has come, at most so many.
    pub(crate) fn recall_due(&mut self, now_ms: i64, most: usize) {
        for _ in 0..most {
            let due = self
                .retries
                .as_deref()
                .and_then(|retries| retries.by_time.first());
            match due.filter(|((until_ms, _), ())| *until_ms <= now_ms) {
                Some(((_, entry), ())) => self.recall(entry),
                None => return,
            }
        }
    }

    /// The same for all of these.
    pub(crate) fn recall_run(&mut self, first: u64, last: u64) {
        let Some(retries) = self.retries.as_deref() else {
            return;
        };
        let waiting = retries.waiting.runs_from(first);
        let waiting = waiting.flat_map(|(first, last)| first..=last);
        let mut run: Vec<u64> = waiting.take_while(|entry| *entry <= last).collect();
        run.extend(
            retries
                .in_memory
                .range(first..=last)
                .map(|(entry, _)| *entry),
        );
        for entry in run {
            self.recall(entry);
        }
    }

    /// These entries are done with.
    pub(crate) fn forget_retries(&mut self, first: u64, last: u64) {
        self.recall_run(first, last);
        let Some(retries) = self.retries.as_deref_mut() else {
            return;
        };
        retries.known.remove_run(first, last, |_, _| {});
        if retries.known.is_empty() {
            self.retries = None;
        }
    }
}

#[cfg(test)]
mod tests;
