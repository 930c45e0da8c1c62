//! Looking in from outside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::inspect::{dump, verify};
use omnilog_ledger::{CheckpointStore, Journal, LocalCheckpoints};
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
    journal.close(true).unwrap();
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

#[test]
fn checkpoints_are_inspected_without_a_change() {
    let (files, env) = disk(3);
    let dir = Path::new("/data/checkpoints");
    let store = LocalCheckpoints::open(&env, dir).unwrap();
    for lsn in [5, 9] {
        let mut entries = (0..100u8).map(|key| (vec![key], vec![key; 50]));
        store.write(lsn, &mut entries, &mut || ()).unwrap();
    }
    env.files.open(&dir.join("unfinished")).unwrap();
    let before = env.files.list(dir).unwrap();
    assert_eq!(LocalCheckpoints::inspect(&env, dir).unwrap(), (9, vec![]));
    files.damage(&dir.join(format!("{:020}.ckpt", 9)), 100, 1);
    let (newest, damaged) = LocalCheckpoints::inspect(&env, dir).unwrap();
    assert_eq!((newest, damaged.len()), (5, 1));
    assert_eq!(env.files.list(dir).unwrap(), before);
}
