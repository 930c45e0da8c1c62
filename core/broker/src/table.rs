//! Topics whose records are retained messages: what each record that was taken apart does to them.

use crate::api::{Address, Envelope, Provenance};
use crate::link::PulledBatch;
use crate::path::{MQTT_LEVELS_MAX, MQTT_TOPIC_BYTES_MAX, mqtt_topic};
use bytes::Bytes;
use omnilog_record::{Record, RecordBase};

/// What a record does to its topic's retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Becomes {
    /// It is the retained message.
    Kept,
    /// There is none any more.
    Gone,
    /// An MQTT client's, which was kept when it was published: what comes before it does not count any more.
    Published,
    /// No MQTT client could publish to its topic.
    TooLong,
}

/// A record's part in the retained messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) offset: i64,
    pub(crate) sequence: u64,
    pub(crate) topic: Bytes,
    pub(crate) becomes: Becomes,
}

/// What the records of a batch do to retained messages, in their order.
pub(crate) fn changes(batch: &PulledBatch) -> impl Iterator<Item = Change> + '_ {
    let envelopes = &batch.stored.envelopes;
    let records = batch.records.iter().zip(envelopes);
    records.filter_map(|(&(offset, sequence), envelope)| {
        let of_kafka = !batch.routed;
        let of_mqtt = envelope.provenance == Provenance::Mqtt && envelope.retain;
        if !of_kafka && !of_mqtt {
            return None;
        }
        let topic = match &envelope.address {
            Address::Mqtt { topic } => topic.clone(),
            Address::Kafka { topic, key } => mqtt_topic(topic, key.as_deref()),
            Address::Amqp { .. } => return None,
        };
        let levels = topic.iter().filter(|byte| **byte == b'/').count() + 1;
        let becomes = if topic.len() > MQTT_TOPIC_BYTES_MAX || levels > MQTT_LEVELS_MAX {
            Becomes::TooLong
        } else if is_empty(&batch.stored.batch, envelope)? {
            // Neither Kafka's mark of a deleted key nor an empty payload is ever a retained message (MQTT 5 section
            // 3.3.1.3).
            Becomes::Gone
        } else if of_kafka {
            Becomes::Kept
        } else {
            Becomes::Published
        };
        Some(Change {
            offset,
            sequence,
            topic,
            becomes,
        })
    })
}

/// Has a record no value, or an empty one?
fn is_empty(batch: &Bytes, envelope: &Envelope) -> Option<bool> {
    let (position, length) = envelope.range;
    let end = position.checked_add(length)?;
    let body = batch.get(position as usize..end as usize)?;
    let base = RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = Record::parse(body, &base).ok()?;
    Some(record.value.is_none_or(<[u8]>::is_empty))
}
