//! What most objects don't have: a pointer's size while it is empty.

use crate::api::LogSettings;
use crate::leaves::Leaves;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::{Deref, DerefMut};

/// A collection that is empty in most objects of its kind, and takes memory of its own only when it isn't. What wrote
/// to it calls [`Rare::tidy`] where it may have become empty.
#[derive(Clone)]
pub(crate) struct Rare<T>(Option<Box<T>>);

/// What [`Rare`] may hold: something with an empty value.
pub(crate) trait Empty: Default + 'static {
    /// An empty one.
    const EMPTY: &'static Self;
    /// Is there nothing in it?
    fn nothing(&self) -> bool;
}

macro_rules! empty {
    ($(<$($name:ident),*> $kind:ty, $new:expr;)*) => {
        $(impl<$($name: 'static),*> Empty for $kind {
            const EMPTY: &'static Self = &$new;
            fn nothing(&self) -> bool {
                self.is_empty()
            }
        })*
    };
}

empty! {
    <T> Vec<T>, Vec::new();
    <T> VecDeque<T>, VecDeque::new();
    <T> BTreeSet<T>, BTreeSet::new();
    <K, V> BTreeMap<K, V>, BTreeMap::new();
    <K, V> Leaves<K, V>, Leaves::new();
    <K, V> HashMap<K, V, foldhash::fast::FixedState>,
        HashMap::with_hasher(foldhash::fast::FixedState::with_seed(0));
}

impl Empty for LogSettings {
    const EMPTY: &'static Self = &Self {
        retention_ms: None,
        retention_bytes: None,
        cleanup: None,
        message_bytes_max: None,
        log_append_time: None,
        others: Vec::new(),
    };
    fn nothing(&self) -> bool {
        self == Self::EMPTY
    }
}

impl<T> Rare<T> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self(None)
    }
}

impl<T: Empty> Rare<T> {
    /// Gives back the memory of an empty one.
    pub(crate) fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|inner| inner.nothing()) {
            self.0 = None;
        }
    }

    /// Takes all out.
    pub(crate) fn take(&mut self) -> T {
        self.0.take().map(|inner| *inner).unwrap_or_default()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Empty> From<T> for Rare<T> {
    fn from(inner: T) -> Self {
        Self((!inner.nothing()).then(|| Box::new(inner)))
    }
}

impl<T: Empty> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

impl<T: Empty> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Empty + std::fmt::Debug> std::fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Empty + PartialEq> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Empty + Eq> Eq for Rare<T> {}

impl<'a, T: Empty> IntoIterator for &'a Rare<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (**self).into_iter()
    }
}

impl<T: Empty + IntoIterator> IntoIterator for Rare<T> {
    type Item = T::Item;
    type IntoIter = T::IntoIter;

    fn into_iter(mut self) -> Self::IntoIter {
        self.take().into_iter()
    }
}

impl<I, T: Empty + FromIterator<I>> FromIterator<I> for Rare<T> {
    fn from_iter<S: IntoIterator<Item = I>>(items: S) -> Self {
        T::from_iter(items).into()
    }
}

impl<T: Empty + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Empty + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::Rare;

    #[test]
    fn an_empty_one_takes_a_pointer_and_reads_as_empty() {
        assert_eq!(size_of::<Rare<Vec<u64>>>(), size_of::<usize>());
        let mut rare = Rare::<Vec<u64>>::default();
        assert!(rare.is_empty() && rare.0.is_none());
        rare.push(1);
        assert_eq!(*rare, vec![1]);
        rare.clear();
        rare.tidy();
        assert!(rare.0.is_none());
        let bytes = postcard::to_allocvec(&vec![3u64, 4]).unwrap_or_default();
        let read: Rare<Vec<u64>> = postcard::from_bytes(&bytes).unwrap_or_default();
        assert_eq!(*read, vec![3, 4]);
        assert_eq!(postcard::to_allocvec(&read), Ok(bytes));
    }
}
