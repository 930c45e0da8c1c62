//! Clustered files: what lives of sealed journal files, gathered and sorted by partition and offset.
//!
//! A [`Clustering`] reads some files, asks a [`Judge`] what of them lives, and writes that to new files beside the
//! journal, in small synced steps. Then it swaps: the manifest, replaced as a whole, names the files that count and the
//! journal files that do not any more. Until then nothing has changed, from then on the old ones may go at any time.
//! What is left of a batch may lie beside a copy of the whole, under a partition of its own ([`COPIES`]).
//!
//! ```text
//! file     := header zeros(to 512) (section crc u32)* footer trailer
//! manifest := magic "OMNICLUS" | version u16 | next u32 | count u32 | file u32* | count u32 | replaced u32* | crc u32
//! ```
//!
//! Header, section, footer and trailer are those of [`crate::format`]; a section's CRC-32C is seeded as a frame's.

mod job;
mod manifest;

pub use job::{Clustering, Judge, Plan};

use crate::env::Env;
use crate::format;
use crate::reader::{Contents, LogRange, Shelf, ShelfFile};
use manifest::Manifest;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Clustered files' numbers have this bit, so that they differ from journal files'.
const CLUSTERED: u32 = 1 << 31;

/// Is this the number of a clustered file?
pub fn is_clustered(file: u32) -> bool {
    file & CLUSTERED != 0
}

/// Partitions whose numbers have this bit hold copies of another's batches, as they were written. They are in clustered
/// files only.
pub const COPIES: u64 = 1 << 63;

/// Does this partition hold copies?
pub fn holds_copies(partition: u64) -> bool {
    partition & COPIES != 0
}

/// Where logs end in some files.
type Ends = BTreeMap<u64, i64>;

/// The clustered files of a journal.
#[derive(Debug)]
pub struct Clusters {
    env: Env,
    dir: PathBuf,
    journal: u128,
    file_bytes: u64,
    shelf: Arc<Shelf>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u32,
    /// Those that count, and their bytes.
    files: BTreeMap<u32, u64>,
    /// Journal files that don't count any more and are not deleted yet.
    replaced: BTreeSet<u32>,
    /// Why no more can be done: what the manifest says on stable storage is not known.
    failed: bool,
    /// Up to where there are copies, by the partitions that hold them.
    copied: Ends,
    /// Where the other logs ended in these files when they were opened.
    ends: Ends,
}

impl Clusters {
    /// Opens those of a journal, puts them on its shelf and throws away what an unfinished job left.
    pub(crate) fn open(
        env: &Env,
        dir: &Path,
        journal: u128,
        file_bytes: u64,
        shelf: Arc<Shelf>,
    ) -> io::Result<Self> {
        env.files.create_dir(dir)?;
        let manifest = Manifest::read(env, dir)?;
        let mut inner = Inner {
            next: manifest.next,
            replaced: manifest.replaced.iter().copied().collect(),
            ..Inner::default()
        };
        for path in env.files.list(dir)? {
            let id = path
                .file_stem()
                .and_then(|name| name.to_str()?.parse::<u32>().ok())
                .map(|number| number | CLUSTERED);
            let Some(id) = id.filter(|id| manifest.files.contains(id)) else {
                if !path.ends_with("manifest") {
                    env.files.remove(&path)?;
                }
                continue;
            };
            let file = env.files.open_read(&path)?;
            let found = crate::recovery::find_footer(&*file)?;
            let Some((position, length, footer)) = found else {
                return Err(damaged(&path, "has no footer"));
            };
            for entry in &footer.entries {
                let ends = match holds_copies(entry.partition) {
                    true => &mut inner.copied,
                    false => &mut inner.ends,
                };
                reach(ends, entry.partition, entry.end());
            }
            inner
                .files
                .insert(id, position + length + format::TRAILER as u64);
            shelf.put(
                id,
                ShelfFile {
                    file,
                    sequences: footer.sequences,
                    contents: Contents::Sealed(position, length),
                },
            );
        }
        if let Some(lost) = manifest
            .files
            .iter()
            .find(|id| !inner.files.contains_key(id))
        {
            return Err(damaged(&file_path(dir, *lost), "is missing"));
        }
        env.files.sync_dir(dir)?;
        Ok(Self {
            env: env.clone(),
            dir: dir.to_owned(),
            journal,
            file_bytes,
            shelf,
            inner: Mutex::new(inner),
        })
    }

    /// The files that count, and their bytes.
    pub fn files(&self) -> BTreeMap<u32, u64> {
        self.inner.lock().files.clone()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().files.values().sum()
    }

    /// The offset behind the last copy that a partition holds, if it holds any.
    pub fn copied(&self, partition: u64) -> Option<i64> {
        self.inner.lock().copied.get(&partition).copied()
    }

    /// Where each log ended in these files when they were opened, but for those that hold copies. Told once.
    pub fn take_ends(&self) -> BTreeMap<u64, i64> {
        std::mem::take(&mut self.inner.lock().ends)
    }

    /// Journal files that clustered ones have replaced, to be deleted.
    pub fn replaced(&self) -> Vec<u32> {
        self.inner.lock().replaced.iter().copied().collect()
    }

    /// A replaced journal file is gone for good: the next manifest need not name it.
    pub(crate) fn forget(&self, file: u32) {
        self.inner.lock().replaced.remove(&file);
    }

    /// Bytes that a file should have.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// How many batches a file holds.
    pub fn entries(&self, file: u32) -> io::Result<usize> {
        let found = self.shelf.look_into(file)?;
        Ok(found.map_or(0, |(_, footer)| footer.entries.len()))
    }

    /// Sums up what a judge says lives of a file, and what there is, in bytes. `None` if it is not there.
    pub fn live_bytes(&self, file: u32, judge: &mut dyn Judge) -> io::Result<Option<(u64, u64)>> {
        let Some((_, footer)) = self.shelf.look_into(file)? else {
            return Ok(None);
        };
        let live = footer.entries.iter().map(|entry| judge.weigh(entry));
        let live = live.map(u64::from).sum();
        let all = footer.entries.iter().map(|entry| entry.length);
        Ok(Some((live, all.map(u64::from).sum::<u64>().max(1))))
    }

    /// Goes through a log's entries in offset order, and the files they lie in, for as long as `visit` says to go on.
    pub fn visit(
        &self,
        range: LogRange<'_>,
        visit: &mut dyn FnMut(u32, &format::Entry) -> bool,
    ) -> io::Result<()> {
        self.shelf
            .visit(range, &mut |file, _, entry| Ok(visit(file, entry)))
    }

    /// Begins to cluster these files.
    pub fn cluster(self: &Arc<Self>, files: &[u32]) -> io::Result<Clustering> {
        Clustering::begin(self.clone(), files)
    }

    fn allot(&self) -> io::Result<u32> {
        let mut inner = self.inner.lock();
        if inner.failed {
            return Err(io::Error::other("clustering failed before"));
        }
        let id = inner.next | CLUSTERED;
        inner.next += 1;
        Ok(id)
    }

    /// Prepares the swap. What is `here` is complete and on stable storage. There is one job at a time.
    fn prepare(&self, away: &[u32], here: &[(u32, ShelfFile, u64)]) -> io::Result<()> {
        let manifest = {
            let inner = self.inner.lock();
            let mut files: BTreeSet<u32> = inner.files.keys().copied().collect();
            let mut replaced = inner.replaced.clone();
            replaced.extend(away.iter().filter(|id| !is_clustered(**id)));
            files.retain(|id| !away.contains(id));
            files.extend(here.iter().map(|(id, ..)| *id));
            Manifest {
                next: inner.next,
                files: files.into_iter().collect(),
                replaced: replaced.into_iter().collect(),
            }
        };
        manifest.prepare(&self.env, &self.dir)
    }

    /// The swap.
    fn commit(
        &self,
        away: &[u32],
        here: Vec<(u32, ShelfFile, u64)>,
        copied: &Ends,
    ) -> io::Result<()> {
        if let Err(error) = Manifest::commit(&self.env, &self.dir) {
            self.inner.lock().failed = true;
            return Err(error);
        }
        {
            let mut inner = self.inner.lock();
            for id in away {
                if inner.files.remove(id).is_none() {
                    inner.replaced.insert(*id);
                }
            }
            inner
                .files
                .extend(here.iter().map(|(id, _, bytes)| (*id, *bytes)));
            for (partition, end) in copied {
                reach(&mut inner.copied, *partition, *end);
            }
        }
        let here = here.into_iter().map(|(id, file, _)| (id, file)).collect();
        // Readers that are at work on an old file keep it open.
        self.shelf.swap(away, here);
        for id in away.iter().filter(|id| is_clustered(**id)) {
            self.env.files.remove(&file_path(&self.dir, *id))?;
        }
        Ok(())
    }
}

/// A log reaches this far, at the least.
fn reach(ends: &mut Ends, partition: u64, end: i64) {
    let known = ends.entry(partition).or_insert(end);
    *known = end.max(*known);
}

fn file_path(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{:08}.log", id & !CLUSTERED))
}

fn damaged(path: &Path, what: &str) -> io::Error {
    let what = format!("the clustered file {} {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}
