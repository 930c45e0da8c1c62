use super::{LEAF, Leaves};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    /// From here on, so many, this far from each other.
    Insert(u32, u16, u8),
    Remove(u32),
    RemoveRun(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u32..4000;
    prop_oneof![
        (key.clone(), 0u16..700, 1u8..6).prop_map(|(at, count, by)| Step::Insert(at, count, by)),
        key.clone().prop_map(Step::Remove),
        (key, 0u32..1500).prop_map(|(first, more)| Step::RemoveRun(first, first + more)),
    ]
}

fn check(leaves: &Leaves<u32, u16>, model: &BTreeMap<u32, u16>) -> Result<(), TestCaseError> {
    prop_assert_eq!(leaves.is_empty(), model.is_empty());
    let all: Vec<(u32, u16)> = model.iter().map(|(key, value)| (*key, *value)).collect();
    prop_assert_eq!(leaves.iter().collect::<Vec<_>>(), all);
    prop_assert_eq!(
        leaves.first(),
        model.first_key_value().map(|(k, v)| (*k, *v))
    );
    prop_assert_eq!(leaves.last(), model.last_key_value().map(|(k, v)| (*k, *v)));
    for leaf in leaves.leaves.values() {
        prop_assert!(!leaf.keys.is_empty() && leaf.keys.len() <= LEAF);
        prop_assert_eq!(leaf.keys.len(), leaf.values.len());
    }
    let room: usize = leaves
        .leaves
        .values()
        .map(|leaf| leaf.keys.capacity())
        .sum();
    prop_assert_eq!(leaves.room, room);
    for key in (0..9000).step_by(37) {
        prop_assert_eq!(leaves.get(key), model.get(&key).copied());
        let below = model.range(..=key).next_back().map(|(k, v)| (*k, *v));
        prop_assert_eq!(leaves.last_to(key), below);
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_is_the_map_that_a_tree_of_entries_is(
        steps in proptest::collection::vec((step(), any::<u16>()), 1..40)
    ) {
        let (mut leaves, mut model) = (Leaves::new(), BTreeMap::new());
        for (step, value) in steps {
            match step {
                Step::Insert(at, count, by) => {
                    for key in (0..u32::from(count)).map(|number| at + number * u32::from(by)) {
                        prop_assert_eq!(leaves.insert(key, value), model.insert(key, value));
                    }
                }
                Step::Remove(key) => prop_assert_eq!(leaves.remove(key), model.remove(&key)),
                Step::RemoveRun(first, last) => {
                    let mut gone = Vec::new();
                    leaves.remove_run(first, last, |key, value| gone.push((key, value)));
                    let taken: Vec<(u32, u16)> =
                        model.range(first..=last).map(|(key, value)| (*key, *value)).collect();
                    model.retain(|key, _| !(first..=last).contains(key));
                    prop_assert_eq!(gone, taken);
                }
            }
            check(&leaves, &model)?;
        }
    }
}

#[test]
fn it_takes_little_more_than_what_is_in_it() {
    let each =
        |leaves: &Leaves<u64, u64>| leaves.memory_bytes() as f64 / leaves.iter().count() as f64;
    let mut leaves = Leaves::new();
    for key in 0..100_000u64 {
        leaves.insert(key * 3, key);
    }
    assert!(each(&leaves) < 16.6, "in order: {}", each(&leaves));
    for key in 0..100_000 {
        if key % 50 != 0 {
            leaves.remove(key * 3);
        }
    }
    assert_eq!(leaves.iter().count(), 2000);
    assert!(each(&leaves) < 48.0, "few left: {}", each(&leaves));
    // In no order, as times are.
    let mut leaves = Leaves::new();
    for key in 0..100_000u64 {
        leaves.insert(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key);
    }
    assert!(each(&leaves) < 30.0, "in no order: {}", each(&leaves));
    leaves.remove_run(0, u64::MAX, |_, _| {});
    assert!(leaves.is_empty() && leaves.memory_bytes() == 0);
}
