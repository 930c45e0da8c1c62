//! What the fuzz targets check. `tests/fuzz_targets.rs` of the codec runs the same checks as an ordinary test.

use bytes::Bytes;
use omnilog_record::{BatchBuilder, BatchOptions, Compression, NewRecord, Pieces, RecordBatch};

/// The cap on expansion while fuzzing, in bytes.
const EXPANDED_BYTES_MAX: usize = 1 << 18;

/// Arbitrary bytes as one or several batches: whatever is accepted is read to its end and handed on unchanged.
pub fn parse(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut position = 0;
    for batch in RecordBatch::split(bytes.clone()) {
        let Ok(batch) = batch else { break };
        let end = position + batch.wire_bytes();
        assert_eq!(batch.to_bytes(), bytes.slice(position..end));
        position = end;
        read(&batch);
    }
}

/// Arbitrary bytes as the section of a batch with a right CRC, so that the records are reached: the first byte chooses
/// attributes, the second the count.
pub fn section(data: &[u8]) {
    let [attributes, count, section @ ..] = data else {
        return;
    };
    let mut bytes = RecordBatch::empty(0, i64::from(count.saturating_sub(1)))
        .to_bytes()
        .to_vec();
    bytes[22] = *attributes;
    bytes[60] = *count;
    bytes.extend_from_slice(section);
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let Ok(batch) = RecordBatch::parse(Bytes::from(bytes)) else {
        return;
    };
    assert_eq!(batch.verify_crc(), Ok(()));
    read(&batch);
}

/// Arbitrary bytes as compressed data: no panic, and nothing beyond the cap.
pub fn decompress(data: &[u8]) {
    let [id, data @ ..] = data else { return };
    let Ok(compression) = Compression::from_id(id % 5) else {
        return;
    };
    if let Ok(expanded) =
        omnilog_record::compression::decompress(compression, data, EXPANDED_BYTES_MAX)
    {
        assert!(expanded.len() <= EXPANDED_BYTES_MAX);
    }
}

fn read(batch: &RecordBatch) {
    let produced = batch.verify_produced(EXPANDED_BYTES_MAX);
    let stored = batch.verify_stored(EXPANDED_BYTES_MAX);
    assert!(
        produced.is_err() || stored.is_ok(),
        "what a producer may send can be stored"
    );
    let Ok(records) = batch.records(EXPANDED_BYTES_MAX) else {
        return;
    };
    assert!(records.section().len() <= EXPANDED_BYTES_MAX.max(batch.wire_bytes()));
    let table = records.table();
    let (_, most) = records.iter().size_hint();
    let read = records.iter().take_while(Result::is_ok).count();
    assert!(most.is_none_or(|most| read <= most));
    if stored.is_err() {
        return;
    }
    let Ok(table) = table else {
        panic!("a batch that was verified has a table")
    };
    assert_eq!(read, table.len());
    for (index, record) in records.iter_owned().enumerate() {
        let (Ok(record), Ok(Some(again))) = (record, records.get(&table, index)) else {
            panic!("record {index} was read before");
        };
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref()),
            (again.key, again.value)
        );
        assert!(record.headers().eq(again.headers()));
    }
    let kept = batch.retain(EXPANDED_BYTES_MAX, |record| record.offset_delta % 2 == 0);
    assert!(kept.is_ok_and(|kept| kept.verify_stored(EXPANDED_BYTES_MAX).is_ok()));
    if produced.is_ok() {
        rebuild(batch);
    }
}

/// Building from what was read and reading that again gives the same records.
fn rebuild(batch: &RecordBatch) {
    let Ok(records) = batch.records(EXPANDED_BYTES_MAX) else {
        return;
    };
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in records.iter().flatten() {
        let appended = builder.append(&NewRecord {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value.map(Pieces::One),
            headers: record.headers(),
        });
        assert!(appended.is_ok());
    }
    let Ok(rebuilt) = builder.finish() else {
        panic!("a produced batch has records")
    };
    let Ok(verified) = rebuilt.verify_produced(EXPANDED_BYTES_MAX * 2) else {
        panic!("what we build, we accept");
    };
    assert_eq!(verified.records.len(), records.len());
    for (ours, theirs) in verified
        .records
        .iter()
        .flatten()
        .zip(records.iter().flatten())
    {
        assert_eq!((ours.timestamp, ours.key), (theirs.timestamp, theirs.key));
        assert_eq!(ours.value, theirs.value);
        assert!(ours.headers().eq(theirs.headers()));
    }
}
