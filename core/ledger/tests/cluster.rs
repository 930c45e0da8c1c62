//! Clustering: what lives is found as before, what is dead gives its space back, and power may be lost at any point.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::format::Entry;
use omnilog_ledger::{
    COPIES, Clustering, Journal, Judge, LocalJournal, LogRange, Pair, Plan, Section, ShardId,
    is_clustered,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::io;
use support::{disk, open, push, section, synced};

/// Frames of which the section lives; of every third only a part of its bytes is kept.
#[derive(Clone, Default)]
struct Living(BTreeSet<u64>);

fn cut(section: &Section) -> Section {
    let mut section = section.clone();
    let half = section.batch.len().div_ceil(2);
    section.batch = self::section(section.base_sequence / 2, half).batch;
    section
}

impl Judge for Living {
    fn weigh(&mut self, entry: &Entry) -> u32 {
        if self.0.contains(&(entry.base_sequence / 2)) {
            entry.length
        } else {
            0
        }
    }
    fn plan(&mut self, entry: &Entry, places: &mut Vec<Plan>) {
        let lsn = entry.base_sequence / 2;
        if self.0.contains(&lsn) {
            places.push(Plan {
                partition: entry.partition,
                whole: !lsn.is_multiple_of(3),
            });
        }
    }
    fn rewrite(&mut self, _: ShardId, _: &Plan, section: Section) -> io::Result<Option<Section>> {
        Ok(Some(cut(&section)))
    }
    fn study(&mut self, _: &Entry, _: &Section) -> io::Result<()> {
        Ok(())
    }
    fn sound(&self, section: &Section) -> bool {
        is_of(section, section.base_sequence / 2)
    }
    fn studies(&mut self, _: &Entry) -> bool {
        false
    }
}

fn checkpoint(journal: &LocalJournal, lsn: u64) {
    let pair: Pair = (b"k".to_vec(), lsn.to_le_bytes().to_vec());
    let store = journal.checkpoints();
    store
        .write(lsn, &mut std::iter::once(pair), &mut || {})
        .unwrap();
}

/// Files that may be clustered.
fn candidates(journal: &LocalJournal) -> Vec<u32> {
    let passed = journal.checkpoints().oldest_lsn();
    let replaced = journal
        .files()
        .into_iter()
        .filter(|file| file.sealed && file.last_lsn <= passed)
        .map(|file| file.id);
    let clusters = journal.clusters().unwrap().files();
    replaced.chain(clusters.into_keys()).collect()
}

fn begin(journal: &LocalJournal, files: &[u32]) -> Clustering {
    journal.clusters().unwrap().cluster(files).unwrap()
}

/// Is this the section of that frame, whole or what clustering left of it?
fn is_of(found: &Section, lsn: u64) -> bool {
    found == &section(lsn, found.batch.len())
}

/// Every living record is found under its sequence and in its partition, in order.
fn check(journal: &LocalJournal, living: &Living, last: u64, seed: u64) {
    let reader = journal.reader();
    for lsn in living.0.range(..=last) {
        for sequence in [lsn * 2, lsn * 2 + 1] {
            let found = reader.by_sequence(ShardId(0), sequence).unwrap();
            let found = found.unwrap_or_else(|| panic!("seed {seed}: frame {lsn} is lost"));
            assert!(is_of(&found, *lsn), "seed {seed}: frame {lsn}");
        }
    }
    for partition in 1..4 {
        let sections = reader.by_offset(LogRange::anywhere(partition, 0, i64::MAX), u64::MAX, true);
        let found: Vec<u64> = sections
            .unwrap()
            .iter()
            .map(|section| section.base_sequence / 2)
            .collect();
        assert!(found.is_sorted_by(|a, b| a < b), "seed {seed}: {found:?}");
        let missing = living
            .0
            .range(..=last)
            .find(|lsn| 1 + **lsn % 3 == partition && !found.contains(*lsn));
        assert_eq!(missing, None, "seed {seed}: partition {partition}");
    }
}

fn one_life(seed: u64) {
    let (files, env) = disk(seed);
    let mut dice = ChaCha8Rng::seed_from_u64(seed ^ 0xc105);
    let mut living = Living::default();
    let mut written = 0;
    for _ in 0..5 {
        let (mut journal, recovery) =
            open(&env).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        // What was not synced may be gone; the numbers are given again.
        living.0.retain(|lsn| *lsn <= recovery.last_lsn());
        let mut acknowledged = recovery.last_lsn();
        check(&journal, &living, acknowledged, seed);
        let from = journal
            .checkpoints()
            .load()
            .unwrap()
            .map_or(0, |saved| saved.lsn);
        let mut checkpointed = from;
        for frame in recovery.frames(from) {
            frame.unwrap();
        }
        drop(recovery);
        let mut job = None;
        for _ in 0..dice.random_range(0..150) {
            match dice.random_range(0..14) {
                0..6 => {
                    written = push(&mut journal, dice.random_range(1..6000));
                    living.0.insert(written);
                }
                6..8 => journal.submit().unwrap(),
                8..10 => {
                    journal.syncer().step();
                }
                10 if acknowledged > checkpointed => {
                    checkpoint(&journal, acknowledged);
                    checkpointed = acknowledged;
                }
                11 => {
                    // What dies must be durable, and stays dead.
                    living
                        .0
                        .retain(|lsn| *lsn > acknowledged || dice.random_bool(0.7));
                }
                12 if job.is_none() => {
                    let mut chosen = candidates(&journal);
                    chosen.retain(|_| dice.random_bool(0.7));
                    job = Some((begin(&journal, &chosen), living.clone()));
                }
                _ => {
                    if let Some((clustering, judge)) = &mut job
                        && !clustering.step(judge, 8000).unwrap()
                    {
                        job = None;
                        check(&journal, &living, acknowledged, seed);
                    }
                    if dice.random_bool(0.3) {
                        journal.reclaim().unwrap();
                    }
                }
            }
            acknowledged = acknowledged.max(synced(&mut journal).unwrap());
        }
        assert!(written >= acknowledged);
        drop(job);
        drop(journal);
        if dice.random_bool(0.8) {
            files.lose_power();
        } else {
            files.kill_process();
        }
    }
}

#[test]
fn what_lives_survives_clustering_and_any_loss_of_power() {
    for seed in 0..300 {
        one_life(seed);
    }
}

#[test]
fn one_living_record_among_many_pins_its_own_bytes_only() {
    let (_, env) = disk(1);
    let (mut journal, recovery) = open(&env).unwrap();
    drop(recovery);
    let mut last = 0;
    for _ in 0..400 {
        last = push(&mut journal, 4000);
        journal.submit().unwrap();
    }
    while journal.syncer().step() {}
    synced(&mut journal).unwrap();
    checkpoint(&journal, last - 1);
    checkpoint(&journal, last);
    let mut living = Living([7, last].into());
    let files = candidates(&journal);
    assert!(files.len() > 20);
    let mut job = begin(&journal, &files);
    while job.step(&mut living, 16 << 10).unwrap() {}
    while journal.reclaim().unwrap() {}
    check(&journal, &living, last, 0);
    let clusters = journal.clusters().unwrap();
    assert_eq!(clusters.files().len(), 1);
    assert!(clusters.bytes() < 8 << 10, "{} bytes", clusters.bytes());
    assert_eq!(journal.files().len(), 1, "all sealed files are gone");
    // When it dies too, nothing is left.
    let files = candidates(&journal);
    assert!(files.iter().all(|file| is_clustered(*file)));
    let mut job = begin(&journal, &files);
    while job.step(&mut Living::default(), 16 << 10).unwrap() {}
    assert_eq!(clusters.bytes(), 0);
}

#[test]
fn a_full_disk_ends_a_job_and_changes_nothing() {
    let (files, env) = disk(2);
    let (mut journal, recovery) = open(&env).unwrap();
    drop(recovery);
    let mut living = Living::default();
    for _ in 0..100 {
        living.0.insert(push(&mut journal, 4000));
        journal.submit().unwrap();
    }
    while journal.syncer().step() {}
    synced(&mut journal).unwrap();
    checkpoint(&journal, 99);
    checkpoint(&journal, 100);
    let chosen = candidates(&journal);
    let claimed = (64 << 20) - env.files.available(std::path::Path::new("/data")).unwrap();
    files.set_capacity(claimed + 20_000);
    let mut job = begin(&journal, &chosen);
    let error = loop {
        match job.step(&mut living.clone(), 8000) {
            Ok(more) => assert!(more, "the disk was to be full"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    drop(job);
    check(&journal, &living, 100, 2);
    files.set_capacity(64 << 20);
    let mut job = begin(&journal, &chosen);
    while job.step(&mut living, 8000).unwrap() {}
    check(&journal, &living, 100, 2);
}

/// Copies what ends up to an offset of partition 1 and keeps nothing else of it; all the rest stays.
struct Copying(i64);

const COPY: u64 = COPIES | 9;

impl Judge for Copying {
    fn weigh(&mut self, entry: &Entry) -> u32 {
        entry.length
    }
    fn plan(&mut self, entry: &Entry, places: &mut Vec<Plan>) {
        let copied = entry.partition == 1 && entry.end() <= self.0;
        places.push(Plan {
            partition: if copied { COPY } else { entry.partition },
            whole: true,
        });
    }
    fn rewrite(&mut self, _: ShardId, _: &Plan, section: Section) -> io::Result<Option<Section>> {
        Ok(Some(section))
    }
    fn study(&mut self, _: &Entry, _: &Section) -> io::Result<()> {
        Ok(())
    }
    fn sound(&self, _: &Section) -> bool {
        true
    }
    fn studies(&mut self, _: &Entry) -> bool {
        false
    }
}

#[test]
fn copies_are_read_in_place_of_what_is_left_as_far_as_they_reach() {
    let (files, env) = disk(3);
    let (mut journal, recovery) = open(&env).unwrap();
    drop(recovery);
    let mut last = 0;
    for _ in 0..120 {
        last = push(&mut journal, 2000);
        journal.submit().unwrap();
    }
    while journal.syncer().step() {}
    synced(&mut journal).unwrap();
    checkpoint(&journal, last - 1);
    checkpoint(&journal, last);
    let offsets = |journal: &LocalJournal, copies: Option<u64>, from: i64, files: &[u32]| {
        let range = LogRange {
            copies,
            files,
            ..LogRange::anywhere(1, from, i64::MAX)
        };
        let mut found = Vec::new();
        let reader = journal.reader();
        reader
            .walk(range, &mut |entry| {
                found.push(entry.base_offset);
                true
            })
            .unwrap();
        found
    };
    let all = offsets(&journal, None, 0, &[]);
    assert!(all.len() > 30 && all.is_sorted_by(|a, b| a < b), "{all:?}");
    let newest = journal.files().last().unwrap().id;
    for share in [3, 2] {
        let until = all[all.len() / share];
        let mut job = begin(&journal, &candidates(&journal));
        while job.step(&mut Copying(until), 16 << 10).unwrap() {}
        let clusters = journal.clusters().unwrap();
        assert_eq!(clusters.copied(COPY), Some(all[all.len() / share - 1] + 2));
        let left = offsets(&journal, None, 0, &[]);
        assert_eq!(left, all[all.len() / share..]);
        for (at, offset) in all.iter().enumerate() {
            let found = offsets(&journal, Some(COPY), *offset, &[]);
            assert_eq!(found, all[at..]);
            // So it is when files are named that have little of it, or nothing.
            let found = offsets(&journal, Some(COPY), *offset, &[newest]);
            assert!(
                !found.is_empty() && all[at..].starts_with(&found),
                "{found:?}"
            );
        }
    }
    drop(journal);
    files.lose_power();
    let (journal, _recovery) = open(&env).unwrap();
    let clusters = journal.clusters().unwrap();
    assert_eq!(clusters.copied(COPY), Some(all[all.len() / 2 - 1] + 2));
    let ends = clusters.take_ends();
    assert!(ends.contains_key(&1) && !ends.contains_key(&COPY));
    assert_eq!(offsets(&journal, Some(COPY), 0, &[]), all);
}
