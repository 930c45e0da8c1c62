//! Cold reads: sections found through footers, for reader threads.

mod visit;

use crate::env::File;
use crate::format::{self, Entry, Footer};
use crate::frame::{Place, Section, ShardId};
use crate::open_index::OpenIndex;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Finds and reads sections. Calls block; make them on threads of their own.
pub trait SectionReader: Send + Sync + std::fmt::Debug {
    /// The section that holds this sequence of a shard; `None` if it is nowhere (any more).
    fn by_sequence(&self, shard: ShardId, sequence: u64) -> io::Result<Option<Section>>;
    /// Sections of a log from the one that holds the range's first offset (or the next after a gap), in order, within
    /// `bytes_max`; the first whatever its size if `at_least_one`.
    fn by_offset(
        &self,
        range: LogRange<'_>,
        bytes_max: u64,
        at_least_one: bool,
    ) -> io::Result<Vec<Section>>;
    /// The first section of a log, within the range, whose greatest timestamp is at least this.
    fn by_time(&self, range: LogRange<'_>, time_ms: i64) -> io::Result<Option<Section>>;
    /// Goes through a log's entries in offset order, within the range, for as long as `visit` says to go on. Reads no
    /// batch.
    fn walk(&self, range: LogRange<'_>, visit: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()>;
}

/// A part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange<'a> {
    /// The log's partition.
    pub partition: u64,
    /// Its first offset.
    pub from: i64,
    /// Its end, exclusively.
    pub until: i64,
    /// Journal files that follow each other, to begin with: nothing is found behind them. Empty: all are looked at. So
    /// they are if these hold nothing of it any more. Clustered files always are.
    pub files: &'a [u32],
    /// The partition under which there are copies of this one's batches as they were written: as far as these reach,
    /// they are read in place of what is left.
    pub copies: Option<u64>,
}

impl LogRange<'_> {
    /// A range of which it is not known where it lies.
    pub fn anywhere(partition: u64, from: i64, until: i64) -> Self {
        Self {
            partition,
            from,
            until,
            files: &[],
            copies: None,
        }
    }
}

/// Bytes of footers kept in memory.
const FOOTER_BYTES_MAX: usize = 64 << 20;
/// Sections that lie no further apart than this are read together.
const GAP_BYTES: u64 = 32 << 10;
/// Bytes read at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// The files of a journal, as its readers see them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    files: Mutex<BTreeMap<u32, ShelfFile>>,
    footers: Mutex<Footers>,
}

/// The footers read last.
#[derive(Debug, Default)]
struct Footers {
    /// Each with its size, and when it was wanted last.
    held: BTreeMap<u32, (Arc<Footer>, usize, u64)>,
    bytes: usize,
    wanted: u64,
    /// Those being read: who else wants one waits for it.
    reading: BTreeMap<u32, Arc<Mutex<()>>>,
}

impl Footers {
    fn get(&mut self, id: u32) -> Option<Arc<Footer>> {
        self.wanted += 1;
        let held = self.held.get_mut(&id)?;
        held.2 = self.wanted;
        Some(held.0.clone())
    }

    fn put(&mut self, id: u32, footer: Arc<Footer>) {
        let size = size_of::<Footer>()
            + footer.entries.len() * size_of::<Entry>()
            + footer.order.len() * size_of::<u32>();
        self.remove(id);
        self.wanted += 1;
        self.held.insert(id, (footer, size, self.wanted));
        self.bytes += size;
        // The one that was just read is in use, whatever its size.
        while self.bytes > FOOTER_BYTES_MAX && self.held.len() > 1 {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.2);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some((_, size, _)) = self.held.remove(&id) {
            self.bytes -= size;
        }
    }
}

/// A file on the shelf.
#[derive(Debug, Clone)]
pub(crate) struct ShelfFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) sequences: Vec<(ShardId, u64, u64)>,
    pub(crate) contents: Contents,
}

/// How a file's entries are known.
#[derive(Debug, Clone)]
pub(crate) enum Contents {
    /// The file being written.
    Open(Arc<OpenIndex>),
    /// Sealed: where its footer lies.
    Sealed(u64, u64),
}

/// A file's index: of the open one as it grows, or a footer.
enum Index {
    Open(Arc<OpenIndex>),
    Sealed(Arc<Footer>),
}

impl Index {
    fn by_sequence(&self, shard: ShardId, sequence: u64) -> Option<Entry> {
        let footer = match self {
            Self::Open(index) => return index.by_sequence(shard, sequence),
            Self::Sealed(footer) => footer,
        };
        let at = |at: &u32| footer.entries.get(*at as usize);
        let after = footer.order.partition_point(|place| {
            at(place).is_some_and(|entry| (entry.shard, entry.base_sequence) <= (shard, sequence))
        });
        let entry = at(footer.order.get(after.checked_sub(1)?)?)?;
        let last = entry.base_sequence + u64::from(entry.last_delta);
        (entry.shard == shard && sequence <= last).then_some(*entry)
    }

    /// The next entries of a log, from the one that holds `from`, or the next after a gap: a few of them.
    fn some_from(&self, partition: u64, from: i64, into: &mut VecDeque<Entry>) {
        let mut take = |entry: &Entry| {
            into.push_back(*entry);
            into.len() < TAKEN
        };
        let footer = match self {
            Self::Open(index) => return index.each_from(partition, from, &mut take),
            Self::Sealed(footer) => footer,
        };
        let start = footer
            .entries
            .partition_point(|entry| (entry.partition, entry.base_offset) < (partition, from));
        // The batch that holds the offset may begin before it.
        for entry in footer.entries.iter().skip(start.saturating_sub(1)) {
            let last = entry.base_offset + i64::from(entry.last_delta);
            let there = entry.partition == partition && last >= from;
            if entry.partition > partition || there && !take(entry) {
                return;
            }
        }
    }
}

/// Entries taken off an index at a time.
const TAKEN: usize = 64;

impl Shelf {
    pub(crate) fn put(&self, id: u32, file: ShelfFile) {
        self.files.lock().insert(id, file);
    }

    pub(crate) fn remove(&self, id: u32) -> Option<Arc<dyn File>> {
        let removed = self.files.lock().remove(&id);
        self.footers.lock().remove(id);
        removed.map(|file| file.file)
    }

    /// The open file's sequences grew.
    pub(crate) fn grown(&self, id: u32, sequences: &[(ShardId, u64, u64)]) {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&id) else {
            return;
        };
        for new in sequences {
            match file.sequences.iter_mut().find(|known| known.0 == new.0) {
                Some(known) => {
                    known.1 = known.1.min(new.1);
                    known.2 = known.2.max(new.2);
                }
                None => file.sequences.push(*new),
            }
        }
    }

    /// Puts these files in the place of those, at once for every reader. Returns what was taken away.
    pub(crate) fn swap(
        &self,
        away: &[u32],
        here: Vec<(u32, ShelfFile)>,
    ) -> Vec<(u32, Arc<dyn File>)> {
        let mut files = self.files.lock();
        let gone = away
            .iter()
            .filter_map(|id| files.remove(id).map(|file| (*id, file.file)))
            .collect();
        files.extend(here);
        drop(files);
        let mut footers = self.footers.lock();
        for id in away {
            footers.remove(*id);
        }
        gone
    }

    /// A file that is on the shelf, and its footer.
    pub(crate) fn look_into(&self, id: u32) -> io::Result<Option<(ShelfFile, Arc<Footer>)>> {
        let Some(file) = self.files.lock().get(&id).cloned() else {
            return Ok(None);
        };
        let footer = match self.index(id, &file)? {
            Index::Open(index) => Arc::new(Footer::new(0, 0, index.entries())),
            Index::Sealed(footer) => footer,
        };
        Ok(Some((file, footer)))
    }

    fn index(&self, id: u32, file: &ShelfFile) -> io::Result<Index> {
        let (position, length) = match &file.contents {
            Contents::Open(index) => return Ok(Index::Open(index.clone())),
            Contents::Sealed(position, length) => (*position, *length),
        };
        let reading = {
            let mut footers = self.footers.lock();
            if let Some(footer) = footers.get(id) {
                return Ok(Index::Sealed(footer));
            }
            footers.reading.entry(id).or_default().clone()
        };
        let _reading = reading.lock();
        if let Some(footer) = self.footers.lock().get(id) {
            return Ok(Index::Sealed(footer));
        }
        let read = read_footer(&*file.file, position, length).map(Arc::new);
        let mut footers = self.footers.lock();
        footers.reading.remove(&id);
        let footer = read?;
        footers.put(id, footer.clone());
        Ok(Index::Sealed(footer))
    }
}

/// Reads a footer.
pub(crate) fn read_footer(file: &dyn File, position: u64, length: u64) -> io::Result<Footer> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, position)?;
    let whole = bytes.get(..read).and_then(Footer::decode);
    whole.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a footer is damaged"))
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a section is damaged")
}

/// Reads one section.
pub(crate) fn read_section(file: &dyn File, place: Place) -> io::Result<Section> {
    let mut bytes = vec![0; place.length as usize];
    let read = file.read_at(&mut bytes, u64::from(place.position))?;
    bytes.truncate(read);
    decode(&Bytes::from(bytes))
}

/// A section by itself: its batch's own checksum speaks for it.
fn decode(bytes: &Bytes) -> io::Result<Section> {
    let section = format::decode_section(bytes).ok_or_else(damaged)?;
    let batch = &section.batch;
    let field = |at: usize| {
        let bytes = batch.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let whole = field(8).is_some_and(|length| length as usize + 12 == batch.len());
    let is_batch = batch.len() >= 61 && (whole || batch.get(16) == Some(&2));
    if is_batch && (!whole || field(17) != batch.get(21..).map(crc32c::crc32c)) {
        return Err(damaged());
    }
    Ok(section)
}

/// Reads sections of a file, neighbours together.
fn read_sections(file: &dyn File, entries: &[Entry], into: &mut Vec<Section>) -> io::Result<()> {
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let start = u64::from(first.position);
        let mut end = start + u64::from(first.length);
        let mut count = 1;
        for next in rest.iter().skip(1) {
            let (from, to) = (
                u64::from(next.position),
                u64::from(next.position) + u64::from(next.length),
            );
            if from < end || from - end > GAP_BYTES || to - start > WINDOW_BYTES {
                break;
            }
            end = to;
            count += 1;
        }
        let (together, others) = rest.split_at(count);
        if let [one] = together {
            into.push(read_section(file, one.place(0))?);
        } else {
            let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
            let read = file.read_at(&mut bytes, start)?;
            bytes.truncate(read);
            let bytes = Bytes::from(bytes);
            for entry in together {
                let at = usize::try_from(u64::from(entry.position) - start).unwrap_or(usize::MAX);
                let end = at.saturating_add(entry.length as usize);
                if end > bytes.len() {
                    return Err(damaged());
                }
                into.push(decode(&bytes.slice(at..end))?);
            }
        }
        rest = others;
    }
    Ok(())
}

impl SectionReader for Shelf {
    fn by_sequence(&self, shard: ShardId, sequence: u64) -> io::Result<Option<Section>> {
        let holds = |(of, first, last): &(ShardId, u64, u64)| {
            *of == shard && (*first..=*last).contains(&sequence)
        };
        let found: Vec<(u32, ShelfFile)> = {
            let files = self.files.lock();
            let holding = files.iter().rev();
            holding
                .filter(|(_, file)| file.sequences.iter().any(holds))
                .map(|(id, file)| (*id, file.clone()))
                .collect()
        };
        for (id, file) in found {
            if let Some(entry) = self.index(id, &file)?.by_sequence(shard, sequence) {
                return read_section(&*file.file, entry.place(id)).map(Some);
            }
        }
        Ok(None)
    }

    fn by_offset(
        &self,
        range: LogRange<'_>,
        bytes_max: u64,
        at_least_one: bool,
    ) -> io::Result<Vec<Section>> {
        let mut found: Vec<(u32, ShelfFile, Vec<Entry>)> = Vec::new();
        let mut bytes = 0;
        self.visit(range, &mut |id, file, entry| {
            bytes += u64::from(entry.length);
            if bytes > bytes_max && !(at_least_one && found.is_empty()) {
                return Ok(false);
            }
            match found.last_mut() {
                Some((of, _, entries)) if *of == id => entries.push(*entry),
                _ => found.push((id, file.clone(), vec![*entry])),
            }
            Ok(true)
        })?;
        let mut sections = Vec::new();
        for (_, file, entries) in found {
            read_sections(&*file.file, &entries, &mut sections)?;
        }
        Ok(sections)
    }

    fn by_time(&self, range: LogRange<'_>, time_ms: i64) -> io::Result<Option<Section>> {
        let mut found = None;
        self.visit(range, &mut |id, file, entry| {
            if entry.max_timestamp >= time_ms {
                found = Some(read_section(&*file.file, entry.place(id))?);
            }
            Ok(found.is_none())
        })?;
        match found {
            None if !range.files.is_empty() => self.by_time(
                LogRange {
                    files: &[],
                    ..range
                },
                time_ms,
            ),
            found => Ok(found),
        }
    }

    fn walk(&self, range: LogRange<'_>, visit: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
        self.visit(range, &mut |_, _, entry| Ok(visit(entry)))
    }
}
