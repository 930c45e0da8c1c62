//! A compressed, ordered set of sequences: what a queue holds.
//!
//! A run alone lies in the set itself, a few are a list. Of more, sequences are kept in chunks of 65,536. A chunk is a
//! list of runs while they are few, so that a whole run costs four bytes whatever its length, and a bitmap of 8 KiB when
//! they are many.

mod chunk;

use chunk::Chunk;
use std::collections::BTreeMap;

/// A set of `u64`.
#[derive(Debug, Clone, Default)]
pub struct SequenceSet {
    shape: Shape,
    len: u64,
}

/// As small as a list alone: a queue has several sets, and what holds a message for a moment touches nothing else.
#[derive(Debug, Clone)]
enum Shape {
    /// A run: first and last.
    One(u64, u64),
    /// Sorted, disjoint, not adjacent: first and last.
    Few(Vec<(u64, u64)>),
    /// By their upper bits.
    #[expect(
        clippy::box_collection,
        reason = "beside it a run fits into three words"
    )]
    Chunks(Box<BTreeMap<u64, Chunk>>),
}

impl Default for Shape {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

/// More runs than this are kept in chunks.
const FEW: usize = 64;

impl PartialEq for SequenceSet {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter_runs().eq(other.iter_runs())
    }
}

impl Eq for SequenceSet {}

fn split(sequence: u64) -> (u64, u16) {
    // The lower sixteen bits.
    (sequence >> 16, (sequence & 0xffff) as u16)
}

fn join(chunk: u64, low: u16) -> u64 {
    chunk << 16 | u64::from(low)
}

/// Adds a run to a sorted list of them; returns how many were new.
fn insert_few(runs: &mut Vec<(u64, u64)>, first: u64, last: u64) -> u64 {
    // At the end is where new sequences come.
    match runs.last_mut() {
        Some((_, end)) if first > *end => {
            if first - 1 == *end {
                *end = last;
            } else {
                push_few(runs, (first, last));
            }
            return last - first + 1;
        }
        None => {
            push_few(runs, (first, last));
            return last - first + 1;
        }
        _ => {}
    }
    let from = runs.partition_point(|(_, end)| end.saturating_add(1) < first);
    let to = runs.partition_point(|(start, _)| *start <= last.saturating_add(1));
    let mut merged = (first, last);
    let mut known = 0;
    for (start, end) in runs.get(from..to).unwrap_or_default() {
        merged = (merged.0.min(*start), merged.1.max(*end));
        known += end - start + 1;
    }
    runs.splice(from..to.max(from), [merged]);
    merged.1 - merged.0 + 1 - known
}

/// Most queues have one run or two: the list grows by what it needs at first, which is kept when they go.
fn push_few(runs: &mut Vec<(u64, u64)>, run: (u64, u64)) {
    if runs.len() < 2 {
        runs.reserve_exact(1);
    }
    runs.push(run);
}

/// Takes a run out of a sorted list of them; returns how many were there.
fn remove_few(runs: &mut Vec<(u64, u64)>, first: u64, last: u64) -> u64 {
    let from = runs.partition_point(|(_, end)| *end < first);
    let to = runs.partition_point(|(start, _)| *start <= last);
    let mut removed = 0;
    let mut left: smallvec::SmallVec<[(u64, u64); 2]> = smallvec::SmallVec::new();
    for (start, end) in runs.get(from..to).unwrap_or_default() {
        removed += (*end).min(last) - (*start).max(first) + 1;
        if *start < first {
            left.push((*start, first - 1));
        }
        if *end > last {
            left.push((last + 1, *end));
        }
    }
    if removed > 0 {
        runs.splice(from..to, left);
    }
    removed
}

impl SequenceSet {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Is it there?
    pub fn contains(&self, sequence: u64) -> bool {
        match &self.shape {
            Shape::One(first, last) => (*first..=*last).contains(&sequence),
            Shape::Few(runs) => {
                let at = runs.partition_point(|(_, last)| *last < sequence);
                runs.get(at).is_some_and(|(first, _)| *first <= sequence)
            }
            Shape::Chunks(chunks) => {
                let (chunk, low) = split(sequence);
                chunks.get(&chunk).is_some_and(|chunk| chunk.contains(low))
            }
        }
    }

    /// Adds one.
    pub fn insert(&mut self, sequence: u64) {
        self.insert_run(sequence, sequence);
    }

    /// Adds all from `first` to `last`.
    pub fn insert_run(&mut self, first: u64, last: u64) {
        self.len += match &mut self.shape {
            Shape::One(_, end) if *end < first => {
                if *end + 1 == first {
                    *end = last;
                    last - first + 1
                } else {
                    self.list().map_or(0, |runs| insert_few(runs, first, last))
                }
            }
            Shape::One(..) => self.list().map_or(0, |runs| insert_few(runs, first, last)),
            Shape::Few(runs) if runs.capacity() == 0 => {
                self.shape = Shape::One(first, last);
                last - first + 1
            }
            Shape::Few(runs) => insert_few(runs, first, last),
            Shape::Chunks(chunks) => insert_chunks(chunks, first, last),
        };
        self.settle();
    }

    /// The list that a run alone becomes.
    fn list(&mut self) -> Option<&mut Vec<(u64, u64)>> {
        if let Shape::One(first, last) = self.shape {
            let mut runs = Vec::with_capacity(2);
            runs.push((first, last));
            self.shape = Shape::Few(runs);
        }
        match &mut self.shape {
            Shape::Few(runs) => Some(runs),
            _ => None,
        }
    }

    /// Takes one out; was it there?
    pub fn remove(&mut self, sequence: u64) -> bool {
        self.remove_run(sequence, sequence) == 1
    }

    /// Takes out all from `first` to `last`; returns how many were there.
    pub fn remove_run(&mut self, first: u64, last: u64) -> u64 {
        let removed = match &mut self.shape {
            Shape::One(start, end) => {
                let inside = (first.max(*start), last.min(*end));
                if inside.0 > inside.1 {
                    return 0;
                }
                let whole = inside == (*start, *end);
                if whole {
                    self.shape = Shape::default();
                } else if inside.0 == *start {
                    *start = inside.1 + 1;
                } else if inside.1 == *end {
                    *end = inside.0 - 1;
                } else if let Some(runs) = self.list() {
                    remove_few(runs, first, last);
                }
                inside.1 - inside.0 + 1
            }
            Shape::Few(runs) => remove_few(runs, first, last),
            Shape::Chunks(chunks) => remove_chunks(chunks, first, last),
        };
        self.len -= removed;
        self.settle();
        removed
    }

    /// Chooses the smaller shape.
    fn settle(&mut self) {
        match &mut self.shape {
            Shape::Few(runs) if runs.len() > FEW => {
                let mut chunks = BTreeMap::new();
                for (first, last) in runs.drain(..) {
                    insert_chunks(&mut chunks, first, last);
                }
                self.shape = Shape::Chunks(Box::new(chunks));
            }
            Shape::Few(runs) if self.len == 0 && runs.capacity() > 2 => *runs = Vec::new(),
            Shape::Chunks(chunks) if chunks.len() < 2 => {
                let runs = chunks.values().next().map_or(0, Chunk::runs_few);
                if runs < FEW / 4 {
                    let runs = self.iter_runs().collect();
                    self.shape = Shape::Few(runs);
                }
            }
            _ => {}
        }
    }

    /// The lowest.
    pub fn first(&self) -> Option<u64> {
        match &self.shape {
            Shape::One(first, _) => Some(*first),
            Shape::Few(runs) => runs.first().map(|(first, _)| *first),
            Shape::Chunks(chunks) => {
                let (chunk, held) = chunks.first_key_value()?;
                Some(join(*chunk, held.first_from(0)?))
            }
        }
    }

    /// The lowest at or after this one.
    pub fn first_at_or_after(&self, sequence: u64) -> Option<u64> {
        match &self.shape {
            Shape::One(first, last) => (sequence <= *last).then_some(sequence.max(*first)),
            Shape::Few(runs) => {
                let at = runs.partition_point(|(_, last)| *last < sequence);
                runs.get(at).map(|(first, _)| sequence.max(*first))
            }
            Shape::Chunks(chunks) => {
                let (wanted, low) = split(sequence);
                chunks.range(wanted..).find_map(|(chunk, held)| {
                    let from = if *chunk == wanted { low } else { 0 };
                    held.first_from(from).map(|low| join(*chunk, low))
                })
            }
        }
    }

    /// Takes the lowest out.
    pub fn pop_first(&mut self) -> Option<u64> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter_runs().flat_map(|(first, last)| first..=last)
    }

    /// Maximal runs, ascending: first and last.
    pub fn iter_runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs_from(0)
    }

    /// Maximal runs of what is at or after this one, ascending.
    pub fn runs_from(&self, sequence: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut one = None;
        let (few, chunks) = match &self.shape {
            Shape::One(first, last) => {
                one = Some((*first, *last));
                (None, None)
            }
            Shape::Few(runs) => {
                let at = runs.partition_point(|(_, last)| *last < sequence);
                (runs.get(at..), None)
            }
            Shape::Chunks(chunks) => (None, Some(chunks.range(sequence >> 16..))),
        };
        let chunked = chunks.into_iter().flatten().flat_map(|(chunk, held)| {
            held.runs()
                .map(|(first, last)| (join(*chunk, first), join(*chunk, last)))
        });
        let mut runs = few
            .into_iter()
            .flatten()
            .copied()
            .chain(one)
            .chain(chunked)
            .skip_while(move |(_, last)| *last < sequence)
            .map(move |(first, last)| (first.max(sequence), last))
            .peekable();
        // Runs that meet at a chunk's border are joined.
        std::iter::from_fn(move || {
            let (first, mut last) = runs.next()?;
            while let Some((_, end)) = runs.next_if(|(start, _)| *start == last + 1) {
                last = end;
            }
            Some((first, last))
        })
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.len = 0;
        match &mut self.shape {
            Shape::Few(runs) if runs.capacity() <= 2 => runs.clear(),
            other => *other = Shape::default(),
        }
    }

    /// Memory that it takes, roughly, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.shape {
            Shape::One(..) => 0,
            Shape::Few(runs) => runs.capacity() * 16,
            Shape::Chunks(chunks) => chunks.values().map(Chunk::memory_bytes).sum(),
        }
    }
}

fn insert_chunks(chunks: &mut BTreeMap<u64, Chunk>, first: u64, last: u64) -> u64 {
    let mut added = 0;
    for (chunk, low, high) in pieces(first, last) {
        let chunk = chunks
            .entry(chunk)
            .or_insert_with(|| Chunk::Runs(Vec::new()));
        added += chunk.insert(low, high);
    }
    added
}

fn remove_chunks(chunks: &mut BTreeMap<u64, Chunk>, first: u64, last: u64) -> u64 {
    let mut removed = 0;
    let mut from = first;
    while from <= last {
        let Some((&chunk, held)) = chunks.range_mut(from >> 16..=last >> 16).next() else {
            break;
        };
        let low = if chunk == first >> 16 {
            split(first).1
        } else {
            0
        };
        let high = if chunk == last >> 16 {
            split(last).1
        } else {
            u16::MAX
        };
        removed += held.remove(low, high);
        if held.len() == 0 {
            chunks.remove(&chunk);
        }
        let Some(next) = (chunk + 1)
            .checked_shl(16)
            .filter(|_| chunk < u64::MAX >> 16)
        else {
            break;
        };
        from = next;
    }
    removed
}

/// A run cut at chunk borders: chunk, first, last.
fn pieces(first: u64, last: u64) -> impl Iterator<Item = (u64, u16, u16)> {
    (first >> 16..=last >> 16).map(move |chunk| {
        let low = if chunk == first >> 16 {
            split(first).1
        } else {
            0
        };
        let high = if chunk == last >> 16 {
            split(last).1
        } else {
            u16::MAX
        };
        (chunk, low, high)
    })
}

impl FromIterator<u64> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = u64>>(sequences: I) -> Self {
        let mut set = Self::default();
        for sequence in sequences {
            set.insert(sequence);
        }
        set
    }
}

#[cfg(test)]
mod tests;
