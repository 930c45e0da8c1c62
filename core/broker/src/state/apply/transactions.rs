//! Applying decisions about transactions.

use crate::api::*;
use crate::event::Event;
use crate::state::State;
use crate::state::apply::records::producer_fields;
use crate::state::changes::Named;
use crate::state::partition::Producer;
use crate::state::transactions::{NO_PRODUCER, Transactional};
use omnilog_ledger::Section;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

impl State {
    pub(super) fn apply_transaction(&mut self, event: &Event, sections: &[Section]) {
        self.touch_transactional(event);
        match event {
            Event::TransactionsInitialised {
                namespace,
                id,
                producer,
                epoch,
                last_producer,
                last_epoch,
                timeout_ms,
                at_ms,
            } => {
                if let Some(names) = self.namespace_mut(*namespace) {
                    let known = Transactional {
                        producer: *producer,
                        epoch: *epoch,
                        last_producer: *last_producer,
                        last_epoch: *last_epoch,
                        timeout_ms: *timeout_ms,
                        phase: TransactionPhase::Empty,
                        since_ms: *at_ms,
                        partitions: BTreeSet::new(),
                        groups: BTreeMap::new(),
                    };
                    names.transactions.insert(id.clone(), known);
                }
            }
            Event::TransactionJoined {
                namespace,
                id,
                partitions,
                groups,
                at_ms,
            } => {
                let Some(known) = self.transactional_mut(*namespace, id) else {
                    return;
                };
                if !known.is_open() {
                    known.phase = TransactionPhase::Ongoing;
                    known.since_ms = *at_ms;
                }
                known.partitions.extend(partitions);
                for group in groups {
                    known.groups.entry(group.clone()).or_default();
                }
            }
            Event::TransactionOffsets {
                namespace,
                id,
                group,
                offsets,
            } => {
                let known = self.transactional_mut(*namespace, id);
                if let Some(pending) = known.and_then(|known| known.groups.get_mut(group)) {
                    for (topic, offset) in offsets {
                        pending.insert((*topic, offset.partition), offset.clone());
                    }
                }
            }
            Event::Marked { section, committed } => {
                if let Some(section) = sections.get(*section as usize) {
                    self.sequences_taken(section);
                    self.appended(section, false);
                    self.marked(section, *committed);
                }
            }
            Event::TransactionEnded {
                namespace,
                id,
                committed,
                epoch,
                at_ms,
            } => self.transaction_ended(*namespace, id, *committed, *epoch, *at_ms),
            Event::TransactionalForgotten { namespace, id } => {
                if let Some(names) = self.namespace_mut(*namespace) {
                    names.transactions.remove(id);
                }
            }
            Event::AbortedForgotten { partition, below } => {
                self.touch_partition(*partition);
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.forget_aborted(*below);
                }
            }
            _ => {}
        }
    }

    fn touch_transactional(&mut self, event: &Event) {
        match event {
            Event::TransactionsInitialised { namespace, id, .. }
            | Event::TransactionJoined { namespace, id, .. }
            | Event::TransactionOffsets { namespace, id, .. }
            | Event::TransactionalForgotten { namespace, id } => {
                self.touch(Named::Transactional(*namespace, id.clone()));
            }
            Event::TransactionEnded { namespace, id, .. } => {
                let known = self.transactional(*namespace, id);
                let groups = known.into_iter().flat_map(|known| known.groups.keys());
                let groups: Vec<Name> = groups.cloned().collect();
                for group in groups {
                    self.touch(Named::Group(*namespace, group));
                }
                self.touch(Named::Transactional(*namespace, id.clone()));
            }
            _ => {}
        }
    }

    /// Positions of a group that goes are not committed any more.
    pub(super) fn touch_pending(&mut self, namespace: NamespaceId, group: &Name) {
        let Some(names) = self.namespace(namespace) else {
            return;
        };
        let transactions = names.transactions.iter();
        let pending: Vec<Name> = transactions
            .filter(|(_, known)| known.groups.contains_key(group))
            .map(|(id, _)| id.clone())
            .collect();
        for id in pending {
            self.touch(Named::Transactional(namespace, id));
        }
    }

    fn transactional_mut(
        &mut self,
        namespace: NamespaceId,
        id: &Name,
    ) -> Option<&mut Transactional> {
        self.namespace_mut(namespace)?.transactions.get_mut(id)
    }

    /// A marker is in its partition: the producer's transaction is over there.
    fn marked(&mut self, section: &Section, committed: bool) {
        let Some((producer, epoch, _)) = producer_fields(&section.batch) else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(&section.partition) else {
            return;
        };
        self.changes.touch(partition);
        partition.marked(producer, section.base_offset, committed);
        let known = partition
            .producers
            .entry(producer)
            .or_insert_with(|| Producer {
                epoch,
                batches: VecDeque::new(),
            });
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
    }

    fn transaction_ended(
        &mut self,
        namespace: NamespaceId,
        id: &Name,
        committed: bool,
        epoch: i16,
        at_ms: i64,
    ) {
        let Some(names) = self.namespace_mut(namespace) else {
            return;
        };
        let Some(known) = names.transactions.get_mut(id) else {
            return;
        };
        known.phase = match committed {
            true => TransactionPhase::Committed,
            false => TransactionPhase::Aborted,
        };
        known.since_ms = at_ms;
        if known.epoch != epoch {
            // Its time was over, or another took its place: nobody asked for this epoch.
            known.epoch = epoch;
            known.last_epoch = crate::state::transactions::NO_EPOCH;
            known.last_producer = NO_PRODUCER;
        }
        known.partitions.clear();
        let groups = std::mem::take(&mut known.groups);
        if !committed {
            return;
        }
        for (group, offsets) in groups {
            if !offsets.is_empty() {
                let group = names.groups.entry(group).or_default();
                group.offsets.extend(offsets);
            }
        }
    }
}
