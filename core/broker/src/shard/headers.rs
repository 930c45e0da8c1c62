//! The headers of a message, for exchanges that route by them: looked at only where one does.

use crate::api::*;
use crate::route::sorted;
use bytes::Bytes;
use omnilog_record::{Record, RecordBase};

/// Where a message's headers are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Headers<'a> {
    /// AMQP: with their types, as the publisher sent them.
    Typed(&'a Table),
    /// MQTT's user properties, and all headers of a Kafka record: texts, in the record.
    InRecord {
        batch: &'a Bytes,
        envelope: &'a Envelope,
    },
}

impl<'a> Headers<'a> {
    /// Those of a published record.
    pub(crate) fn of(record: &'a PublishRecord, batch: &'a Bytes) -> Self {
        match record.envelope.address {
            Address::Amqp { .. } => Self::Typed(&record.headers),
            _ => Self::InRecord {
                batch,
                envelope: &record.envelope,
            },
        }
    }

    /// The headers, sorted by name; of a record that can't be read, none.
    pub(crate) fn table(self) -> Table {
        match self {
            Self::Typed(table) => sorted(table.clone()),
            Self::InRecord { batch, envelope } => {
                sorted(in_record(batch, envelope).unwrap_or_default())
            }
        }
    }
}

fn in_record(batch: &Bytes, envelope: &Envelope) -> Option<Table> {
    let (position, length) = envelope.range;
    let body = batch.get(position as usize..position.checked_add(length)? as usize)?;
    let base = RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = Record::parse(body, &base).ok()?;
    let user = record
        .headers()
        .skip(usize::from(envelope.property_headers))
        .map(|header| {
            let value = header.value.map_or(Value::Void, |value| {
                Value::Bytes(Bytes::copy_from_slice(value))
            });
            (Bytes::copy_from_slice(header.key), value)
        });
    Some(user.collect())
}
