//! Applying decisions about the end of entries: when they expire, what they count for.

use crate::event::{Event, Holders};
use crate::state::State;
use crate::state::changes::Named;
use crate::state::delayed::part_of;

impl State {
    pub(super) fn apply_life(&mut self, event: &Event) {
        match event {
            Event::Expires {
                queues,
                first,
                last,
                at_ms,
            } => {
                let queues = match queues {
                    Holders::Inline(queues) => queues,
                    Holders::Set(id) => {
                        self.set_expires(*id, *first, *last, *at_ms);
                        return;
                    }
                };
                for queue in queues {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        self.changes.touch(queue);
                        queue.expires(*first, *last, *at_ms);
                    }
                }
            }
            Event::Sized {
                queue,
                first,
                bytes,
            } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    self.changes.touch(queue);
                    let sizes = queue.sizes.get_or_insert_default();
                    for (entry, bytes) in (*first..).zip(bytes) {
                        sizes.set(entry, *bytes);
                    }
                }
            }
            Event::Delayed {
                namespace,
                first,
                last,
                at_ms,
            } => {
                for part in part_of(*first)..=part_of(*last) {
                    self.touch(Named::Delayed(part));
                }
                self.delayed.add(*namespace, *first, *last, *at_ms);
            }
            Event::DelayOver { entries } => {
                for due in entries {
                    self.touch(Named::Delayed(part_of(due.1)));
                    self.delayed.remove(*due);
                }
            }
            _ => {}
        }
    }
}
