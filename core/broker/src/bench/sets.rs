//! A queue's entries and what is known of each, without messages: as decisions leave them behind.

use crate::api::*;
use crate::event::{Event, Holders};
use crate::state::State;
use crate::state::queue::{Lease, Queue};

const QUEUE: QueueId = QueueId(1);

/// A durable queue in a state of its own.
#[derive(Debug)]
pub struct QueueSets {
    state: State,
}

impl QueueSets {
    /// A queue as declared with these arguments.
    pub fn new(arguments: Table) -> Self {
        let mut state = State::new(&[Name::from_static(b"/")]);
        let declared = DeclareQueue {
            name: Name::from_static(b"long"),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        let event = Event::QueueDeclared {
            namespace: NamespaceId(0),
            queue: QUEUE,
            kind: QueueKind::Classic,
            declared,
        };
        state.apply(&event, &[]);
        Self { state }
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        self.state.queues.get_mut(&QUEUE)
    }

    fn queues() -> Holders {
        Holders::Inline(smallvec::smallvec![QUEUE])
    }

    /// It holds these.
    pub fn hold(&mut self, first: u64, last: u64) {
        if let Some(queue) = self.queue() {
            queue.ready.insert_run(first, last);
        }
    }

    /// They expire then.
    pub fn expires(&mut self, first: u64, last: u64, at_ms: i64) {
        let event = Event::Expires {
            queues: Self::queues(),
            first,
            last,
            at_ms,
        };
        self.state.apply(&event, &[]);
    }

    /// They count for so much, one after the other.
    pub fn sized(&mut self, first: u64, bytes: Vec<u64>) {
        let event = Event::Sized {
            queue: QUEUE,
            first,
            bytes,
        };
        self.state.apply(&event, &[]);
    }

    /// They have this priority.
    pub fn prioritised(&mut self, first: u64, last: u64, priority: u8) {
        let event = Event::Prioritised {
            queues: Self::queues(),
            first,
            last,
            priority,
        };
        self.state.apply(&event, &[]);
    }

    /// Their key has this lane.
    pub fn keyed(&mut self, first: u64, last: u64, lane: u16) {
        let event = Event::Keyed {
            queues: Self::queues(),
            first,
            last,
            lane,
        };
        self.state.apply(&event, &[]);
    }

    /// They came back, each so often.
    pub fn returned(&mut self, entries: Vec<(u64, u32)>) {
        let event = Event::Returned {
            queue: QUEUE,
            entries,
        };
        self.state.apply(&event, &[]);
    }

    /// They came back once, failed, and wait for their next try.
    pub fn deferred(&mut self, entries: Vec<(u64, i64)>) {
        let waits = |(entry, until_ms): &(u64, i64)| (*entry, 1, 1, *until_ms);
        let event = Event::Deferred {
            queue: QUEUE,
            entries: entries.iter().map(waits).collect(),
        };
        self.state.apply(&event, &[]);
        if let Some(queue) = self.queue() {
            for (entry, _) in entries {
                queue.defer(entry);
            }
        }
    }

    /// A consumer has them.
    pub fn leased(&mut self, first: u64, last: u64) {
        let Some(queue) = self.queue() else { return };
        for entry in first..=last {
            let rank = queue.took_if_ready(entry);
            let lease = Lease {
                client: ClientId(1),
                consumer: Some(ConsumerKey(1)),
                memory: None,
                rank,
            };
            queue.lease(EntryId(entry), lease);
        }
    }

    /// They are done with.
    pub fn removed(&mut self, runs: Vec<(u64, u64)>) {
        let event = Event::Removed { queue: QUEUE, runs };
        self.state.apply(&event, &[]);
    }

    /// How many are ready.
    pub fn ready(&mut self) -> u64 {
        self.queue().map_or(0, |queue| queue.ready.len())
    }

    /// What the broker reckons that all of this takes.
    pub fn reckoned_bytes(&mut self) -> u64 {
        self.queue().map_or(0, |queue| queue.entries_bytes())
    }
}
