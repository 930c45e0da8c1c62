//! A small journal on a simulated disk, for the tests beside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses its part"
)]

use bytes::Bytes;
use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{
    Class, Completion, Env, Frame, Journal, JournalOptions, LocalJournal, Lsn, Recovery,
    RecoveryError, Section, ShardId,
};
use std::path::Path;
use std::sync::Arc;

pub const FILE_BYTES: u64 = 64 << 10;

pub fn options() -> JournalOptions {
    JournalOptions {
        file_bytes: FILE_BYTES,
        low_bytes: 0,
        reserve_bytes: 0,
        bytes_max: 0,
        ..JournalOptions::default()
    }
}

pub fn disk(seed: u64) -> (SimFiles, Env) {
    let files = SimFiles::new(seed, 64 << 20);
    let env = files.env(seed).0;
    (files, env)
}

pub fn open(env: &Env) -> Result<(LocalJournal, Recovery), RecoveryError> {
    LocalJournal::open(env, Path::new("/data"), options(), Arc::new(|| {}))
}

/// The n-th frame: everything in it follows from its number.
pub fn section(lsn: Lsn, size: usize) -> Section {
    Section {
        partition: 1 + lsn % 3,
        base_offset: i64::try_from(lsn).unwrap() * 2,
        base_sequence: lsn * 2,
        last_delta: 1,
        max_timestamp: i64::try_from(lsn).unwrap() * 1000,
        envelope: Bytes::from(format!("envelope {lsn}")),
        batch: batch(lsn, size),
    }
}

/// Bytes with a batch's length, version and checksum, where there is room for them.
fn batch(lsn: Lsn, size: usize) -> Bytes {
    let mut batch = vec![u8::try_from(lsn % 251).unwrap(); size];
    if size >= 61 {
        let length = u32::try_from(size - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch.into()
}

pub fn push(journal: &mut dyn Journal, size: usize) -> Lsn {
    let next = decision_next(journal);
    let sections = [section(next, size)];
    let decision = next.to_le_bytes();
    let frame = Frame {
        shard: ShardId(0),
        decision: &decision,
        sections: &sections,
    };
    let lsn = journal.push(&frame, Class::Reserve).unwrap().lsn;
    assert_eq!(lsn, next);
    lsn
}

/// The number that the next frame gets: found by a dry count of what the journal holds and builds.
fn decision_next(journal: &mut dyn Journal) -> Lsn {
    NEXT.with(|next| {
        let mut next = next.borrow_mut();
        let known = journal
            .files()
            .iter()
            .map(|file| file.last_lsn)
            .max()
            .unwrap_or(0);
        if journal.group_bytes() == 0 {
            *next = known;
        }
        *next += 1;
        *next
    })
}

thread_local! {
    static NEXT: std::cell::RefCell<Lsn> = const { std::cell::RefCell::new(0) };
}

/// The last frame reported synced, or the failure.
pub fn synced(journal: &mut dyn Journal) -> Result<Lsn, String> {
    let mut newest = 0;
    while let Some(news) = journal.poll() {
        match news {
            Completion::Synced { last_lsn, .. } => newest = last_lsn,
            Completion::Failed(error) => return Err(error.to_string()),
            Completion::Written { .. } => {}
        }
    }
    Ok(newest)
}

/// Replays and checks that the frames are a run from `after`, each as it was written. Returns the last.
pub fn replay(recovery: &Recovery, after: Lsn) -> Lsn {
    let mut last = after;
    for frame in recovery.frames(after) {
        let frame = frame.unwrap();
        assert_eq!(frame.lsn, last + 1);
        assert_eq!(&frame.decision[..], &frame.lsn.to_le_bytes());
        let section = &frame.sections[0];
        assert_eq!(section, &self::section(frame.lsn, section.batch.len()));
        last = frame.lsn;
    }
    last
}
