//! The real files and a real syncing thread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use omnilog_ledger::{Env, Journal, LocalJournal};
use std::sync::{Arc, mpsc};
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
        wake.recv_timeout(std::time::Duration::from_secs(20))
            .unwrap();
    }
    journal.close(true).unwrap();
    thread.join().unwrap();
    let reopened = LocalJournal::open(&Env::real(), dir.path(), options(), Arc::new(|| {}));
    let (_, recovery) = reopened.unwrap();
    assert!(recovery.clean());
    assert_eq!(replay(&recovery, 0), last);
}
