//! A hash map in shards: none is so large that its growth holds anybody up, and removal gives memory back.

use hashbrown::HashTable;
use std::borrow::Borrow;
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
    shards: Vec<HashTable<(K, V)>>,
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
    /// A key's hash, which is made once for its shard and its place there.
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The shard of a hash: by bits that a table makes nothing of.
    fn shard(&self, hash: u64) -> usize {
        if self.shards.len() <= 1 {
            return 0;
        }
        (hash >> 48) as usize % SHARDS
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let shard = self.shards.get(self.shard(hash))?;
        let found = shard.find(hash, |(known, _)| known.borrow() == key)?;
        Some(&found.1)
    }

    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let shard = self.shards.get_mut(shard)?;
        let found = shard.find_mut(hash, |(known, _)| known.borrow() == key)?;
        Some(&mut found.1)
    }

    /// Adds an entry that isn't there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.shards.is_empty() {
            self.shards.push(HashTable::new());
        } else if self.shards.len() == 1 && self.len >= WHOLE_MAX {
            let whole = std::mem::take(&mut self.shards);
            self.shards.resize_with(SHARDS, HashTable::new);
            for (key, value) in whole.into_iter().flatten() {
                self.put(key, value);
            }
        }
        self.len += 1;
        self.put(key, value);
    }

    fn put(&mut self, key: K, value: V) {
        let hash = self.hash(&key);
        let shard = self.shard(hash);
        let hasher = &self.hasher;
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.insert_unique(hash, (key, value), |(key, _)| hasher.hash_one(key));
        }
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let hasher = &self.hasher;
        let shard = self.shards.get_mut(shard)?;
        let found = shard.find_entry(hash, |(known, _)| known.borrow() == key);
        let ((_, value), _) = found.ok()?.remove();
        if shard.capacity() > SMALL && shard.len() * 8 < shard.capacity() {
            shard.shrink_to(shard.len() * 2, |(key, _)| hasher.hash_one(key));
        }
        self.len -= 1;
        if self.len == 0 {
            self.shards = Vec::new();
        }
        Some(value)
    }

    /// Bytes that it has taken.
    pub(super) fn bytes(&self) -> usize {
        let tables: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        tables + self.shards.capacity() * size_of::<HashTable<(K, V)>>()
    }
}
