//! Applying decisions: the same code live and in replay. An unknown number is passed over, never an error.

mod exchanges;
mod life;
mod links;
mod queues;
mod ranks;
mod records;
mod sessions;
mod tables;
mod topics;
mod transactions;

use crate::event::Event;
use crate::state::State;
use crate::state::changes::Named;
use crate::state::retained::Kept;
use omnilog_ledger::Section;

impl State {
    /// Makes a decision take effect. `sections` are its frame's.
    pub(crate) fn apply(&mut self, event: &Event, sections: &[Section]) {
        match event {
            Event::EpochBegan {
                epoch,
                first_sequence,
            } => {
                self.epoch = *epoch;
                self.epochs.push((*epoch, *first_sequence));
                self.next_sequence = self.next_sequence.max(*first_sequence);
            }
            Event::TopicCreated { .. }
            | Event::TopicAltered { .. }
            | Event::PartitionsAdded { .. }
            | Event::TopicDeleted { .. }
            | Event::PathTemplateSet { .. }
            | Event::AutoNamed { .. }
            | Event::LogStartMoved { .. }
            | Event::LogCleaned { .. }
            | Event::LogStartCut { .. }
            | Event::RawViewed { .. }
            | Event::RawViewDropped { .. }
            | Event::RawStartMoved { .. } => self.apply_topic(event),
            Event::Appended { section } => {
                if let Some(section) = sections.get(*section as usize) {
                    self.sequences_taken(section);
                    self.appended(section, true);
                }
            }
            Event::Published {
                section, holders, ..
            } => {
                if let Some(section) = sections.get(*section as usize) {
                    self.sequences_taken(section);
                    self.appended(section, false);
                    self.held(section.base_sequence, holders);
                }
            }
            Event::HoldersDefined { id, queues } => {
                self.define_set(*id, queues);
            }
            Event::Prioritised { .. } | Event::Keyed { .. } => self.apply_rank(event),
            Event::ExchangeDeclared { .. }
            | Event::ExchangeDeleted { .. }
            | Event::Bound { .. }
            | Event::Unbound { .. } => self.apply_exchange(event),
            Event::QueueDeclared { .. }
            | Event::QueueDeleted { .. }
            | Event::Removed { .. }
            | Event::Returned { .. }
            | Event::Deferred { .. }
            | Event::Stopped { .. }
            | Event::Copied { .. } => self.apply_queue(event),
            Event::OffsetsCommitted {
                namespace,
                group,
                offsets,
            } => {
                self.touch(Named::Group(*namespace, group.clone()));
                let Some(namespace) = self.namespace_mut(*namespace) else {
                    return;
                };
                let group = namespace.groups.entry(group.clone()).or_default();
                for (topic, offset) in offsets {
                    group
                        .offsets
                        .insert((*topic, offset.partition), offset.clone());
                }
            }
            Event::GroupPut {
                namespace,
                group,
                state,
            } => {
                self.touch(Named::Group(*namespace, group.clone()));
                if state.is_none() {
                    self.touch_pending(*namespace, group);
                }
                let Some(namespace) = self.namespace_mut(*namespace) else {
                    return;
                };
                match state {
                    Some(state) => {
                        namespace.groups.entry(group.clone()).or_default().state =
                            Some(state.clone());
                    }
                    None => {
                        namespace.groups.remove(group);
                        let gone = |name: &crate::api::Name, _| name == group;
                        Self::forget_pending(&mut namespace.transactions, &gone);
                    }
                }
            }
            Event::ProducersAllotted { next } => self.next_producer = self.next_producer.max(*next),
            Event::RetainedSet {
                namespace,
                topic,
                sequence,
            } => {
                self.touch_retained(*namespace, topic);
                self.touch(Named::Retained(*namespace, topic.clone()));
                if let Some(namespace) = self.namespace_mut(*namespace) {
                    namespace.retained.set(topic, Kept::published(*sequence));
                }
            }
            Event::RetainedCleared { namespace, topic } => {
                self.touch_retained(*namespace, topic);
                if let Some(namespace) = self.namespace_mut(*namespace) {
                    namespace.retained.clear(topic);
                }
            }
            Event::TransactionsInitialised { .. }
            | Event::TransactionJoined { .. }
            | Event::TransactionOffsets { .. }
            | Event::Marked { .. }
            | Event::TransactionEnded { .. }
            | Event::TransactionalForgotten { .. }
            | Event::AbortedForgotten { .. } => self.apply_transaction(event, sections),
            Event::Expires { .. }
            | Event::Sized { .. }
            | Event::Delayed { .. }
            | Event::DelayOver { .. } => self.apply_life(event),
            Event::LinkCreated { .. }
            | Event::LinkAdvanced { .. }
            | Event::LinkDropped { .. }
            | Event::LinkPassed { .. } => self.apply_link(event),
            Event::TableAdvanced { .. } | Event::TableCopied { .. } => self.apply_table(event),
            _ => self.apply_session(event),
        }
    }
}

/// A pattern's or name's first level.
pub(crate) fn first_level(path: &[u8], separator: u8) -> &[u8] {
    path.split(|byte| *byte == separator).next().unwrap_or(path)
}
