//! Figures.
//!
//! What queues and sessions hold is counted in slices, begun when somebody asks: of a few, it is as of now; of many, as
//! of when somebody asked before.

use crate::api::*;
use crate::shard::Shard;

/// With more names than this, they are not counted at once.
const AT_ONCE: usize = 4096;

/// What queues and sessions hold.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    consumers: u64,
    ready: u64,
    leased: u64,
    deferred: u64,
    subscriptions: u64,
}

/// How far queues and sessions have been counted.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// What the last one found.
    counts: Counts,
    /// One that is going on: the next queue, the next session, what it has found so far.
    going_on: Option<(u64, u64, Counts)>,
}

impl Shard {
    fn begin_census(&mut self) {
        if self.census.going_on.is_none() {
            self.census.going_on = Some((0, 0, Counts::default()));
        }
        if self.state.queues.len() + self.state.sessions.len() <= AT_ONCE {
            while self.counts() {
                self.count();
            }
        }
    }

    /// Is there something to count at once?
    pub(crate) fn counts(&self) -> bool {
        self.census.going_on.is_some()
    }

    /// Counts some more.
    pub(crate) fn count(&mut self) {
        let Some((next_queue, next_session, counts)) = &mut self.census.going_on else {
            return;
        };
        let state = &self.state;
        if let Some(part) = state.queues.part(next_queue, state.next_queue) {
            for queue in part.iter().filter_map(|id| state.queues.get(id)) {
                counts.consumers += queue.consumers.len() as u64;
                counts.ready += queue.ready_count() + state.sets.waiting_for(queue);
                counts.leased += queue.leases.len() as u64;
                counts.deferred += queue.deferred_count();
            }
        } else if let Some(part) = state.sessions.part(next_session, state.next_session) {
            for session in part.iter().filter_map(|id| state.sessions.get(id)) {
                counts.subscriptions += session.subscriptions.len() as u64;
            }
        } else {
            self.census.counts = *counts;
            self.census.going_on = None;
        }
    }

    /// Counts time that the sequencer spent in a step.
    pub(crate) fn spent(&mut self, time: std::time::Duration) {
        self.stats.decide_ns += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    pub(crate) fn figures(&mut self) -> Stats {
        self.begin_census();
        let files = self.journal.files();
        let mut stats = self.stats.clone();
        stats.topics = self.state.topics.len() as u64;
        stats.queues = self.state.queues.len() as u64;
        stats.sessions = self.state.sessions.len() as u64;
        stats.clients = self.clients.len() as u64;
        let counts = self.census.counts;
        stats.consumers = counts.consumers;
        stats.ready = counts.ready;
        stats.leased = counts.leased;
        stats.deferred = counts.deferred;
        stats.bindings = counts.subscriptions;
        for names in &self.state.namespaces {
            stats.retained += names.retained.len();
            let exchanges = names.exchanges.values();
            stats.bindings += exchanges
                .map(|exchange| exchange.bindings_count() as u64)
                .sum::<u64>();
        }
        for ((partition, _), link) in &self.state.links {
            let lag = self.link_lag(*partition, link);
            stats.link_lag += lag;
            stats.link_lag_max = stats.link_lag_max.max(lag);
        }
        stats.tail_bytes = self.tail.bytes();
        stats.journal_bytes = files.iter().map(|file| file.bytes).sum();
        stats.journal_files = files.len() as u64;
        stats.lsn_head = self.head;
        stats.lsn_durable = self.durable;
        stats.queues_bytes = self.pressure.queues_bytes;
        stats.sets_bytes = self.set_memory.bytes;
        stats.memory_low = u64::from(self.pressure.all);
        stats.held_bytes = self.held.bytes();
        stats.delayed = self.state.delayed.len() as u64;
        let next = self.state.delayed.next(None).map_or(0, |(at_ms, _)| at_ms);
        stats.delayed_next_ms = u64::try_from(next).unwrap_or(0);
        stats.disk_low = u64::from(self.may_publish().is_err());
        stats
    }
}
