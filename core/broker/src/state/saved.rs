//! A saved state on its way to a checkpoint: entries packed into chunks, so that taking it is quick and putting it in
//! order is the business of whoever writes it.

use omnilog_ledger::Pair;
use serde::Serialize;

/// A chunk is closed when it has grown to this.
const CHUNK: usize = 1 << 20;

/// Entries of a checkpoint, in any order.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    chunks: Vec<Vec<u8>>,
    entries: Vec<Place>,
}

/// Where an entry lies: its chunk, its key's start, its value's, its end.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    key: u32,
    value: u32,
    end: u32,
}

fn number(at: usize) -> u32 {
    // A frame, and so a value, is smaller by far.
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Saved {
    /// Adds an entry: its view, the parts of its key, its value in postcard's encoding.
    pub(crate) fn add(
        &mut self,
        view: u8,
        key: &[&[u8]],
        value: &impl Serialize,
    ) -> Result<(), postcard::Error> {
        if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK + (CHUNK >> 6)));
        }
        let index = self.chunks.len() - 1;
        let mut chunk = self.chunks.pop().unwrap_or_default();
        let start = chunk.len();
        chunk.push(view);
        for part in key {
            chunk.extend_from_slice(part);
        }
        let middle = chunk.len();
        let chunk = postcard::to_extend(value, chunk)?;
        self.entries.push(Place {
            chunk: number(index),
            key: number(start),
            value: number(middle),
            end: number(chunk.len()),
        });
        self.chunks.push(chunk);
        Ok(())
    }

    fn part(&self, chunk: u32, from: u32, to: u32) -> &[u8] {
        let chunk = self.chunks.get(chunk as usize);
        chunk
            .and_then(|chunk| chunk.get(from as usize..to as usize))
            .unwrap_or_default()
    }

    /// Puts the entries into key order.
    pub(crate) fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| {
            let key = |place: &Place| (place.chunk, place.key, place.value);
            let ((a, from_a, to_a), (b, from_b, to_b)) = (key(a), key(b));
            self.part(a, from_a, to_a).cmp(self.part(b, from_b, to_b))
        });
        self.entries = entries;
    }

    /// The entries.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.entries.iter().map(|place| {
            let key = self.part(place.chunk, place.key, place.value);
            let value = self.part(place.chunk, place.value, place.end);
            (key.to_vec(), value.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Saved};

    #[test]
    fn entries_come_back_in_the_order_of_their_keys() -> Result<(), postcard::Error> {
        let mut saved = Saved::default();
        let large = vec![7u8; CHUNK / 3];
        for key in [3u8, 1, 9, 2, 8] {
            saved.add(b'x', &[&[key], b"key"], &(key, &large))?;
        }
        assert!(saved.chunks.len() > 1);
        saved.sort();
        let pairs: Vec<_> = saved.pairs().collect();
        let keys: Vec<u8> = pairs.iter().map(|(key, _)| key[1]).collect();
        assert_eq!(keys, [1, 2, 3, 8, 9]);
        for (key, value) in pairs {
            let (known, bytes): (u8, Vec<u8>) = postcard::from_bytes(&value)?;
            assert_eq!((known, bytes.len()), (key[1], large.len()));
        }
        Ok(())
    }
}
