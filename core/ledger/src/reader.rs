//! Cold reads: sections found through footers, for reader threads.

use crate::cluster::is_clustered;
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
    /// Goes through a partition's entries in offset order, from the one that holds `from` (or the next after a gap)
    /// up to `until`, for as long as `visit` says to go on. Reads no batch.
    fn walk(
        &self,
        partition: u64,
        from: i64,
        until: i64,
        visit: &mut dyn FnMut(&Entry) -> bool,
    ) -> io::Result<()>;
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
        footers.held.retain(|id, _| !away.contains(id));
        footers.order.retain(|id| !away.contains(id));
        gone
    }

    /// A file that is on the shelf, and its footer.
    pub(crate) fn look_into(&self, id: u32) -> io::Result<Option<(ShelfFile, Arc<Footer>)>> {
        let Some(file) = self.files.lock().get(&id).cloned() else {
            return Ok(None);
        };
        let footer = self.footer(id, &file)?;
        Ok(Some((file, footer)))
    }

    /// Goes through a partition's entries in offset order, from the one that holds `from` (or the next after a gap)
    /// up to `until`, for as long as `visit` wants more.
    fn visit(
        &self,
        partition: u64,
        from: i64,
        until: i64,
        visit: &mut dyn FnMut(u32, &ShelfFile, &Entry) -> io::Result<bool>,
    ) -> io::Result<()> {
        // Journal files follow each other in offset order; clustered ones may lie anywhere among them.
        let (clustered, mut journal): (VecDeque<_>, VecDeque<_>) = self
            .snapshot()
            .into_iter()
            .partition(|(id, _)| is_clustered(*id));
        let mut open: Vec<Run> = Vec::new();
        for (id, file) in clustered {
            open.extend(self.run(id, file, (partition, from, until))?);
        }
        let mut chain = self.next_run(&mut journal, (partition, from, until))?;
        loop {
            let first = |run: &Run| run.head().map_or(i64::MAX, |entry| entry.base_offset);
            let lowest = (0..open.len()).min_by_key(|at| open.get(*at).map_or(i64::MAX, first));
            let here = lowest.and_then(|at| open.get_mut(at));
            let chained = chain.as_mut();
            let run = match (here, chained) {
                (Some(here), Some(chained)) if first(here) <= first(chained) => here,
                (_, Some(chained)) => chained,
                (Some(here), None) => here,
                (None, None) => return Ok(()),
            };
            let Some(entry) = run.head() else {
                return Ok(());
            };
            if !visit(run.id, &run.file, &entry)? {
                return Ok(());
            }
            run.at += 1;
            open.retain(|run| run.head().is_some());
            if chain.as_ref().is_some_and(|run| run.head().is_none()) {
                chain = self.next_run(&mut journal, (partition, from, until))?;
            }
        }
    }

    fn next_run(
        &self,
        files: &mut VecDeque<(u32, ShelfFile)>,
        range: (u64, i64, i64),
    ) -> io::Result<Option<Run>> {
        while let Some((id, file)) = files.pop_front() {
            if let Some(run) = self.run(id, file, range)? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// What a file has of a partition's offsets, if anything.
    fn run(
        &self,
        id: u32,
        file: ShelfFile,
        (partition, from, until): (u64, i64, i64),
    ) -> io::Result<Option<Run>> {
        let footer = self.footer(id, &file)?;
        let key = |entry: &Entry| (entry.partition, entry.base_offset);
        let after = footer
            .entries
            .partition_point(|entry| key(entry) <= (partition, from));
        // The batch that holds the offset may begin before it.
        let holds = |entry: &Entry| {
            entry.partition == partition && entry.base_offset + i64::from(entry.last_delta) >= from
        };
        let before = after
            .checked_sub(1)
            .filter(|at| footer.entries.get(*at).is_some_and(holds));
        let end = footer
            .entries
            .partition_point(|entry| key(entry) < (partition, until));
        let run = Run {
            id,
            file,
            at: before.unwrap_or(after),
            end,
            footer,
        };
        Ok(run.head().is_some().then_some(run))
    }
}

/// A file's entries of one partition, ahead of a reader.
struct Run {
    id: u32,
    file: ShelfFile,
    footer: Arc<Footer>,
    at: usize,
    end: usize,
}

impl Run {
    fn head(&self) -> Option<Entry> {
        let left = (self.at < self.end).then_some(self.at)?;
        self.footer.entries.get(left).copied()
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
        let holds = |file: &ShelfFile| {
            file.sequences
                .iter()
                .any(|(of, first, last)| *of == shard && (*first..=*last).contains(&sequence))
        };
        // Clustered files' sequences overlap, and have holes.
        let candidates: Vec<(u32, ShelfFile)> = self
            .files
            .lock()
            .iter()
            .rev()
            .filter(|(_, file)| holds(file))
            .map(|(id, file)| (*id, file.clone()))
            .collect();
        for (id, file) in candidates {
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
                .and_then(|at| footer.entries.get(*at as usize))
                .filter(|entry| {
                    entry.shard == shard
                        && sequence <= entry.base_sequence + u64::from(entry.last_delta)
                });
            if let Some(entry) = entry {
                return read_section(&*file.file, entry.place(id)).map(Some);
            }
        }
        Ok(None)
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
        self.visit(partition, offset, until, &mut |id, file, entry| {
            bytes += u64::from(entry.length);
            if bytes > bytes_max && !(at_least_one && sections.is_empty()) {
                return Ok(false);
            }
            sections.push(read_section(&*file.file, entry.place(id))?);
            Ok(true)
        })?;
        Ok(sections)
    }

    fn by_time(
        &self,
        partition: u64,
        from: i64,
        until: i64,
        time_ms: i64,
    ) -> io::Result<Option<Section>> {
        let mut found = None;
        self.visit(partition, from, until, &mut |id, file, entry| {
            if entry.max_timestamp >= time_ms {
                found = Some(read_section(&*file.file, entry.place(id))?);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    fn walk(
        &self,
        partition: u64,
        from: i64,
        until: i64,
        visit: &mut dyn FnMut(&Entry) -> bool,
    ) -> io::Result<()> {
        self.visit(partition, from, until, &mut |_, _, entry| Ok(visit(entry)))
    }
}
