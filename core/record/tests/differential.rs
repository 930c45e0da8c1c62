//! Our codec against the kafka-protocol crate's on the same records, both ways.
//!
//! Left out is what that crate is known to lose: repeated header names, and the LogAppendTime bit when it writes. It has
//! no compression here.

#![expect(
    clippy::unwrap_used,
    reason = "a batch that either codec refuses fails the test"
)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces, RecordBatch};
use proptest::prelude::*;

const CAP: usize = 1 << 20;

#[derive(Debug, Clone)]
struct Sample {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Debug, Clone, Copy)]
struct Producer {
    id: i64,
    epoch: i16,
    sequence: i32,
    transactional: bool,
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let headers = proptest::collection::btree_map("[a-zé]{0,70}", bytes(), 0..5);
    let sample =
        (0..1_i64 << 45, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| {
            Sample {
                timestamp,
                key,
                value,
                headers: headers.into_iter().collect(),
            }
        });
    proptest::collection::vec(sample, 1..20)
}

fn producers() -> impl Strategy<Value = Producer> {
    prop_oneof![
        Just(Producer {
            id: -1,
            epoch: -1,
            sequence: -1,
            transactional: false
        }),
        (0..i64::MAX, 0..i16::MAX, 0..1_000_000, any::<bool>()).prop_map(
            |(id, epoch, sequence, transactional)| Producer {
                id,
                epoch,
                sequence,
                transactional
            }
        ),
    ]
}

fn ours_of(samples: &[Sample], producer: Producer, base_offset: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset,
        transactional: producer.transactional,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.sequence,
        ..BatchOptions::default()
    });
    for sample in samples {
        let headers = sample.headers.iter().map(|(key, value)| Header {
            key: key.as_bytes(),
            value: value.as_deref(),
        });
        let record = NewRecord {
            timestamp: sample.timestamp,
            key: sample.key.as_deref(),
            value: sample.value.as_deref().map(Pieces::One),
            headers,
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap()
}

fn theirs_of(samples: &[Sample], producer: Producer, base_offset: i64) -> Bytes {
    let records: Vec<_> = samples
        .iter()
        .zip(0_i32..)
        .map(|(sample, index)| theirs::Record {
            transactional: producer.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            timestamp_type: theirs::TimestampType::Creation,
            offset: base_offset + i64::from(index),
            sequence: if producer.sequence < 0 {
                index - 1
            } else {
                producer.sequence + index
            },
            timestamp: sample.timestamp,
            key: sample.key.clone().map(Bytes::from),
            value: sample.value.clone().map(Bytes::from),
            headers: sample
                .headers
                .iter()
                .map(|(key, value)| {
                    (
                        StrBytes::from_string(key.clone()),
                        value.clone().map(Bytes::from),
                    )
                })
                .collect::<IndexMap<_, _>>(),
        })
        .collect();
    let options = theirs::RecordEncodeOptions {
        version: 2,
        compression: theirs::Compression::None,
    };
    let mut output = BytesMut::new();
    theirs::RecordBatchEncoder::encode(&mut output, &records, &options).unwrap();
    output.freeze()
}

proptest! {
    #[test]
    fn they_read_what_we_write(
        samples in samples(),
        producer in producers(),
        base_offset in 0..1_i64 << 60,
    ) {
        let ours = ours_of(&samples, producer, base_offset);
        let read = theirs::RecordBatchDecoder::decode(&mut ours.to_bytes()).unwrap();
        prop_assert_eq!(read.records.len(), samples.len());
        for ((record, sample), offset) in read.records.iter().zip(&samples).zip(base_offset..) {
            prop_assert_eq!(record.offset, offset);
            prop_assert_eq!(record.timestamp, sample.timestamp);
            prop_assert_eq!(record.producer_id, producer.id);
            prop_assert_eq!(record.producer_epoch, producer.epoch);
            prop_assert_eq!(record.transactional, producer.transactional);
            prop_assert_eq!(record.key.as_deref(), sample.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), sample.value.as_deref());
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|(key, value)| (key.to_string(), value.as_ref().map(|value| value.to_vec())))
                .collect();
            prop_assert_eq!(&headers, &sample.headers);
        }
    }

    #[test]
    fn we_read_what_they_write(
        samples in samples(),
        producer in producers(),
        base_offset in 0..1_i64 << 60,
    ) {
        // They write one batch for each run of sequences; offsets tell where each begins.
        let mut read = Vec::new();
        for batch in RecordBatch::split(theirs_of(&samples, producer, base_offset)) {
            let batch = batch.unwrap();
            let verified = batch.verify_stored(CAP).unwrap();
            prop_assert_eq!(batch.header().producer_id, producer.id);
            prop_assert_eq!(batch.header().attributes.is_transactional(), producer.transactional);
            for record in verified.records.iter_owned() {
                read.push(record.unwrap());
            }
        }
        prop_assert_eq!(read.len(), samples.len());
        for ((record, sample), offset) in read.iter().zip(&samples).zip(base_offset..) {
            prop_assert_eq!(record.offset, offset);
            prop_assert_eq!(record.timestamp, sample.timestamp);
            prop_assert_eq!(record.key.as_deref(), sample.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), sample.value.as_deref());
            let headers: Vec<_> = record
                .headers()
                .map(|header| {
                    (header.key_str().unwrap().to_owned(), header.value.map(<[u8]>::to_vec))
                })
                .collect();
            prop_assert_eq!(&headers, &sample.headers);
        }
    }
}
