//! The real files and a real syncing thread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use omnilog_ledger::{Env, Journal, LocalJournal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::{options, push, replay, synced};

#[test]
fn a_journal_on_a_real_disk_is_synced_by_its_thread_and_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let (news, wake) = mpsc::channel();
    let waker = Arc::new(move || news.send(()).unwrap_or_default());
    let (mut journal, _) = LocalJournal::open(&Env::real(), dir.path(), options(), waker).unwrap();
    let syncer = journal.syncer();
    let thread = std::thread::spawn(move || syncer.run());
    let mut last = 0;
    for _ in 0..50 {
        last = push(&mut journal, 3000);
        journal.submit().unwrap();
    }
    while synced(&mut journal).unwrap() < last {
        wake.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    journal.close(true).unwrap();
    thread.join().unwrap();
    let reopened = LocalJournal::open(&Env::real(), dir.path(), options(), Arc::new(|| {}));
    let (_, recovery) = reopened.unwrap();
    assert!(recovery.clean());
    assert_eq!(replay(&recovery, 0), last);
}

#[test]
fn files_are_begun_while_others_are_prepared_and_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let open = || LocalJournal::open(&Env::real(), dir.path(), options(), Arc::new(|| {}));
    let (mut journal, _) = open().unwrap();
    let syncer = journal.syncer();
    let mut preparer = journal.preparer();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            preparer.step().unwrap();
        }
    });
    let begun = Instant::now();
    let mut last = 0;
    let mut deleted = 0;
    while last < 20_000 && begun.elapsed() < Duration::from_secs(5) {
        last = push(&mut journal, 3000);
        journal.submit().unwrap();
        if last.is_multiple_of(240) {
            while syncer.step() {}
            synced(&mut journal).unwrap();
            let store = journal.checkpoints();
            for lsn in [last - 1, last] {
                store
                    .write(lsn, &mut std::iter::empty(), &mut || ())
                    .unwrap();
            }
            for file in journal.files().iter().filter(|file| file.sealed) {
                deleted += u32::from(journal.delete_file(file.id).unwrap());
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    assert!(deleted > 10, "{deleted}");
    journal.close(true).unwrap();
    let (_, recovery) = open().unwrap();
    assert_eq!(recovery.last_lsn(), last);
}

/// Bytes that this thread has had the system read from a disk.
#[cfg(target_os = "linux")]
fn read_from_disk() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = counts
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    line.unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn writing_reads_nothing_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let open = || LocalJournal::open(&Env::real(), dir.path(), options(), Arc::new(|| {}));
    let (mut journal, _) = open().unwrap();
    let mut preparer = journal.preparer();
    let before = read_from_disk();
    let mut last = 0;
    for bytes in (100..5000).step_by(7) {
        last = push(&mut journal, bytes);
        journal.submit().unwrap();
        while preparer.step().unwrap() {}
    }
    assert!(journal.files().len() > 2, "files that were prepared");
    assert_eq!(read_from_disk() - before, 0);
    journal.close(true).unwrap();
    let (_, recovery) = open().unwrap();
    assert_eq!(replay(&recovery, 0), last);
}
