//! What consumers have of a queue and have not settled: by entry, in order.
//!
//! Of ten thousand queues that one message goes to, each has one lease for a moment: that lies in the queue itself. A
//! consumer that works in order is given at the end and settles at the beginning: that is a ring. Many are a tree.

use crate::api::EntryId;
use crate::state::queue::Lease;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeFrom;

/// More than these are a tree ...
const RING_MAX: usize = 256;
/// ... until they are no more than these.
const TREE_MIN: usize = 64;

/// Leases by their entries.
#[derive(Debug, Default)]
pub(crate) enum Leases {
    #[default]
    None,
    One(EntryId, Lease),
    /// Sorted.
    Ring(VecDeque<(EntryId, Lease)>),
    Tree(BTreeMap<EntryId, Lease>),
}

/// Where an entry is in a ring, or belongs. It is asked for the ends most.
fn find(ring: &VecDeque<(EntryId, Lease)>, entry: EntryId) -> Result<usize, usize> {
    match (ring.front(), ring.back()) {
        (Some((first, _)), _) if *first == entry => Ok(0),
        (_, Some((last, _))) if *last < entry => Err(ring.len()),
        _ => ring.binary_search_by_key(&entry, |(known, _)| *known),
    }
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Ring(ring) => ring.len(),
            Self::Tree(tree) => tree.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, entry: &EntryId) -> Option<&Lease> {
        match self {
            Self::None => None,
            Self::One(known, lease) => (known == entry).then_some(lease),
            Self::Ring(ring) => ring.get(find(ring, *entry).ok()?).map(|(_, lease)| lease),
            Self::Tree(tree) => tree.get(entry),
        }
    }

    pub(crate) fn get_mut(&mut self, entry: &EntryId) -> Option<&mut Lease> {
        match self {
            Self::None => None,
            Self::One(known, lease) => (known == entry).then_some(lease),
            Self::Ring(ring) => {
                let at = find(ring, *entry).ok()?;
                ring.get_mut(at).map(|(_, lease)| lease)
            }
            Self::Tree(tree) => tree.get_mut(entry),
        }
    }

    /// Adds one; returns the one that the entry had before.
    pub(crate) fn insert(&mut self, entry: EntryId, lease: Lease) -> Option<Lease> {
        match self {
            Self::None => {
                *self = Self::One(entry, lease);
                return None;
            }
            Self::One(known, before) if *known == entry => {
                return Some(std::mem::replace(before, lease));
            }
            Self::One(..) => {
                let one = std::mem::take(self).into_iter();
                *self = Self::Ring(one.collect());
            }
            Self::Ring(ring) if ring.len() >= RING_MAX => {
                *self = Self::Tree(ring.drain(..).collect());
            }
            _ => {}
        }
        match self {
            Self::Ring(ring) => match find(ring, entry) {
                Ok(at) => ring
                    .get_mut(at)
                    .map(|(_, before)| std::mem::replace(before, lease)),
                Err(at) => {
                    ring.insert(at, (entry, lease));
                    None
                }
            },
            Self::Tree(tree) => tree.insert(entry, lease),
            Self::None | Self::One(..) => None,
        }
    }

    pub(crate) fn remove(&mut self, entry: &EntryId) -> Option<Lease> {
        match self {
            Self::None => None,
            Self::One(known, _) => {
                if known != entry {
                    return None;
                }
                match std::mem::take(self) {
                    Self::One(_, lease) => Some(lease),
                    _ => None,
                }
            }
            // An empty ring stays: its consumer has had several at a time, and will again.
            Self::Ring(ring) => {
                let at = find(ring, *entry).ok()?;
                ring.remove(at).map(|(_, lease)| lease)
            }
            Self::Tree(tree) => {
                let gone = tree.remove(entry)?;
                if tree.len() <= TREE_MIN {
                    let few = std::mem::take(tree);
                    *self = Self::Ring(few.into_iter().collect());
                }
                Some(gone)
            }
        }
    }

    /// Gives back the memory of what has become empty.
    pub(crate) fn tidy(&mut self) {
        if self.is_empty() {
            *self = Self::None;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&EntryId, &Lease)> {
        self.range(EntryId(0)..)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Lease> {
        self.iter().map(|(_, lease)| lease)
    }

    /// Those of an entry and of later ones.
    pub(crate) fn range(
        &self,
        from: RangeFrom<EntryId>,
    ) -> impl Iterator<Item = (&EntryId, &Lease)> {
        let start = from.start;
        let (mut one, mut ring, mut tree) = (None, None, None);
        match self {
            Self::None => {}
            Self::One(entry, lease) => one = (*entry >= start).then_some((entry, lease)),
            Self::Ring(held) => {
                let at = held.partition_point(|(entry, _)| *entry < start);
                ring = Some(held.range(at..).map(|(entry, lease)| (entry, lease)));
            }
            Self::Tree(held) => tree = Some(held.range(from)),
        }
        let several = ring.into_iter().flatten().chain(tree.into_iter().flatten());
        one.into_iter().chain(several)
    }

    /// Memory that they take outside their queue, roughly, in bytes: a tree's nodes are half full.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = size_of::<(EntryId, Lease)>();
        match self {
            Self::None | Self::One(..) => 0,
            Self::Ring(ring) => ring.capacity() * each,
            Self::Tree(tree) => 2 * tree.len() * each,
        }
    }
}

impl IntoIterator for Leases {
    type Item = (EntryId, Lease);
    type IntoIter = Box<dyn Iterator<Item = Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::One(entry, lease) => Box::new(std::iter::once((entry, lease))),
            Self::Ring(ring) => Box::new(ring.into_iter()),
            Self::Tree(tree) => Box::new(tree.into_iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leases, RING_MAX};
    use crate::api::{ClientId, EntryId};
    use crate::state::queue::Lease;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn lease(client: u64) -> Lease {
        Lease {
            client: ClientId(client),
            consumer: None,
            memory: None,
            rank: None,
        }
    }

    fn all<'a>(leases: impl Iterator<Item = (&'a EntryId, &'a Lease)>) -> Vec<(EntryId, ClientId)> {
        leases
            .map(|(entry, lease)| (*entry, lease.client))
            .collect()
    }

    /// In runs, so that rings fill and trees empty.
    fn operations() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
        prop::collection::vec((0u8..4, 0u64..900, 1u64..400), 0..24)
    }

    proptest! {
        #[test]
        fn they_behave_like_a_map(operations in operations()) {
            let mut leases = Leases::default();
            let mut model = BTreeMap::new();
            let mut client = 0;
            for (kind, first, count) in operations {
                for entry in (first..first + count).map(EntryId) {
                    client += 1;
                    let before = if kind < 2 {
                        let before = model.insert(entry, ClientId(client));
                        prop_assert_eq!(leases.insert(entry, lease(client)).map(|it| it.client), before);
                        continue;
                    } else {
                        model.remove(&entry)
                    };
                    prop_assert_eq!(leases.remove(&entry).map(|it| it.client), before);
                }
                if kind == 3 {
                    leases.tidy();
                }
                prop_assert_eq!(leases.len(), model.len());
                prop_assert_eq!(leases.is_empty(), model.is_empty());
                let held: Vec<_> = model.iter().map(|(entry, client)| (*entry, *client)).collect();
                prop_assert_eq!(all(leases.iter()), held);
                let from = EntryId(first + count / 2);
                let behind: Vec<_> = model.range(from..).map(|(entry, client)| (*entry, *client)).collect();
                prop_assert_eq!(all(leases.range(from..)), behind);
                for entry in [EntryId(first), from, EntryId(first + count)] {
                    prop_assert_eq!(leases.get(&entry).map(|it| it.client), model.get(&entry).copied());
                    prop_assert_eq!(leases.get_mut(&entry).map(|it| it.client), model.get(&entry).copied());
                }
            }
        }
    }

    #[test]
    fn one_takes_no_memory_of_its_own_and_many_are_a_tree() {
        let mut leases = Leases::default();
        leases.insert(EntryId(7), lease(1));
        assert_eq!(leases.memory_bytes(), 0);
        for entry in 0..=RING_MAX as u64 {
            leases.insert(EntryId(entry), lease(1));
        }
        assert!(matches!(leases, Leases::Tree(_)));
        for entry in 1..=RING_MAX as u64 {
            leases.remove(&EntryId(entry));
        }
        assert!(matches!(&leases, Leases::Ring(ring) if ring.len() == 1));
        leases.remove(&EntryId(0));
        leases.tidy();
        assert!(matches!(leases, Leases::None));
    }
}
