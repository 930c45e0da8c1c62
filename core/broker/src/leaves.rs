//! An ordered map of many small values, which takes little more than these: they lie in sorted leaves, keys and values
//! each by themselves, and only the leaves are in a tree.

use std::collections::BTreeMap;

/// Entries of a leaf, at the most. What comes in ascending order fills leaves to the last place.
const LEAF: usize = 256;
/// A leaf with fewer takes in the one behind it, if that has few, too.
const FEW: usize = LEAF / 8;

/// A map from `K` to `V`.
#[derive(Debug, Clone)]
pub(crate) struct Leaves<K, V> {
    /// By a key that none of a leaf's is below, and all of the one before it are.
    leaves: BTreeMap<K, Leaf<K, V>>,
    /// For how many entries all of them have room.
    room: usize,
}

#[derive(Debug, Clone)]
struct Leaf<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Leaves<K, V> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self {
            leaves: BTreeMap::new(),
            room: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }
}

impl<K, V> Default for Leaves<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Ord, V: Copy + PartialEq> PartialEq for Leaves<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Copy + Ord, V: Copy + Eq> Eq for Leaves<K, V> {}

impl<K: Copy + Ord, V: Copy> Leaf<K, V> {
    fn new() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    fn room(&self) -> usize {
        self.keys.capacity()
    }

    fn pair(&self, at: usize) -> Option<(K, V)> {
        Some((*self.keys.get(at)?, *self.values.get(at)?))
    }

    fn put(&mut self, at: usize, key: K, value: V) {
        let len = self.keys.len();
        if len == self.keys.capacity() {
            let more = (len * 2).clamp(4, LEAF).saturating_sub(len);
            self.keys.reserve_exact(more);
            self.values.reserve_exact(more);
        }
        self.keys.insert(at, key);
        self.values.insert(at, value);
    }

    /// Moves the upper half to a leaf of its own.
    fn split(&mut self) -> Self {
        let at = self.keys.len() / 2;
        let upper = Self {
            keys: self.keys.split_off(at),
            values: self.values.split_off(at),
        };
        self.fit();
        upper
    }

    /// Gives back room that it does not need.
    fn fit(&mut self) {
        let len = self.keys.len();
        if self.keys.capacity() > 8 && len * 4 <= self.keys.capacity() * 3 {
            self.keys.shrink_to(len + len / 8);
            self.values.shrink_to(len + len / 8);
        }
    }
}

impl<K: Copy + Ord, V: Copy> Leaves<K, V> {
    /// The leaf that a key belongs to.
    fn leaf(&self, key: K) -> Option<&Leaf<K, V>> {
        Some(self.leaves.range(..=key).next_back()?.1)
    }

    pub(crate) fn get(&self, key: K) -> Option<V> {
        let leaf = self.leaf(key)?;
        let at = leaf.keys.binary_search(&key).ok()?;
        leaf.values.get(at).copied()
    }

    /// The lowest.
    pub(crate) fn first(&self) -> Option<(K, V)> {
        self.leaves.first_key_value()?.1.pair(0)
    }

    /// The highest.
    pub(crate) fn last(&self) -> Option<(K, V)> {
        let (_, leaf) = self.leaves.last_key_value()?;
        leaf.pair(leaf.keys.len().checked_sub(1)?)
    }

    /// The highest that is not above this one.
    pub(crate) fn last_to(&self, key: K) -> Option<(K, V)> {
        self.leaves.range(..=key).rev().find_map(|(_, leaf)| {
            let after = leaf.keys.partition_point(|known| *known <= key);
            leaf.pair(after.checked_sub(1)?)
        })
    }

    /// All, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.leaves.values().flat_map(|leaf| {
            let values = leaf.values.iter().copied();
            leaf.keys.iter().copied().zip(values)
        })
    }

    /// Sets a key's value; returns the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        // Behind all others is where new entries come.
        if let Some(mut last) = self.leaves.last_entry()
            && last.get().keys.last().is_some_and(|last| *last < key)
        {
            let leaf = last.get_mut();
            if leaf.keys.len() < LEAF {
                self.room -= leaf.room();
                leaf.put(leaf.keys.len(), key, value);
                self.room += leaf.room();
            } else {
                let mut leaf = Leaf::new();
                leaf.put(0, key, value);
                self.room += leaf.room();
                self.leaves.insert(key, leaf);
            }
            return None;
        }
        let below = self.leaves.range(..=key).next_back();
        let start = match below.map(|(start, _)| *start) {
            Some(start) => start,
            None => self.lower(key),
        };
        let leaf = self.leaves.entry(start).or_insert_with(Leaf::new);
        let at = match leaf.keys.binary_search(&key) {
            Ok(at) => {
                let known = leaf.values.get_mut(at)?;
                return Some(std::mem::replace(known, value));
            }
            Err(at) => at,
        };
        self.room -= leaf.room();
        if leaf.keys.len() < LEAF {
            leaf.put(at, key, value);
            self.room += leaf.room();
            return None;
        }
        let mut behind = leaf.split();
        let kept = leaf.keys.len();
        if at < kept {
            leaf.put(at, key, value);
        } else {
            behind.put(at - kept, key, value);
        }
        self.room += leaf.room() + behind.room();
        if let Some(first) = behind.keys.first() {
            self.leaves.insert(*first, behind);
        }
        None
    }

    /// Makes the first leaf begin lower, for a key below all leaves; where it begins.
    fn lower(&mut self, key: K) -> K {
        let first = self.leaves.first_entry();
        if let Some(first) = first
            && first.get().keys.len() < LEAF
        {
            let leaf = first.remove();
            self.leaves.insert(key, leaf);
        }
        key
    }

    /// Takes a key out; returns its value.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let (start, leaf) = self.leaves.range_mut(..=key).next_back()?;
        let at = leaf.keys.binary_search(&key).ok()?;
        let start = *start;
        leaf.keys.remove(at);
        let value = leaf.values.remove(at);
        self.settle(start);
        Some(value)
    }

    /// Takes all out from `first` to `last`, and tells them in their order.
    pub(crate) fn remove_run(&mut self, first: K, last: K, mut gone: impl FnMut(K, V)) {
        let mut next = first;
        loop {
            let below = self.leaves.range(..=next).next_back();
            let start = below.map_or(next, |(start, _)| *start);
            let Some((start, leaf)) = self.leaves.range_mut(start..=last).next() else {
                return;
            };
            let start = *start;
            let from = leaf.keys.partition_point(|key| *key < first);
            let to = leaf.keys.partition_point(|key| *key <= last);
            let to_its_end = to == leaf.keys.len();
            if from < to {
                let values = leaf.values.drain(from..to);
                leaf.keys
                    .drain(from..to)
                    .zip(values)
                    .for_each(|(k, v)| gone(k, v));
            }
            let behind = self
                .leaves
                .range((
                    std::ops::Bound::Excluded(start),
                    std::ops::Bound::Included(last),
                ))
                .next()
                .map(|(start, _)| *start);
            self.settle(start);
            match behind.filter(|_| to_its_end) {
                Some(behind) => next = behind,
                None => return,
            }
        }
    }

    /// A leaf has become smaller.
    fn settle(&mut self, start: K) {
        let Some(leaf) = self.leaves.get_mut(&start) else {
            return;
        };
        self.room -= leaf.room();
        if leaf.keys.is_empty() {
            self.leaves.remove(&start);
            return;
        }
        leaf.fit();
        self.room += leaf.room();
        if leaf.keys.len() >= FEW {
            return;
        }
        let after = (std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded);
        let behind = self.leaves.range(after).next();
        let Some(behind) = behind.filter(|(_, leaf)| leaf.keys.len() < LEAF / 2) else {
            return;
        };
        let behind = *behind.0;
        let taken = self.leaves.remove(&behind);
        if let (Some(taken), Some(leaf)) = (taken, self.leaves.get_mut(&start)) {
            self.room -= leaf.room() + taken.room();
            leaf.keys.extend(taken.keys);
            leaf.values.extend(taken.values);
            self.room += leaf.room();
        }
    }

    /// Memory that it takes, roughly, in bytes: nodes of the tree are half full.
    pub(crate) fn memory_bytes(&self) -> usize {
        let node = 2 * size_of::<(K, Leaf<K, V>)>();
        self.leaves.len() * node + self.room * (size_of::<K>() + size_of::<V>())
    }
}

#[cfg(test)]
mod tests;
