//! What waits for the sequencer: one lane for each namespace, served in turn, so that a flood in one does not delay
//! the others.

use crate::api::{ClientId, ClientInfo, Command, NamespaceId};
use crate::server::mailbox::Mailbox;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// The lanes.
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
    asleep: bool,
    next: usize,
}

impl Intake {
    /// Adds to a namespace's lane.
    pub(crate) fn put(&self, namespace: NamespaceId, input: Input) {
        let mut lanes = self.lanes.lock();
        let index = namespace.0 as usize;
        if lanes.lanes.len() <= index {
            lanes.lanes.resize_with(index + 1, VecDeque::new);
        }
        if let Some(lane) = lanes.lanes.get_mut(index) {
            lane.push_back(input);
        }
        lanes.waiting += 1;
        if lanes.asleep {
            lanes.asleep = false;
            self.wake.notify_one();
        }
    }

    /// Wakes the sequencer without an input: the journal has news.
    pub(crate) fn poke(&self) {
        let mut lanes = self.lanes.lock();
        lanes.poked = true;
        if lanes.asleep {
            lanes.asleep = false;
            self.wake.notify_one();
        }
    }

    /// A share from each lane in turn.
    fn take_locked(lanes: &mut Lanes, limit: usize, into: &mut Vec<Input>) {
        if lanes.waiting == 0 {
            return;
        }
        let count = lanes.lanes.len().max(1);
        let share = (limit / count).max(1);
        let start = lanes.next % count;
        for step in 0..count {
            let Some(lane) = lanes.lanes.get_mut((start + step) % count) else {
                continue;
            };
            let take = share.min(lane.len());
            into.extend(lane.drain(..take));
            lanes.waiting -= take;
        }
        lanes.next = lanes.next.wrapping_add(1);
    }

    /// Waits until there is an input or a poke, at most this long; then takes up to `limit` inputs.
    pub(crate) fn wait(&self, timeout: Duration, limit: usize, into: &mut Vec<Input>) {
        let mut lanes = self.lanes.lock();
        if lanes.waiting == 0 && !lanes.poked && !timeout.is_zero() {
            lanes.asleep = true;
            self.wake.wait_for(&mut lanes, timeout);
            lanes.asleep = false;
        }
        lanes.poked = false;
        Self::take_locked(&mut lanes, limit, into);
    }
}
