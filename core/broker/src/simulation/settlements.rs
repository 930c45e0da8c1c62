//! What clients do with what they hold: they consume it, refuse it or give it back.

use crate::api::*;
use crate::simulation::peer::{Ask, Held};
use crate::simulation::world::World;

impl World {
    /// What was delivered last is given back at once.
    pub(super) fn give_back_last(&mut self, at: usize) {
        let settlement = if self.chance(70) {
            Settlement::Fail
        } else {
            Settlement::Requeue
        };
        if let Some(held) = self.peers[at].held.pop() {
            let settle = Settle {
                entries: vec![(held.queue, held.entry)],
                settlement,
            };
            self.tell(at, Command::Settle(settle));
        }
    }

    /// Settles the oldest of what is held.
    pub(super) fn settle(&mut self, at: usize, count: usize, settlement: Settlement, asks: bool) {
        let count = count.min(self.peers[at].held.len());
        let settled: Vec<Held> = self.peers[at].held.drain(..count).collect();
        if settled.is_empty() {
            return;
        }
        let mut entries: Vec<_> = settled
            .iter()
            .map(|held| (held.queue, held.entry))
            .collect();
        let back = matches!(settlement, Settlement::Requeue | Settlement::Fail);
        if !back {
            for held in &settled {
                self.facts.ends.taking(held.queue, held.entry);
                let dead = settlement == Settlement::Reject && !self.dies_of_refusal(held.queue);
                if let Some(id) = held.id.filter(|_| !dead) {
                    self.facts.trying(held.queue, id);
                }
            }
        }
        let consumes = settlement == Settlement::Ack;
        if consumes && self.peers[at].draining {
            // Nothing is lost any more.
            for (queue, entry) in &entries {
                self.consumed(*queue, *entry);
            }
        }
        let command = Command::Settle(Settle {
            entries: entries.clone(),
            settlement,
        });
        if settlement == Settlement::Reject {
            // A dead letter may be read and written later.
            entries.retain(|(queue, _)| self.dies_of_refusal(*queue));
        }
        match (asks, back) {
            (false, _) => self.tell(at, command),
            (true, true) => self.ask(at, Ask::Return(entries), command),
            (true, false) if consumes => self.ask(at, Ask::Consumed(entries), command),
            (true, false) => self.ask(at, Ask::Settle(entries), command),
        }
    }
}
