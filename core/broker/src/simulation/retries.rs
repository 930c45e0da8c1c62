//! What comes back to a queue: counted, not delivered before its time, and dead when its budget is spent, not sooner.
//!
//! The model sees what the sequencer is given in a step, and says by itself what must become of each entry.

use crate::api::*;
use crate::server::Input;
use crate::simulation::ends::{TRIED, TRIES_MAX};
use crate::state::State;
use crate::state::queue::{NOBODY, Queue};
use std::collections::{BTreeMap, BTreeSet};

/// Queues that try again later: everything, with a budget; what failed, with limits and times; by keys.
pub(super) const LATER: &str = "later";
pub(super) const TIMELY: &str = "timely";
pub(super) const IN_TURN: &str = "in-turn";
/// Not durable.
const PASSING: &str = "passing";

/// What a queue does with what comes back.
#[derive(Debug, Clone, Copy)]
struct Rule {
    limit: Option<u32>,
    schedule: Option<Schedule>,
    /// Nothing else ends its entries.
    alone: bool,
}

#[derive(Debug, Clone, Copy)]
struct Schedule {
    failed: bool,
    returned: bool,
    min_ms: i64,
    max_ms: i64,
    multiplier: Option<i64>,
}

fn rule(queue: &Queue) -> Option<Rule> {
    let schedule = |kind, min_ms, max_ms, multiplier| {
        Some(Schedule {
            failed: kind != "returned",
            returned: kind != "failed",
            min_ms,
            max_ms,
            multiplier,
        })
    };
    let (limit, schedule, alone) = match std::str::from_utf8(&queue.declared.name).ok()? {
        TRIED => (Some(TRIES_MAX), None, true),
        LATER => (Some(2), schedule("all", 200, 500, None), true),
        TIMELY => (Some(3), schedule("failed", 50, 800, Some(3)), false),
        IN_TURN => (None, schedule("returned", 300, 900, None), true),
        PASSING if !queue.declared.durable => (None, schedule("all", 100, 900, None), false),
        _ => return None,
    };
    Some(Rule {
        limit,
        schedule,
        alone,
    })
}

/// Arguments by which a queue does so.
pub(super) fn arguments(queue: &str) -> Table {
    let name = |name: &'static str| Name::from_static(name.as_bytes());
    let int = |key, value| (name(key), Value::Int(value));
    let text = |key, value| (name(key), Value::Bytes(name(value)));
    let retry = |kind, min_ms, max_ms| {
        vec![
            text("x-delayed-retry-type", kind),
            int("x-delayed-retry-min", min_ms),
            int("x-delayed-retry-max", max_ms),
        ]
    };
    let (mut arguments, more) = match queue {
        LATER => (
            retry("all", 200, 500),
            vec![int("x-delivery-limit", 2), text("x-queue-type", "quorum")],
        ),
        TIMELY => (
            retry("failed", 50, 800),
            vec![
                int("x-delayed-retry-multiplier", 3),
                int("x-delivery-limit", 3),
                int("x-message-ttl", 1500),
                int("x-max-length", 4),
                int("x-max-length-bytes", 900),
                int("x-max-priority", 2),
            ],
        ),
        IN_TURN => (
            retry("returned", 300, 900),
            vec![(name("x-key-shared"), Value::Bool(true))],
        ),
        PASSING => return retry("all", 100, 900),
        _ => return Vec::new(),
    };
    arguments.extend(more);
    arguments.push(text("x-dead-letter-exchange", "letters"));
    arguments
}

/// What is known of an entry that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tried {
    returns: u32,
    failures: u32,
    until_ms: i64,
}

fn tried(queue: &Queue, entry: u64) -> Tried {
    let retried = queue.retried().find(|(known, ..)| *known == entry);
    let (_, failures, until_ms) = retried.unwrap_or_default();
    Tried {
        returns: queue.returned.get(entry).unwrap_or(0),
        failures,
        until_ms,
    }
}

/// All that a queue holds, journaled or not.
fn held(queue: &Queue) -> BTreeSet<u64> {
    let ready = queue.ready.iter().chain(queue.memory.keys().copied());
    let leased = queue.leases.iter().map(|(entry, _)| entry.0);
    let known = queue.retried().map(|(entry, ..)| entry);
    let waiting = known.filter(|entry| queue.defers(*entry));
    ready.chain(leased).chain(waiting).collect()
}

/// What the model knows.
#[derive(Debug, Default)]
pub(super) struct Retries {
    known: BTreeMap<(QueueId, u64), Tried>,
    /// In the step being taken: what clients had, what came back, what came back once too often.
    leased: BTreeMap<(QueueId, u64), ClientId>,
    back: BTreeSet<(QueueId, u64)>,
    /// What a transaction of this step settles.
    unsure: BTreeSet<(QueueId, u64)>,
    spent: BTreeSet<(QueueId, u64)>,
    /// A connection ended, which may have got something by asking for it.
    leaving: bool,
    /// Figures, to see that the simulation does anything.
    pub(super) waited: u64,
    pub(super) budgets_spent: u64,
}

impl Retries {
    /// The server has started: it goes on with what was durable, which is compared elsewhere.
    pub(super) fn started(&mut self, state: &State) {
        self.known.clear();
        for queue in state.queues.values().filter(|queue| rule(queue).is_some()) {
            for entry in held(queue) {
                self.known.insert((queue.id, entry), tried(queue, entry));
            }
        }
    }

    /// A step is to be taken over these.
    pub(super) fn before(&mut self, state: &State, inputs: &[Input], now_ms: i64) {
        self.leased.clear();
        self.back.clear();
        self.spent.clear();
        self.unsure.clear();
        self.leaving = false;
        for queue in state.queues.values().filter(|queue| rule(queue).is_some()) {
            for (entry, lease) in queue.leases.iter() {
                self.leased.insert((queue.id, entry.0), lease.client);
            }
        }
        let mut leased = self.leased.clone();
        for input in inputs {
            match input {
                Input::Disconnect(client) => {
                    self.leaving = true;
                    leased.retain(|at, holder| {
                        if holder == client {
                            self.comes_back(state, *at, true, now_ms);
                        }
                        holder != client
                    });
                }
                Input::Command {
                    client,
                    command: Command::Settle(settle),
                    ..
                } => {
                    for (queue, entry) in &settle.entries {
                        let at = (*queue, entry.0);
                        if leased.get(&at) != Some(client) {
                            continue;
                        }
                        leased.remove(&at);
                        match settle.settlement {
                            Settlement::Requeue => self.comes_back(state, at, false, now_ms),
                            Settlement::Fail => self.comes_back(state, at, true, now_ms),
                            Settlement::Ack | Settlement::Reject | Settlement::Undelivered => {}
                        }
                    }
                }
                Input::Command {
                    client,
                    command: Command::Atomic(commands),
                    ..
                } => {
                    // It may be refused as a whole, and whoever sent it may leave in the same step.
                    let settled = commands.iter().filter_map(|command| match command {
                        Command::Settle(settle) => Some(&settle.entries),
                        _ => None,
                    });
                    for (queue, entry) in settled.flatten() {
                        let at = (*queue, entry.0);
                        if leased.get(&at) == Some(client) {
                            leased.remove(&at);
                            self.unsure.insert(at);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn comes_back(&mut self, state: &State, at: (QueueId, u64), failed: bool, now_ms: i64) {
        let Some(rule) = state.queues.get(&at.0).and_then(rule) else {
            return;
        };
        let tried = self.known.entry(at).or_default();
        let spent = match rule.schedule {
            Some(_) if !failed => 0,
            Some(_) => tried.failures,
            None => tried.returns,
        };
        let counts = rule.schedule.is_none() || failed;
        if counts && rule.limit.is_some_and(|limit| spent == limit) {
            self.spent.insert(at);
            self.budgets_spent += 1;
            return;
        }
        self.back.insert(at);
        tried.returns += 1;
        let Some(schedule) = rule.schedule else {
            return;
        };
        tried.failures += u32::from(failed);
        let waits = if failed {
            schedule.failed
        } else {
            schedule.returned
        };
        let mut delay_ms = schedule.min_ms;
        for _ in 1..tried.failures {
            delay_ms = match schedule.multiplier {
                Some(multiplier) => delay_ms * multiplier,
                None => delay_ms + schedule.min_ms,
            };
        }
        tried.until_ms = 0;
        if waits {
            tried.until_ms = now_ms + delay_ms.min(schedule.max_ms);
            self.waited += 1;
        }
    }

    /// The step was taken, and brought these deliveries.
    pub(super) fn after(&mut self, state: &State, delivered: &[(QueueId, EntryId)], now_ms: i64) {
        for (queue, entry) in delivered {
            let tried = self.known.get(&(*queue, entry.0));
            let until_ms = tried.map_or(0, |tried| tried.until_ms);
            assert!(
                until_ms <= now_ms,
                "{queue}: {entry} is delivered at {now_ms}, and waits until {until_ms}"
            );
        }
        let mut known = BTreeMap::new();
        for queue in state.queues.values() {
            let Some(rule) = rule(queue) else { continue };
            let name = String::from_utf8_lossy(&queue.declared.name);
            let held = held(queue);
            for entry in &held {
                let at = (queue.id, *entry);
                let found = tried(queue, *entry);
                let expected = self.known.get(&at).copied().unwrap_or_default();
                assert!(
                    found == expected
                        || self.unsure.contains(&at)
                        || self.leaving && !self.leased.contains_key(&at),
                    "{name}: {entry} is {found:?}, and must be {expected:?}"
                );
                known.insert(at, found);
                let lease = queue.leases.get(&EntryId(*entry));
                assert!(
                    !self.spent.contains(&at) || lease.is_some_and(|lease| lease.client == NOBODY),
                    "{name}: {entry} came back too often, and is there"
                );
                let waits = queue.defers(*entry);
                let free = lease.is_none();
                assert!(
                    !free || waits == (found.until_ms > now_ms),
                    "{name}: {entry} waits until {}, and at {now_ms} it does: {waits}",
                    found.until_ms
                );
                assert!(!(waits && queue.ready.contains(*entry)), "{name}: {entry}");
            }
            let back = self.back.iter().filter(|(id, _)| *id == queue.id);
            for (_, entry) in back {
                assert!(
                    !rule.alone || held.contains(entry),
                    "{name}: {entry} came back, and is lost"
                );
            }
            let due_ms = queue.retry_due_ms();
            assert!(
                due_ms.is_none_or(|due| queue.timer_ms.is_some_and(|at| at <= due)),
                "{name}: what is due at {due_ms:?} is looked at {:?}",
                queue.timer_ms
            );
            self.check_turns(queue, &name, delivered);
        }
        self.known = known;
    }

    /// No later entry of a key is delivered while one waits.
    fn check_turns(&self, queue: &Queue, name: &str, delivered: &[(QueueId, EntryId)]) {
        let Some(order) = queue.order.as_deref().filter(|_| name == IN_TURN) else {
            return;
        };
        for (id, entry) in delivered {
            let Some(lane) = order.rank(entry.0).filter(|_| *id == queue.id) else {
                continue;
            };
            let known = queue.retried().map(|(entry, ..)| entry);
            let mut before = known.filter(|known| *known < entry.0 && queue.defers(*known));
            assert!(
                !before.any(|before| order.rank(before) == Some(lane)),
                "{name}: {entry} overtakes one of its key that waits"
            );
        }
    }
}
