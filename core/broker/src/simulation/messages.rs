//! Batches with a number in each record, by which the model knows them again.

use crate::api::*;
use bytes::Bytes;
use omnilog_record::{
    BatchBuilder, BatchOptions, Header, NewRecord, Pieces, Record, RecordBase, RecordBatch,
};

/// The content of a message: its number, and bytes that follow from number and length.
fn value(id: u64, padding: usize) -> Vec<u8> {
    let mut value = id.to_be_bytes().to_vec();
    let mut bytes = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ padding as u64;
    value.extend((0..padding).map(|_| {
        bytes = bytes
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.to_be_bytes()[0]
    }));
    value
}

/// The number of a message whose content is as it was sent, to the byte.
fn number(content: &[u8]) -> Option<u64> {
    let id = u64::from_be_bytes(content.get(..8)?.try_into().ok()?);
    let sent = value(id, content.len() - 8);
    assert!(sent == content, "the content of {id} has changed");
    Some(id)
}

/// A Kafka client's batch with these messages; producer id and sequence if it is an idempotent producer's.
pub(super) fn batch(ids: &[u64], padding: usize, time: i64, producer: Option<(i64, i32)>) -> Bytes {
    keyed_batch(ids, padding, time, producer, &|_| b'k')
}

/// A transactional producer's batch.
pub(super) fn transactional_batch(
    ids: &[u64],
    padding: usize,
    time: i64,
    who: &Transactor,
    sequence: i32,
    key: &dyn Fn(u64) -> u8,
) -> Bytes {
    let options = BatchOptions {
        transactional: true,
        producer_id: who.producer,
        producer_epoch: who.epoch,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    built(options, ids, padding, time, key)
}

/// The same with a key for each message.
pub(super) fn keyed_batch(
    ids: &[u64],
    padding: usize,
    time: i64,
    producer: Option<(i64, i32)>,
    key: &dyn Fn(u64) -> u8,
) -> Bytes {
    let mut options = BatchOptions::default();
    if let Some((id, sequence)) = producer {
        options.producer_id = id;
        options.producer_epoch = 0;
        options.base_sequence = sequence;
    }
    built(options, ids, padding, time, key)
}

fn built(
    options: BatchOptions,
    ids: &[u64],
    padding: usize,
    time: i64,
    key: &dyn Fn(u64) -> u8,
) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for id in ids {
        let headers: [Header<'_>; 0] = [];
        let _ = builder
            .append(&NewRecord {
                timestamp: time,
                key: Some(&[key(*id)]),
                value: Some(Pieces::One(&value(*id, padding))),
                headers,
            })
            .unwrap();
    }
    builder.finish().unwrap().to_bytes()
}

/// A gathered batch with these messages, all to one address.
pub(super) fn publish(
    ids: &[u64],
    padding: usize,
    time: i64,
    address: &Address,
    publisher: &Name,
    qos: u8,
) -> Publish {
    let addresses = vec![address.clone(); ids.len()];
    publish_to(ids, padding, time, &addresses, publisher, qos)
}

/// A gathered batch with these messages, each to an address of its own.
pub(super) fn publish_to(
    ids: &[u64],
    padding: usize,
    time: i64,
    addresses: &[Address],
    publisher: &Name,
    qos: u8,
) -> Publish {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut records = Vec::new();
    for (id, address) in ids.iter().zip(addresses) {
        // Over MQTT a topic's levels behind the first are the key.
        let key = match address {
            Address::Mqtt { topic } => {
                let slash = topic.iter().position(|byte| *byte == b'/');
                slash.and_then(|at| topic.get(at + 1..))
            }
            _ => None,
        };
        let headers: [Header<'_>; 0] = [];
        let appended = builder
            .append(&NewRecord {
                timestamp: time,
                key,
                value: Some(Pieces::One(&value(*id, padding))),
                headers,
            })
            .unwrap();
        let provenance = match address {
            Address::Mqtt { .. } => Provenance::Mqtt,
            Address::Amqp { exchange, .. } if exchange.is_empty() => Provenance::AmqpDefault,
            _ => Provenance::AmqpExchange,
        };
        records.push(PublishRecord::of(Envelope {
            publisher: publisher.clone(),
            properties: Bytes::copy_from_slice(&id.to_be_bytes()),
            qos,
            ..Envelope::new(address.clone(), provenance, appended.range())
        }));
    }
    Publish {
        batch: builder.finish().unwrap().to_bytes(),
        records,
        wait: Wait::Durable,
        dedupe: None,
    }
}

/// The number of a delivered message; `None`: it has no content.
pub(super) fn delivered(message: &Message) -> Option<u64> {
    let body = message.record_bytes()?;
    let base = RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = Record::parse(body, &base).ok()?;
    let id = number(record.value?)?;
    let envelope = message.envelope()?;
    if envelope.provenance == Provenance::Kafka {
        assert_eq!(record.key, Some(&b"k"[..]), "the key of {id} has changed");
    } else {
        assert_eq!(
            envelope.properties,
            id.to_be_bytes()[..],
            "the properties of {id} have changed"
        );
    }
    Some(id)
}

/// The offsets and numbers in a fetched batch.
pub(super) fn fetched(batch: &Bytes) -> Vec<(i64, u64)> {
    let base_offset = i64::from_be_bytes(batch[..8].try_into().unwrap());
    let batch = RecordBatch::parse(batch.clone()).expect("a batch that parses");
    if batch.header().record_count == 0 || batch.header().attributes.is_control() {
        return Vec::new();
    }
    let records = batch.records(1 << 24).expect("records");
    let produced = records.base().offset;
    records
        .iter()
        .map(|record| {
            let record = record.expect("a record");
            let id = number(record.value.expect("a value")).expect("a number");
            (base_offset + record.offset - produced, id)
        })
        .collect()
}

/// How far a fetched batch comes.
pub(super) fn end(batch: &Bytes) -> i64 {
    let base = i64::from_be_bytes(batch[..8].try_into().unwrap());
    let last = i64::from(u32::from_be_bytes(batch[23..27].try_into().unwrap()));
    base + last + 1
}

/// The offsets, numbers and keys in a fetched batch.
pub(super) fn keys(batch: &Bytes) -> Vec<(i64, u64, Option<Bytes>)> {
    let numbers = fetched(batch);
    if numbers.is_empty() {
        return Vec::new();
    }
    let batch = RecordBatch::parse(batch.clone()).expect("a batch that parses");
    let records = batch.records(1 << 24).expect("records");
    let key = |record: Record<'_>| record.key.map(Bytes::copy_from_slice);
    let keys = records.iter().map(|record| key(record.expect("a record")));
    let rows = numbers.into_iter().zip(keys);
    rows.map(|((offset, id), key)| (offset, id, key)).collect()
}
