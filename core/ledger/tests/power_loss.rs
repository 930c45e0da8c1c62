//! Power is lost at any point: what was reported synced is there, in order, and nothing is invented.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::{Journal, Pair};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{disk, open, push, replay, synced};

fn one_life(seed: u64) {
    let (files, env) = disk(seed);
    let mut dice = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let mut acknowledged = 0;
    let mut checkpoint = 0;
    let mut epoch = 0;
    for _ in 0..6 {
        let (mut journal, recovery) =
            open(&env).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let saved = journal.checkpoints().load().unwrap();
        let from = saved.map_or(0, |saved| {
            assert!(saved.lsn >= checkpoint, "seed {seed}");
            saved.lsn
        });
        let last = replay(&recovery, from);
        assert!(
            last >= acknowledged,
            "seed {seed}: {last} of {acknowledged} are left"
        );
        assert_eq!(last, recovery.last_lsn());
        assert!(journal.epoch() > epoch, "seed {seed}");
        epoch = journal.epoch();
        acknowledged = last;
        drop(recovery);
        for _ in 0..dice.random_range(0..60) {
            match dice.random_range(0..12) {
                0..6 => {
                    push(&mut journal, dice.random_range(1..6000));
                }
                6..9 => journal.submit().unwrap(),
                9..11 => {
                    journal.syncer().step();
                }
                _ => {
                    let files = journal.files();
                    for file in files {
                        journal.delete_file(file.id).unwrap();
                    }
                    if acknowledged > checkpoint {
                        let pair: Pair = (b"k".to_vec(), acknowledged.to_le_bytes().to_vec());
                        let store = journal.checkpoints();
                        store
                            .write(acknowledged, &mut std::iter::once(pair), &mut || {})
                            .unwrap();
                        checkpoint = acknowledged;
                    }
                }
            }
            acknowledged = acknowledged.max(synced(&mut journal).unwrap());
        }
        if dice.random_bool(0.2) {
            journal.close(true).unwrap();
            acknowledged = acknowledged.max(synced(&mut journal).unwrap());
        }
        drop(journal);
        if dice.random_bool(0.8) {
            files.lose_power();
        } else {
            files.kill_process();
        }
    }
}

#[test]
fn what_was_synced_survives_in_order() {
    for seed in 0..400 {
        one_life(seed);
    }
}
