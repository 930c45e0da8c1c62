//! What pushing a frame and handing on a group cost the sequencer, the disk's own time left out.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use bytes::Bytes;
use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{Class, Frame, Journal, JournalOptions, LocalJournal, Section, ShardId};
use std::path::Path;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// A group of 64 frames, written and synced to memory.
#[divan::bench(args = [128, 1024, 16384])]
fn group_of_64(bencher: divan::Bencher<'_, '_>, batch_bytes: usize) {
    let env = SimFiles::new(1, u64::MAX).env(1).0;
    let options = JournalOptions {
        low_bytes: 0,
        reserve_bytes: 0,
        ..JournalOptions::default()
    };
    let (mut journal, recovery) =
        LocalJournal::open(&env, Path::new("/data"), options, Arc::new(|| {})).unwrap();
    drop(recovery);
    let syncer = journal.syncer();
    let batch = Bytes::from(vec![7; batch_bytes]);
    let mut sequence = 0;
    bencher
        .counter(divan::counter::ItemsCount::new(64u32))
        .bench_local(|| {
            for _ in 0..64 {
                sequence += 1;
                let sections = [Section {
                    partition: 1,
                    base_offset: 0,
                    base_sequence: sequence,
                    last_delta: 0,
                    max_timestamp: 0,
                    envelope: Bytes::new(),
                    batch: batch.clone(),
                }];
                let frame = Frame {
                    shard: ShardId(0),
                    decision: b"decision",
                    sections: &sections,
                };
                journal.push(&frame, Class::Normal).unwrap();
            }
            journal.submit().unwrap();
            syncer.step();
            while journal.poll().is_some() {}
        });
}
