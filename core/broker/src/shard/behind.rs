//! Connections that are behind: they have a backlog, and take turns with their like (`server/turns.rs`).

use crate::api::{ClientId, QueueId};
use crate::shard::Shard;
use crate::shard::dispatch::{FEW, NEWS_MAX};
use crate::state::consumers::Who;
use smallvec::SmallVec;

/// A connection counts as behind at least this long after it was last given of a backlog ...
const BEHIND_MS_MIN: u64 = 1_000;
/// ... and as long as it has more than this of it to settle ...
const UNSETTLED_MAX: u32 = 64;
/// ... but no longer than this: it may never do so.
const BEHIND_MS_MAX: u64 = 60_000;

impl Shard {
    /// A consumer begins. If it takes a backlog, its queue waits in line for all of that: what thousands that come back
    /// together would be given as news is given before anything that is published meanwhile.
    pub(crate) fn begin(&mut self, id: QueueId, who: Who) {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let ready = queue.ready_count();
        let few = queue.consumers.len() <= FEW;
        let mut takes = 0;
        if let Some(consumer) = queue.consumers.get_mut(&who) {
            consumer.active = true;
            let group = consumer.group.filter(|_| !consumer.no_ack);
            let client = self.clients.get(&who.0);
            let room = client.map_or(0, |client| client.room_in_group(group));
            takes = consumer.room().min(room);
        }
        queue.offer(who);
        if takes <= NEWS_MAX || ready <= NEWS_MAX as u64 {
            self.mark_dirty(id);
            return;
        }
        self.stand_in_line(id);
        if few {
            self.falls_behind(who.0);
        }
    }

    /// Who consumes from this queue has been given a whole turn, and there is more.
    pub(super) fn consumers_fall_behind(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        // Among many, each has had a little.
        if queue.consumers.len() > FEW {
            return;
        }
        let clients: SmallVec<[ClientId; 4]> =
            queue.consumers.iter().map(|one| one.client).collect();
        for client in clients {
            self.falls_behind(client);
        }
    }

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
