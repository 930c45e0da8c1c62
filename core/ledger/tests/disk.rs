//! Failing and full disks, cold reads, checkpoints.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::{
    Class, Frame, Journal, JournalError, JournalOptions, LocalJournal, LogRange, RecoveryError,
    ShardId, Space,
};
use std::path::Path;
use std::sync::Arc;
use support::{FILE_BYTES, disk, open, options, push, replay, section, synced};

#[test]
fn a_failed_sync_poisons_and_is_not_retried() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    push(&mut journal, 10);
    journal.submit().unwrap();
    files.fail_sync(0);
    journal.syncer().step();
    assert!(synced(&mut journal).is_err());
    assert!(journal.poll().is_none());
    let syncs = files.syncs();
    assert!(!journal.syncer().step());
    assert_eq!(files.syncs(), syncs);
    let frame = Frame {
        shard: ShardId(0),
        decision: b"x",
        sections: &[],
    };
    assert!(matches!(
        journal.push(&frame, Class::Reserve),
        Err(JournalError::Poisoned)
    ));
}

#[test]
fn a_failed_write_poisons() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    push(&mut journal, 10);
    files.fail_writes(true);
    assert!(journal.submit().is_err());
    assert!(synced(&mut journal).is_err());
    assert!(matches!(
        journal.submit(),
        Ok(()) | Err(JournalError::Poisoned)
    ));
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let (files, env) = disk(1);
    files.set_capacity(5 * FILE_BYTES);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    let mut acknowledged = 0;
    let refused = loop {
        let next = acknowledged + 1;
        let sections = [section(next, 5000)];
        let decision = next.to_le_bytes();
        let frame = Frame {
            shard: ShardId(0),
            decision: &decision,
            sections: &sections,
        };
        if let Err(error) = journal.push(&frame, Class::Reserve) {
            break error;
        }
        journal.submit().unwrap();
        while syncer.step() {}
        acknowledged = synced(&mut journal).unwrap();
        journal.look_at_space();
    };
    assert!(matches!(refused, JournalError::Full), "{refused}");
    assert!(acknowledged > 30);
    // Still not poisoned: with space it goes on.
    files.set_capacity(20 * FILE_BYTES);
    assert_eq!(push(&mut journal, 5000), acknowledged + 1);
    journal.submit().unwrap();
    while syncer.step() {}
    drop(journal);
    files.kill_process();
    let (_, recovery) = open(&files.env(2).0).unwrap();
    assert_eq!(replay(&recovery, 0), acknowledged + 1);
}

#[test]
fn publishers_are_refused_below_the_low_mark_and_acknowledgements_are_not() {
    let (_, env) = disk(1);
    let mut options = options();
    options.low_bytes = 1 << 40;
    let (mut journal, _) =
        LocalJournal::open(&env, Path::new("/data"), options, Arc::new(|| {})).unwrap();
    assert_eq!(journal.space(), Space::Low);
    let frame = Frame {
        shard: ShardId(0),
        decision: b"x",
        sections: &[],
    };
    assert!(matches!(
        journal.push(&frame, Class::Normal),
        Err(JournalError::Full)
    ));
    assert!(journal.push(&frame, Class::Reserve).is_ok());
}

#[test]
fn cold_reads_find_what_was_written_open_and_sealed() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    let mut last = 0;
    while journal.files().len() < 4 {
        last = push(&mut journal, 3000);
        journal.submit().unwrap();
        while syncer.step() {}
        synced(&mut journal).unwrap();
    }
    let check = |reader: &dyn omnilog_ledger::SectionReader| {
        for lsn in 1..=last {
            let wanted = section(lsn, 3000);
            for sequence in [lsn * 2, lsn * 2 + 1] {
                let found = reader.by_sequence(ShardId(0), sequence).unwrap();
                assert_eq!(found.as_ref(), Some(&wanted));
            }
            let offset = wanted.base_offset + 1;
            let found = reader
                .by_offset(
                    LogRange::anywhere(wanted.partition, offset, i64::MAX),
                    1,
                    true,
                )
                .unwrap();
            assert_eq!(found.as_slice(), std::slice::from_ref(&wanted));
            let at = wanted.max_timestamp;
            let found = reader
                .by_time(LogRange::anywhere(wanted.partition, 0, i64::MAX), at)
                .unwrap();
            assert_eq!(found, Some(wanted));
        }
        let all = reader
            .by_offset(LogRange::anywhere(1, 0, i64::MAX), u64::MAX, false)
            .unwrap();
        assert_eq!(all.len() as u64, last / 3);
        // In a gap the next one is found.
        assert_eq!(
            reader
                .by_offset(LogRange::anywhere(1, 0, i64::MAX), 1, true)
                .unwrap(),
            [section(3, 3000)]
        );
        assert_eq!(reader.by_sequence(ShardId(0), last * 2 + 2).unwrap(), None);
        assert_eq!(reader.by_sequence(ShardId(1), 4).unwrap(), None);
    };
    check(&*journal.reader());
    files.kill_process();
    let (journal, _) = open(&files.env(2).0).unwrap();
    check(&*journal.reader());
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before_and_no_longer_counts() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    for _ in 0..3 {
        push(&mut journal, 100);
    }
    journal.submit().unwrap();
    while journal.syncer().step() {}
    let store = journal.checkpoints();
    for lsn in [1, 2] {
        let pairs = (0..5000u32).map(|n| {
            (
                n.to_be_bytes().to_vec(),
                vec![u8::try_from(lsn).unwrap(); 200],
            )
        });
        store
            .write(lsn, &mut pairs.into_iter(), &mut || {})
            .unwrap();
    }
    assert_eq!(store.oldest_lsn(), 1);
    files.kill_process();
    files.damage(
        Path::new("/data/checkpoints/00000000000000000002.ckpt"),
        300_000,
        1,
    );
    let (journal, recovery) = open(&files.env(2).0).unwrap();
    let store = journal.checkpoints();
    let saved = store.load().unwrap().unwrap();
    assert_eq!(saved.lsn, 1);
    assert_eq!(saved.entries.len(), 5000);
    assert!(saved.entries.iter().all(|(_, value)| value == &[1; 200]));
    assert_eq!(replay(&recovery, 1), 3);
    store.write(3, &mut std::iter::empty(), &mut || {}).unwrap();
    assert_eq!(store.oldest_lsn(), 1);
    assert_eq!(store.load().unwrap().unwrap().lsn, 3);
}

/// Where the checkpoint of this frame is.
fn checkpoint(lsn: u64) -> std::path::PathBuf {
    Path::new("/data/checkpoints").join(format!("{lsn:020}.ckpt"))
}

#[test]
fn without_a_whole_checkpoint_the_whole_journal_is_replayed() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    for _ in 0..3 {
        push(&mut journal, 100);
    }
    journal.submit().unwrap();
    while journal.syncer().step() {}
    let pairs = |lsn: u8| (0..2000u32).map(move |n| (n.to_be_bytes().to_vec(), vec![lsn; 200]));
    let store = journal.checkpoints();
    store.write(2, &mut pairs(2), &mut || {}).unwrap();
    files.kill_process();
    files.damage(&checkpoint(2), 300_000, 1);
    let (journal, recovery) = open(&files.env(2).0).unwrap();
    assert_eq!(replay(&recovery, 0), 3);
    let store = journal.checkpoints();
    assert_eq!(store.whole().unwrap(), 0);
    assert_eq!(store.oldest_lsn(), 0);
    store.write(3, &mut pairs(3), &mut || {}).unwrap();
    assert_eq!(store.whole().unwrap(), 3);
}

#[test]
fn frames_that_were_in_a_damaged_checkpoint_only_are_missed() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    while journal.files().len() < 3 {
        push(&mut journal, 3000);
        journal.submit().unwrap();
        while syncer.step() {}
    }
    let last = synced(&mut journal).unwrap();
    let store = journal.checkpoints();
    for lsn in [last - 1, last] {
        store
            .write(lsn, &mut std::iter::empty(), &mut || {})
            .unwrap();
    }
    let first = journal.files()[0].id;
    assert!(journal.delete_file(first).unwrap());
    files.kill_process();
    for lsn in [last - 1, last] {
        files.damage(&checkpoint(lsn), 4, 1);
    }
    for _ in 0..2 {
        // Whoever tries again is told the same.
        let Err(error) = open(&files.env(2).0) else {
            panic!("frames are missing");
        };
        let RecoveryError::Checkpoint {
            checkpoint, lsn, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((checkpoint, lsn), (last, 1));
        files.kill_process();
    }
}

#[test]
fn the_file_ahead_is_prepared_elsewhere() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let mut preparer = journal.preparer();
    assert!(!preparer.step().unwrap());
    while journal.files().len() < 2 {
        push(&mut journal, 5000);
        journal.submit().unwrap();
    }
    journal.look_at_space();
    let used = |files: &omnilog_ledger::sim::SimFiles| {
        omnilog_ledger::Files::list(files, Path::new("/data/journal"))
            .unwrap()
            .len()
    };
    assert_eq!(used(&files), 2);
    while preparer.step().unwrap() {}
    assert_eq!(used(&files), 3);
    files.set_capacity(0);
    while journal.files().len() < 3 {
        push(&mut journal, 5000);
        journal.submit().unwrap();
    }
    assert!(preparer.step().is_err());
    assert_eq!(used(&files), 3);
}

#[test]
fn the_file_ahead_is_hurried_only_while_it_would_come_too_late() {
    let (_, env) = disk(1);
    let options = JournalOptions {
        file_bytes: 8 << 20,
        ..options()
    };
    let opened = LocalJournal::open(&env, Path::new("/data"), options, Arc::new(|| {}));
    let (mut journal, _) = opened.unwrap();
    let mut preparer = journal.preparer();
    assert!(!preparer.hurries(), "it is there");
    let fill = |journal: &mut LocalJournal, until: &dyn Fn(&LocalJournal) -> bool| {
        while !until(journal) {
            push(journal, 100_000);
            journal.submit().unwrap();
        }
    };
    fill(&mut journal, &|journal| journal.files().len() == 2);
    for _ in 0..2 {
        assert!(preparer.step().unwrap(), "pieces of a megabyte");
    }
    assert!(
        !preparer.hurries(),
        "six to write while there is room for eight"
    );
    fill(&mut journal, &|journal| journal.room() < (6 << 20));
    assert!(preparer.hurries());
    while preparer.step().unwrap() {}
    assert!(!preparer.hurries());
}

#[test]
fn a_damaged_batch_is_not_read() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    let syncer = journal.syncer();
    while journal.files().len() < 2 {
        push(&mut journal, 3000);
        journal.submit().unwrap();
        while syncer.step() {}
        synced(&mut journal).unwrap();
    }
    let reader = journal.reader();
    assert!(reader.by_sequence(ShardId(0), 2).unwrap().is_some());
    let range = LogRange {
        files: &[1],
        ..LogRange::anywhere(section(1, 3000).partition, 0, i64::MAX)
    };
    assert_eq!(reader.by_offset(range, 1, true).unwrap().len(), 1);
    files.damage(Path::new("/data/journal/00000001.log"), 2000, 1);
    assert!(reader.by_sequence(ShardId(0), 2).is_err());
    assert!(reader.by_offset(range, 1, true).is_err());
    // Files named wrongly, or gone, are no reason to find nothing.
    for files in [&[2][..], &[99]] {
        let range = LogRange {
            files,
            ..LogRange::anywhere(section(2, 3000).partition, 0, i64::MAX)
        };
        let found = reader.by_offset(range, 1, true).unwrap();
        assert_eq!(found.first().map(|s| s.base_sequence > 0), Some(true));
    }
}

/// A journal with a reserve of four files.
fn with_reserve(env: &omnilog_ledger::Env) -> (LocalJournal, omnilog_ledger::Recovery) {
    let mut options = options();
    options.reserve_bytes = 4 * FILE_BYTES;
    LocalJournal::open(env, Path::new("/data"), options, Arc::new(|| {})).unwrap()
}

fn try_push(journal: &mut LocalJournal, class: Class) -> Result<u64, JournalError> {
    let decision = [7; 5000];
    let frame = Frame {
        shard: ShardId(0),
        decision: &decision,
        sections: &[],
    };
    let lsn = journal.push(&frame, class)?.lsn;
    journal.submit()?;
    while journal.syncer().step() {}
    assert!(synced(journal).is_ok());
    Ok(lsn)
}

#[test]
fn the_reserve_is_claimed_beforehand_and_serves_when_others_have_filled_the_disk() {
    let (files, env) = disk(1);
    let (mut journal, _) = with_reserve(&env);
    assert_eq!(journal.space(), Space::Plenty);
    files.leave_free(0);
    // Active and spare file, and of the reserve all but what a checkpoint and a start need.
    let mut last = 0;
    let refused = loop {
        match try_push(&mut journal, Class::Reserve) {
            Ok(lsn) => last = lsn,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::Full), "{refused}");
    assert!(last > 4 * 10, "{last}");
    assert_eq!(journal.space(), Space::Reserve);
    assert_eq!(journal.look_at_space(), Space::Reserve);
    assert!(matches!(
        try_push(&mut journal, Class::Normal),
        Err(JournalError::Full)
    ));
    // A checkpoint has its space.
    let pairs = (0..100u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 300]));
    let store = journal.checkpoints();
    store
        .write(last, &mut pairs.into_iter(), &mut || {})
        .unwrap();
    // So has a start, whatever was killed.
    files.leave_free(0);
    drop(journal);
    files.kill_process();
    let env = files.env(2).0;
    let (mut journal, recovery) = with_reserve(&env);
    assert_eq!(recovery.last_lsn(), last);
    assert_eq!(try_push(&mut journal, Class::Reserve).unwrap(), last + 1);
    assert_eq!(journal.look_at_space(), Space::Reserve);
    // With space the reserve is claimed again before anything else.
    files.leave_free(20 * FILE_BYTES);
    assert_eq!(journal.look_at_space(), Space::Plenty);
    assert_eq!(try_push(&mut journal, Class::Normal).unwrap(), last + 2);
}

#[test]
fn a_file_with_its_footer_takes_no_more_than_was_claimed() {
    let (files, env) = disk(1);
    let (mut journal, _) = open(&env).unwrap();
    // Small batches: the footer is a good part of the file.
    while journal.files().len() < 3 {
        push(&mut journal, 60);
        journal.submit().unwrap();
        while journal.syncer().step() {}
        synced(&mut journal).unwrap();
    }
    for file in journal.files() {
        assert!(file.bytes <= FILE_BYTES, "{file:?}");
    }
    drop(files);
}
