//! The objects of a kind, by their number.

use crate::state::IdMap;
use std::hash::Hash;

/// Objects by the number that the broker allotted them. Each lies by itself, so that the table itself stays small: it
/// may be half empty, and has to be moved as it grows.
#[derive(Debug)]
pub(crate) struct Objects<K, V>(IdMap<K, Box<V>>);

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self(IdMap::default())
    }
}

impl<K: Hash + Eq + Copy, V> Objects<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|value| &**value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(|value| &mut **value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, Box::new(value));
    }

    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.0.entry(key).or_insert_with(|| Box::new(make()))
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key).map(|value| *value)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().map(|value| &**value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.values_mut().map(|value| &mut **value)
    }
}

#[cfg(test)]
impl<K: Hash + Eq + Copy, V> std::ops::Index<&K> for Objects<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}
