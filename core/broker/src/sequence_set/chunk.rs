//! 65,536 neighbouring sequences of a set: a list of runs, or a bitmap.

#[derive(Debug, Clone)]
pub(super) enum Chunk {
    /// Sorted, disjoint, not adjacent: first and last.
    Runs(Vec<(u16, u16)>),
    /// One bit for each, and how many are set.
    Bitmap(Box<[u64; WORDS]>, u32),
}

const WORDS: usize = 1024;
/// More runs than this make a bitmap: they would take as much memory.
const RUNS_MAX: usize = 2048;

impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        self.runs().eq(other.runs())
    }
}

impl Eq for Chunk {}

impl Chunk {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Runs(runs) => runs.iter().map(|(a, b)| u64::from(b - a) + 1).sum(),
            Self::Bitmap(_, count) => u64::from(*count),
        }
    }

    /// Memory that it takes with its place in the set, roughly, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Runs(runs) => 64 + runs.capacity() * 4,
            Self::Bitmap(..) => 64 + WORDS * 8,
        }
    }

    pub(super) fn contains(&self, low: u16) -> bool {
        match self {
            Self::Runs(runs) => {
                let after = runs.partition_point(|(first, _)| *first <= low);
                after
                    .checked_sub(1)
                    .and_then(|at| runs.get(at))
                    .is_some_and(|(_, last)| low <= *last)
            }
            Self::Bitmap(words, _) => words
                .get(usize::from(low >> 6))
                .is_some_and(|word| word >> (low & 63) & 1 == 1),
        }
    }

    /// Adds a run; returns how many were new.
    pub(super) fn insert(&mut self, first: u16, last: u16) -> u64 {
        let Self::Runs(runs) = self else {
            return self.set_bits(first, last, true);
        };
        // At the end is where new sequences come.
        if let Some((_, end)) = runs.last_mut()
            && first > *end
        {
            if first - 1 == *end {
                *end = last;
            } else {
                runs.push((first, last));
            }
            self.settle();
            return u64::from(last - first) + 1;
        }
        let before = self.len();
        let Self::Runs(runs) = self else { return 0 };
        let from = runs.partition_point(|(_, end)| u32::from(*end) + 1 < u32::from(first));
        let to = runs.partition_point(|(start, _)| u32::from(*start) <= u32::from(last) + 1);
        let merged = (
            runs.get(from)
                .filter(|_| from < to)
                .map_or(first, |(start, _)| first.min(*start)),
            to.checked_sub(1)
                .and_then(|at| runs.get(at))
                .filter(|_| from < to)
                .map_or(last, |(_, end)| last.max(*end)),
        );
        runs.splice(from..to.max(from), [merged]);
        let added = self.len() - before;
        self.settle();
        added
    }

    /// Takes a run out; returns how many were there.
    pub(super) fn remove(&mut self, first: u16, last: u16) -> u64 {
        let Self::Runs(runs) = self else {
            return self.set_bits(first, last, false);
        };
        let from = runs.partition_point(|(_, end)| *end < first);
        let to = runs.partition_point(|(start, _)| *start <= last);
        if from >= to {
            return 0;
        }
        let mut removed = 0;
        let mut left = Vec::with_capacity(2);
        for (start, end) in runs.get(from..to).unwrap_or_default() {
            removed += u64::from((*end).min(last) - (*start).max(first)) + 1;
            if *start < first {
                left.push((*start, first - 1));
            }
            if *end > last {
                left.push((last + 1, *end));
            }
        }
        runs.splice(from..to, left);
        self.settle();
        removed
    }

    fn set_bits(&mut self, first: u16, last: u16, on: bool) -> u64 {
        let Self::Bitmap(words, count) = self else {
            return 0;
        };
        let mut changed = 0;
        for at in usize::from(first >> 6)..=usize::from(last >> 6) {
            let Some(word) = words.get_mut(at) else {
                continue;
            };
            let low = if at == usize::from(first >> 6) {
                first & 63
            } else {
                0
            };
            let high = if at == usize::from(last >> 6) {
                last & 63
            } else {
                63
            };
            let mask = (u64::MAX << low) & (u64::MAX >> (63 - high));
            let before = word.count_ones();
            *word = if on { *word | mask } else { *word & !mask };
            changed += word.count_ones().abs_diff(before);
        }
        *count = if on {
            *count + changed
        } else {
            *count - changed
        };
        if !on && *count < 512 {
            self.settle();
        }
        u64::from(changed)
    }

    /// Chooses the smaller shape.
    fn settle(&mut self) {
        match self {
            Self::Runs(runs) if runs.len() > RUNS_MAX => {
                let mut bitmap = Self::Bitmap(Box::new([0; WORDS]), 0);
                for (first, last) in runs.drain(..) {
                    bitmap.set_bits(first, last, true);
                }
                *self = bitmap;
            }
            Self::Bitmap(_, count) if *count < 512 => *self = Self::Runs(self.runs().collect()),
            // One that had many would keep their room.
            Self::Runs(runs) if runs.capacity() > 16 && runs.len() * 4 < runs.capacity() => {
                runs.shrink_to(runs.len() * 2);
            }
            _ => {}
        }
    }

    /// How many runs, if it is a list of them.
    pub(super) fn runs_few(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.len(),
            Self::Bitmap(..) => usize::MAX,
        }
    }

    pub(super) fn runs(&self) -> ChunkRuns<'_> {
        ChunkRuns { chunk: self, at: 0 }
    }

    pub(super) fn first_from(&self, low: u16) -> Option<u16> {
        match self {
            Self::Runs(runs) => {
                let at = runs.partition_point(|(_, end)| *end < low);
                runs.get(at).map(|(start, _)| low.max(*start))
            }
            Self::Bitmap(words, _) => {
                next_bit(words, u32::from(low), true).and_then(|bit| u16::try_from(bit).ok())
            }
        }
    }
}

/// The next set (or clear) bit at or after this one.
fn next_bit(words: &[u64; WORDS], from: u32, set: bool) -> Option<u32> {
    let mut at = usize::try_from(from >> 6).ok()?;
    let mut mask = u64::MAX << (from & 63);
    while let Some(word) = words.get(at) {
        let word = if set { *word } else { !*word } & mask;
        if word != 0 {
            return Some(u32::try_from(at).ok()? * 64 + word.trailing_zeros());
        }
        mask = u64::MAX;
        at += 1;
    }
    None
}

/// A chunk's runs, in order.
pub(super) struct ChunkRuns<'a> {
    chunk: &'a Chunk,
    /// The next run's number, or the next bit.
    at: u32,
}

impl Iterator for ChunkRuns<'_> {
    type Item = (u16, u16);

    fn next(&mut self) -> Option<Self::Item> {
        match self.chunk {
            Chunk::Runs(runs) => {
                let run = runs.get(self.at as usize).copied();
                self.at += 1;
                run
            }
            Chunk::Bitmap(words, _) => {
                let first = next_bit(words, self.at, true)?;
                let end = next_bit(words, first, false).unwrap_or(0x1_0000);
                self.at = end;
                Some((u16::try_from(first).ok()?, u16::try_from(end - 1).ok()?))
            }
        }
    }
}
