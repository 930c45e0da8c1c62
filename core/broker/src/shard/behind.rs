//! Connections that are behind: they have a backlog, or have just come, and are served apart (`server/catch_up.rs`).

use crate::api::{ClientId, QueueId};
use crate::shard::Shard;
use crate::shard::dispatch::{FEW, NEWS_MAX};
use crate::state::consumers::Who;
use smallvec::SmallVec;

/// A connection counts as behind for so long after it was last given of a backlog ...
const BEHIND_MS: u64 = 1_000;
/// ... and for so long after it came: in that time it says what it consumes.
const NEWCOMER_MS: u64 = 100;

/// Entries of backlogs that may wait in mailboxes, of all connections together: as much as they take in a few
/// milliseconds. Without that, a thousand entries for each of thousands would lie there.
pub(super) const AHEAD_MAX: u64 = 8192;
/// Some may take nothing for long. The others wait for them for so long, once.
pub(super) const AHEAD_MS_MAX: u64 = 10;

/// Connections that are looked at together whether they have caught up, and how far apart: thousands are not to move back
/// to the others at once.
const SEEN_TOGETHER: usize = 16;
const SEEN_PAUSE_MS: u64 = 5;

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
        let few_or_new = ready <= NEWS_MAX as u64 || !self.has_backlog(id);
        if takes <= NEWS_MAX || few_or_new {
            self.mark_dirty(id);
            return;
        }
        self.stand_in_line(id);
        if few {
            self.falls_behind(who.0);
        }
    }

    /// May more of a backlog be given, or is there enough that was not taken yet?
    pub(super) fn may_give_ahead(&mut self) -> bool {
        let taken = self.taken.count();
        // What was no longer waited for, and is taken after all, is no room for more.
        self.given = self.given.max(taken);
        if self.given - taken < AHEAD_MAX {
            self.ahead_until_ms = None;
            return true;
        }
        let now = self.now.monotonic_ms;
        let until = *self.ahead_until_ms.get_or_insert(now + AHEAD_MS_MAX);
        if until <= now {
            self.given = taken;
            self.ahead_until_ms = None;
            return true;
        }
        self.taken.wait_for(self.given - AHEAD_MAX / 2);
        false
    }

    /// Is what a queue gives next older than a second or two? What is not may be a burst, or have waited for a stall of
    /// the machine: whoever gets that is not behind.
    pub(super) fn has_backlog(&mut self, id: QueueId) -> bool {
        let queue = self.state.queues.get_mut(&id);
        let next = queue.and_then(|queue| queue.next_entry(self.released));
        next.is_some_and(|entry| entry < self.old_below)
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
        self.stays_behind(client, BEHIND_MS);
    }

    /// A connection has come.
    pub(super) fn begins_behind(&mut self, client: ClientId) {
        self.stays_behind(client, NEWCOMER_MS);
    }

    fn stays_behind(&mut self, client: ClientId, time_ms: u64) {
        let until = self.now.monotonic_ms + time_ms;
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        if state.behind_until_ms.replace(until).is_none() {
            state.mark_behind(true);
            self.behind.push_back(client);
        }
    }

    /// What is old by now is a backlog. Called once a second.
    pub(crate) fn watch_backlogs(&mut self) {
        self.old_below = std::mem::replace(&mut self.old_next, self.state.next_sequence);
    }

    /// Looks at some of those that are behind.
    pub(crate) fn see_who_has_caught_up(&mut self) {
        let now = self.now.monotonic_ms;
        if now < self.next_seen_ms {
            return;
        }
        self.next_seen_ms = now + SEEN_PAUSE_MS;
        let mut seen = 0;
        for _ in 0..self.behind.len() {
            let Some(client) = self.behind.pop_front() else {
                return;
            };
            // Those that have gone don't count: they may come and go faster than others are looked at.
            let Some(state) = self.clients.get_mut(&client) else {
                continue;
            };
            if state.behind_until_ms > Some(now) {
                self.behind.push_back(client);
            } else {
                state.behind_until_ms = None;
                state.mark_behind(false);
            }
            seen += 1;
            if seen == SEEN_TOGETHER {
                return;
            }
        }
    }
}
