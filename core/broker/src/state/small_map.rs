//! A map that has few entries in most objects of its kind.

use crate::state::rare::Rare;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// More entries than this are kept in a tree.
const FEW: usize = 16;

/// A sorted map: a list while it is small, which takes no more than its entries, and a tree when it isn't.
#[derive(Debug, Clone)]
pub(crate) struct SmallMap<K: Ord + 'static, V: 'static> {
    few: Vec<(K, V)>,
    many: Rare<BTreeMap<K, V>>,
}

impl<K: Ord + 'static, V: 'static> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + 'static, V: 'static> SmallMap<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.few.binary_search_by(|(known, _)| known.cmp(key))
    }

    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self {
            few: Vec::new(),
            many: Rare::new(),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if !self.many.is_empty() {
            return self.many.get_mut(key);
        }
        let at = self.find(key).ok()?;
        self.few.get_mut(at).map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        if !self.many.is_empty() {
            return self.many.get(key);
        }
        let at = self.find(key).ok()?;
        self.few.get(at).map(|(_, value)| value)
    }

    /// Sets a value; returns the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if !self.many.is_empty() {
            return self.many.insert(key, value);
        }
        match self.find(&key) {
            Ok(at) => self
                .few
                .get_mut(at)
                .map(|entry| std::mem::replace(&mut entry.1, value)),
            Err(_) if self.few.len() == FEW => {
                let mut many: BTreeMap<K, V> = std::mem::take(&mut self.few).into_iter().collect();
                many.insert(key, value);
                self.many = many.into();
                None
            }
            Err(at) => {
                if self.few.len() < 4 {
                    self.few.reserve_exact(1);
                }
                self.few.insert(at, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        if !self.many.is_empty() {
            let removed = self.many.remove(key);
            if self.many.len() <= FEW / 2 {
                self.few = self.many.take().into_iter().collect();
            }
            return removed;
        }
        let at = self.find(key).ok()?;
        let (_, value) = self.few.remove(at);
        if self.few.is_empty() {
            self.few = Vec::new();
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let few = self.few.iter().map(|(key, value)| (key, value));
        few.chain(self.many.iter())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<'a, K: Ord + 'static, V: 'static> IntoIterator for &'a SmallMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Box<dyn Iterator<Item = (&'a K, &'a V)> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<K: Ord + 'static, V: PartialEq + 'static> PartialEq for SmallMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Ord + 'static, V: 'static> FromIterator<(K, V)> for SmallMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

/// As any map is written.
impl<K: Ord + Serialize + 'static, V: Serialize + 'static> Serialize for SmallMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, K: Ord + Deserialize<'de> + 'static, V: Deserialize<'de> + 'static> Deserialize<'de>
    for SmallMap<K, V>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<K, V>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::SmallMap;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_behaves_like_a_map(
            operations in prop::collection::vec((any::<bool>(), 0u8..40, any::<u8>()), 0..200)
        ) {
            let mut map = SmallMap::default();
            let mut model = BTreeMap::new();
            for (insert, key, value) in operations {
                if insert {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            let bytes = postcard::to_allocvec(&map);
            prop_assert_eq!(&bytes, &postcard::to_allocvec(&model));
        }
    }
}
