//! Applying appends and publishes: sequences, offsets, producers, holders.

use crate::event::Holders;
use crate::shard::BatchFields;
use crate::state::State;
use crate::state::partition::{ProducedBatch, add_sequence};
use bytes::Bytes;
use omnilog_ledger::Section;

impl State {
    /// A section takes its sequences.
    pub(super) fn sequences_taken(&mut self, section: &Section) {
        let next = section.base_sequence + u64::from(section.last_delta) + 1;
        self.next_sequence = self.next_sequence.max(next);
    }

    /// A batch is in its partition's log, if a log keeps it.
    pub(super) fn appended(&mut self, section: &Section, by_kafka: bool) {
        let epoch = self.epoch;
        let Some(partition) = self.partitions.get_mut(&section.partition) else {
            return;
        };
        self.changes.touch(partition);
        if partition
            .epochs
            .last()
            .is_none_or(|(newest, _)| *newest != epoch)
        {
            partition.epochs.push((epoch, section.base_offset));
        }
        partition.next_offset = section.base_offset + i64::from(section.last_delta) + 1;
        partition.max_timestamp = partition.max_timestamp.max(section.max_timestamp);
        if !by_kafka {
            return;
        }
        partition.kafka_written = true;
        self.kafka_written = true;
        if let Some((producer, epoch, first)) = producer_fields(&section.batch)
            && producer >= 0
            && first >= 0
        {
            if BatchFields::read(&section.batch).is_some_and(|fields| fields.is_transactional()) {
                partition.joined(producer, section.base_offset);
            }
            // A batch's records number their sequences from its first, whatever compaction left of them.
            let last = add_sequence(first, i32::try_from(section.last_delta).unwrap_or(0));
            partition.produced(
                producer,
                epoch,
                ProducedBatch {
                    first,
                    last,
                    base_offset: section.base_offset,
                },
            );
        }
    }

    /// Queues hold a batch's records, in runs from its first on.
    pub(super) fn held(&mut self, first: u64, holders: &[(u32, Holders)]) {
        let mut at = first;
        for (count, holders) in holders {
            let last = at + u64::from(*count) - 1;
            match holders {
                Holders::Inline(queues) => {
                    for queue in queues {
                        if let Some(queue) = self.queues.get_mut(queue) {
                            self.changes.touch(queue);
                            queue.ready.insert_run(at, last);
                        }
                    }
                }
                Holders::Set(id) => self.held_by_set(*id, at, last),
            }
            at = last + 1;
        }
    }
}

/// A batch's producer id, producer epoch and base sequence.
pub(super) fn producer_fields(batch: &Bytes) -> Option<(i64, i16, i32)> {
    let producer = i64::from_be_bytes(batch.get(43..51)?.try_into().ok()?);
    let epoch = i16::from_be_bytes(batch.get(51..53)?.try_into().ok()?);
    let first = i32::from_be_bytes(batch.get(53..57)?.try_into().ok()?);
    Some((producer, epoch, first))
}
