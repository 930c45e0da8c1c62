//! Objects that lie on each other, read as one: of each key what the newest says.

use crate::checkpoint::Change;
use crate::checkpoint::object::Effect;
use std::io;

/// Entries in the order of their keys.
pub(super) trait Source {
    /// The entry at hand: key, value, what it does to older ones.
    fn head(&self) -> Option<(&[u8], &[u8], Effect)>;
    /// Goes to the next (at first: the first).
    fn advance(&mut self) -> io::Result<()>;
}

/// Changes as they are given.
pub(super) struct Given<'a> {
    changes: &'a mut dyn Iterator<Item = Change>,
    head: Option<Change>,
}

impl<'a> Given<'a> {
    pub(super) fn new(changes: &'a mut dyn Iterator<Item = Change>) -> Self {
        Self {
            changes,
            head: None,
        }
    }
}

impl Source for Given<'_> {
    fn head(&self) -> Option<(&[u8], &[u8], Effect)> {
        let head = self.head.as_ref()?;
        let effect = Effect {
            gone: head.value.is_none(),
            clears: head.clears,
        };
        Some((&head.key, head.value.as_deref().unwrap_or_default(), effect))
    }

    fn advance(&mut self) -> io::Result<()> {
        self.head = self.changes.next();
        Ok(())
    }
}

/// Takes an entry of a merge.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8], Effect) -> io::Result<()>;

/// Reads sources as one, the newest first among them. `each` gets of each key what the newest says, and what is gone
/// only as far as something older than the sources may have it.
pub(super) fn merge(
    sources: &mut [Box<dyn Source + '_>],
    all: bool,
    each: Each<'_>,
) -> io::Result<()> {
    for source in &mut *sources {
        source.advance()?;
    }
    // The prefix that was cleared last, and by which source.
    let mut cleared: Option<(Vec<u8>, usize)> = None;
    let mut behind = Vec::new();
    loop {
        let mut first: Option<(usize, &[u8])> = None;
        behind.clear();
        for (index, source) in sources.iter().enumerate() {
            let Some((key, ..)) = source.head() else {
                continue;
            };
            match first {
                Some((_, least)) if key > least => {}
                Some((_, least)) if key == least => behind.push(index),
                _ => {
                    first = Some((index, key));
                    behind.clear();
                }
            }
        }
        let Some((newest, _)) = first else {
            return Ok(());
        };
        if let Some((key, value, effect)) = sources.get(newest).and_then(|source| source.head()) {
            let is_cleared = cleared
                .as_ref()
                .is_some_and(|(prefix, by)| newest > *by && key.starts_with(prefix));
            if !is_cleared {
                if effect.clears {
                    cleared = Some((key.to_vec(), newest));
                }
                if !all {
                    each(key, value, effect)?;
                } else if !effect.gone {
                    each(key, value, Effect::default())?;
                }
            }
        }
        behind.push(newest);
        for index in &behind {
            if let Some(source) = sources.get_mut(*index) {
                source.advance()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Given, Source, merge};
    use crate::checkpoint::Change;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeMap;

    fn random(dice: &mut ChaCha8Rng) -> BTreeMap<Vec<u8>, Change> {
        let mut changes = BTreeMap::new();
        for _ in 0..dice.random_range(0..20) {
            let mut key = vec![dice.random_range(0..5)];
            let clears = dice.random_bool(0.2);
            if !clears {
                key.push(dice.random_range(0..5));
            }
            let value = dice.random_bool(0.7).then(|| vec![dice.random()]);
            let change = Change {
                key: key.clone(),
                value,
                clears,
            };
            changes.insert(key, change);
        }
        changes
    }

    fn merged(layers: &[Vec<Change>], all: bool) -> Vec<Change> {
        let mut lists: Vec<_> = layers
            .iter()
            .rev()
            .map(|layer| layer.clone().into_iter())
            .collect();
        let mut sources: Vec<Box<dyn Source + '_>> = lists
            .iter_mut()
            .map(|list| Box::new(Given::new(list)) as Box<dyn Source + '_>)
            .collect();
        let mut found = Vec::new();
        merge(&mut sources, all, &mut |key, value, effect| {
            found.push(Change {
                key: key.to_vec(),
                value: (!effect.gone).then(|| value.to_vec()),
                clears: effect.clears,
            });
            Ok(())
        })
        .expect("a merge");
        found
    }

    #[test]
    fn merging_some_first_and_the_rest_later_is_the_same_as_applying_each() {
        for seed in 0..2000 {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut layers = Vec::new();
            for _ in 0..dice.random_range(1..6) {
                let layer = random(&mut dice);
                for (key, change) in layer.iter().filter(|(_, change)| change.clears) {
                    model.retain(|known, _| !known.starts_with(key));
                    let _ = change;
                }
                for (key, change) in &layer {
                    match &change.value {
                        Some(value) => model.insert(key.clone(), value.clone()),
                        None => model.remove(key),
                    };
                }
                layers.push(layer.into_values().collect::<Vec<_>>());
            }
            let from = dice.random_range(0..layers.len());
            let upper = merged(&layers[from..], from == 0);
            layers.truncate(from);
            layers.push(upper);
            let all: BTreeMap<_, _> = merged(&layers, true)
                .into_iter()
                .filter_map(|change| Some((change.key, change.value?)))
                .collect();
            assert_eq!(all, model, "seed {seed}");
        }
    }
}
