//! Several consumers of a queue.
//!
//! Those that may be able to take an entry wait in a ring for each priority; one that turns out not to be able leaves
//! it until whatever stopped it has gone. So a delivery costs the same however many consumers there are.

use super::{Consumer, Who};
use crate::state::small_map::SmallMap;
use std::collections::VecDeque;

/// The consumers of one priority that may be able to take an entry.
#[derive(Debug, Clone)]
struct Ring {
    priority: i32,
    turns: VecDeque<(Who, u64)>,
}

/// Several consumers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rings {
    all: SmallMap<Who, Consumer>,
    /// Highest priority first; empty ones are taken out, but for the last.
    rings: Vec<Ring>,
    next_number: u64,
    /// Turns of consumers that have left.
    stale: usize,
    /// Only one of them is served: this one.
    sole: Option<Who>,
}

impl Rings {
    /// One that gets company.
    pub(super) fn of(mut one: Consumer, failover: bool) -> Self {
        let (who, queued) = (one.who(), std::mem::take(&mut one.queued));
        let mut rings = Self::default();
        rings.add(one, failover);
        if queued {
            rings.offer(who);
        }
        rings
    }

    /// The only one that is left.
    pub(super) fn last(&self) -> Option<Consumer> {
        let mut left = self.all.values();
        left.next().filter(|_| self.all.len() == 1).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.all.values()
    }

    pub(super) fn get(&self, who: &Who) -> Option<&Consumer> {
        self.all.get(who)
    }

    pub(super) fn get_mut(&mut self, who: &Who) -> Option<&mut Consumer> {
        self.all.get_mut(who)
    }

    /// Adds one; `failover`: only one of them is served at a time, the first until it leaves.
    pub(super) fn add(&mut self, mut consumer: Consumer, failover: bool) {
        consumer.number = self.next_number;
        self.next_number += 1;
        let who = consumer.who();
        if failover && self.sole.is_none() {
            self.sole = Some(who);
        }
        self.all.insert(who, consumer);
    }

    /// Takes one away. Where only one is served, the next of the highest priority has its place.
    pub(super) fn remove(&mut self, who: Who) -> Option<Consumer> {
        let gone = self.all.remove(&who)?;
        if gone.queued {
            self.stale += 1;
        }
        if self.sole == Some(who) {
            let next = self
                .all
                .values()
                .max_by_key(|next| (next.priority, std::cmp::Reverse(next.number)));
            self.sole = next.map(Consumer::who);
            if let Some(sole) = self.sole {
                self.offer(sole);
            }
        }
        if self.stale > 8 && self.stale > self.all.len() {
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
    pub(super) fn offer(&mut self, who: Who) {
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
    pub(super) fn front(&mut self) -> Option<Who> {
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
    pub(super) fn rotate(&mut self) {
        if let Some(ring) = self.rings.first_mut()
            && ring.turns.len() > 1
            && let Some(turn) = ring.turns.pop_front()
        {
            ring.turns.push_back(turn);
        }
    }

    /// The one at the front can't take an entry: it has no turn until it is offered one again.
    pub(super) fn skip(&mut self) {
        if let Some(ring) = self.rings.first_mut()
            && let Some((who, _)) = ring.turns.pop_front()
            && let Some(consumer) = self.all.get_mut(&who)
        {
            consumer.queued = false;
        }
    }

    /// Places in the rings.
    #[cfg(test)]
    pub(super) fn turns(&self) -> usize {
        self.rings.iter().map(|ring| ring.turns.len()).sum()
    }
}
