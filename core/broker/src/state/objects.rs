//! The objects of a kind, by their number.

use crate::api::{QueueId, SessionId, TopicId};
use crate::state::IdMap;
use crate::state::prefetch::prefetch;

/// Objects of one page.
const PAGE: u64 = u64::BITS as u64;
/// Pages of one book.
const BOOK: u64 = 64;
/// Pages that one look at a part of all goes through.
const PART: u64 = 32;

/// A number that the broker allots, each once, in order.
pub(crate) trait Number: Copy {
    fn get(self) -> u64;
    fn of(number: u64) -> Self;
}

impl Number for u64 {
    fn get(self) -> u64 {
        self
    }
    fn of(number: u64) -> Self {
        number
    }
}

macro_rules! number {
    ($($kind:ident),*) => {
        $(impl Number for $kind {
            fn get(self) -> u64 {
                self.0
            }
            fn of(number: u64) -> Self {
                Self(number)
            }
        })*
    };
}

number!(TopicId, QueueId, SessionId);

/// Objects by the number that the broker allotted them: neighbours lie side by side in pages, and pages in books. The
/// table of books is small however many there are, as it may be half empty, and has to be moved as it grows.
#[derive(Debug)]
pub(crate) struct Objects<K, V> {
    books: IdMap<u64, Box<Book<V>>>,
    len: usize,
    kind: std::marker::PhantomData<fn(K)>,
}

#[derive(Debug)]
struct Book<V> {
    pages: [Page<V>; BOOK as usize],
    /// Objects in them.
    len: usize,
}

/// Those of a page that are there, in order.
#[derive(Debug)]
struct Page<V> {
    /// A bit for each number that is there.
    there: u64,
    objects: Vec<V>,
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self {
            books: IdMap::default(),
            len: 0,
            kind: std::marker::PhantomData,
        }
    }
}

/// A number's book, its page there, and its bit in that.
fn split(number: u64) -> (u64, usize, u64) {
    let page = number / PAGE;
    // The remainder is below 64.
    (page / BOOK, (page % BOOK) as usize, 1 << (number % PAGE))
}

impl<K: Number, V> Objects<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (book, page, bit) = split(key.get());
        let page = self.books.get(&book)?.pages.get(page)?;
        page.objects.get(page.find(bit).ok()?)
    }

    /// What the page of a number says of who is there: reads nothing else.
    pub(crate) fn page(&self, key: &K) -> u64 {
        let (book, page, _) = split(key.get());
        let page = self.books.get(&book).and_then(|book| book.pages.get(page));
        page.map_or(0, |page| page.there)
    }

    /// Begins to fetch an object.
    pub(crate) fn prefetch(&self, key: &K) {
        if let Some(object) = self.get(key) {
            prefetch(object);
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (book, page, bit) = split(key.get());
        let page = self.books.get_mut(&book)?.pages.get_mut(page)?;
        let at = page.find(bit).ok()?;
        page.objects.get_mut(at)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let (book, page, bit) = split(key.get());
        let book = self.books.entry(book).or_default();
        let Some(page) = book.pages.get_mut(page) else {
            return;
        };
        match page.find(bit) {
            Ok(at) => {
                if let Some(known) = page.objects.get_mut(at) {
                    *known = value;
                }
            }
            Err(at) => {
                page.there |= bit;
                page.objects.insert(at, value);
                book.len += 1;
                self.len += 1;
            }
        }
    }

    pub(crate) fn get_or_insert_with(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
    ) -> Option<&mut V> {
        if self.get(&key).is_none() {
            self.insert(key, make());
        }
        self.get_mut(&key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (number, page, bit) = split(key.get());
        let book = self.books.get_mut(&number)?;
        let page = book.pages.get_mut(page)?;
        let gone = page.objects.remove(page.find(bit).ok()?);
        page.there &= !bit;
        book.len -= 1;
        self.len -= 1;
        let left = page.objects.len();
        if left <= page.objects.capacity() / 4 {
            page.objects.shrink_to(left * 2);
        }
        if book.len == 0 {
            self.books.remove(&number);
        }
        Some(gone)
    }

    /// Pages that have objects, by their number.
    fn pages(&self) -> impl Iterator<Item = (u64, &Page<V>)> {
        self.books
            .iter()
            .flat_map(|(number, book)| (number * BOOK..).zip(&book.pages))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = K> {
        self.pages().flat_map(|(number, page)| page.keys(number))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages().flat_map(|(_, page)| &page.objects)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let pages = self.books.values_mut().flat_map(|book| &mut book.pages);
        pages.flat_map(|page| &mut page.objects)
    }

    /// Goes through a part of the numbers from `next` on, up to `until`; moves `next` behind them. `None` when there
    /// are no more.
    pub(crate) fn part(&self, next: &mut u64, until: u64) -> Option<Vec<K>> {
        if *next >= until {
            return None;
        }
        let mut keys = Vec::new();
        for _ in 0..PART {
            let (book, page, _) = split(*next);
            let number = *next / PAGE;
            if let Some(page) = self.books.get(&book).and_then(|book| book.pages.get(page)) {
                let all = page.keys::<K>(number);
                keys.extend(all.filter(|key| (*next..until).contains(&key.get())));
            }
            *next = (number + 1) * PAGE;
            if *next >= until {
                break;
            }
        }
        Some(keys)
    }
}

impl<V> Page<V> {
    /// Where the object of this bit is, or would be.
    fn find(&self, bit: u64) -> Result<usize, usize> {
        let before = (self.there & (bit - 1)).count_ones() as usize;
        match self.there & bit {
            0 => Err(before),
            _ => Ok(before),
        }
    }

    fn keys<K: Number>(&self, number: u64) -> impl Iterator<Item = K> {
        let there = self.there;
        let bits = (0..PAGE).filter(move |at| there & 1 << at != 0);
        bits.map(move |at| K::of(number * PAGE + at))
    }
}

impl<V> Default for Book<V> {
    fn default() -> Self {
        Self {
            pages: [const {
                Page {
                    there: 0,
                    objects: Vec::new(),
                }
            }; BOOK as usize],
            len: 0,
        }
    }
}

#[cfg(test)]
impl<K: Number, V> std::ops::Index<&K> for Objects<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("an object of this number")
    }
}

#[cfg(test)]
mod tests {
    use super::Objects;
    use std::collections::BTreeMap;

    #[test]
    fn they_are_found_by_number_and_gone_through_in_parts() {
        let mut objects: Objects<u64, u64> = Objects::default();
        let mut model = BTreeMap::new();
        let mut number = 1u64;
        for step in 0..20_000u64 {
            number += 1 + step % 3 * (step % 200);
            objects.insert(number, step);
            model.insert(number, step);
            if step % 2 == 0 {
                let gone = number / 2 + step % 7;
                assert_eq!(objects.remove(&gone), model.remove(&gone));
            }
        }
        assert_eq!(objects.len(), model.len());
        assert!(
            model
                .iter()
                .all(|(key, value)| objects.get(key) == Some(value))
        );
        let (mut next, mut found) = (0, Vec::new());
        while let Some(part) = objects.part(&mut next, number) {
            found.extend(part);
        }
        let below = model.keys().copied().filter(|key| *key < number);
        assert_eq!(found, below.collect::<Vec<_>>());
        let mut keys: Vec<u64> = objects.keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, model.keys().copied().collect::<Vec<_>>());
        for key in keys {
            objects.remove(&key);
        }
        assert!(objects.books.is_empty());
    }
}
