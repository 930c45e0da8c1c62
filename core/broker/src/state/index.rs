//! A table of numbers that are found by something that their objects have.

use crate::state::objects::Number;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// A table is moved when it grows: there are as many, so that nobody waits until all has moved.
const PARTS: usize = 64;

/// Numbers by the hash of what their objects are found by. Clients choose that: the hash is another in each process, and
/// nothing is decided by the order of what is in here.
#[derive(Debug)]
pub(crate) struct Index<K> {
    /// None while it is empty.
    parts: Vec<HashTable<K>>,
    hasher: RandomState,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            hasher: RandomState::default(),
        }
    }
}

/// Which part has this hash. The table goes by the lowest and highest bits.
fn part(hash: u64) -> usize {
    // The remainder is below 64.
    (hash >> 32) as usize % PARTS
}

impl<K: Number> Index<K> {
    pub(crate) fn hash(&self, by: &[u8]) -> u64 {
        self.hasher.hash_one(by)
    }

    /// The number with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&K) -> bool) -> Option<K> {
        self.parts.get(part(hash))?.find(hash, is).copied()
    }

    /// The first number that may have this hash.
    pub(crate) fn likely(&self, hash: u64) -> Option<K> {
        self.parts.get(part(hash))?.iter_hash(hash).next().copied()
    }

    /// Adds one that is not there; `by` says by what each is found.
    pub(crate) fn insert<B: AsRef<[u8]>>(&mut self, hash: u64, key: K, by: impl Fn(&K) -> B) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let hasher = &self.hasher;
        if let Some(part) = self.parts.get_mut(part(hash)) {
            part.insert_unique(hash, key, |known| hasher.hash_one(by(known).as_ref()));
        }
    }

    /// Takes one out; says whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, key: K) -> bool {
        let Some(part) = self.parts.get_mut(part(hash)) else {
            return false;
        };
        let known = part.find_entry(hash, |known| known.get() == key.get());
        known.map(|known| known.remove()).is_ok()
    }

    /// All, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> {
        self.parts.iter().flatten()
    }

    /// Has room for so many at the least before it grows; they come now, and don't all come to the same part.
    pub(crate) fn of_capacity(count: usize) -> Self {
        let each = count / PARTS + count / PARTS / 8;
        Self {
            parts: (0..PARTS).map(|_| HashTable::with_capacity(each)).collect(),
            hasher: RandomState::default(),
        }
    }
}
