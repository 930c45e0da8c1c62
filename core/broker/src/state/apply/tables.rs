//! Applying decisions about topics whose records are retained messages.

use crate::api::NamespaceId;
use crate::event::Event;
use crate::state::changes::Named;
use crate::state::retained::Kept;
use crate::state::{Alias, State, TABLE};
use bytes::Bytes;

impl State {
    pub(super) fn apply_table(&mut self, event: &Event) {
        match event {
            Event::TableAdvanced {
                namespace,
                partition,
                next_offset,
                kept,
                gone,
            } => {
                self.touch(Named::Link(*partition, TABLE));
                if let Some(link) = self.links.get_mut(&(*partition, TABLE)) {
                    link.next_offset = *next_offset;
                }
                for (topic, sequence) in kept {
                    self.touch_retained(*namespace, topic);
                    self.touch(Named::TableEntry(*namespace, topic.clone()));
                    let record = Kept {
                        sequence: *sequence,
                        partition: *partition,
                    };
                    if let Some(names) = self.namespace_mut(*namespace) {
                        names.retained.set(topic, record);
                    }
                }
                for topic in gone {
                    self.touch_retained(*namespace, topic);
                    if let Some(names) = self.namespace_mut(*namespace) {
                        names.retained.clear(topic);
                    }
                }
            }
            Event::TableCopied {
                queue,
                sequence,
                original,
                partition,
            } => {
                let alias = Alias {
                    count: 1,
                    queue: *queue,
                    original: *original,
                    partition: *partition,
                    of_table: true,
                };
                self.copy(*sequence, alias);
            }
            _ => {}
        }
    }

    /// A queue holds a retained message from now on, under this sequence.
    pub(super) fn copy(&mut self, sequence: u64, alias: Alias) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.touch(alias.named(sequence));
        self.touch_queue(alias.queue);
        let Some(held) = self.queues.get_mut(&alias.queue) else {
            return;
        };
        held.ready.insert(sequence);
        self.aliases.insert(sequence, alias);
    }

    /// A topic's retained message is about to change or to go.
    pub(super) fn touch_retained(&mut self, namespace: NamespaceId, topic: &Bytes) {
        let names = self.namespace(namespace);
        let kept = names.and_then(|names| names.retained.get(topic));
        if let Some(kept) = kept {
            self.touch(kept.named(namespace, topic));
        }
    }
}

impl Kept {
    /// What a topic's retained message is called among what changes.
    pub(crate) fn named(self, namespace: NamespaceId, topic: &Bytes) -> Named {
        match self.partition {
            0 => Named::Retained(namespace, topic.clone()),
            _ => Named::TableEntry(namespace, topic.clone()),
        }
    }
}

impl Alias {
    /// What it is called among what changes.
    pub(crate) fn named(&self, at: u64) -> Named {
        match self.of_table {
            true => Named::TableCopy(at),
            false => Named::Alias(at),
        }
    }
}
