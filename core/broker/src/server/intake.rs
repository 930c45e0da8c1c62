//! What waits for the sequencer: one lane for each namespace, served in turn, so that a flood in one does not delay
//! the others.

use crate::api::{ClientId, ClientInfo, Command, NamespaceId};
use crate::server::mailbox::Mailbox;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Stop cleanly.
    Stop,
}

/// A command's share of its client's budget of bytes in flight, given back when dropped.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) bytes: u64,
    pub(crate) budget: Arc<AtomicU64>,
}

impl Drop for Cost {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The thread may be so much late: times are counted in whole milliseconds.
const SLACK: Duration = Duration::from_millis(2);

/// The lanes, and whether the sequencer's thread sleeps beside them.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    lanes: Mutex<Lanes>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: Vec<VecDeque<Input>>,
    waiting: usize,
    /// The journal has completions to poll.
    poked: bool,
    /// The thread sleeps, and nobody steps in its place.
    asleep: bool,
    /// When the thread wakes by itself.
    deadline: Option<Instant>,
    next: usize,
}

impl Intake {
    /// Adds to a namespace's lane and wakes the thread.
    pub(crate) fn put(&self, namespace: NamespaceId, input: Input) {
        let mut lanes = self.lanes.lock();
        lanes.add(namespace, input);
        self.wake_locked(&mut lanes);
    }

    /// Adds to a namespace's lane. Whoever does so drives the sequencer afterwards.
    pub(crate) fn add(&self, namespace: NamespaceId, input: Input) {
        self.lanes.lock().add(namespace, input);
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
    fn add(&mut self, namespace: NamespaceId, input: Input) {
        let index = namespace.0 as usize;
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, VecDeque::new);
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.push_back(input);
        }
        self.waiting += 1;
    }

    /// A share from each lane in turn.
    fn take(&mut self, limit: usize, into: &mut Vec<Input>) {
        if self.waiting == 0 {
            return;
        }
        let count = self.lanes.len().max(1);
        let share = (limit / count).max(1);
        let start = self.next % count;
        for step in 0..count {
            let Some(lane) = self.lanes.get_mut((start + step) % count) else {
                continue;
            };
            let take = share.min(lane.len());
            into.extend(lane.drain(..take));
            self.waiting -= take;
        }
        self.next = self.next.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
