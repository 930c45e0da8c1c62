//! The levels that patterns name, each once, under a number.

use super::sharded::Sharded;

/// Numbers by level.
#[derive(Debug, Default)]
pub(super) struct Levels {
    known: Sharded<Box<[u8]>, Known>,
    free: Vec<u32>,
    next: u32,
    /// Bytes of the levels themselves.
    bytes: usize,
}

/// A level's number, and how many branches of the trie bear it.
#[derive(Debug)]
struct Known {
    number: u32,
    uses: u32,
}

impl Levels {
    /// The number of a level, if a pattern names it.
    pub(super) fn number(&self, level: &[u8]) -> Option<u32> {
        self.known.get(level).map(|known| known.number)
    }

    /// One more branch bears it.
    pub(super) fn take(&mut self, level: &[u8]) -> u32 {
        if let Some(known) = self.known.get_mut(level) {
            known.uses += 1;
            return known.number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.bytes += level.len();
        self.known.insert(level.into(), Known { number, uses: 1 });
        number
    }

    /// One branch less.
    pub(super) fn release(&mut self, level: &[u8]) {
        let Some(known) = self.known.get_mut(level) else {
            return;
        };
        known.uses -= 1;
        if known.uses > 0 {
            return;
        }
        let number = known.number;
        self.known.remove(level);
        self.bytes -= level.len();
        self.free.push(number);
        // As many free numbers as there were ever: all of them.
        if self.free.len() == self.next as usize {
            self.free = Vec::new();
            self.next = 0;
        }
    }

    /// Bytes that it has taken.
    pub(super) fn taken_bytes(&self) -> usize {
        self.known.bytes() + self.free.capacity() * size_of::<u32>() + self.bytes
    }
}
