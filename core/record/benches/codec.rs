//! The codec's hot paths: single-record batches, validation, iteration, offset assignment.

#![expect(clippy::unwrap_used, reason = "a bench of a broken codec may end")]

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use omnilog_record::{
    BatchBuilder, BatchOptions, Compression, Header, NewRecord, Pieces, RecordBatch,
};

const CAP: usize = 16 << 20;

fn main() {
    divan::main();
}

fn batch(compression: Compression, records: usize, value_bytes: usize) -> RecordBatch {
    let value: Vec<u8> = (0..value_bytes)
        .map(|index| (index * 7 % 61) as u8)
        .collect();
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    for index in 0..records {
        let key = (index as u64).to_be_bytes();
        let record = NewRecord {
            timestamp: index as i64,
            key: Some(&key),
            value: Some(Pieces::One(&value)),
            headers: [Header {
                key: b"content-type",
                value: Some(b"text/plain"),
            }],
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap()
}

#[divan::bench(args = [16, 200, 1024])]
fn build_single(bencher: Bencher<'_, '_>, value_bytes: usize) {
    let value = vec![7; value_bytes];
    bencher.bench_local(|| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let record = NewRecord {
            timestamp: black_box(1_700_000_000_000),
            key: Some(&b"eu/created"[..]),
            value: Some(Pieces::One(black_box(&value))),
            headers: [Header {
                key: b"content-type",
                value: Some(b"text/plain"),
            }],
        };
        builder.append(&record).unwrap();
        builder.finish().unwrap()
    });
}

#[divan::bench(args = [1, 100])]
fn parse(bencher: Bencher<'_, '_>, records: usize) {
    let bytes = batch(Compression::None, records, 200).to_bytes();
    bencher.bench_local(|| RecordBatch::parse(black_box(&bytes).clone()).unwrap());
}

#[divan::bench(args = [1, 100])]
fn verify_crc(bencher: Bencher<'_, '_>, records: usize) {
    let batch = batch(Compression::None, records, 200);
    bencher
        .counter(BytesCount::new(batch.wire_bytes()))
        .bench_local(|| black_box(&batch).verify_crc().unwrap());
}

#[divan::bench(args = Compression::ALL)]
fn verify_produced_100(bencher: Bencher<'_, '_>, compression: &Compression) {
    let batch = batch(*compression, 100, 200);
    bencher.bench_local(|| black_box(&batch).verify_produced(CAP).unwrap());
}

#[divan::bench]
fn iterate_100(bencher: Bencher<'_, '_>) {
    let records = batch(Compression::None, 100, 200).records(CAP).unwrap();
    bencher.bench_local(|| {
        black_box(&records)
            .iter()
            .map(|r| r.unwrap().payload_bytes())
            .sum::<usize>()
    });
}

#[divan::bench]
fn table_256(bencher: Bencher<'_, '_>) {
    let records = batch(Compression::None, 256, 200).records(CAP).unwrap();
    bencher.bench_local(|| black_box(&records).table().unwrap());
}

#[divan::bench]
fn assign_and_header_bytes(bencher: Bencher<'_, '_>) {
    let mut batch = batch(Compression::None, 1, 200);
    let mut offset = 0;
    bencher.bench_local(|| {
        offset += 1;
        batch.assign(offset, 3);
        let section: Bytes = batch.section();
        (batch.header_bytes(), section)
    });
}
