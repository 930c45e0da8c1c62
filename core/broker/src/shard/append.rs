//! Appending what Kafka clients produce: the batch stays opaque.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::{Outcome, Shard};
use crate::state::partition::Sequenced;
use bytes::{Bytes, BytesMut};
use omnilog_ledger::Section;
use std::sync::Arc;

/// What the sequencer reads of a batch's header (KIP-98); the rest is the readers' business.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchFields {
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: u32,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
}

/// `isTransactional` in a batch's attributes.
const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
/// `LogAppendTime` in a batch's attributes.
const ATTRIBUTE_LOG_APPEND_TIME: i16 = 0x8;

impl BatchFields {
    /// Does the batch belong to a transaction?
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Reads a validated batch's header.
    pub(crate) fn read(batch: &[u8]) -> Option<Self> {
        Some(Self {
            attributes: i16::from_be_bytes(batch.get(21..23)?.try_into().ok()?),
            last_offset_delta: u32::from_be_bytes(batch.get(23..27)?.try_into().ok()?),
            max_timestamp: i64::from_be_bytes(batch.get(35..43)?.try_into().ok()?),
            producer_id: i64::from_be_bytes(batch.get(43..51)?.try_into().ok()?),
            producer_epoch: i16::from_be_bytes(batch.get(51..53)?.try_into().ok()?),
            base_sequence: i32::from_be_bytes(batch.get(53..57)?.try_into().ok()?),
        })
    }
}

/// The batch at its place in the log: base offset and leader epoch lie outside its CRC.
pub(crate) fn place_batch(batch: Bytes, base_offset: i64, leader_epoch: u32) -> Bytes {
    let mut batch = batch
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    if let Some(field) = batch.get_mut(0..8) {
        field.copy_from_slice(&base_offset.to_be_bytes());
    }
    if let Some(field) = batch.get_mut(12..16) {
        field.copy_from_slice(&leader_epoch.to_be_bytes());
    }
    batch.freeze()
}

impl Shard {
    pub(crate) fn append(&mut self, namespace: NamespaceId, append: Append) -> Outcome {
        let wait = append.wait;
        let result = self.try_append(namespace, append).map(Reply::Appended);
        match wait {
            Wait::Decided => Outcome::Now(result),
            Wait::Durable => Outcome::Durable(result),
        }
    }

    fn try_append(&mut self, namespace: NamespaceId, append: Append) -> Result<Appended, Refusal> {
        self.may_publish()?;
        let (topic, key) = self.partition_key(namespace, &append.topic, append.partition)?;
        let limit = self
            .state
            .topics
            .get(&topic)
            .and_then(|topic| topic.settings.message_bytes_max)
            .unwrap_or(self.config.message_bytes_max);
        if append.batch.len() > usize::try_from(limit).unwrap_or(0) {
            return Err(Refusal::TooLarge {
                limit: u64::from(limit.unsigned_abs()),
            });
        }
        if append.keyless && self.compacts(topic) {
            return Err(keyless());
        }
        let frame_limit = self.journal.frame_bytes_max().saturating_sub(1024);
        if append.batch.len() > frame_limit {
            return Err(Refusal::TooLarge {
                limit: frame_limit as u64,
            });
        }
        let Some(fields) = BatchFields::read(&append.batch) else {
            return Err(Refusal::InvalidRecord(
                "a batch without a header".to_owned(),
            ));
        };
        let count = i32::try_from(fields.last_offset_delta)
            .unwrap_or(i32::MAX)
            .saturating_add(1);
        let Some(partition) = self.state.partitions.get(&key) else {
            return Err(Refusal::NoPartition);
        };
        self.check_transaction(
            namespace,
            append.transactional_id.as_ref(),
            &fields,
            partition,
        )?;
        let stamp = if fields.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0 {
            fields.max_timestamp
        } else {
            -1
        };
        let mut appended = Appended {
            base_offset: partition.next_offset,
            log_append_time_ms: stamp,
            log_start_offset: partition.log_start,
        };
        if fields.producer_id >= 0 {
            let (id, epoch) = (fields.producer_id, fields.producer_epoch);
            if let Sequenced::Repeated(offset) =
                partition.judge(id, epoch, fields.base_sequence, count)?
            {
                appended.base_offset = offset;
                return Ok(appended);
            }
        }
        let first_by_kafka = !partition.kafka_written;
        let base_offset = partition.next_offset;
        let batch = place_batch(append.batch, base_offset, self.state.epoch);
        let first = self.take_sequences(u64::from(fields.last_offset_delta) + 1);
        let stored = Arc::new(StoredBatch::new(batch.clone(), Vec::new()));
        let section = self.add_section(
            Section {
                partition: key,
                base_offset,
                base_sequence: first,
                last_delta: fields.last_offset_delta,
                max_timestamp: fields.max_timestamp,
                envelope: Bytes::new(),
                batch,
            },
            stored,
        );
        self.record(&Decision::Appended { section });
        self.readable(key, first + u64::from(fields.last_offset_delta));
        if first_by_kafka {
            self.claim_for_kafka(topic);
            self.link_partition(topic, key, base_offset);
        }
        Ok(appended)
    }

    /// A log that another protocol's declaration made is a Kafka topic from the first Produce on: Kafka's retention.
    fn claim_for_kafka(&mut self, topic: TopicId) {
        let Some(known) = self.state.topics.get(&topic) else {
            return;
        };
        if known.provisional {
            let settings = (*known.settings).clone();
            self.record(&Decision::TopicAltered {
                topic,
                settings,
                provisional: false,
            });
        }
    }

    /// The key of a partition that a request names.
    pub(crate) fn partition_key(
        &self,
        namespace: NamespaceId,
        topic: &TopicRef,
        partition: i32,
    ) -> Result<(TopicId, u64), Refusal> {
        let known = self
            .state
            .topic(namespace, topic)
            .ok_or_else(|| self.no_topic(namespace, topic))?;
        let key = usize::try_from(partition)
            .ok()
            .and_then(|index| known.partitions.get(index))
            .ok_or(Refusal::NoPartition)?;
        Ok((known.id, *key))
    }
}

/// A record that a compacted topic does not take.
pub(crate) fn keyless() -> Refusal {
    Refusal::InvalidRecord("a record of a compacted topic needs a key".to_owned())
}

/// No such topic.
pub(crate) fn not_found(topic: &TopicRef) -> Refusal {
    let name = match topic {
        TopicRef::Name(name) => name.clone(),
        TopicRef::Uuid(uuid) => Name::from(format!("{uuid:032x}")),
    };
    Refusal::NotFound(Noun::Topic, name)
}
