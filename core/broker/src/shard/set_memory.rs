//! What queues' entries take in memory, beside their messages: looked through in slices, and bounded by a budget for all
//! together. Past it publishers are blocked (`pressure.rs`); links pause by themselves.

use crate::shard::Shard;
use crate::state::order::Order;
use crate::state::queue::Queue;
use crate::state::retries::Retries;

/// With no more queues than this all are looked at in one step.
const AT_ONCE: usize = 4096;
/// A look begins no sooner than a second for this many queues after the one before.
const QUEUES_PER_SECOND: usize = 50_000;

/// What the sets take.
#[derive(Debug, Default)]
pub(crate) struct SetMemory {
    /// What the last look found.
    pub(crate) bytes: u64,
    /// One that is going on: the next queue, and what it has found so far.
    going_on: Option<(u64, u64)>,
    next_ms: u64,
}

impl Shard {
    /// Begins to look, if it is time. Called once a second.
    pub(crate) fn watch_sets(&mut self) {
        let now = self.now.monotonic_ms;
        if self.measures_sets() || now < self.set_memory.next_ms {
            return;
        }
        let queues = self.state.queues.len();
        let pause = u64::try_from(queues / QUEUES_PER_SECOND).unwrap_or(u64::MAX);
        self.set_memory.next_ms = now + pause.saturating_mul(1000);
        self.set_memory.going_on = Some((0, self.state.sets.bytes()));
        if queues <= AT_ONCE {
            while self.measures_sets() {
                self.measure_sets();
            }
        }
    }

    /// Is a look going on?
    pub(crate) fn measures_sets(&self) -> bool {
        self.set_memory.going_on.is_some()
    }

    /// Looks at some more.
    pub(crate) fn measure_sets(&mut self) {
        let Some((next, bytes)) = &mut self.set_memory.going_on else {
            return;
        };
        let state = &self.state;
        match state.queues.part(next, state.next_queue) {
            Some(part) => {
                let queues = part.iter().filter_map(|id| state.queues.get(id));
                *bytes += queues.map(Queue::entries_bytes).sum::<u64>();
            }
            None => {
                self.set_memory.bytes = *bytes;
                self.set_memory.going_on = None;
            }
        }
    }
}

impl Queue {
    /// Bytes that its entries take, roughly, without their messages.
    pub(crate) fn entries_bytes(&self) -> u64 {
        let times = self.deadlines.as_ref();
        let sizes = self.sizes.as_ref();
        let beside = self.returned.memory_bytes()
            + times.map_or(0, |times| times.memory_bytes())
            + sizes.map_or(0, |sizes| sizes.memory_bytes())
            + self.leases.memory_bytes();
        let order = self.order.as_deref().map_or(0, Order::memory_bytes);
        let sets = self.ready.memory_bytes() + self.acked.memory_bytes();
        let retries = self.retries.as_deref().map_or(0, Retries::memory_bytes);
        (sets + order + retries + beside) as u64
    }
}
