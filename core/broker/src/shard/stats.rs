//! Figures.
//!
//! What queues, sessions, links and exchanges hold is counted in slices, begun when somebody asks: of a few, it is as of
//! now; of many, as of when somebody asked before.

use crate::api::*;
use crate::shard::Shard;
use std::ops::Bound::{Excluded, Unbounded};

/// With more names than this, they are not counted at once; nor more links or exchanges in one slice.
const AT_ONCE: usize = if cfg!(test) { 8 } else { 4096 };

/// What queues, sessions, links and exchanges hold.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    consumers: u64,
    ready: u64,
    leased: u64,
    deferred: u64,
    /// Subscriptions of sessions, and bindings.
    bindings: u64,
    link_lag: u64,
    link_lag_max: u64,
}

/// How far they have been counted.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// What the last one found.
    counts: Counts,
    going_on: Option<Counting>,
}

/// A census that is going on.
#[derive(Debug, Default)]
struct Counting {
    /// What it has found so far.
    counts: Counts,
    next_queue: u64,
    next_session: u64,
    /// The link, and the exchange of this namespace, that were looked at last.
    link: Option<(u64, QueueId)>,
    namespace: usize,
    exchange: Option<Name>,
}

impl Shard {
    fn begin_census(&mut self) {
        self.census.going_on.get_or_insert_default();
        let state = &self.state;
        let exchanges = state.namespaces.iter().map(|names| names.exchanges.len());
        let names = state.queues.len() + state.sessions.len() + exchanges.sum::<usize>();
        if names + state.links.len() <= AT_ONCE {
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
        let Some(mut going_on) = self.census.going_on.take() else {
            return;
        };
        if self.count_part(&mut going_on) {
            self.census.going_on = Some(going_on);
        } else {
            self.census.counts = going_on.counts;
        }
    }

    /// Counts a slice; says whether there may be another.
    fn count_part(&self, going_on: &mut Counting) -> bool {
        let state = &self.state;
        let counts = &mut going_on.counts;
        if let Some(part) = state
            .queues
            .part(&mut going_on.next_queue, state.next_queue)
        {
            for queue in part.iter().filter_map(|id| state.queues.get(id)) {
                counts.consumers += queue.consumers.len() as u64;
                counts.ready += queue.ready_count() + state.sets.waiting_for(queue);
                counts.leased += queue.leases.len() as u64;
                counts.deferred += queue.deferred_count();
            }
            return true;
        }
        if let Some(part) = state
            .sessions
            .part(&mut going_on.next_session, state.next_session)
        {
            for session in part.iter().filter_map(|id| state.sessions.get(id)) {
                counts.bindings += session.subscriptions.len() as u64;
            }
            return true;
        }
        let from = going_on.link.map_or(Unbounded, Excluded);
        let links = state.links.range((from, Unbounded)).take(AT_ONCE);
        let before = going_on.link;
        for (at, link) in links {
            let lag = self.link_lag(at.0, link);
            counts.link_lag += lag;
            counts.link_lag_max = counts.link_lag_max.max(lag);
            going_on.link = Some(*at);
        }
        if going_on.link != before {
            return true;
        }
        let Some(names) = state.namespaces.get(going_on.namespace) else {
            return false;
        };
        let last = going_on.exchange.take();
        let from = last.as_ref().map_or(Unbounded, Excluded);
        let exchanges = names
            .exchanges
            .range::<Name, _>((from, Unbounded))
            .take(AT_ONCE);
        for (name, exchange) in exchanges {
            counts.bindings += exchange.bindings_count() as u64;
            going_on.exchange = Some(name.clone());
        }
        if going_on.exchange.is_none() {
            going_on.namespace += 1;
        }
        true
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
        stats.bindings = counts.bindings;
        stats.link_lag = counts.link_lag;
        stats.link_lag_max = counts.link_lag_max;
        for names in &self.state.namespaces {
            stats.retained += names.retained.len();
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

#[cfg(test)]
mod tests;
