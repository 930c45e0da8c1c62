//! A hash map in shards: none is so large that its growth holds anybody up, and removal gives memory back.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// Shards of a large map.
const SHARDS: usize = 256;

/// Entries that a map without shards has at the most.
const WHOLE_MAX: usize = 4096;

/// Capacities up to this are left alone.
const SMALL: usize = 64;

/// A map.
#[derive(Debug)]
pub(super) struct Sharded<K, V> {
    /// None, one, or [`SHARDS`].
    shards: Vec<HashMap<K, V, foldhash::fast::RandomState>>,
    hasher: foldhash::fast::RandomState,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self {
            shards: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
            len: 0,
        }
    }
}

impl<K: Eq + Hash, V> Sharded<K, V> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        if self.shards.len() <= 1 {
            return 0;
        }
        (self.hasher.hash_one(key) >> 48) as usize % SHARDS
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shards.get(self.shard(key))?.get(key)
    }

    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shard = self.shard(key);
        self.shards.get_mut(shard)?.get_mut(key)
    }

    /// Adds an entry that isn't there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.shards.is_empty() {
            self.shards.push(HashMap::with_hasher(self.hasher.clone()));
        } else if self.shards.len() == 1 && self.len >= WHOLE_MAX {
            let whole = std::mem::take(&mut self.shards);
            self.shards
                .resize_with(SHARDS, || HashMap::with_hasher(self.hasher.clone()));
            for (key, value) in whole.into_iter().flatten() {
                self.put(key, value);
            }
        }
        self.len += 1;
        self.put(key, value);
    }

    fn put(&mut self, key: K, value: V) {
        let shard = self.shard(&key);
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.insert(key, value);
        }
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shard = self.shard(key);
        let shard = self.shards.get_mut(shard)?;
        let value = shard.remove(key)?;
        if shard.capacity() > SMALL && shard.len() * 8 < shard.capacity() {
            shard.shrink_to(shard.len() * 2);
        }
        self.len -= 1;
        if self.len == 0 {
            self.shards = Vec::new();
        }
        Some(value)
    }

    /// Bytes that it has taken, as near as the standard map lets one say.
    pub(super) fn bytes(&self) -> usize {
        let entries: usize = self.shards.iter().map(HashMap::capacity).sum();
        // Seven eighths of the buckets are capacity; each has a byte beside its entry.
        entries * 8 / 7 * (size_of::<(K, V)>() + 1)
            + self.shards.capacity() * size_of::<HashMap<K, V, foldhash::fast::RandomState>>()
    }
}
