//! The objects of a kind, by their number.

use crate::api::{QueueId, SessionId, TopicId};
use crate::state::IdMap;

/// Objects of one page.
const PAGE: usize = 64;
/// Pages that one look at a part of all goes through.
const PART: usize = 32;

/// A number that the broker allots, each once, in order.
pub(crate) trait Number: Copy {
    fn get(self) -> u64;
    fn of(number: u64) -> Self;
}

impl Number for u64 {
    fn get(self) -> u64 {
        self
    }
    fn of(number: u64) -> Self {
        number
    }
}

macro_rules! number {
    ($($kind:ident),*) => {
        $(impl Number for $kind {
            fn get(self) -> u64 {
                self.0
            }
            fn of(number: u64) -> Self {
                Self(number)
            }
        })*
    };
}

number!(TopicId, QueueId, SessionId);

/// Objects by the number that the broker allotted them, in pages of neighbours: a pointer for each, and a table of
/// pages that is small however many there are, as it may be half empty, and has to be moved as it grows.
#[derive(Debug)]
pub(crate) struct Objects<K, V> {
    pages: IdMap<u64, Box<Page<V>>>,
    len: usize,
    kind: std::marker::PhantomData<fn(K)>,
}

#[derive(Debug)]
struct Page<V> {
    slots: [Option<Box<V>>; PAGE],
    used: usize,
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self {
            pages: IdMap::default(),
            len: 0,
            kind: std::marker::PhantomData,
        }
    }
}

/// A number's page, and its place there.
fn split(number: u64) -> (u64, usize) {
    // The remainder is below 64.
    (number / PAGE as u64, (number % PAGE as u64) as usize)
}

impl<K: Number, V> Objects<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (page, at) = split(key.get());
        self.pages.get(&page)?.slots.get(at)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (page, at) = split(key.get());
        self.pages.get_mut(&page)?.slots.get_mut(at)?.as_deref_mut()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let (page, at) = split(key.get());
        let page = self.pages.entry(page).or_insert_with(|| {
            Box::new(Page {
                slots: [const { None }; PAGE],
                used: 0,
            })
        });
        if let Some(slot) = page.slots.get_mut(at)
            && slot.replace(Box::new(value)).is_none()
        {
            page.used += 1;
            self.len += 1;
        }
    }

    pub(crate) fn get_or_insert_with(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
    ) -> Option<&mut V> {
        if self.get(&key).is_none() {
            self.insert(key, make());
        }
        self.get_mut(&key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (number, at) = split(key.get());
        let page = self.pages.get_mut(&number)?;
        let gone = page.slots.get_mut(at)?.take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(*gone)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = K> {
        self.pages
            .iter()
            .flat_map(|(number, page)| page.keys(*number))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages
            .values()
            .flat_map(|page| page.slots.iter().filter_map(Option::as_deref))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.pages
            .values_mut()
            .flat_map(|page| page.slots.iter_mut().filter_map(Option::as_deref_mut))
    }

    /// Goes through a part of the numbers from `next` on, up to `until`; moves `next` behind them. `None` when there
    /// are no more.
    pub(crate) fn part(&self, next: &mut u64, until: u64) -> Option<Vec<K>> {
        if *next >= until {
            return None;
        }
        let mut keys = Vec::new();
        for _ in 0..PART {
            let (number, _) = split(*next);
            if let Some(page) = self.pages.get(&number) {
                let all = page.keys::<K>(number);
                keys.extend(all.filter(|key| (*next..until).contains(&key.get())));
            }
            *next = (number + 1) * PAGE as u64;
            if *next >= until {
                break;
            }
        }
        Some(keys)
    }
}

impl<V> Page<V> {
    fn keys<K: Number>(&self, number: u64) -> impl Iterator<Item = K> {
        let first = number * PAGE as u64;
        (first..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.is_some())
            .map(|(number, _)| K::of(number))
    }
}

#[cfg(test)]
impl<K: Number, V> std::ops::Index<&K> for Objects<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("an object of this number")
    }
}

#[cfg(test)]
mod tests {
    use super::Objects;
    use std::collections::BTreeMap;

    #[test]
    fn they_are_found_by_number_and_gone_through_in_parts() {
        let mut objects: Objects<u64, u64> = Objects::default();
        let mut model = BTreeMap::new();
        let mut number = 1u64;
        for step in 0..20_000u64 {
            number += 1 + step % 3 * (step % 200);
            objects.insert(number, step);
            model.insert(number, step);
            if step % 2 == 0 {
                let gone = number / 2 + step % 7;
                assert_eq!(objects.remove(&gone), model.remove(&gone));
            }
        }
        assert_eq!(objects.len(), model.len());
        assert!(
            model
                .iter()
                .all(|(key, value)| objects.get(key) == Some(value))
        );
        let (mut next, mut found) = (0, Vec::new());
        while let Some(part) = objects.part(&mut next, number) {
            found.extend(part);
        }
        let below = model.keys().copied().filter(|key| *key < number);
        assert_eq!(found, below.collect::<Vec<_>>());
        let mut keys: Vec<u64> = objects.keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, model.keys().copied().collect::<Vec<_>>());
        for key in keys {
            objects.remove(&key);
        }
        assert!(objects.pages.is_empty());
    }
}
