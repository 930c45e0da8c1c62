//! What is due by the clock: parked fetches, sessions, retention, checkpoints.

use crate::api::SessionId;
use crate::shard::Shard;

/// Without anything due, the shard looks up once in this time.
const IDLE_MS: u64 = 1000;

impl Shard {
    pub(crate) fn run_timers(&mut self) {
        let now = self.now.monotonic_ms;
        while let Some((deadline_ms, id)) = self.parked_deadlines.first().copied() {
            if deadline_ms > now {
                break;
            }
            self.answer_parked(id);
        }
        while let Some((at, id)) = self.session_timers.first().copied() {
            if at > self.now.unix_ms {
                break;
            }
            self.session_timers.remove(&(at, id));
            self.due(id);
        }
        for queue in std::mem::take(&mut self.state.sets.expiring) {
            self.mark_dirty(queue);
        }
        self.run_queue_timers();
        self.run_transaction_timers();
        self.publish_due();
        if now >= self.next_retention_ms {
            self.next_retention_ms = now + IDLE_MS;
            self.watch_space();
            self.watch_sets();
            self.watch_memory();
            self.watch_backlogs();
            self.retain();
            self.compact_if_due();
        }
        self.see_who_has_caught_up();
        self.sweep();
        self.forget_some();
        self.checkpoint_if_due();
    }

    fn due(&mut self, id: SessionId) {
        self.session_due(id);
        self.conclude_frame();
    }

    /// Milliseconds until something is due.
    pub(crate) fn next_due_ms(&self) -> u64 {
        if !self.news.is_empty()
            || !self.bursts.is_empty()
            || !self.backlogs.is_empty() && self.ahead_until_ms.is_none()
            || !self.credited.is_empty()
            || self.compaction_presses()
            || self.counts()
            || self.measures_sets()
            || self.state.is_saving()
            || self.checkpoint.waking && !self.held.any()
            || self.sweeps()
            || self.tables.forgets()
        {
            return 0;
        }
        // What was dispatched last may have been written without a step to hand it on.
        if self.journal.group_bytes() > 0 {
            return 0;
        }
        let now = self.now.monotonic_ms;
        let parked = self
            .parked_deadlines
            .first()
            .map(|(deadline_ms, _)| *deadline_ms);
        let until = |at: i64| {
            now.saturating_add(u64::try_from(at.saturating_sub(self.now.unix_ms)).unwrap_or(0))
        };
        let session = self.session_timers.first().map(|(at, _)| until(*at));
        let queue = self.queue_timers.first().map(|(at, _)| until(*at));
        let transaction = self.transaction_timers.first().map(|(at, ..)| until(*at));
        let delayed = self.delays_due_ms().map(until);
        [
            delayed,
            parked,
            session,
            queue,
            transaction,
            self.link_reads.due_ms(),
            self.acked_due_ms(),
            Some(self.next_seen_ms).filter(|_| !self.behind.is_empty()),
            self.ahead_until_ms.filter(|_| !self.backlogs.is_empty()),
            Some(self.next_retention_ms),
        ]
        .into_iter()
        .flatten()
        .min()
        .map_or(IDLE_MS, |due| due.saturating_sub(now).min(IDLE_MS))
    }
}
