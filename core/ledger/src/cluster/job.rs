//! Clustering some files: plan by their footers, write what lives in order, swap.

use super::{Clusters, Ends, damaged, file_path, holds_copies, reach};
use crate::env::File;
use crate::format::{self, Entry, FileHeader, Footer, SECTOR};
use crate::frame::{Section, ShardId};
use crate::reader::{Contents, ShelfFile, read_section};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Where an entry's records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Under which partition it is written: its own, or another that keeps a view of it.
    pub partition: u64,
    /// All of it lives: it is copied as it is, and not opened.
    pub whole: bool,
}

/// Says what lives.
pub trait Judge: Send {
    /// Bytes of an entry that live, roughly.
    fn weigh(&mut self, entry: &Entry) -> u32;
    /// Where an entry's records go; nowhere, if none lives.
    fn plan(&mut self, entry: &Entry, places: &mut Vec<Plan>);
    /// What is left of a section that is not written whole; `None`: nothing. Base offset, base sequence and last delta
    /// stay.
    fn rewrite(
        &mut self,
        shard: ShardId,
        plan: &Plan,
        section: Section,
    ) -> io::Result<Option<Section>>;
    /// Learns what must be known of a section before any is written. They come by partition and offset.
    fn study(&mut self, entry: &Entry, section: &Section) -> io::Result<()>;
    /// Is a section's batch as it was written?
    fn sound(&self, section: &Section) -> bool;
    /// Must a section be studied?
    fn studies(&mut self, entry: &Entry) -> bool;
}

/// A job under way. A real server steps it on a thread, resting between steps, so that the journal's syncs need not
/// wait; a simulation steps it when it likes. One that is dropped has changed nothing.
#[derive(Debug)]
pub struct Clustering {
    clusters: Arc<Clusters>,
    inputs: BTreeMap<u32, (ShelfFile, Arc<Footer>)>,
    away: Vec<u32>,
    stage: Stage,
    output: Option<Output>,
    done: Vec<(u32, ShelfFile, u64)>,
    /// Up to where copies were written.
    copied: Ends,
    swapped: bool,
}

#[derive(Debug)]
enum Stage {
    /// Files and entries to study.
    Study(Vec<(u32, Entry)>),
    /// Entries to write, the last one first.
    Write(Vec<(Plan, u32, Entry)>),
    Swap,
    Over,
}

#[derive(Debug)]
struct Output {
    id: u32,
    path: PathBuf,
    file: Arc<dyn File>,
    seed: u32,
    position: u64,
    buffer: Vec<u8>,
    entries: Vec<Entry>,
}

impl Clustering {
    pub(super) fn begin(clusters: Arc<Clusters>, files: &[u32]) -> io::Result<Self> {
        let mut inputs = BTreeMap::new();
        for id in files {
            if let Some(found) = clusters.shelf.look_into(*id)? {
                inputs.insert(*id, found);
            }
        }
        let mut study: Vec<(u32, Entry)> = inputs
            .iter()
            .flat_map(|(id, (_, footer))| footer.entries.iter().map(|entry| (*id, *entry)))
            .collect();
        study.sort_unstable_by_key(|(_, entry)| {
            std::cmp::Reverse((entry.partition, entry.base_offset))
        });
        Ok(Self {
            clusters,
            away: inputs.keys().copied().collect(),
            inputs,
            stage: Stage::Study(study),
            output: None,
            done: Vec::new(),
            copied: Ends::new(),
            swapped: false,
        })
    }

    /// Works until about this many bytes were read and written. Returns whether there is more to do.
    pub fn step(&mut self, judge: &mut dyn Judge, bytes_max: u64) -> io::Result<bool> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Study(entries) => {
                let rest = self.study(entries, judge, bytes_max)?;
                self.stage = if rest.is_empty() {
                    Stage::Write(self.plan(judge))
                } else {
                    Stage::Study(rest)
                };
            }
            Stage::Write(entries) => {
                let rest = self.write(entries, judge, bytes_max)?;
                self.stage = if rest.is_empty() {
                    self.seal()?;
                    Stage::Swap
                } else {
                    Stage::Write(rest)
                };
            }
            Stage::Swap => {
                let dir = &self.clusters.dir;
                if !self.done.is_empty() {
                    self.clusters.env.files.sync_dir(dir)?;
                }
                self.clusters.prepare(&self.away, &self.done)?;
                // Whatever becomes of it, the new files may count from now on.
                self.swapped = true;
                let done = std::mem::take(&mut self.done);
                self.clusters.commit(&self.away, done, &self.copied)?;
            }
            Stage::Over => {}
        }
        Ok(!matches!(self.stage, Stage::Over))
    }

    fn read(&self, id: u32, entry: &Entry, judge: &dyn Judge) -> io::Result<Section> {
        let Some((file, _)) = self.inputs.get(&id) else {
            return Err(io::Error::other("a file that is none of the job's"));
        };
        let section = read_section(&*file.file, entry.place(id))?;
        let same = section.base_sequence == entry.base_sequence
            && section.last_delta == entry.last_delta
            && section.partition == entry.partition;
        // What is damaged must not be passed on as good.
        if same && judge.sound(&section) {
            return Ok(section);
        }
        let what = format!("at byte {} is damaged", entry.position);
        Err(damaged(&PathBuf::from(format!("{id}")), &what))
    }

    fn study(
        &self,
        mut entries: Vec<(u32, Entry)>,
        judge: &mut dyn Judge,
        bytes_max: u64,
    ) -> io::Result<Vec<(u32, Entry)>> {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some((id, entry)) = entries.pop() else {
                break;
            };
            if judge.studies(&entry) {
                bytes += u64::from(entry.length);
                judge.study(&entry, &self.read(id, &entry, judge)?)?;
            }
        }
        Ok(entries)
    }

    fn plan(&self, judge: &mut dyn Judge) -> Vec<(Plan, u32, Entry)> {
        let mut planned = Vec::new();
        let mut places = Vec::new();
        for (id, (_, footer)) in &self.inputs {
            for entry in &footer.entries {
                judge.plan(entry, &mut places);
                planned.extend(places.drain(..).map(|plan| (plan, *id, *entry)));
            }
        }
        planned.sort_unstable_by_key(|(plan, _, entry)| {
            std::cmp::Reverse((plan.partition, entry.base_offset, entry.base_sequence))
        });
        planned
    }

    fn write(
        &mut self,
        mut entries: Vec<(Plan, u32, Entry)>,
        judge: &mut dyn Judge,
        bytes_max: u64,
    ) -> io::Result<Vec<(Plan, u32, Entry)>> {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some((plan, id, entry)) = entries.pop() else {
                break;
            };
            bytes += u64::from(entry.length);
            let mut section = self.read(id, &entry, judge)?;
            section.partition = plan.partition;
            let section = if plan.whole {
                Some(section)
            } else {
                judge.rewrite(entry.shard, &plan, section)?
            };
            if let Some(section) = section {
                if holds_copies(section.partition) {
                    reach(&mut self.copied, section.partition, entry.end());
                }
                self.put(entry.shard, &section)?;
            }
        }
        if let Some(output) = &mut self.output {
            output.flush()?;
        }
        Ok(entries)
    }

    fn put(&mut self, shard: ShardId, section: &Section) -> io::Result<()> {
        if self
            .output
            .as_ref()
            .is_some_and(|output| output.end() >= self.clusters.file_bytes)
        {
            self.seal()?;
        }
        let output = match &mut self.output {
            Some(output) => output,
            None => {
                let begun = Output::begin(&self.clusters)?;
                self.output.insert(begun)
            }
        };
        output.put(shard, section);
        Ok(())
    }

    fn seal(&mut self) -> io::Result<()> {
        let Some(output) = self.output.take() else {
            return Ok(());
        };
        let (id, path) = (output.id, output.path.clone());
        let sealed = output.seal();
        if sealed.is_err() {
            // What was claimed is given back; the error speaks for itself.
            let _ = self.clusters.env.files.remove(&path);
        }
        let (file, bytes) = sealed?;
        self.done.push((id, file, bytes));
        Ok(())
    }
}

impl Drop for Clustering {
    fn drop(&mut self) {
        if self.swapped {
            return;
        }
        let open = self.output.take().map(|output| output.id);
        let done = self.done.iter().map(|(id, ..)| *id);
        for id in done.chain(open) {
            // One that stays is thrown away at the next start.
            let _ = self
                .clusters
                .env
                .files
                .remove(&file_path(&self.clusters.dir, id));
        }
    }
}

impl Output {
    fn begin(clusters: &Clusters) -> io::Result<Self> {
        let id = clusters.allot()?;
        let path = file_path(&clusters.dir, id);
        let file = clusters.env.files.open(&path)?;
        let header = FileHeader {
            file: id,
            epoch: 0,
            journal: clusters.journal,
            created_ms: clusters.env.clock.now_ms(),
        };
        file.set_len(0)?;
        file.write_at(&header.encode(), 0)?;
        Ok(Self {
            id,
            path,
            file,
            seed: format::seed(&header),
            position: SECTOR as u64,
            buffer: Vec::new(),
            entries: Vec::new(),
        })
    }

    fn end(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }

    fn put(&mut self, shard: ShardId, section: &Section) {
        let position = self.end();
        let start = self.buffer.len();
        format::encode_section(section, &mut self.buffer);
        let written = self.buffer.get(start..).unwrap_or_default();
        let length = written.len();
        let crc = crc32c::crc32c_append(self.seed, written);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.entries.push(Entry {
            partition: section.partition,
            base_offset: section.base_offset,
            base_sequence: section.base_sequence,
            last_delta: section.last_delta,
            max_timestamp: section.max_timestamp,
            shard,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            length: u32::try_from(length).unwrap_or(u32::MAX),
        });
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.position)?;
        self.position += self.buffer.len() as u64;
        self.buffer.clear();
        self.file.sync_data()
    }

    fn seal(mut self) -> io::Result<(ShelfFile, u64)> {
        self.flush()?;
        let footer = Footer::new(0, 0, std::mem::take(&mut self.entries));
        let bytes = footer.encode(self.position);
        self.file.write_at(&bytes, self.position)?;
        self.file.sync_data()?;
        let length = (bytes.len() - format::TRAILER) as u64;
        let file = ShelfFile {
            file: self.file,
            sequences: footer.sequences,
            contents: Contents::Sealed(self.position, length),
        };
        Ok((file, self.position + bytes.len() as u64))
    }
}
