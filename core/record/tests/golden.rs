//! Batches that Kafka's own Java client wrote (`testdata/Vectors.java`): we read what it says, and write the same bytes.

#![expect(
    clippy::unwrap_used,
    reason = "a vector that cannot be read fails its test"
)]

use bytes::Bytes;
use omnilog_record::{
    BatchBuilder, BatchError, BatchErrorKind, BatchOptions, Compression, ControlRecord, Header,
    NewRecord, Pieces, RecordBatch, TimestampType, TransactionMarker, TransactionOutcome,
};

const TIME: i64 = 1_700_000_000_000;
const CAP: usize = 1 << 20;

/// The bytes of `testdata/NAME.hex`.
fn vector(name: &str) -> Bytes {
    let path = format!("{}/testdata/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let digits: Vec<u8> = std::fs::read_to_string(path)
        .unwrap()
        .chars()
        .filter_map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn batch(name: &str) -> RecordBatch {
    RecordBatch::parse(vector(name)).unwrap()
}

type Fields<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

/// The records of a batch as (timestamp, key, value).
fn build(options: BatchOptions, records: &[Fields<'_>]) -> RecordBatch {
    let mut builder = BatchBuilder::new(options);
    for (timestamp, key, value) in records {
        builder
            .append(&new_record(*timestamp, *key, *value, &[]))
            .unwrap();
    }
    builder.finish().unwrap()
}

fn new_record<'a>(
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [Header<'a>],
) -> NewRecord<'a, std::iter::Copied<std::slice::Iter<'a, Header<'a>>>> {
    let value = value.map(Pieces::One);
    NewRecord {
        timestamp,
        key,
        value,
        headers: headers.iter().copied(),
    }
}

#[test]
fn one_record_is_read_and_written() {
    let golden = batch("one");
    let verified = golden.verify_produced(CAP).unwrap();
    let record = verified.records.iter().next().unwrap().unwrap();
    assert_eq!((record.offset, record.timestamp), (0, TIME));
    assert_eq!(
        (record.key, record.value),
        (Some(&b"key"[..]), Some(&b"value"[..]))
    );
    assert_eq!(record.headers().len(), 0);
    let ours = build(
        BatchOptions::default(),
        &[(TIME, Some(b"key"), Some(b"value"))],
    );
    assert_eq!(ours.to_bytes(), vector("one"));
}

#[test]
fn null_and_empty_stay_apart() {
    let golden = batch("nulls");
    let fields: [Fields<'_>; 4] = [
        (TIME, None, None),
        (TIME - 5, Some(b""), Some(b"")),
        (TIME + 1_000_000, None, Some(b"v")),
        (TIME, Some(b"k"), None),
    ];
    let verified = golden.verify_produced(CAP).unwrap();
    for (record, expected) in verified.records.iter().zip(&fields) {
        let record = record.unwrap();
        assert_eq!((record.timestamp, record.key, record.value), *expected);
    }
    assert_eq!(verified.min_timestamp, TIME - 5);
    assert_eq!(
        (verified.max_timestamp, verified.max_timestamp_delta),
        (TIME + 1_000_000, 2)
    );
    assert_eq!(verified.first_without_key, Some(0));
    assert_eq!(
        build(BatchOptions::default(), &fields).to_bytes(),
        vector("nulls")
    );
}

#[test]
fn headers_keep_order_duplicates_and_nulls() {
    let headers = [
        Header {
            key: b"a",
            value: Some(b"1"),
        },
        Header {
            key: b"b",
            value: None,
        },
        Header {
            key: b"a",
            value: Some(b"2"),
        },
        Header {
            key: b"",
            value: Some(b""),
        },
        Header {
            key: b"a",
            value: Some(b"1"),
        },
        Header {
            key: "grüße".as_bytes(),
            value: Some(&[0, 0xff]),
        },
    ];
    let golden = batch("headers");
    let records = golden.records(CAP).unwrap();
    let record = records.iter().next().unwrap().unwrap();
    assert_eq!(record.headers().collect::<Vec<_>>(), headers);
    assert_eq!(record.header(b"a"), Some(Some(&b"1"[..])));
    assert_eq!(record.header(b"b"), Some(None));
    assert_eq!(record.header(b"c"), None);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder
        .append(&new_record(TIME, Some(b"k"), Some(b"v"), &headers))
        .unwrap();
    assert_eq!(builder.finish().unwrap().to_bytes(), vector("headers"));
}

#[test]
fn transactional_batch_with_wrapping_sequence() {
    let golden = batch("transactional");
    golden.verify_produced(CAP).unwrap();
    let header = golden.header();
    assert!(header.attributes.is_transactional() && !header.attributes.is_control());
    assert_eq!((header.producer_id, header.producer_epoch), (4711, 7));
    assert_eq!(
        (header.base_sequence, header.last_sequence()),
        (i32::MAX - 1, 0)
    );
    assert_eq!(
        (
            header.base_offset,
            header.last_offset(),
            header.leader_epoch
        ),
        (1000, 1002, 9)
    );
    let options = BatchOptions {
        transactional: true,
        base_offset: 1000,
        leader_epoch: 9,
        producer_id: 4711,
        producer_epoch: 7,
        base_sequence: i32::MAX - 1,
        ..BatchOptions::default()
    };
    let ours = build(
        options,
        &[
            (TIME, Some(b"a"), Some(b"1")),
            (TIME + 1, Some(b"b"), Some(b"2")),
            (TIME + 2, Some(b"c"), Some(b"3")),
        ],
    );
    assert_eq!(ours.to_bytes(), vector("transactional"));
}

#[test]
fn log_append_time_is_every_records_time() {
    let golden = batch("log_append_time");
    golden.verify_stored(CAP).unwrap();
    assert_eq!(
        golden.header().attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert!(
        golden
            .records(CAP)
            .unwrap()
            .iter()
            .all(|r| r.unwrap().timestamp == TIME + 77)
    );
    assert_eq!(
        golden.verify_produced(CAP).unwrap_err().kind(),
        BatchErrorKind::InvalidTimestamp,
        "producers may not stamp"
    );
    assert_eq!(golden.to_bytes(), vector("log_append_time"));
}

#[test]
fn every_compression_is_read() {
    let plain = batch("compressed_none").records(CAP).unwrap();
    for compression in Compression::ALL {
        let golden = batch(&format!("compressed_{}", compression.name()));
        assert_eq!(golden.header().attributes.compression(), Ok(compression));
        let verified = golden.verify_produced(CAP).unwrap();
        assert_eq!(verified.records.len(), 60);
        assert_eq!(verified.records.section(), plain.section());
        assert_eq!(verified.max_timestamp, TIME + 59);
    }
}

#[test]
fn transaction_markers_are_read_and_written() {
    for (name, outcome) in [
        ("marker_commit", TransactionOutcome::Commit),
        ("marker_abort", TransactionOutcome::Abort),
    ] {
        let golden = batch(name);
        let verified = golden.verify_stored(CAP).unwrap();
        let record = verified.records.iter().next().unwrap().unwrap();
        let expected = ControlRecord::EndTransaction {
            outcome,
            coordinator_epoch: 3,
        };
        assert_eq!(ControlRecord::parse(&record), Ok(expected));
        assert_eq!(
            golden.verify_produced(CAP).unwrap_err(),
            BatchError::ControlFromProducer
        );
        let marker = TransactionMarker {
            producer_id: 4711,
            producer_epoch: 7,
            outcome,
            coordinator_epoch: 3,
            timestamp: TIME,
        };
        assert_eq!(marker.to_batch().unwrap().to_bytes(), vector(name));
    }
}

#[test]
fn the_empty_batch_is_the_java_cleaners() {
    assert_eq!(RecordBatch::empty(100, 199).to_bytes(), vector("empty"));
    let golden = batch("empty");
    assert!(golden.verify_stored(CAP).unwrap().records.is_empty());
    assert_eq!(golden.header().next_offset(), 200);
}

#[test]
fn old_message_sets_are_named_as_such() {
    let error = RecordBatch::parse(vector("message_set_v1")).unwrap_err();
    assert_eq!(error, BatchError::OldMagic(1));
    assert_eq!(error.kind(), BatchErrorKind::UnsupportedFormat);
}
