//! Looking in from outside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::Journal;
use omnilog_ledger::inspect::{dump, verify};
use std::path::Path;
use support::{disk, open, push};

#[test]
fn a_journal_is_dumped_and_verified_without_a_change() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let mut last = 0;
    while journal.files().len() < 3 {
        last = push(&mut journal, 4000);
        journal.submit().unwrap();
        while journal.syncer().step() {}
    }
    journal.close().unwrap();
    files.kill_process();
    let env = files.env(2).0;
    let mut seen = Vec::new();
    dump(&env, Path::new("/data"), &mut |frame| {
        seen.push(frame.lsn);
        true
    })
    .unwrap();
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    let syncs = files.syncs();
    let report = verify(&env, Path::new("/data"), 0).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.last_lsn, last);
    assert!(report.files[0].sealed && report.files[2].clean);
    assert_eq!(files.syncs(), syncs);
    files.damage(Path::new("/data/journal/00000001.log"), 30_000, 1);
    let report = verify(&env, Path::new("/data"), 0).unwrap();
    assert!(
        report.problems[0].contains("00000001.log"),
        "{:?}",
        report.problems
    );
}
