//! What a checkpoint is to hold, on its way there: entries packed into chunks, so that taking them is quick and putting
//! them in order is the business of whoever writes them.

use crate::sequence_set::SequenceSet;
use crate::state::changes::Numbered;
use crate::state::pages;
use omnilog_ledger::Change;
use serde::Serialize;
use std::collections::BTreeMap;

/// A chunk is closed when it has grown to this.
const CHUNK: usize = 1 << 20;

/// Changes of a checkpoint, in any order.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    chunks: Vec<Vec<u8>>,
    entries: Vec<Place>,
    /// Entries of large queues: a copy is quick to make, and encoded by whoever writes.
    sets: Vec<(u64, SequenceSet)>,
    /// Why something could not be encoded.
    failure: Option<postcard::Error>,
    /// What an earlier checkpoint was to hold that could not be written.
    before: Option<Box<Self>>,
}

/// Where an entry lies: its chunk, its key's start, its value's, its end.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    key: u32,
    value: u32,
    end: u32,
    effect: Effect,
}

/// What an entry does to older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It takes the place of one with the same key.
    Replaces,
    /// And all go whose keys begin with its own.
    Clears,
    /// There is nothing under this key.
    Gone,
    /// There is nothing under any key that begins with this one.
    GoneWithAll,
}

fn number(at: usize) -> u32 {
    // A frame, and so a value, is smaller by far.
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Saved {
    /// Adds an entry: its view, the parts of its key, its value in postcard's encoding.
    pub(crate) fn add(&mut self, view: u8, key: &[&[u8]], value: &impl Serialize) {
        self.push(view, key, Effect::Replaces, |chunk| {
            postcard::to_extend(value, chunk)
        });
    }

    /// Adds the first entry of an object: whatever was known of it goes.
    pub(crate) fn add_object(&mut self, view: u8, key: &[u8], value: &impl Serialize) {
        self.push(view, &[key], Effect::Clears, |chunk| {
            postcard::to_extend(value, chunk)
        });
    }

    /// There is nothing under this key.
    pub(crate) fn remove(&mut self, view: u8, key: &[&[u8]]) {
        self.push(view, key, Effect::Gone, Ok);
    }

    /// An object is gone.
    pub(crate) fn gone(&mut self, object: Numbered) {
        let (view, key) = pages::key_of(object);
        self.push(view, &[&key], Effect::GoneWithAll, Ok);
    }

    /// A large queue's entries.
    pub(crate) fn add_set(&mut self, queue: u64, entries: SequenceSet) {
        self.sets.push((queue, entries));
    }

    fn push(
        &mut self,
        view: u8,
        key: &[&[u8]],
        effect: Effect,
        fill: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, postcard::Error>,
    ) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            // The first grows: most checkpoints are small.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room + (room >> 6)));
        }
        let index = self.chunks.len() - 1;
        let mut chunk = self.chunks.pop().unwrap_or_default();
        let start = chunk.len();
        chunk.push(view);
        for part in key {
            chunk.extend_from_slice(part);
        }
        let middle = chunk.len();
        match fill(chunk) {
            Ok(chunk) => {
                self.entries.push(Place {
                    chunk: number(index),
                    key: number(start),
                    value: number(middle),
                    end: number(chunk.len()),
                    effect,
                });
                self.chunks.push(chunk);
            }
            Err(error) => self.failure = Some(error),
        }
    }

    /// Bytes encoded so far.
    pub(crate) fn bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    /// This comes on top of what could not be written before.
    pub(crate) fn put_on(&mut self, before: Self) {
        self.before = Some(Box::new(before));
    }

    /// Encodes what was left for later, and puts all into key order; says if anything could not be encoded.
    pub(crate) fn settle(&mut self) -> Result<(), postcard::Error> {
        for (queue, entries) in std::mem::take(&mut self.sets) {
            pages::save_entries(queue, &entries, self);
        }
        if let Some(mut before) = self.before.take() {
            before.settle()?;
            self.merge_onto(&before);
        }
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| self.key(a).cmp(self.key(b)));
        self.entries = entries;
        Ok(())
    }

    /// Takes from older changes what these leave of them.
    fn merge_onto(&mut self, before: &Self) {
        let mut all: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        for change in before.changes() {
            all.insert(change.key.clone(), change);
        }
        let mine: Vec<Change> = self.changes().collect();
        for change in &mine {
            all.remove(&change.key);
            if change.clears {
                all.retain(|key, _| !key.starts_with(&change.key));
            }
        }
        for (key, change) in all {
            let (Some(view), Some(rest)) = (key.first(), key.get(1..)) else {
                continue;
            };
            let effect = match (&change.value, change.clears) {
                (Some(_), false) => Effect::Replaces,
                (Some(_), true) => Effect::Clears,
                (None, false) => Effect::Gone,
                (None, true) => Effect::GoneWithAll,
            };
            self.push(*view, &[rest], effect, |mut chunk| {
                chunk.extend_from_slice(change.value.as_deref().unwrap_or_default());
                Ok(chunk)
            });
        }
    }

    fn part(&self, chunk: u32, from: u32, to: u32) -> &[u8] {
        let chunk = self.chunks.get(chunk as usize);
        chunk
            .and_then(|chunk| chunk.get(from as usize..to as usize))
            .unwrap_or_default()
    }

    fn key(&self, place: &Place) -> &[u8] {
        self.part(place.chunk, place.key, place.value)
    }

    /// The entries.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        self.entries.iter().map(|place| {
            let gone = matches!(place.effect, Effect::Gone | Effect::GoneWithAll);
            let value = self.part(place.chunk, place.value, place.end);
            Change {
                key: self.key(place).to_vec(),
                value: (!gone).then(|| value.to_vec()),
                clears: matches!(place.effect, Effect::Clears | Effect::GoneWithAll),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Saved};
    use crate::api::QueueId;
    use crate::state::changes::Numbered;

    #[test]
    fn entries_come_back_in_the_order_of_their_keys() -> Result<(), postcard::Error> {
        let mut saved = Saved::default();
        let large = vec![7u8; CHUNK / 3];
        for key in [3u8, 1, 9, 2, 8] {
            saved.add(b'x', &[&[key], b"key"], &(key, &large));
        }
        assert!(saved.chunks.len() > 1);
        saved.settle()?;
        let changes: Vec<_> = saved.changes().collect();
        let keys: Vec<u8> = changes.iter().map(|change| change.key[1]).collect();
        assert_eq!(keys, [1, 2, 3, 8, 9]);
        for change in changes {
            let value = change.value.unwrap_or_default();
            let (known, bytes): (u8, Vec<u8>) = postcard::from_bytes(&value)?;
            assert_eq!((known, bytes.len()), (change.key[1], large.len()));
        }
        Ok(())
    }

    #[test]
    fn what_could_not_be_written_is_written_with_what_changed_since() -> Result<(), postcard::Error>
    {
        let id = |id: u64| id.to_be_bytes();
        let mut before = Saved::default();
        before.add_object(b'e', &id(1), &1);
        before.add(b'e', &[&id(1), b"f"], &2);
        before.add_object(b'e', &id(2), &3);
        before.add(b'x', &[b"old"], &4);
        before.add(b'x', &[b"both"], &5);
        let mut saved = Saved::default();
        saved.gone(Numbered::Queue(QueueId(1)));
        saved.remove(b'x', &[b"both"]);
        saved.put_on(before);
        saved.settle()?;
        let found: Vec<_> = saved
            .changes()
            .map(|change| (change.key, change.value, change.clears))
            .collect();
        let key = |view: u8, rest: &[u8]| [&[view], rest].concat();
        let expected = vec![
            (key(b'e', &id(1)), None, true),
            (key(b'e', &id(2)), Some(vec![6]), true),
            (key(b'x', b"both"), None, false),
            (key(b'x', b"old"), Some(vec![8]), false),
        ];
        assert_eq!(found, expected);
        Ok(())
    }
}
