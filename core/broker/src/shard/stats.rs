//! Figures.

use crate::api::*;
use crate::shard::Shard;

impl Shard {
    /// Counts time that the sequencer spent in a step.
    pub(crate) fn spent(&mut self, time: std::time::Duration) {
        self.stats.decide_ns += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    pub(crate) fn figures(&self) -> Stats {
        let files = self.journal.files();
        let mut stats = self.stats.clone();
        stats.topics = self.state.topics.len() as u64;
        stats.queues = self.state.queues.len() as u64;
        stats.sessions = self.state.sessions.len() as u64;
        stats.clients = self.clients.len() as u64;
        for queue in self.state.queues.values() {
            stats.consumers += queue.consumers.len() as u64;
            stats.ready += queue.ready_count();
            stats.leased += queue.leases.len() as u64;
        }
        for names in &self.state.namespaces {
            stats.retained += names.retained.len();
            stats.bindings += names
                .exchanges
                .values()
                .map(|exchange| exchange.bindings_count() as u64)
                .sum::<u64>();
        }
        stats.bindings += self
            .state
            .sessions
            .values()
            .map(|session| session.subscriptions.len() as u64)
            .sum::<u64>();
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
        stats.memory_low = u64::from(self.pressure.all);
        stats.held_bytes = self.held.bytes();
        stats.delayed = self.state.delayed.len() as u64;
        let next = self.state.delayed.next(None).map_or(0, |(at_ms, _)| at_ms);
        stats.delayed_next_ms = u64::try_from(next).unwrap_or(0);
        stats.disk_low = u64::from(self.may_publish().is_err());
        stats
    }
}
