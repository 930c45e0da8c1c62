//! Framing, patching, verifying and rewriting of batches.

use crate::*;
use bytes::{BufMut, Bytes, BytesMut};

const CAP: usize = 1 << 20;

fn batch_of(options: BatchOptions, values: &[&[u8]]) -> RecordBatch {
    let mut builder = BatchBuilder::new(options);
    for (index, value) in values.iter().enumerate() {
        let record = NewRecord {
            timestamp: 1000 + index as i64,
            key: Some(b"key"),
            value: Some(Pieces::One(value)),
            headers: [Header {
                key: b"h",
                value: None,
            }],
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap()
}

fn three() -> RecordBatch {
    batch_of(BatchOptions::default(), &[b"one", b"two", b"three"])
}

/// The batch after `change`d bytes; its CRC is made right again if `seal` says so.
fn changed(batch: &RecordBatch, seal: bool, change: impl FnOnce(&mut [u8])) -> RecordBatch {
    let mut bytes = BytesMut::from(&batch.to_bytes()[..]);
    change(&mut bytes);
    if seal {
        let crc = crc32c::crc32c(&bytes[PREFIX_BYTES..]);
        (&mut bytes[17..PREFIX_BYTES]).put_u32(crc);
    }
    RecordBatch::parse(bytes.freeze()).unwrap()
}

fn values(batch: &RecordBatch) -> Vec<(i64, Vec<u8>)> {
    let records = batch.records(CAP).unwrap();
    records
        .iter()
        .map(|r| r.unwrap())
        .map(|r| (r.offset, r.value.unwrap().to_vec()))
        .collect()
}

#[test]
fn concatenated_batches_are_split() {
    let first = three();
    let second = batch_of(
        BatchOptions {
            base_offset: 3,
            ..Default::default()
        },
        &[b"four"],
    );
    let joined = Bytes::from([first.to_bytes(), second.to_bytes()].concat());
    let batches: Vec<_> = RecordBatch::split(joined.clone())
        .map(|b| b.unwrap())
        .collect();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].to_bytes(), first.to_bytes());
    assert_eq!(batches[1].to_bytes(), second.to_bytes());
    assert_eq!(
        RecordBatch::parse(joined.clone()).unwrap_err(),
        BatchError::TrailingBytes(second.wire_bytes())
    );
    let mut cut = RecordBatch::split(joined.slice(..joined.len() - 1));
    assert!(cut.next().unwrap().is_ok());
    assert!(matches!(
        cut.next(),
        Some(Err(BatchError::Truncated { .. }))
    ));
    assert!(cut.next().is_none(), "the iterator ends after an error");
}

#[test]
fn bad_framing_is_told_apart() {
    let good = three().to_bytes();
    let parse_with = |position: usize, value: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[position..position + value.len()].copy_from_slice(value);
        RecordBatch::parse(Bytes::from(bytes)).unwrap_err()
    };
    assert_eq!(parse_with(16, &[0]), BatchError::OldMagic(0));
    assert_eq!(parse_with(16, &[3]), BatchError::UnknownMagic(3));
    assert_eq!(parse_with(16, &[0xff]), BatchError::UnknownMagic(-1));
    assert_eq!(parse_with(8, &48_i32.to_be_bytes()), BatchError::Length(48));
    assert_eq!(
        parse_with(8, &(-1_i32).to_be_bytes()),
        BatchError::Length(-1)
    );
    let needed = i32::MAX as usize + 12;
    let available = good.len();
    assert_eq!(
        parse_with(8, &i32::MAX.to_be_bytes()),
        BatchError::Truncated { needed, available }
    );
    for cut in 0..good.len() {
        let error = RecordBatch::parse(good.slice(..cut)).unwrap_err();
        assert!(
            matches!(error, BatchError::Truncated { .. }),
            "cut at {cut}: {error}"
        );
        assert_eq!(error.kind(), BatchErrorKind::Corrupt);
    }
}

#[test]
fn assigning_an_offset_leaves_crc_and_section_alone() {
    let mut batch = three();
    let before = batch.clone();
    batch.assign(1 << 40, 12);
    batch.verify_crc().unwrap();
    assert_eq!(batch.header().crc, before.header().crc);
    assert_eq!(
        batch.section().as_ptr(),
        before.section().as_ptr(),
        "the section is shared"
    );
    let mut wire = batch.header_bytes().to_vec();
    wire.extend_from_slice(&batch.section());
    assert_eq!(batch.to_bytes(), wire);
    assert_eq!(batch.header().encode_prefix(), wire[..PREFIX_BYTES]);
    assert_eq!(wire[PREFIX_BYTES..], before.to_bytes()[PREFIX_BYTES..]);
    assert_eq!(
        values(&RecordBatch::parse(wire.into()).unwrap())[2],
        (1 << 40 | 2, b"three".to_vec())
    );
}

#[test]
fn an_unpatched_batch_is_handed_on_without_a_copy() {
    let bytes = three().to_bytes();
    let batch = RecordBatch::parse(bytes.clone()).unwrap();
    assert_eq!(batch.to_bytes().as_ptr(), bytes.as_ptr());
}

#[test]
fn stamping_sets_time_and_crc() {
    let mut batch = three();
    batch.stamp_log_append_time(5000);
    let batch = RecordBatch::parse(batch.to_bytes()).unwrap();
    let verified = batch.verify_stored(CAP).unwrap();
    assert_eq!(
        (verified.min_timestamp, verified.max_timestamp),
        (5000, 5000)
    );
    assert_eq!(
        batch.header().attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );

    let mut batch = three();
    let crc = batch.header().crc;
    batch.set_max_timestamp(1002);
    assert_eq!(batch.header().crc, crc, "nothing changed");
    batch.set_max_timestamp(9999);
    batch.verify_crc().unwrap();
    assert_eq!(
        RecordBatch::parse(batch.to_bytes())
            .unwrap()
            .header()
            .max_timestamp,
        9999
    );
}

#[test]
fn gaps_are_covered_by_empty_batches() {
    for (base, last, delta) in [(0, 0, 0), (5, 9, 4), (5, 4, 0), (0, i64::MAX, i32::MAX)] {
        let batch = RecordBatch::empty(base, last);
        assert_eq!(batch.header().last_offset_delta, delta);
        assert_eq!(batch.wire_bytes(), HEADER_BYTES);
        assert!(batch.verify_stored(0).unwrap().records.is_empty());
    }
}

#[test]
fn a_flipped_bit_anywhere_after_the_crc_is_found() {
    let good = three();
    for position in PREFIX_BYTES..good.wire_bytes() {
        let bad = changed(&good, false, |bytes| bytes[position] ^= 0x10);
        let error = bad.verify_produced(CAP).unwrap_err();
        assert!(matches!(error, BatchError::Crc { .. }), "at {position}");
        assert_eq!(error.kind(), BatchErrorKind::Corrupt);
    }
}

#[test]
fn header_fields_that_cannot_be_true_are_refused() {
    let good = three();
    let count = |value: i32| {
        changed(&good, true, |b| {
            b[57..61].copy_from_slice(&value.to_be_bytes())
        })
        .verify_produced(CAP)
        .unwrap_err()
    };
    assert_eq!(count(-1), BatchError::Count(-1));
    assert_eq!(count(0), BatchError::Count(0));
    let wrong = |count| BatchError::LastOffsetDelta {
        last_offset_delta: 2,
        count,
    };
    assert_eq!(count(2), wrong(2));
    assert_eq!(count(4), wrong(4));
    assert_eq!(count(i32::MAX), wrong(i32::MAX));
    let attributes = |value: i16| {
        changed(&good, true, |b| {
            b[21..23].copy_from_slice(&value.to_be_bytes())
        })
        .verify_produced(CAP)
        .unwrap_err()
    };
    assert_eq!(attributes(5), BatchError::UnknownCompression(5));
    assert_eq!(attributes(7).kind(), BatchErrorKind::UnsupportedCompression);
    assert_eq!(attributes(1 << 5), BatchError::ControlFromProducer);
    assert_eq!(attributes(1 << 4), BatchError::TransactionalWithoutProducer);
    assert_eq!(attributes(1 << 3), BatchError::LogAppendTimeFromProducer);
    assert_eq!(attributes(1).kind(), BatchErrorKind::Corrupt, "not gzip");
    let sequence = batch_of(
        BatchOptions {
            producer_id: 1,
            producer_epoch: 0,
            ..Default::default()
        },
        &[b"without a sequence"],
    );
    assert!(matches!(
        sequence.verify_produced(CAP),
        Err(BatchError::ProducerFields { .. })
    ));
}

#[test]
fn record_counts_and_deltas_must_agree_with_the_records() {
    let good = three();
    // The count and the last offset delta agree, the records do not.
    let claim = |count: i32| {
        changed(&good, true, |b| {
            b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            b[57..61].copy_from_slice(&count.to_be_bytes());
        })
        .verify_produced(CAP)
        .unwrap_err()
    };
    assert!(matches!(claim(2), BatchError::RecordsRemain(_)));
    let problem = RecordProblem::Truncated;
    assert_eq!(claim(4), BatchError::Record { index: 3, problem });
    assert_eq!(claim(i32::MAX), BatchError::Record { index: 3, problem });
    // The first record's offset delta is its body's third byte; its length takes one.
    let delta = changed(&good, true, |b| b[HEADER_BYTES + 3] = 2);
    let problem = RecordProblem::OffsetDelta(1);
    assert_eq!(
        delta.verify_produced(CAP).unwrap_err(),
        BatchError::Record { index: 0, problem }
    );
    assert_eq!(
        delta.verify_stored(CAP).unwrap_err().kind(),
        BatchErrorKind::InvalidRecord
    );
}

#[test]
fn malformed_records_are_told_apart() {
    let base = RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let parse = |body: &[u8]| Record::parse(body, &base).map(|record| record.offset);
    assert_eq!(parse(&[0, 0, 0, 1, 1, 0]), Ok(0));
    assert_eq!(parse(&[0, 0, 0, 1, 1]), Err(RecordProblem::Truncated));
    assert_eq!(parse(&[0, 0, 0, 3, 1, 0]), Err(RecordProblem::Length(-2)));
    assert_eq!(parse(&[0, 0, 0, 4, 1, 0]), Err(RecordProblem::Truncated));
    assert_eq!(
        parse(&[0, 0, 0, 1, 1, 1]),
        Err(RecordProblem::HeaderCount(-1))
    );
    assert_eq!(
        parse(&[0, 0, 0, 1, 1, 4, 0, 1]),
        Err(RecordProblem::HeaderCount(2))
    );
    assert_eq!(
        parse(&[0, 0, 0, 1, 1, 2, 1, 1]),
        Err(RecordProblem::Length(-1)),
        "null name"
    );
    assert_eq!(
        parse(&[0, 0, 0, 1, 1, 0, 9, 9]),
        Err(RecordProblem::LeftOver(2))
    );
    let long = [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0];
    assert_eq!(parse(&long), Err(RecordProblem::Varint));
}

#[test]
fn a_record_is_reached_by_table_and_by_the_builders_positions() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let appended: Vec<Appended> = (0..200_u8)
        .map(|index| {
            let value = vec![index; usize::from(index)];
            let record = NewRecord {
                timestamp: i64::from(index),
                key: None,
                value: Some(Pieces::One(&value)),
                headers: None,
            };
            builder.append(&record).unwrap()
        })
        .collect();
    let batch = builder.finish().unwrap();
    let records = batch.records(CAP).unwrap();
    let table = records.table().unwrap();
    assert_eq!(table.len(), 200);
    let bytes = batch.to_bytes();
    for (index, place) in appended.iter().enumerate() {
        let record = records.get(&table, index).unwrap().unwrap();
        assert_eq!(record.value, Some(&vec![index as u8; index][..]));
        let position = place.body_position as usize;
        assert_eq!(table.body(index).unwrap().start + HEADER_BYTES, position);
        let body = bytes.slice(position..position + place.body_bytes as usize);
        let owned = OwnedRecord::parse(&body, records.base()).unwrap();
        assert_eq!(owned.value.as_deref(), record.value);
        assert_eq!(
            (owned.offset, owned.timestamp),
            (index as i64, index as i64)
        );
    }
    assert!(records.get(&table, 200).unwrap().is_none());
}

#[test]
fn owned_records_share_the_batchs_buffer() {
    let batch = three();
    let section = batch.section();
    let records = batch.records(CAP).unwrap();
    let record = records.iter_owned().nth(1).unwrap().unwrap();
    let value = record.value.clone().unwrap();
    assert_eq!(value, "two");
    assert!(section.as_ptr_range().contains(&value.as_ptr()));
    assert_eq!(
        record.owned_headers().collect::<Vec<_>>(),
        [(Bytes::from("h"), None)]
    );
}

#[test]
fn the_builder_keeps_its_bounds() {
    let options = BatchOptions {
        records_max: 2,
        bytes_max: 100,
        ..BatchOptions::default()
    };
    let big = vec![0; 500];
    let record = |value| NewRecord {
        timestamp: 0,
        key: None,
        value: Some(Pieces::One(value)),
        headers: None,
    };
    let mut builder = BatchBuilder::new(options);
    assert!(builder.is_empty() && !builder.is_full());
    builder.append(&record(&big)).unwrap();
    assert!(
        builder.is_full(),
        "one large record is taken, and fills the batch"
    );
    assert_eq!(builder.append(&record(b"")), Err(BatchError::Full));
    let mut builder = BatchBuilder::new(options);
    builder.append(&record(b"a")).unwrap();
    assert_eq!(builder.append(&record(&big)), Err(BatchError::Full));
    builder.append(&record(b"b")).unwrap();
    assert!(builder.is_full());
    assert_eq!(builder.append(&record(b"c")), Err(BatchError::Full));
    let batch = builder.finish().unwrap();
    assert_eq!(values(&batch), [(0, b"a".to_vec()), (1, b"b".to_vec())]);
    assert_eq!(
        BatchBuilder::new(options).finish().unwrap_err(),
        BatchError::NoRecords
    );
}

#[test]
fn a_value_in_pieces_is_one_value() {
    let pieces = [Bytes::from("he"), Bytes::new(), Bytes::from("llo")];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let record = NewRecord {
        timestamp: 0,
        key: None,
        value: Some(Pieces::Many(&pieces)),
        headers: None,
    };
    builder.append(&record).unwrap();
    assert_eq!(values(&builder.finish().unwrap()), [(0, b"hello".to_vec())]);
}

#[test]
fn retaining_keeps_offsets_and_the_batchs_range() {
    for compression in Compression::ALL {
        let options = BatchOptions {
            base_offset: 10,
            compression,
            ..BatchOptions::default()
        };
        let batch = batch_of(options, &[b"one", b"two", b"three"]);
        let kept = batch.retain(CAP, |record| record.offset == 11).unwrap();
        let verified = kept.verify_stored(CAP).unwrap();
        assert_eq!(values(&kept), [(11, b"two".to_vec())]);
        assert_eq!(verified.max_timestamp, kept.header().max_timestamp);
        assert_eq!(kept.header().next_offset(), 13);
        let none = batch.retain(CAP, |_| false).unwrap();
        assert!(none.verify_stored(CAP).unwrap().records.is_empty());
        assert_eq!(
            (none.header().next_offset(), none.wire_bytes()),
            (13, HEADER_BYTES)
        );
        let all = batch.retain(CAP, |_| true).unwrap();
        assert_eq!(all.to_bytes(), batch.to_bytes());
    }
}

#[test]
fn recompressing_keeps_the_records() {
    let plain = three();
    for from in Compression::ALL {
        let first = plain.recompress(from, None, CAP).unwrap();
        for to in Compression::ALL {
            let second = first.recompress(to, None, CAP).unwrap();
            second.verify_produced(CAP).unwrap();
            assert_eq!(second.header().attributes.compression(), Ok(to));
            assert_eq!(second.records(CAP).unwrap().section(), &plain.section());
        }
    }
}

#[test]
fn expansion_is_capped() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        let bomb = batch_of(options, &[&vec![0; 1 << 20]]);
        let error = bomb.verify_produced(1 << 16).unwrap_err();
        assert_eq!(error, BatchError::ExpandedTooLarge { limit: 1 << 16 });
        assert_eq!(error.kind(), BatchErrorKind::TooLarge);
    }
}
