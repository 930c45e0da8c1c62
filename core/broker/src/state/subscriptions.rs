//! A session's subscriptions, found by filter and group.
//!
//! They stand in the order of a hash: a look-up compares numbers that lie side by side, and not filters that lie all over
//! the memory; and a filter is kept once.

use crate::api::{Name, QueueId, Subscription};
use crate::state::small_map::SmallMap;
use bytes::Bytes;
use foldhash::fast::RandomState;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// Of the process, so that no client can choose filters that collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Each with the queue that takes what it matches.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Subscriptions {
    /// By hash, and of equal ones by number, without gaps.
    all: SmallMap<(u32, u32), (QueueId, Subscription)>,
}

fn hash(filter: &[u8], share: Option<&Name>) -> u32 {
    // The upper half.
    (HASHER.hash_one((filter, share)) >> 32) as u32
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Where one is, or would be put.
    fn place(&self, filter: &[u8], share: Option<&Name>) -> ((u32, u32), bool) {
        let hash = hash(filter, share);
        let mut number = 0;
        while let Some((_, known)) = self.all.get(&(hash, number)) {
            if known.filter == filter && known.share.as_ref() == share {
                return ((hash, number), true);
            }
            number += 1;
        }
        ((hash, number), false)
    }

    pub(crate) fn get(
        &self,
        filter: &[u8],
        share: Option<&Name>,
    ) -> Option<&(QueueId, Subscription)> {
        let (place, there) = self.place(filter, share);
        self.all.get(&place).filter(|_| there)
    }

    /// Puts one in; returns the one before by the same filter and group.
    pub(crate) fn insert(
        &mut self,
        queue: QueueId,
        subscription: Subscription,
    ) -> Option<(QueueId, Subscription)> {
        let (place, _) = self.place(&subscription.filter, subscription.share.as_ref());
        self.all.insert(place, (queue, subscription))
    }

    pub(crate) fn remove(
        &mut self,
        filter: &[u8],
        share: Option<&Name>,
    ) -> Option<(QueueId, Subscription)> {
        let ((hash, mut number), there) = self.place(filter, share);
        if !there {
            return None;
        }
        let gone = self.all.remove(&(hash, number));
        while let Some(next) = self.all.remove(&(hash, number + 1)) {
            self.all.insert((hash, number), next);
            number += 1;
        }
        gone
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &(QueueId, Subscription)> {
        self.all.values()
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = (QueueId, Subscription)> {
        self.all.into_values()
    }
}

/// As a map from filter and group.
impl Serialize for Subscriptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for value in self.values() {
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
            // What was saved before is read, and what is saved is a map as before.
            let bytes = postcard::to_allocvec(&model).unwrap_or_default();
            let read: Subscriptions = postcard::from_bytes(&bytes).unwrap_or_default();
            prop_assert_eq!(&read, &all);
            let bytes = postcard::to_allocvec(&all).unwrap_or_default();
            let read: BTreeMap<(Bytes, Option<Name>), (QueueId, Subscription)> =
                postcard::from_bytes(&bytes).unwrap_or_default();
            prop_assert_eq!(read, model);
        }
    }
}
