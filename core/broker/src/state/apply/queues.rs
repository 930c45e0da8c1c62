//! Applying decisions about queues and their entries.

use crate::api::*;
use crate::event::Event;
use crate::state::changes::Named;
use crate::state::queue::Queue;
use crate::state::{Alias, State, apart};

impl State {
    pub(super) fn apply_queue(&mut self, event: &Event) {
        match event {
            Event::QueueDeclared {
                namespace,
                queue,
                kind,
                declared,
            } => {
                self.next_queue = self.next_queue.max(queue.0 + 1);
                let mut own = declared.clone();
                own.name = apart(&declared.name);
                let mut made = Queue::new(*queue, *namespace, *kind, own);
                // A queue that is replayed has no consumers and no deliveries of this run.
                made.suspect_below = 0;
                self.changes.touch(&mut made);
                self.queues.insert(*queue, made);
                if *kind == QueueKind::Classic {
                    self.name_queue(*namespace, *queue);
                    if let Some(names) = self.namespace_mut(*namespace) {
                        names.routes.touch(&declared.name);
                    }
                }
            }
            Event::QueueDeleted { queue } => {
                self.wake(*queue);
                self.touch_bindings_to(*queue);
                if let Some(known) = self.queues.get_mut(queue) {
                    self.changes.gone(known);
                    let namespace = known.namespace;
                    self.unname_queue(namespace, *queue);
                }
                let Some(queue) = self.queues.remove(queue) else {
                    return;
                };
                self.forget_held(&queue);
                let name = queue.declared.name;
                let Some(names) = self.namespace_mut(queue.namespace) else {
                    return;
                };
                if queue.kind == QueueKind::Classic {
                    names.routes.touch(&name);
                } else if queue.kind == QueueKind::Shared {
                    let key = shared_key(&name);
                    if key
                        .as_ref()
                        .is_some_and(|key| names.shared.get(key) == Some(&queue.id))
                    {
                        key.and_then(|key| names.shared.remove(&key));
                    }
                }
                let to_it = Destination::Queue(name);
                for source in queue.bound_to {
                    let Some(exchange) = names.exchanges.get(&source) else {
                        continue;
                    };
                    for binding in exchange.bindings_to(&to_it) {
                        names.unbind(&binding);
                    }
                }
            }
            Event::Removed { queue, runs } => {
                let id = *queue;
                let Some(queue) = self.awake_queue(id) else {
                    return;
                };
                for (first, last) in runs {
                    queue.forget(*first, *last);
                    queue.ready.remove_run(*first, *last);
                    if !queue.returned.is_empty() {
                        queue.returned.remove_run(*first, *last, |_, _| {});
                    }
                }
                if !self.aliases.is_empty() {
                    self.drop_aliases(id, runs);
                }
            }
            Event::Returned { queue, entries } => {
                self.take_over(*queue);
                let Some(queue) = self.queues.get_mut(queue) else {
                    return;
                };
                self.changes.touch(queue);
                for (sequence, count) in entries {
                    if queue.holds(*sequence) {
                        queue.returned.insert(*sequence, *count);
                    }
                }
            }
            Event::Deferred { queue, entries } => {
                let Some(queue) = self.queues.get_mut(queue) else {
                    return;
                };
                self.changes.touch(queue);
                for (entry, count, failures, until_ms) in entries {
                    if queue.holds(*entry) || queue.memory.contains_key(entry) {
                        queue.returned.insert(*entry, *count);
                        queue.came_back(*entry, *failures, *until_ms);
                    }
                }
            }
            Event::Stopped { delivered } => {
                for (queue, below) in delivered {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        queue.delivered_below = *below;
                    }
                }
            }
            Event::Copied {
                queue,
                sequence,
                original,
            } => {
                let alias = Alias {
                    count: 1,
                    queue: *queue,
                    original: *original,
                    partition: 0,
                    of_table: false,
                };
                self.copy(*sequence, alias);
            }
            _ => {}
        }
    }

    /// A queue that goes takes the bindings to it with it.
    fn touch_bindings_to(&mut self, queue: QueueId) {
        let Some(queue) = self.queues.get(&queue) else {
            return;
        };
        let Some(names) = self.namespace(queue.namespace) else {
            return;
        };
        let to_it = Destination::Queue(queue.declared.name.clone());
        let sources = queue.bound_to.iter();
        let gone: Vec<Named> = sources
            .filter_map(|source| names.exchanges.get(source))
            .flat_map(|exchange| exchange.bindings_to(&to_it))
            .map(|binding| Named::bindings(names.id, &binding))
            .collect();
        for bindings in gone {
            self.touch(bindings);
        }
    }

    /// A queue that is gone holds and reads nothing any more.
    fn forget_held(&mut self, queue: &Queue) {
        for partition in &queue.linked_to {
            self.touch(Named::Link(*partition, queue.id));
            self.links.remove(&(*partition, queue.id));
        }
        if self.aliases.is_empty() {
            return;
        }
        let held = queue.held();
        for (first, last) in held.iter_runs().chain(queue.acked.iter_runs()) {
            let before = self.aliases.range(..=first).next_back();
            let from = before.map_or(first, |(at, _)| *at);
            let gone: Vec<(u64, Named)> = self
                .aliases
                .range(from..=last)
                .filter(|(_, alias)| alias.queue == queue.id)
                .map(|(at, alias)| (*at, alias.named(*at)))
                .collect();
            for (at, named) in gone {
                self.touch(named);
                self.aliases.remove(&at);
            }
        }
    }

    /// Aliases whose whole run a queue has let go of are forgotten.
    fn drop_aliases(&mut self, queue: QueueId, runs: &[(u64, u64)]) {
        let Some(held) = self.queues.get(&queue) else {
            return;
        };
        let mut gone = Vec::new();
        for (first, last) in runs {
            let from = self
                .aliases
                .range(..=*first)
                .next_back()
                .map_or(*first, |(at, _)| *at);
            for (at, alias) in self.aliases.range(from..=*last) {
                let end = at + alias.count;
                if alias.queue == queue && held.first_held_from(*at).is_none_or(|next| next >= end)
                {
                    gone.push((*at, alias.named(*at)));
                }
            }
        }
        for (at, named) in gone {
            self.touch(named);
            self.aliases.remove(&at);
        }
    }
}

/// Group and filter of a shared subscription's queue, by its name: `$share/group/filter`.
fn shared_key(name: &Name) -> Option<(Name, bytes::Bytes)> {
    let rest = name.strip_prefix(b"$share/")?;
    let end = rest.iter().position(|byte| *byte == b'/')?;
    let (group, filter) = (rest.get(..end)?, rest.get(end + 1..)?);
    Some((name.slice_ref(group), name.slice_ref(filter)))
}
