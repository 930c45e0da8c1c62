//! Numbered slots in chunks: growing never moves what is there, and an emptied chunk gives its memory back.

use std::collections::BTreeSet;

/// Slots of a chunk.
const CHUNK: usize = 1024;

/// Slots by number.
#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with room. The lowest is filled first, so that the others may empty.
    open: BTreeSet<u32>,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: Vec<T>,
    free: Vec<u16>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            open: BTreeSet::new(),
        }
    }
}

impl<T: Default> Arena<T> {
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.chunks.get(at / CHUNK)?.slots.get(at % CHUNK)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        self.chunks.get_mut(at / CHUNK)?.slots.get_mut(at % CHUNK)
    }

    /// Puts a value into a free slot.
    pub(super) fn add(&mut self, value: T) -> u32 {
        let number = match self.open.first() {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
                self.chunks.push(Chunk {
                    slots: Vec::new(),
                    free: Vec::new(),
                });
                self.open.insert(number);
                number
            }
        };
        let Some(chunk) = self.chunks.get_mut(number as usize) else {
            return u32::MAX;
        };
        let slot = match chunk.free.pop() {
            Some(slot) => {
                if let Some(held) = chunk.slots.get_mut(usize::from(slot)) {
                    *held = value;
                }
                usize::from(slot)
            }
            None => {
                chunk.slots.push(value);
                chunk.slots.len() - 1
            }
        };
        if chunk.free.is_empty() && chunk.slots.len() == CHUNK {
            self.open.remove(&number);
        }
        // A chunk has 1,024 slots.
        number * CHUNK as u32 + slot as u32
    }

    /// Empties a slot.
    pub(super) fn take(&mut self, at: u32) -> T {
        let (number, slot) = (at / CHUNK as u32, at as usize % CHUNK);
        let Some(chunk) = self.chunks.get_mut(number as usize) else {
            return T::default();
        };
        let Some(held) = chunk.slots.get_mut(slot) else {
            return T::default();
        };
        let value = std::mem::take(held);
        chunk.free.push(slot as u16);
        self.open.insert(number);
        if chunk.free.len() == chunk.slots.len() {
            chunk.slots = Vec::new();
            chunk.free = Vec::new();
        }
        while self.chunks.last().is_some_and(|last| last.slots.is_empty()) {
            self.chunks.pop();
            self.open.remove(&(self.chunks.len() as u32));
        }
        value
    }

    /// Every slot, free ones included.
    pub(super) fn each(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.slots)
    }

    /// Bytes that it has taken.
    pub(super) fn bytes(&self) -> usize {
        let chunk = |chunk: &Chunk<T>| {
            chunk.slots.capacity() * size_of::<T>() + chunk.free.capacity() * size_of::<u16>()
        };
        self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.chunks.iter().map(chunk).sum::<usize>()
    }
}
