//! A session's subscriptions, found by filter and group.
//!
//! Most sessions have few: a list. More are a table. Both are gone through by hash, which each has beside it: a look-up
//! touches hardly any but the one that it finds, and not filters that lie all over the memory.

use crate::api::{Name, QueueId, Subscription};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// Of the process, so that no client can choose filters that collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// More than so many are a table ...
const FEW: usize = 16;
/// ... until they are no more than these.
const TABLE_MIN: usize = FEW / 2;

/// Each with the queue that takes what it matches.
#[derive(Debug, Clone)]
pub(crate) struct Subscriptions(Shape);

#[derive(Debug, Clone)]
enum Shape {
    Few(Vec<Hashed>),
    Many(HashTable<Hashed>),
}

#[derive(Debug, Clone)]
struct Hashed {
    subscription: (QueueId, Subscription),
    hash: u32,
}

impl Hashed {
    fn is(&self, hash: u32, filter: &[u8], share: Option<&Name>) -> bool {
        let known = &self.subscription.1;
        self.hash == hash && known.filter == filter && known.share.as_ref() == share
    }
}

fn hash(filter: &[u8], share: Option<&Name>) -> u32 {
    // The upper half.
    (HASHER.hash_one((filter, share)) >> 32) as u32
}

/// As a table goes by the lowest and the highest bits.
fn wide(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self(Shape::Few(Vec::new()))
    }
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Shape::Few(few) => few.len(),
            Shape::Many(many) => many.len(),
        }
    }

    pub(crate) fn get(
        &self,
        filter: &[u8],
        share: Option<&Name>,
    ) -> Option<&(QueueId, Subscription)> {
        let hash = hash(filter, share);
        let is = |known: &Hashed| known.is(hash, filter, share);
        let found = match &self.0 {
            Shape::Few(few) => few.iter().find(|known| is(known)),
            Shape::Many(many) => many.find(wide(hash), is),
        };
        found.map(|found| &found.subscription)
    }

    /// Puts one in; returns the one before by the same filter and group.
    pub(crate) fn insert(
        &mut self,
        queue: QueueId,
        subscription: Subscription,
    ) -> Option<(QueueId, Subscription)> {
        let (filter, share) = (&subscription.filter, subscription.share.as_ref());
        let hash = hash(filter, share);
        let is = |known: &Hashed| known.is(hash, filter, share);
        let known = match &mut self.0 {
            Shape::Few(few) => few.iter_mut().find(|known| is(known)),
            Shape::Many(many) => many.find_mut(wide(hash), is),
        };
        let subscription = (queue, subscription);
        if let Some(known) = known {
            return Some(std::mem::replace(&mut known.subscription, subscription));
        }
        let new = Hashed { subscription, hash };
        match &mut self.0 {
            Shape::Few(few) if few.len() == FEW => {
                let mut many = HashTable::with_capacity(FEW + 1);
                for one in few.drain(..).chain([new]) {
                    many.insert_unique(wide(one.hash), one, |one| wide(one.hash));
                }
                self.0 = Shape::Many(many);
            }
            Shape::Few(few) => {
                if few.len() < 4 {
                    few.reserve_exact(1);
                }
                few.push(new);
            }
            Shape::Many(many) => {
                many.insert_unique(wide(hash), new, |one| wide(one.hash));
            }
        }
        None
    }

    pub(crate) fn remove(
        &mut self,
        filter: &[u8],
        share: Option<&Name>,
    ) -> Option<(QueueId, Subscription)> {
        let hash = hash(filter, share);
        let is = |known: &Hashed| known.is(hash, filter, share);
        let gone = match &mut self.0 {
            Shape::Few(few) => {
                let gone = few.swap_remove(few.iter().position(is)?);
                if few.is_empty() {
                    *few = Vec::new();
                }
                gone
            }
            Shape::Many(many) => {
                let (gone, _) = many.find_entry(wide(hash), is).ok()?.remove();
                if many.len() <= TABLE_MIN {
                    let few = std::mem::take(many).into_iter().collect();
                    self.0 = Shape::Few(few);
                } else if many.len() * 8 < many.capacity() {
                    many.shrink_to(many.len() * 2, |one| wide(one.hash));
                }
                gone
            }
        };
        Some(gone.subscription)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &(QueueId, Subscription)> {
        let (few, many) = match &self.0 {
            Shape::Few(few) => (Some(few.iter()), None),
            Shape::Many(many) => (None, Some(many.iter())),
        };
        let all = few.into_iter().flatten().chain(many.into_iter().flatten());
        all.map(|one| &one.subscription)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = (QueueId, Subscription)> {
        let (few, many) = match self.0 {
            Shape::Few(few) => (few, HashTable::new()),
            Shape::Many(many) => (Vec::new(), many),
        };
        few.into_iter().chain(many).map(|one| one.subscription)
    }
}

impl PartialEq for Subscriptions {
    fn eq(&self, other: &Self) -> bool {
        let find = |one: &Subscription| other.get(&one.filter, one.share.as_ref());
        self.len() == other.len() && self.values().all(|one| find(&one.1) == Some(one))
    }
}

/// As a map from filter and group, in their order: equal ones are written the same.
impl Serialize for Subscriptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut all: Vec<_> = self.values().collect();
        all.sort_unstable_by_key(|(_, one)| (&one.filter, &one.share));
        let mut map = serializer.serialize_map(Some(all.len()))?;
        for value in all {
            map.serialize_entry(&(&value.1.filter, &value.1.share), value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Subscriptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Saved = BTreeMap<(Bytes, Option<Name>), (QueueId, Subscription)>;
        let mut read = Self::default();
        for (queue, subscription) in Saved::deserialize(deserializer)?.into_values() {
            read.insert(queue, subscription);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::Subscriptions;
    use crate::api::{Name, QueueId, Subscription};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn subscription(filter: &Bytes, share: Option<&Name>, qos: u8) -> Subscription {
        Subscription {
            filter: filter.clone(),
            share: share.cloned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            identifier: None,
        }
    }

    proptest! {
        #[test]
        fn they_are_a_map_by_filter_and_group(
            operations in prop::collection::vec((any::<bool>(), 0u8..40, any::<bool>(), 0u8..3), 0..200)
        ) {
            let mut all = Subscriptions::default();
            let mut model: BTreeMap<(Bytes, Option<Name>), (QueueId, Subscription)> = BTreeMap::new();
            for (insert, number, shared, qos) in operations {
                let filter = Bytes::from(format!("a/{number}"));
                let share = shared.then(|| Name::from_static(b"group"));
                let key = (filter.clone(), share.clone());
                if insert {
                    let value = (QueueId(u64::from(number)), subscription(&filter, share.as_ref(), qos));
                    let before = all.insert(value.0, value.1.clone());
                    prop_assert_eq!(before, model.insert(key.clone(), value));
                } else {
                    prop_assert_eq!(all.remove(&filter, share.as_ref()), model.remove(&key));
                }
                prop_assert_eq!(all.len(), model.len());
                prop_assert_eq!(all.get(&filter, share.as_ref()), model.get(&key));
            }
            // What was saved before is read, and what is saved is what a sorted map would save.
            let bytes = postcard::to_allocvec(&model).unwrap_or_default();
            let read: Subscriptions = postcard::from_bytes(&bytes).unwrap_or_default();
            prop_assert_eq!(&read, &all);
            prop_assert_eq!(postcard::to_allocvec(&all), Ok(bytes));
        }
    }
}
