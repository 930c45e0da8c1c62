//! What goes into a batch comes out of it, whatever it is and however it is compressed.

#![expect(clippy::unwrap_used, reason = "a batch that is refused fails the test")]

use omnilog_record::{
    BatchBuilder, BatchOptions, Compression, Header, NewRecord, Pieces, RecordBatch,
};
use proptest::prelude::*;

const CAP: usize = 1 << 20;

type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;
type Sample = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Headers);

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..100)
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    // Few names, so that they repeat.
    let name = prop_oneof![Just(b"a".to_vec()), Just(Vec::new()), bytes()];
    let headers = proptest::collection::vec((name, proptest::option::of(bytes())), 0..6);
    let sample = (
        any::<i64>(),
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        headers,
    );
    proptest::collection::vec(sample, 1..20)
}

fn build(samples: &[Sample], options: BatchOptions) -> RecordBatch {
    let mut builder = BatchBuilder::new(options);
    for (timestamp, key, value, headers) in samples {
        let record = NewRecord {
            timestamp: *timestamp,
            key: key.as_deref(),
            value: value.as_deref().map(Pieces::One),
            headers: headers.iter().map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            }),
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap()
}

fn read(batch: &RecordBatch) -> Vec<Sample> {
    batch
        .verify_stored(CAP)
        .unwrap()
        .records
        .iter_owned()
        .map(Result::unwrap)
        .map(|record| {
            let headers = record
                .owned_headers()
                .map(|(key, value)| (key.to_vec(), value.map(|value| value.to_vec())))
                .collect();
            let bytes = |bytes: Option<bytes::Bytes>| bytes.map(|bytes| bytes.to_vec());
            (
                record.timestamp,
                bytes(record.key),
                bytes(record.value),
                headers,
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn records_round_trip(samples in samples(), id in 0_u8..5, base_offset: i64) {
        let compression = Compression::from_id(id).unwrap();
        let options = BatchOptions { compression, base_offset, ..BatchOptions::default() };
        let batch = build(&samples, options);
        let again = RecordBatch::parse(batch.to_bytes()).unwrap();
        prop_assert_eq!(again.header(), batch.header());
        prop_assert_eq!(read(&again), samples);
    }

    #[test]
    fn header_bytes_round_trip(header: [[u8; 20]; 3], last: u8) {
        let mut bytes = [last; 61];
        bytes[..60].copy_from_slice(header.as_flattened());
        prop_assert_eq!(omnilog_record::BatchHeader::decode(&bytes).encode(), bytes);
    }

    #[test]
    fn patches_survive_storage(samples in samples(), base_offset: i64, epoch: i32, time: i64) {
        let mut batch = build(&samples, BatchOptions::default());
        batch.stamp_log_append_time(time);
        batch.assign(base_offset, epoch);
        let again = RecordBatch::parse(batch.to_bytes()).unwrap();
        prop_assert_eq!(again.header().base_offset, base_offset);
        prop_assert_eq!(again.header().leader_epoch, epoch);
        for (record, sample) in read(&again).iter().zip(&samples) {
            prop_assert_eq!(record.0, time);
            prop_assert_eq!((&record.1, &record.2, &record.3), (&sample.1, &sample.2, &sample.3));
        }
    }

    #[test]
    fn recompression_and_compaction_keep_what_stays(
        samples in samples(),
        from in 0_u8..5,
        to in 0_u8..5,
    ) {
        let options = BatchOptions {
            compression: Compression::from_id(from).unwrap(),
            ..BatchOptions::default()
        };
        let batch = build(&samples, options)
            .recompress(Compression::from_id(to).unwrap(), None, CAP)
            .unwrap();
        let kept = batch.retain(CAP, |record| record.offset % 3 == 0).unwrap();
        let expected: Vec<_> = samples.iter().step_by(3).cloned().collect();
        prop_assert_eq!(read(&kept), expected);
        prop_assert_eq!(kept.header().next_offset(), samples.len() as i64);
    }
}
