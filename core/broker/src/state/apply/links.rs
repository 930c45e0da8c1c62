//! Applying decisions about links.

use crate::event::Event;
use crate::state::changes::Named;
use crate::state::{Alias, Link, State, TABLE};

impl State {
    pub(super) fn apply_link(&mut self, event: &Event) {
        match event {
            Event::LinkCreated {
                queue,
                partition,
                offset,
                routed_from,
            } => {
                let durable = match self.queues.get_mut(queue) {
                    Some(taker) => {
                        taker.linked_to.insert(*partition);
                        taker.durable()
                    }
                    None if *queue == TABLE => true,
                    None => return,
                };
                self.touch(Named::Link(*partition, *queue));
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.linked = true;
                }
                self.links.insert(
                    (*partition, *queue),
                    Link {
                        next_offset: *offset,
                        routed_from: *routed_from,
                        durable,
                        reading: false,
                    },
                );
            }
            Event::LinkAdvanced {
                queue,
                partition,
                next_offset,
                first_sequence,
                runs,
            } => {
                self.touch(Named::Link(*partition, *queue));
                self.touch_queue(*queue);
                if let Some(link) = self.links.get_mut(&(*partition, *queue)) {
                    link.next_offset = *next_offset;
                }
                let mut at = *first_sequence;
                for (first, last) in runs {
                    let count = last.abs_diff(*first) + 1;
                    self.touch(Named::Alias(at));
                    if let Some(held) = self.queues.get_mut(queue) {
                        held.ready.insert_run(at, at + count - 1);
                        let (original, partition) = (*first, *partition);
                        self.aliases.insert(
                            at,
                            Alias {
                                count,
                                queue: *queue,
                                original,
                                partition,
                                of_table: false,
                            },
                        );
                    }
                    at += count;
                }
                self.next_sequence = self.next_sequence.max(at);
            }
            Event::LinkPassed {
                queue,
                partition,
                next_offset,
            } => {
                self.touch(Named::Link(*partition, *queue));
                if let Some(link) = self.links.get_mut(&(*partition, *queue)) {
                    link.next_offset = *next_offset;
                }
            }
            Event::LinkDropped { queue, partition } => {
                self.touch(Named::Link(*partition, *queue));
                self.links.remove(&(*partition, *queue));
                if let Some(taker) = self.queues.get_mut(queue) {
                    taker.linked_to.remove(partition);
                }
            }
            _ => {}
        }
    }
}
