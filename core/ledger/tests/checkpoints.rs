//! Checkpoints that lie on each other: what is read back is what each change left, after any loss of power.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use omnilog_ledger::{Change, CheckpointStore, Env, LocalCheckpoints, Lsn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;
use support::disk;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn store(env: &Env) -> LocalCheckpoints {
    LocalCheckpoints::open(env, Path::new("/checkpoints"))
        .unwrap()
        .with_pages(64)
}

fn read(store: &LocalCheckpoints) -> (Lsn, Model) {
    let loaded = store.load().unwrap();
    loaded.map_or((0, Model::new()), |saved| {
        (saved.lsn, saved.entries.into_iter().collect())
    })
}

fn changes(dice: &mut ChaCha8Rng, model: &mut Model, few: bool) -> Vec<Change> {
    let mut changes = BTreeMap::new();
    let count = if few {
        dice.random_range(0..4)
    } else {
        dice.random_range(0..200)
    };
    for _ in 0..count {
        let owner = vec![dice.random_range(0..40u8)];
        let mut put = |key: Vec<u8>, value: Option<Vec<u8>>, clears: bool| {
            match &value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(&key),
            };
            changes.insert(key.clone(), Change { key, value, clears });
        };
        if owner[0] < 30 {
            let value = dice.random_bool(0.8).then(|| vec![dice.random(); 20]);
            put(owner, value, false);
            continue;
        }
        // Something in several parts, all of which are written or gone together.
        let mut parts: Vec<Vec<u8>> = (0..dice.random_range(0..5u8))
            .map(|part| vec![owner[0], part])
            .collect();
        parts.retain(|_| dice.random_bool(0.7));
        let gone = dice.random_bool(0.2);
        put(owner.clone(), (!gone).then(|| vec![1]), true);
        for part in parts {
            if !gone {
                put(part, Some(vec![dice.random(); 9]), false);
            }
        }
    }
    changes.into_values().collect()
}

/// Takes everything that begins with a cleared key from a model, but what the change puts there.
fn clear(model: &mut Model, changes: &[Change]) {
    for change in changes.iter().filter(|change| change.clears) {
        let put = |key: &Vec<u8>| changes.iter().any(|other| other.key == *key);
        model.retain(|key, _| !key.starts_with(&change.key) || put(key));
    }
}

#[test]
fn what_each_change_left_is_read_back_after_any_loss_of_power() {
    for seed in 0..300 {
        let (files, env) = disk(seed);
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut written: BTreeMap<Lsn, Model> = BTreeMap::from([(0, Model::new())]);
        let mut newest = 0;
        let mut below_most = 0;
        for _ in 0..5 {
            let store = store(&env);
            let (lsn, found) = read(&store);
            assert!(lsn >= newest, "seed {seed}");
            assert_eq!(Some(&found), written.get(&lsn), "seed {seed}");
            let (mut below, mut model) = (lsn, found);
            for _ in 0..dice.random_range(0..12) {
                let few = dice.random_bool(0.7);
                let changes = changes(&mut dice, &mut model, few);
                clear(&mut model, &changes);
                let bytes: usize = changes.iter().map(|change| change.key.len() + 20).sum();
                let lsn = below + dice.random_range(1..5);
                // What was never finished may come back under a number that is used again.
                written.split_off(&(below + 1));
                written.insert(lsn, model.clone());
                let mut changes = changes.into_iter();
                store
                    .write_changes(below, lsn, &mut changes, bytes as u64, &mut || ())
                    .unwrap();
                newest = lsn;
                below = lsn;
                assert_eq!(read(&store), (lsn, model.clone()), "seed {seed}");
                below_most =
                    below_most.max(env.files.list(Path::new("/checkpoints")).unwrap().len());
            }
            assert!(below_most <= 9, "seed {seed}: {below_most} objects");
            if dice.random_bool(0.7) {
                files.lose_power();
            } else {
                files.kill_process();
            }
        }
    }
}

#[test]
fn a_small_change_of_a_large_state_is_a_small_object() {
    let (_, env) = disk(1);
    let store = LocalCheckpoints::open(&env, Path::new("/checkpoints")).unwrap();
    let mut all = (0..100_000u32).map(|key| (key.to_be_bytes().to_vec(), vec![7; 100]));
    store.write(1, &mut all, &mut || ()).unwrap();
    let whole = store.bytes();
    for lsn in 2..200 {
        let mut changes = (0..10u32).map(|key| Change {
            key: (key * 1000).to_be_bytes().to_vec(),
            value: Some(vec![8; 100]),
            clears: false,
        });
        store
            .write_changes(lsn - 1, lsn, &mut changes, 1000, &mut || ())
            .unwrap();
    }
    assert!(store.bytes() < whole + whole / 50);
    let (lsn, found) = read(&store);
    assert_eq!((lsn, found.len()), (199, 100_000));
    assert_eq!(found[&5000u32.to_be_bytes().to_vec()], vec![8; 100]);
}
