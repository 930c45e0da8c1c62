//! Connections that are behind: they have a backlog, and take turns with their like (`server/turns.rs`).

use crate::api::ClientId;
use crate::shard::Shard;
use crate::shard::dispatch::FEW;

/// A connection counts as behind at least this long after it was last given of a backlog ...
const BEHIND_MS_MIN: u64 = 1_000;
/// ... and as long as it has more than this of it to settle ...
const UNSETTLED_MAX: u32 = 64;
/// ... but no longer than this: it may never do so.
const BEHIND_MS_MAX: u64 = 60_000;

impl Shard {
    /// A connection is given of a backlog.
    pub(crate) fn falls_behind(&mut self, client: ClientId) {
        let now = self.now.monotonic_ms;
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        if state.behind_ms.replace(now).is_none() {
            state.mark_behind(true);
            self.behind.push(client);
        }
    }

    /// Looks which connections have caught up. Called once a second.
    pub(crate) fn watch_backlogs(&mut self) {
        let mut behind = std::mem::take(&mut self.behind);
        behind.retain(|client| !self.has_caught_up(*client));
        self.behind = behind;
    }

    fn has_caught_up(&mut self, client: ClientId) -> bool {
        let Some(state) = self.clients.get(&client) else {
            return true;
        };
        let Some(since) = state.behind_ms else {
            return true;
        };
        let elapsed = self.now.monotonic_ms.saturating_sub(since);
        let unsettled = || -> u32 {
            let queues = state.leased_from.iter();
            queues
                .filter_map(|queue| self.state.queues.get(queue))
                // Among many, each has had a little.
                .filter(|queue| queue.consumers.len() <= FEW)
                .flat_map(|queue| queue.consumers.iter())
                .filter(|consumer| consumer.client == client)
                .map(|consumer| consumer.outstanding)
                .sum()
        };
        if elapsed < BEHIND_MS_MIN || elapsed < BEHIND_MS_MAX && unsettled() > UNSETTLED_MAX {
            return false;
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.behind_ms = None;
            state.mark_behind(false);
        }
        true
    }
}
