//! What waits for the sequencer: one lane for each namespace, served in turn by weight, so that a flood in one does not
//! delay the others; and one beside it for connections that are behind, so that they don't delay those that are not.

use crate::api::{ClientId, ClientInfo, Command, NamespaceId};
use crate::server::budget::Cost;
use crate::server::mailbox::Mailbox;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Something for the sequencer.
#[derive(Debug)]
pub(crate) enum Input {
    /// A connection joins.
    Connect {
        client: ClientId,
        namespace: NamespaceId,
        info: ClientInfo,
        mailbox: Arc<Mailbox>,
    },
    /// A connection is lost or done.
    Disconnect(ClientId),
    /// A command. `cost` is given back to the client's budget when it is decided.
    Command {
        client: ClientId,
        correlation: u64,
        command: Command,
        cost: Option<Cost>,
    },
    /// A connection has read its mailbox, which had been full.
    Drained(ClientId),
    /// What a link's reader found.
    Pulled(Box<crate::link::Pulled>),
    /// Where a log's window begins.
    Windowed(Box<crate::shard::Windowed>),
    /// What was read for a dead letter.
    Exhumed(Box<crate::shard::Exhumation>),
    /// Stop cleanly.
    Stop,
}

/// The thread may be so much late: times are counted in whole milliseconds.
const SLACK: Duration = Duration::from_millis(2);

/// Which lane an input waits in: its namespace's, or the one beside it for connections that are behind. Inputs of one
/// lane are taken in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Road {
    pub(crate) namespace: NamespaceId,
    pub(crate) behind: bool,
}

impl From<NamespaceId> for Road {
    fn from(namespace: NamespaceId) -> Self {
        Self {
            namespace,
            behind: false,
        }
    }
}

impl Road {
    /// Its lane's place.
    fn index(self) -> usize {
        self.namespace.0 as usize * 2 + usize::from(self.behind)
    }

    /// Is this the lane of connections that are behind?
    fn is_behind(index: usize) -> bool {
        index % 2 == 1
    }
}

/// The lanes, and whether the sequencer's thread sleeps beside them.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    lanes: Mutex<Lanes>,
    wake: Condvar,
}

/// What a lane may take in its turn, and what a step takes at the most: bytes, a command counting for 256 at least. A
/// command in a lane of its own waits for one step and, for each quantum that it weighs, one quantum and one command of
/// each other lane.
const QUANTUM: i64 = 64 << 10;
const STEP_WEIGHT_MAX: i64 = 1 << 20;
/// What a step takes of connections that are behind: others wait for it.
const BEHIND_WEIGHT_MAX: i64 = 32 << 10;

/// The weight of what has none.
const WEIGHT_MIN: i64 = 256;

#[derive(Debug, Default)]
struct Lane {
    inputs: VecDeque<Input>,
    /// Weight that it may still take.
    deficit: i64,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: Vec<Lane>,
    /// Lanes with something in them; the first is served.
    turns: VecDeque<usize>,
    /// The first one has had its quantum for this turn.
    resumed: bool,
    waiting: usize,
    /// The journal has completions to poll.
    poked: bool,
    /// The thread sleeps, and nobody steps in its place.
    asleep: bool,
    /// When the thread wakes by itself.
    deadline: Option<Instant>,
}

impl Intake {
    /// Adds to a lane and wakes the thread.
    pub(crate) fn put(&self, road: impl Into<Road>, input: Input) {
        let mut lanes = self.lanes.lock();
        lanes.add(road.into(), input);
        self.wake_locked(&mut lanes);
    }

    /// Adds to a lane. Whoever does so drives the sequencer afterwards.
    pub(crate) fn add(&self, road: impl Into<Road>, input: Input) {
        self.lanes.lock().add(road.into(), input);
    }

    /// Notes that the journal has news. Whoever does so drives the sequencer afterwards.
    pub(crate) fn poke(&self) {
        self.lanes.lock().poked = true;
    }

    /// Wakes the thread, if it sleeps.
    pub(crate) fn wake(&self) {
        self.wake_locked(&mut self.lanes.lock());
    }

    fn wake_locked(&self, lanes: &mut Lanes) {
        if std::mem::take(&mut lanes.asleep) {
            self.wake.notify_one();
        }
    }

    /// Would a step in the thread's place have something to do, and only a little?
    pub(crate) fn idle(&self) -> bool {
        let lanes = self.lanes.lock();
        lanes.asleep && (lanes.waiting > 0 || lanes.poked)
    }

    /// Begins a step in the place of the sleeping thread: takes all inputs. False, and the thread is woken, if there
    /// are more than a few of them, or the thread has something to do by the clock; false also if it is awake.
    pub(crate) fn begin(&self, few: usize, into: &mut Vec<Input>) -> bool {
        let mut lanes = self.lanes.lock();
        if !lanes.asleep || (lanes.waiting == 0 && !lanes.poked) {
            return false;
        }
        if lanes.waiting > few || lanes.deadline.is_none_or(|at| at <= Instant::now()) {
            self.wake_locked(&mut lanes);
            return false;
        }
        lanes.asleep = false;
        lanes.poked = false;
        lanes.take(few, into);
        true
    }

    /// Ends a step in the place of the thread, which must be up again after this time at the latest. It is woken if
    /// it would be late, or if more has come in meanwhile.
    pub(crate) fn end(&self, due: Duration) {
        let mut lanes = self.lanes.lock();
        let late = lanes
            .deadline
            .is_none_or(|deadline| deadline > Instant::now() + due + SLACK);
        lanes.asleep = true;
        if lanes.waiting > 0 || lanes.poked || late {
            self.wake_locked(&mut lanes);
        }
    }

    /// Waits until there is an input or a poke, or somebody wants the thread awake, at most this long.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut lanes = self.lanes.lock();
        if lanes.waiting == 0 && !lanes.poked && !timeout.is_zero() {
            let deadline = Instant::now() + timeout;
            lanes.asleep = true;
            lanes.deadline = Some(deadline);
            self.wake.wait_until(&mut lanes, deadline);
            lanes.asleep = false;
            lanes.deadline = None;
        }
    }

    /// Takes up to `limit` inputs.
    pub(crate) fn take(&self, limit: usize, into: &mut Vec<Input>) {
        let mut lanes = self.lanes.lock();
        lanes.poked = false;
        lanes.take(limit, into);
    }
}

impl Lanes {
    fn add(&mut self, road: Road, input: Input) {
        let index = road.index();
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, Lane::default);
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            if lane.inputs.is_empty() {
                self.turns.push_back(index);
            }
            lane.inputs.push_back(input);
        }
        self.waiting += 1;
    }

    /// Takes from the lanes in turn, each as much as the others by weight (deficit round-robin): up to `limit` inputs,
    /// and no more than a step's weight.
    fn take(&mut self, limit: usize, into: &mut Vec<Input>) {
        let mut left = STEP_WEIGHT_MAX;
        let mut left_behind = BEHIND_WEIGHT_MAX;
        let mut taken = 0;
        // Lanes in a row that must wait for the next step.
        let mut passed = 0;
        while let Some(index) = self.turns.front().copied() {
            if passed == self.turns.len() {
                return;
            }
            let behind = Road::is_behind(index);
            if behind && left_behind <= 0 {
                self.resumed = false;
                self.turns.rotate_left(1);
                passed += 1;
                continue;
            }
            passed = 0;
            let Some(lane) = self.lanes.get_mut(index) else {
                return;
            };
            if !std::mem::take(&mut self.resumed) {
                lane.deficit += QUANTUM;
            }
            while let Some(input) = lane.inputs.front() {
                let weight = input.weight();
                if weight > lane.deficit {
                    break;
                }
                if taken >= limit || left <= 0 {
                    // It goes on from here in the next step.
                    self.resumed = true;
                    return;
                }
                if behind && left_behind <= 0 {
                    lane.deficit = 0;
                    break;
                }
                lane.deficit -= weight;
                left -= weight;
                if behind {
                    left_behind -= weight;
                }
                taken += 1;
                self.waiting -= 1;
                into.extend(lane.inputs.pop_front());
            }
            self.turns.pop_front();
            if lane.inputs.is_empty() {
                lane.deficit = 0;
            } else {
                self.turns.push_back(index);
            }
        }
    }
}

impl Input {
    /// What it counts for when lanes are served: bytes, and something for each command.
    fn weight(&self) -> i64 {
        match self {
            Self::Command {
                cost: Some(cost), ..
            } => i64::try_from(cost.bytes()).unwrap_or(i64::MAX),
            _ => WEIGHT_MIN,
        }
    }
}

#[cfg(test)]
mod tests;
