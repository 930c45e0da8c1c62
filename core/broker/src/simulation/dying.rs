//! Entries that are to be dead letters come to it in the order in which they died, whoever's record is read first.
//!
//! That is the order of one life: after a restart those whose records were not read yet die anew.

use crate::api::*;
use crate::server::Input;
use crate::simulation::ends::ENDING;
use crate::simulation::world::World;
use crate::state::State;
use crate::state::queue::{NOBODY, Queue};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the entries of queues that have dead letters.
#[derive(Debug, Default)]
pub(super) struct Dying {
    /// Those that wait for their records, in the order in which they died: the step, and the entry.
    waiting: BTreeMap<QueueId, Vec<(u64, u64)>>,
    steps: u64,
    /// Before the step being taken: what lived, but for what is only in memory.
    alive: BTreeMap<QueueId, BTreeSet<u64>>,
    /// What clients are done with in this step.
    settled: BTreeSet<(QueueId, u64)>,
    /// How often something waited, to see that the simulation does anything.
    pub(super) waited: u64,
}

fn ends(queue: &Queue) -> bool {
    queue.durable() && ENDING.iter().any(|name| queue.declared.name == *name)
}

/// What waits for its record.
fn dying(queue: &Queue) -> BTreeSet<u64> {
    let nobodys = queue.leases.iter();
    let nobodys = nobodys.filter(|(_, lease)| lease.client == NOBODY);
    nobodys.map(|(entry, _)| entry.0).collect()
}

/// What is ready, or somebody has it, or waits for its next try.
fn alive(queue: &Queue) -> BTreeSet<u64> {
    let leased = queue.leases.iter();
    let leased = leased.filter(|(_, lease)| lease.client != NOBODY && lease.memory.is_none());
    let deferred = queue.deferred_from(0);
    let ready = queue.ready.iter().chain(deferred);
    ready.chain(leased.map(|(entry, _)| entry.0)).collect()
}

impl Dying {
    /// The server has started.
    pub(super) fn started(&mut self) {
        self.waiting.clear();
    }

    /// A step is to be taken over these.
    pub(super) fn before(&mut self, state: &State, inputs: &[Input]) {
        self.steps += 1;
        let queues = state.queues.values().filter(|queue| ends(queue));
        self.alive = queues.map(|queue| (queue.id, alive(queue))).collect();
        self.settled.clear();
        for input in inputs {
            let Input::Command { command, .. } = input else {
                continue;
            };
            let commands = match command {
                Command::Atomic(commands) => &commands[..],
                other => std::slice::from_ref(other),
            };
            for command in commands {
                if let Command::Settle(settle) = command
                    && settle.settlement == Settlement::Ack
                {
                    let entries = settle.entries.iter();
                    self.settled
                        .extend(entries.map(|(queue, entry)| (*queue, entry.0)));
                }
            }
        }
    }

    /// The step was taken, and brought these deliveries.
    fn after(&mut self, state: &State, delivered: &[(QueueId, EntryId)]) {
        for queue in state.queues.values().filter(|queue| ends(queue)) {
            let name = String::from_utf8_lossy(&queue.declared.name);
            let (alive, dying) = (alive(queue), dying(queue));
            let waiting = self.waiting.entry(queue.id).or_default();
            let died_first = waiting.iter().find(|(_, entry)| dying.contains(entry));
            if let Some((step, stays)) = died_first.copied() {
                let before = self.alive.get(&queue.id).into_iter().flatten();
                let mut gone = before.filter(|entry| {
                    let at = (queue.id, **entry);
                    !alive.contains(entry)
                        && !dying.contains(entry)
                        && !self.settled.contains(&at)
                        && !delivered.contains(&(queue.id, EntryId(**entry)))
                });
                let over = gone.next();
                assert_eq!(
                    over, None,
                    "{name}: {over:?} is a dead letter at once, and {stays} died before it and waits"
                );
                for (later, entry) in waiting.iter() {
                    assert!(
                        *later <= step || dying.contains(entry),
                        "{name}: {entry} overtakes {stays}, which died before it and waits"
                    );
                }
            }
            waiting.retain(|(_, entry)| dying.contains(entry));
            let known: BTreeSet<u64> = waiting.iter().map(|(_, entry)| *entry).collect();
            for entry in dying.difference(&known) {
                self.waited += 1;
                waiting.push((self.steps, *entry));
            }
        }
    }
}

impl World {
    /// A step was taken: nothing that died has overtaken what died before it.
    pub(super) fn check_dying(&mut self, delivered: &[(QueueId, EntryId)]) {
        if let Some(life) = &self.life
            && life.shard.failure().is_none()
            && !life.shard.stopped
        {
            self.facts.dying.after(&life.shard.state, delivered);
        }
    }
}
