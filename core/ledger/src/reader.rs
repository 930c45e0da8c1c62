//! Cold reads: sections found through footers, for reader threads.

use crate::env::File;
use crate::format::{self, Entry, Footer};
use crate::frame::{Place, Section, ShardId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Finds and reads sections. Calls block; make them on threads of their own.
pub trait SectionReader: Send + Sync + std::fmt::Debug {
    /// The section that holds this sequence of a shard; `None` if it is nowhere (any more).
    fn by_sequence(&self, shard: ShardId, sequence: u64) -> io::Result<Option<Section>>;
    /// Sections of a partition from the one that holds `offset` (or the next after a gap) up to `until`, within
    /// `bytes_max`; the first whatever its size if `at_least_one`.
    fn by_offset(
        &self,
        partition: u64,
        offset: i64,
        until: i64,
        bytes_max: u64,
        at_least_one: bool,
    ) -> io::Result<Vec<Section>>;
    /// The first section of a partition, from `from` up to `until`, whose greatest timestamp is at least this.
    fn by_time(
        &self,
        partition: u64,
        from: i64,
        until: i64,
        time_ms: i64,
    ) -> io::Result<Option<Section>>;
}

/// Footers kept in memory, at the most.
const FOOTERS_MAX: usize = 64;

/// The files of a journal, as its readers see them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    files: Mutex<BTreeMap<u32, ShelfFile>>,
    footers: Mutex<Footers>,
}

#[derive(Debug, Default)]
struct Footers {
    held: BTreeMap<u32, Arc<Footer>>,
    order: VecDeque<u32>,
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
    /// The file being written: its entries, in the order of writing.
    Open(Arc<Mutex<Vec<Entry>>>),
    /// Sealed: where its footer lies.
    Sealed(u64, u64),
}

impl Shelf {
    pub(crate) fn put(&self, id: u32, file: ShelfFile) {
        self.files.lock().insert(id, file);
    }

    pub(crate) fn remove(&self, id: u32) -> Option<Arc<dyn File>> {
        let removed = self.files.lock().remove(&id);
        let mut footers = self.footers.lock();
        footers.held.remove(&id);
        footers.order.retain(|held| *held != id);
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

    fn footer(&self, id: u32, file: &ShelfFile) -> io::Result<Arc<Footer>> {
        match &file.contents {
            Contents::Open(entries) => {
                let entries = entries.lock().clone();
                Ok(Arc::new(Footer::new(0, 0, entries)))
            }
            Contents::Sealed(position, length) => {
                if let Some(footer) = self.footers.lock().held.get(&id) {
                    return Ok(footer.clone());
                }
                let footer = Arc::new(read_footer(&*file.file, *position, *length)?);
                let mut footers = self.footers.lock();
                if footers.held.insert(id, footer.clone()).is_none() {
                    footers.order.push_back(id);
                }
                while footers.held.len() > FOOTERS_MAX {
                    let Some(oldest) = footers.order.pop_front() else {
                        break;
                    };
                    footers.held.remove(&oldest);
                }
                Ok(footer)
            }
        }
    }

    fn snapshot(&self) -> Vec<(u32, ShelfFile)> {
        self.files
            .lock()
            .iter()
            .map(|(id, file)| (*id, file.clone()))
            .collect()
    }
}

/// Reads a footer.
pub(crate) fn read_footer(file: &dyn File, position: u64, length: u64) -> io::Result<Footer> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, position)?;
    let whole = bytes.get(..read).and_then(Footer::decode);
    whole.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a footer is damaged"))
}

/// Reads one section.
pub(crate) fn read_section(file: &dyn File, place: Place) -> io::Result<Section> {
    let mut bytes = vec![0; place.length as usize];
    let read = file.read_at(&mut bytes, u64::from(place.position))?;
    bytes.truncate(read);
    format::decode_section(&Bytes::from(bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a section is damaged"))
}

impl SectionReader for Shelf {
    fn by_sequence(&self, shard: ShardId, sequence: u64) -> io::Result<Option<Section>> {
        let found = self.files.lock().iter().rev().find_map(|(id, file)| {
            let holds = |(of, first, last): &(ShardId, u64, u64)| {
                *of == shard && (*first..=*last).contains(&sequence)
            };
            file.sequences
                .iter()
                .any(holds)
                .then(|| (*id, file.clone()))
        });
        let Some((id, file)) = found else {
            return Ok(None);
        };
        let footer = self.footer(id, &file)?;
        let key = |at: &u32| {
            footer
                .entries
                .get(*at as usize)
                .map_or((ShardId(u16::MAX), u64::MAX), |entry| {
                    (entry.shard, entry.base_sequence)
                })
        };
        let after = footer
            .order
            .partition_point(|at| key(at) <= (shard, sequence));
        let entry = after
            .checked_sub(1)
            .and_then(|before| footer.order.get(before))
            .and_then(|at| footer.entries.get(*at as usize));
        let Some(entry) = entry.filter(|entry| {
            entry.shard == shard && sequence <= entry.base_sequence + u64::from(entry.last_delta)
        }) else {
            return Ok(None);
        };
        read_section(&*file.file, entry.place(id)).map(Some)
    }

    fn by_offset(
        &self,
        partition: u64,
        offset: i64,
        until: i64,
        bytes_max: u64,
        at_least_one: bool,
    ) -> io::Result<Vec<Section>> {
        let mut sections = Vec::new();
        let mut bytes = 0;
        for (id, file) in self.snapshot() {
            let footer = self.footer(id, &file)?;
            let start = footer.entries.partition_point(|entry| {
                (entry.partition, entry.base_offset) < (partition, offset)
            });
            // The batch that holds the offset may begin before it.
            let start = start.saturating_sub(1);
            for entry in footer.entries.iter().skip(start) {
                if entry.partition > partition
                    || entry.partition == partition && entry.base_offset >= until
                {
                    break;
                }
                let last = entry.base_offset + i64::from(entry.last_delta);
                if entry.partition < partition || last < offset {
                    continue;
                }
                let size = u64::from(entry.length);
                if bytes + size > bytes_max && !(at_least_one && sections.is_empty()) {
                    return Ok(sections);
                }
                bytes += size;
                sections.push(read_section(&*file.file, entry.place(id))?);
            }
        }
        Ok(sections)
    }

    fn by_time(
        &self,
        partition: u64,
        from: i64,
        until: i64,
        time_ms: i64,
    ) -> io::Result<Option<Section>> {
        for (id, file) in self.snapshot() {
            let footer = self.footer(id, &file)?;
            let start = footer
                .entries
                .partition_point(|entry| entry.partition < partition);
            let found = footer
                .entries
                .iter()
                .skip(start)
                .take_while(|entry| entry.partition == partition && entry.base_offset < until)
                .find(|entry| {
                    entry.max_timestamp >= time_ms
                        && entry.base_offset + i64::from(entry.last_delta) >= from
                });
            if let Some(entry) = found {
                return read_section(&*file.file, entry.place(id)).map(Some);
            }
        }
        Ok(None)
    }
}
