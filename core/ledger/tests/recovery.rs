//! Torn tails are cut off; damage is refused, and nothing is changed by refusing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{Journal, RecoveryError};
use std::path::Path;
use support::{FILE_BYTES, disk, open, push, replay, synced};

const FIRST: &str = "/data/journal/00000001.log";

fn sync(journal: &mut dyn Journal, syncer: &omnilog_ledger::Syncer) {
    journal.submit().unwrap();
    while syncer.step() {}
    synced(journal).unwrap();
}

/// Ten frames, each a group of its own, each synced.
fn ten_groups() -> SimFiles {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    for _ in 0..10 {
        push(&mut journal, 100);
        sync(&mut journal, &syncer);
    }
    files.kill_process();
    files
}

fn reopened(files: &SimFiles) -> Result<u64, RecoveryError> {
    let env = files.env(2).0;
    let (_, recovery) = open(&env)?;
    Ok(replay(&recovery, 0))
}

#[test]
fn a_torn_last_group_is_cut_off_wherever_it_is_torn() {
    let files = ten_groups();
    // The tenth group lies in the eleventh sector: 36 bytes of header and its frame.
    let used = 36 + 24 + 44 + "envelope 10".len() + 100 + 8;
    for byte in 0..used {
        let copy = files.image(3);
        copy.damage(Path::new(FIRST), 512 * 10 + byte, 0x40);
        assert_eq!(reopened(&copy).unwrap(), 9, "byte {byte}");
    }
    assert_eq!(reopened(&files).unwrap(), 10);
}

#[test]
fn damage_before_what_was_declared_durable_is_refused_and_nothing_changes() {
    let files = ten_groups();
    files.damage(Path::new(FIRST), 512 * 5 + 100, 1);
    for _ in 0..2 {
        let Err(RecoveryError::Damaged {
            file,
            position,
            lsn,
        }) = reopened(&files)
        else {
            panic!("accepted");
        };
        assert_eq!((file.as_path(), lsn), (Path::new(FIRST), 5));
        assert!((512 * 5..512 * 6).contains(&position));
    }
    // With the bit put right everything is there.
    files.damage(Path::new(FIRST), 512 * 5 + 100, 1);
    assert_eq!(reopened(&files).unwrap(), 10);
}

#[test]
fn a_frame_lost_from_an_unsynced_group_is_a_torn_tail() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    for _ in 0..8 {
        push(&mut journal, 600);
    }
    journal.submit().unwrap();
    files.kill_process();
    files.damage(Path::new(FIRST), 512 + 36 + 3 * 690, 0xff);
    let kept = reopened(&files).unwrap();
    assert!((2..4).contains(&kept), "{kept}");
    assert_eq!(reopened(&files).unwrap(), kept);
}

#[test]
fn a_damaged_file_header_is_damage() {
    let files = ten_groups();
    files.damage(Path::new(FIRST), 20, 1);
    assert!(matches!(
        reopened(&files),
        Err(RecoveryError::Damaged { .. })
    ));
}

#[test]
fn a_checkpoint_declares_what_it_holds_durable() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    push(&mut journal, 100);
    sync(&mut journal, &syncer);
    journal
        .checkpoints()
        .write(1, &mut std::iter::empty(), &mut || {})
        .unwrap();
    files.kill_process();
    files.damage(Path::new(FIRST), 512 + 80, 1);
    assert!(matches!(
        reopened(&files),
        Err(RecoveryError::Damaged { lsn: 1, .. })
    ));
}

#[test]
fn stale_frames_of_a_recycled_file_are_not_taken() {
    let (files, env) = disk(1);
    let (mut journal, recovery) = open(&env).unwrap();
    drop(recovery);
    let syncer = journal.syncer();
    let mut last = 0;
    while journal.files().len() < 6 {
        last = push(&mut journal, 5000);
        sync(&mut journal, &syncer);
    }
    journal
        .checkpoints()
        .write(last - 1, &mut std::iter::empty(), &mut || {})
        .unwrap();
    journal
        .checkpoints()
        .write(last, &mut std::iter::empty(), &mut || {})
        .unwrap();
    let sealed: Vec<u32> = journal
        .files()
        .iter()
        .filter(|f| f.sealed)
        .map(|f| f.id)
        .collect();
    let deleted = sealed
        .iter()
        .filter(|id| journal.delete_file(**id).unwrap())
        .count();
    assert!(deleted > 0);
    while journal.files().last().unwrap().id < 12 {
        last = push(&mut journal, 5000);
        sync(&mut journal, &syncer);
    }
    files.kill_process();
    let env = files.env(2).0;
    let (_, recovery) = open(&env).unwrap();
    assert_eq!(recovery.last_lsn(), last);
}

#[test]
fn a_sealed_file_that_rots_is_not_replayed_in_part() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    while journal.files().len() < 3 {
        push(&mut journal, 5000);
        sync(&mut journal, &syncer);
    }
    files.kill_process();
    files.damage(
        Path::new(FIRST),
        usize::try_from(FILE_BYTES / 2).unwrap(),
        1,
    );
    let env = files.env(2).0;
    let (_, recovery) = open(&env).unwrap();
    assert!(recovery.frames(0).any(|frame| frame.is_err()));
}

#[test]
fn a_clean_stop_is_known_and_epochs_grow() {
    let (files, env) = disk(1);
    let (mut journal, recovery) = open(&env).unwrap();
    assert!(!recovery.clean());
    let first = journal.epoch();
    push(&mut journal, 10);
    journal.close(true).unwrap();
    files.kill_process();
    let (journal, recovery) = open(&files.env(2).0).unwrap();
    assert!(recovery.clean());
    assert_eq!(journal.epoch(), first + 1);
    files.kill_process();
    let (journal, recovery) = open(&files.env(3).0).unwrap();
    assert!(!recovery.clean());
    assert_eq!(journal.epoch(), first + 2);
}
