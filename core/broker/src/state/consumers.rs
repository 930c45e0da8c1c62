//! A queue's consumers, and whose turn it is.
//!
//! Those that may be able to take an entry wait in a ring for each priority; one that turns out not to be able leaves
//! it until whatever stopped it has gone. So a delivery costs the same however many consumers there are.

use crate::api::*;
use crate::state::rare::Empty;
use crate::state::small_map::SmallMap;
use std::collections::VecDeque;

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) client: ClientId,
    pub(crate) key: ConsumerKey,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) limit: u32,
    pub(crate) outstanding: u32,
    pub(crate) group: Option<CreditGroup>,
    pub(crate) priority: i32,
    /// Its reply has been released.
    pub(crate) active: bool,
    /// It waits for its connection, or for its credit group.
    pub(crate) parked: bool,
    /// The order of registration.
    number: u64,
    /// It is in a ring.
    queued: bool,
}

impl Consumer {
    /// One that may not be served yet.
    pub(crate) fn new(client: ClientId, key: ConsumerKey, limit: u32) -> Self {
        Self {
            client,
            key,
            no_ack: false,
            exclusive: false,
            limit,
            outstanding: 0,
            group: None,
            priority: 0,
            active: false,
            parked: false,
            number: 0,
            queued: false,
        }
    }

    /// Does its own limit let it have another entry?
    pub(crate) fn has_credit(&self) -> bool {
        self.no_ack || self.limit == 0 || self.outstanding < self.limit
    }

    /// How many more entries its own limit lets it have.
    pub(crate) fn room(&self) -> usize {
        if self.no_ack || self.limit == 0 {
            usize::MAX
        } else {
            self.limit.saturating_sub(self.outstanding) as usize
        }
    }
}

/// Whose consumer, and which.
pub(crate) type Who = (ClientId, ConsumerKey);

/// The consumers of one priority that may be able to take an entry.
#[derive(Debug, Clone)]
struct Ring {
    priority: i32,
    turns: VecDeque<(Who, u64)>,
}

/// The consumers.
#[derive(Debug, Clone)]
pub(crate) struct Consumers {
    all: SmallMap<Who, Consumer>,
    /// Highest priority first; empty ones are taken out, but for the last.
    rings: Vec<Ring>,
    next_number: u64,
    /// Turns of consumers that have left.
    stale: usize,
    /// Only one of them is served: this one.
    sole: Option<Who>,
}

impl Default for Consumers {
    fn default() -> Self {
        Self::new()
    }
}

impl Empty for Consumers {
    const EMPTY: &'static Self = &Self::new();

    fn nothing(&self) -> bool {
        self.all.is_empty()
    }
}

impl Consumers {
    const fn new() -> Self {
        Self {
            all: SmallMap::new(),
            rings: Vec::new(),
            next_number: 0,
            stale: 0,
            sole: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.all.values()
    }

    pub(crate) fn get(&self, who: &Who) -> Option<&Consumer> {
        self.all.get(who)
    }

    pub(crate) fn get_mut(&mut self, who: &Who) -> Option<&mut Consumer> {
        self.all.get_mut(who)
    }

    /// Is there one that has the queue for itself? It is the only one then.
    pub(crate) fn has_exclusive(&self) -> bool {
        self.all
            .iter()
            .next()
            .is_some_and(|(_, consumer)| consumer.exclusive)
    }

    /// Adds one; `failover`: only one of them is served at a time, the first until it leaves.
    pub(crate) fn add(&mut self, mut consumer: Consumer, failover: bool) {
        consumer.number = self.next_number;
        self.next_number += 1;
        let who = (consumer.client, consumer.key);
        if failover && self.sole.is_none() {
            self.sole = Some(who);
        }
        self.all.insert(who, consumer);
    }

    /// Takes one away. Where only one is served, the next of the highest priority has its place.
    pub(crate) fn remove(&mut self, who: Who) -> Option<Consumer> {
        let gone = self.all.remove(&who)?;
        if gone.queued {
            self.stale += 1;
        }
        if self.sole == Some(who) {
            let next = self
                .all
                .values()
                .max_by_key(|next| (next.priority, std::cmp::Reverse(next.number)));
            self.sole = next.map(|next| (next.client, next.key));
            if let Some(sole) = self.sole {
                self.offer(sole);
            }
        }
        if self.all.is_empty() {
            self.rings = Vec::new();
            self.stale = 0;
        } else if self.stale > 8 && self.stale > self.all.len() {
            let all = &self.all;
            for ring in &mut self.rings {
                ring.turns
                    .retain(|(who, number)| all.get(who).is_some_and(|one| one.number == *number));
            }
            self.stale = 0;
        }
        Some(gone)
    }

    /// It may be able to take an entry (again): it gets a turn.
    pub(crate) fn offer(&mut self, who: Who) {
        if self.sole.is_some_and(|sole| sole != who) {
            return;
        }
        let Some(consumer) = self.all.get_mut(&who) else {
            return;
        };
        if !consumer.active || std::mem::replace(&mut consumer.queued, true) {
            return;
        }
        let (priority, number) = (consumer.priority, consumer.number);
        let found = self
            .rings
            .binary_search_by(|ring| priority.cmp(&ring.priority));
        let at = found.unwrap_or_else(|at| {
            let turns = VecDeque::new();
            self.rings.insert(at, Ring { priority, turns });
            at
        });
        if let Some(ring) = self.rings.get_mut(at) {
            ring.turns.push_back((who, number));
        }
    }

    /// Whose turn it is: the first of the highest priority.
    pub(crate) fn front(&mut self) -> Option<Who> {
        loop {
            let ring = self.rings.first_mut()?;
            let Some((who, number)) = ring.turns.front().copied() else {
                if self.rings.len() == 1 {
                    return None;
                }
                self.rings.remove(0);
                continue;
            };
            if self.all.get(&who).is_some_and(|one| one.number == number) {
                return Some(who);
            }
            ring.turns.pop_front();
            self.stale = self.stale.saturating_sub(1);
        }
    }

    /// The one at the front has had its turn: it comes last.
    pub(crate) fn rotate(&mut self) {
        if let Some(ring) = self.rings.first_mut()
            && ring.turns.len() > 1
            && let Some(turn) = ring.turns.pop_front()
        {
            ring.turns.push_back(turn);
        }
    }

    /// The one at the front can't take an entry: it has no turn until it is offered one again.
    pub(crate) fn skip(&mut self) {
        if let Some(ring) = self.rings.first_mut()
            && let Some((who, _)) = ring.turns.pop_front()
            && let Some(consumer) = self.all.get_mut(&who)
        {
            consumer.queued = false;
        }
    }
}

#[cfg(test)]
mod tests;
