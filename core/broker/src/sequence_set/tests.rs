//! The set against the standard library's, over random operations on clustered sequences.

use super::SequenceSet;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Operation {
    Insert(u64, u64),
    Remove(u64, u64),
    Sparse(u64),
    Pop,
}

fn operation() -> impl Strategy<Value = Operation> {
    let near_borders = prop_oneof![0u64..300, 65_400u64..65_700, 131_000u64..131_200];
    prop_oneof![
        (near_borders.clone(), 0u64..200).prop_map(|(at, count)| Operation::Insert(at, at + count)),
        (near_borders.clone(), 0u64..200).prop_map(|(at, count)| Operation::Remove(at, at + count)),
        near_borders.prop_map(Operation::Sparse),
        Just(Operation::Pop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_behaves_like_a_set(operations in prop::collection::vec(operation(), 0..60)) {
        let mut set = SequenceSet::default();
        let mut model = BTreeSet::new();
        for operation in operations {
            match operation {
                Operation::Insert(first, last) => {
                    set.insert_run(first, last);
                    model.extend(first..=last);
                }
                Operation::Remove(first, last) => {
                    let before = model.len();
                    model.retain(|at| !(first..=last).contains(at));
                    prop_assert_eq!(set.remove_run(first, last), (before - model.len()) as u64);
                }
                Operation::Sparse(at) => {
                    // Every second of 4,400: more runs than a list of them holds.
                    for sequence in (at..at + 4400).step_by(2) {
                        set.insert(sequence);
                        model.insert(sequence);
                    }
                }
                Operation::Pop => prop_assert_eq!(set.pop_first(), model.pop_first()),
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.first(), model.first().copied());
            prop_assert_eq!(
                set.first_at_or_after(65_536),
                model.range(65_536..).next().copied()
            );
            for from in [0, 50, 65_500, 131_050] {
                let runs = set.runs_from(from);
                prop_assert!(
                    runs.flat_map(|(first, last)| first..=last)
                        .eq(model.range(from..).copied())
                );
            }
        }
        prop_assert!(set.iter().eq(model.iter().copied()));
        let mut again = SequenceSet::default();
        for (first, last) in set.iter_runs() {
            again.insert_run(first, last);
        }
        prop_assert_eq!(again, set);
    }
}

#[test]
fn a_run_costs_nothing_however_long() {
    let mut set = SequenceSet::default();
    set.insert_run(1, 10_000_000);
    assert_eq!(set.len(), 10_000_000);
    assert!(set.memory_bytes() < 20_000);
    assert_eq!(set.iter_runs().collect::<Vec<_>>(), vec![(1, 10_000_000)]);
}

#[test]
fn sparse_entries_cost_at_most_a_bit_of_their_range() {
    let set: SequenceSet = (0..1_000_000).step_by(2).collect();
    assert!(set.memory_bytes() < 140_000, "{}", set.memory_bytes());
}

#[test]
fn a_few_scattered_entries_cost_a_few_bytes_each() {
    let set: SequenceSet = (0..1_000_000).step_by(50_000).collect();
    assert_eq!(set.len(), 20);
    assert!(set.memory_bytes() <= 32 * 16, "{}", set.memory_bytes());
}

#[test]
fn what_an_entry_takes_in_memory_at_the_most() {
    use rand::{RngExt, SeedableRng};
    const ALL: u64 = 1 << 18;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    // What is left when each is acknowledged with this probability, one after the other at random.
    let mut left = |kept: f64| {
        let mut set = SequenceSet::default();
        set.insert_run(0, ALL - 1);
        let few = (ALL as f64 * kept) as u64;
        while set.len() > few {
            set.remove(random.random_range(0..ALL));
        }
        set
    };
    let each = |set: &SequenceSet| set.memory_bytes() as f64 / set.len() as f64;
    let mut run = SequenceSet::default();
    run.insert_run(0, ALL - 1);
    assert!(run.memory_bytes() <= 64);
    let alternate: SequenceSet = (0..ALL).step_by(2).collect();
    assert!(each(&alternate) < 0.3, "{}", each(&alternate));
    assert!(each(&left(0.5)) < 0.3);
    assert!(each(&left(0.1)) < 1.3);
    // Just too many for a list of runs.
    assert!(each(&left(0.008)) < 16.5);
    assert!(each(&left(0.001)) < 32.0);
    // One here and there, in a journal that others fill.
    let alone: SequenceSet = (0..1000u64).map(|chunk| chunk << 16).collect();
    assert!(each(&alone) < 100.0, "{}", each(&alone));
}

#[test]
fn a_run_alone_takes_no_memory_of_its_own() {
    assert_eq!(size_of::<SequenceSet>(), 32);
    let mut set = SequenceSet::default();
    set.insert_run(5, 9);
    set.insert_run(10, 20);
    set.remove_run(1, 7);
    assert_eq!((set.memory_bytes(), set.len()), (0, 13));
}
