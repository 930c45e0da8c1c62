//! What is dropped from a full queue is what is oldest in it.

use crate::api::*;
use crate::simulation::ends::{SHORT, SLIM};
use crate::state::State;
use crate::state::queue::{NOBODY, Queue};
use std::collections::{BTreeMap, BTreeSet};

/// Queues whose ready entries end by limits alone, the oldest first.
fn drops_head(queue: &Queue) -> bool {
    [SHORT, SLIM]
        .iter()
        .any(|name| queue.declared.name == *name)
}

/// What was ready before the step being taken.
#[derive(Debug, Default)]
pub(super) struct Heads {
    ready: BTreeMap<QueueId, BTreeSet<u64>>,
    /// How many were dropped, to see that the simulation does anything.
    pub(super) dropped: u64,
}

impl Heads {
    /// A step is to be taken.
    pub(super) fn before(&mut self, state: &State) {
        self.ready.clear();
        for queue in state.queues.values().filter(|queue| drops_head(queue)) {
            self.ready.insert(queue.id, queue.ready.iter().collect());
        }
    }

    /// The step was taken.
    pub(super) fn after(&mut self, state: &State) {
        for (id, before) in &self.ready {
            let Some(queue) = state.queues.get(id) else {
                continue;
            };
            let taken = |entry: u64| {
                let lease = queue.leases.get(&EntryId(entry));
                lease.is_some_and(|lease| lease.client != NOBODY)
            };
            let stay = before.iter().find(|entry| queue.ready.contains(**entry));
            let gone = |entry: &&u64| !queue.ready.contains(**entry) && !taken(**entry);
            for entry in before.iter().filter(gone) {
                self.dropped += 1;
                assert!(
                    stay.is_none_or(|stay| entry < stay),
                    "{:?}: {entry} is dropped, and {stay:?} is older and stays",
                    queue.declared.name
                );
            }
        }
    }
}
