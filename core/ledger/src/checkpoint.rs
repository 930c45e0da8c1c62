//! Checkpoints: primary data, not a cache. Each is a chain of immutable objects of pages over an ordered key space: the
//! newest holds what changed since the one below it. Two generations are kept, and the objects below them.
//!
//! ```text
//! object   := page* manifest trailer
//! page     := length u32 | crc u32 | (key_length u16 | flags and value_length u32 | key | value)*
//! manifest := version u16 | lsn u64 | pages u32 | (position u64)* | below u32 | (lsn u64 | crc u32)* | crc u32
//! trailer  := magic "OMNICKPT" | manifest_position u64 | crc u32
//! ```
//!
//! Entries are in key order; pages hold about 256 KiB. CRCs are CRC-32C. `below` names the objects that this one lies
//! on, oldest first, with their manifests' CRCs. Of a value's length bit 31 says that the key is gone, bit 30 that all
//! older keys are which begin with this one. Version 1 has no flags and nothing below.
//!
//! An object takes in those right below it which are not much larger than itself, so a chain is short, each byte is
//! written a few times only, and what is gone is left behind at last.

mod merge;
mod object;

use crate::env::Env;
use crate::frame::Lsn;
use crate::reserve::Reserve;
use merge::{Given, Source, merge};
use object::{Below, Manifest, Object, Writer, damaged};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A page is closed when it has grown to this.
const PAGE_BYTES: usize = 256 << 10;
/// Written bytes are synced in steps of this, so that the journal's syncs need not wait for all of them.
const STEP_BYTES: u64 = 1 << 20;
/// Generations kept.
const GENERATIONS: usize = 2;
/// An object lies on so many others at the most.
const BELOW_MAX: usize = 7;

/// Takes a key and its value.
pub type EachEntry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What changed of a checkpoint's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None`: there is none any more.
    pub value: Option<Vec<u8>>,
    /// All older entries whose keys begin with this one are gone.
    pub clears: bool,
}

/// A checkpoint read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedCheckpoint {
    /// It holds everything up to this frame.
    pub lsn: Lsn,
    /// Its entries in key order.
    pub entries: Vec<Pair>,
}

/// Where checkpoints are kept.
pub trait CheckpointStore: Send + Sync + std::fmt::Debug {
    /// Writes what changed between two frames, as a checkpoint of everything up to the later one; durable when it
    /// returns. Nothing below (0): everything is given. Blocks; `pause` is called between its steps. Changes come in
    /// the order of their keys, about so many bytes of them.
    fn write_changes(
        &self,
        below: Lsn,
        lsn: Lsn,
        changes: &mut dyn Iterator<Item = Change>,
        bytes: u64,
        pause: &mut dyn FnMut(),
    ) -> io::Result<()>;
    /// Writes a checkpoint that lies on no other. Entries come in key order.
    fn write(
        &self,
        lsn: Lsn,
        entries: &mut dyn Iterator<Item = Pair>,
        pause: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let mut changes = entries.map(|(key, value)| Change {
            key,
            value: Some(value),
            clears: false,
        });
        self.write_changes(0, lsn, &mut changes, u64::MAX, pause)
    }
    /// May a later checkpoint lie on this one? On one of version 1 it may not: its keys were others.
    fn bears(&self, lsn: Lsn) -> bool;
    /// The frame of the newest whole checkpoint, 0 if there is none; a damaged one is passed over for the generation
    /// before it, the only one for the whole journal.
    fn whole(&self) -> io::Result<Lsn>;
    /// Reads a checkpoint: `each` gets its keys and values, in key order. It is not held in memory.
    fn read(&self, lsn: Lsn, each: EachEntry<'_>) -> io::Result<()>;
    /// All of the newest whole checkpoint at once, for a small one.
    fn load(&self) -> io::Result<Option<SavedCheckpoint>> {
        let lsn = self.whole()?;
        if lsn == 0 {
            return Ok(None);
        }
        let mut entries = Vec::new();
        self.read(lsn, &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok(Some(SavedCheckpoint { lsn, entries }))
    }
    /// The journal is needed from after this frame on: that of the older generation.
    fn oldest_lsn(&self) -> Lsn;
}

/// What is known of an object.
#[derive(Debug, Clone)]
struct Known {
    bytes: u64,
    /// `None` if it is damaged.
    manifest: Option<Arc<Manifest>>,
}

/// Checkpoints in a directory.
#[derive(Debug)]
pub struct LocalCheckpoints {
    env: Env,
    dir: PathBuf,
    page_bytes: usize,
    /// Objects, by the frame they hold everything up to.
    known: Mutex<BTreeMap<Lsn, Known>>,
    reserve: Option<Arc<Reserve>>,
    /// The newest one, once it was read from end to end or written by this process.
    whole: Mutex<Option<Lsn>>,
}

impl LocalCheckpoints {
    /// Opens (or makes) the directory.
    pub fn open(env: &Env, dir: &Path) -> io::Result<Self> {
        env.files.create_dir(dir)?;
        let mut known = BTreeMap::new();
        for path in env.files.list(dir)? {
            match lsn_of(&path) {
                Some(lsn) => {
                    let bytes = env.files.open_read(&path)?.len()?;
                    let manifest = Object::open(env, &path)?.map(|object| object.manifest.into());
                    known.insert(lsn, Known { bytes, manifest });
                }
                // Kept for whoever wants to know what happened to it.
                None if path.extension().is_some_and(|name| name == "damaged") => {}
                // A checkpoint that was never finished.
                None => env.files.remove(&path)?,
            }
        }
        // Removing a generation need not have reached the disk: what comes back does not count.
        for lsn in not_needed(&known) {
            known.remove(&lsn);
            env.files.remove(&dir.join(format!("{lsn:020}.ckpt")))?;
        }
        Ok(Self {
            env: env.clone(),
            dir: dir.to_owned(),
            page_bytes: PAGE_BYTES,
            known: Mutex::new(known),
            reserve: None,
            whole: Mutex::new(None),
        })
    }

    /// On a disk that is low, they take their space from this.
    pub(crate) fn with_reserve(mut self, reserve: Arc<Reserve>) -> Self {
        self.reserve = Some(reserve);
        self
    }

    /// Pages are closed when they have grown to this.
    #[must_use]
    pub fn with_pages(mut self, bytes: usize) -> Self {
        self.page_bytes = bytes;
        self
    }

    /// The newest whole checkpoint's frame in a directory, and the damaged ones. Changes nothing.
    pub fn inspect(env: &Env, dir: &Path) -> io::Result<(Lsn, Vec<PathBuf>)> {
        let mut found: Vec<(Lsn, PathBuf)> = env
            .files
            .list(dir)?
            .into_iter()
            .filter_map(|path| Some((lsn_of(&path)?, path)))
            .collect();
        found.sort_unstable();
        let mut newest = 0;
        let mut damaged = Vec::new();
        for (lsn, path) in found {
            let unharmed = |below: &Lsn| !damaged.contains(&object_path(dir, *below));
            let below = chain(env, dir, lsn)?.is_some_and(|chain| chain.iter().all(unharmed));
            let whole = match Object::open(env, &path)? {
                Some(mut object) => below && object.check()?,
                None => false,
            };
            match whole {
                true => newest = lsn,
                false => damaged.push(path),
            }
        }
        Ok((newest, damaged))
    }

    /// The newest checkpoint's frame, whether or not it is whole.
    pub fn newest_lsn(&self) -> Lsn {
        self.known
            .lock()
            .last_key_value()
            .map_or(0, |(lsn, _)| *lsn)
    }

    /// Bytes of all generations.
    pub fn bytes(&self) -> u64 {
        self.known.lock().values().map(|known| known.bytes).sum()
    }

    fn path(&self, lsn: Lsn) -> PathBuf {
        object_path(&self.dir, lsn)
    }

    /// Writes pages, manifest and trailer.
    fn write_to(
        &self,
        path: &Path,
        given: Written<'_>,
        pause: &mut dyn FnMut(),
    ) -> io::Result<Known> {
        let Written {
            lsn,
            below,
            taken_in,
            changes,
        } = given;
        let mut sources: Vec<Box<dyn Source + '_>> = vec![Box::new(Given::new(changes))];
        for lsn in taken_in.iter().rev() {
            let object = Object::open(&self.env, &self.path(*lsn))?.ok_or_else(damaged)?;
            sources.push(Box::new(object));
        }
        let lent = match &self.reserve {
            Some(reserve) => reserve.lend(path)?,
            None => false,
        };
        let file = self.env.files.open(path)?;
        if !lent {
            file.set_len(0)?;
        }
        let mut writer = Writer::new(&*file, self.page_bytes);
        merge(&mut sources, below.is_empty(), &mut |key, value, effect| {
            writer.add(key, value, effect)?;
            if writer.unsynced() >= STEP_BYTES {
                writer.sync()?;
                pause();
            }
            Ok(())
        })?;
        let (bytes, _) = writer.finish(lsn, &below)?;
        if lent {
            file.set_len(bytes)?;
        }
        file.sync_data()?;
        let manifest = Object::open(&self.env, path)?.map(|object| object.manifest.into());
        Ok(Known { bytes, manifest })
    }

    /// Which of the objects below are taken in by one of so many bytes, and which it lies on; oldest first.
    fn split(&self, below: Lsn, mut bytes: u64) -> io::Result<(Vec<Lsn>, Vec<Below>)> {
        if below == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let known = self.known.lock();
        let manifest = |lsn: Lsn| {
            let known = known.get(&lsn)?;
            Some((known.bytes, known.manifest.as_ref()?))
        };
        let (_, newest) = manifest(below).ok_or_else(damaged)?;
        let mut beneath = newest.below.clone();
        beneath.push((below, newest.crc));
        let mut taken_in = Vec::new();
        while let Some((lsn, _)) = beneath.last() {
            let (size, _) = manifest(*lsn).ok_or_else(damaged)?;
            if size > bytes.saturating_mul(2) && beneath.len() <= BELOW_MAX {
                break;
            }
            bytes = bytes.saturating_add(size);
            taken_in.push(*lsn);
            beneath.pop();
        }
        taken_in.reverse();
        Ok((taken_in, beneath))
    }

    /// The newest whole checkpoint's frame, 0 if there is none, and the damaged ones that are newer. Changes nothing.
    pub(crate) fn find_whole(&self) -> io::Result<(Lsn, Vec<Lsn>)> {
        let known: Vec<Lsn> = self.known.lock().keys().rev().copied().collect();
        let mut damaged = Vec::new();
        for lsn in known {
            if self.is_whole(lsn)? {
                return Ok((lsn, damaged));
            }
            damaged.push(lsn);
        }
        Ok((0, damaged))
    }

    /// Damaged checkpoints are renamed: counted as a generation, they would push out the last that is whole.
    pub(crate) fn put_aside(&self, damaged: &[Lsn]) -> io::Result<()> {
        for lsn in damaged {
            tracing::warn!(lsn, "a checkpoint is damaged; what was before it is used");
            let path = self.path(*lsn);
            self.env
                .files
                .rename(&path, &path.with_extension("damaged"))?;
            self.known.lock().remove(lsn);
        }
        Ok(())
    }

    /// Can all of it be read?
    fn is_whole(&self, lsn: Lsn) -> io::Result<bool> {
        let Some(chain) = chain(&self.env, &self.dir, lsn)? else {
            return Ok(false);
        };
        for lsn in chain {
            let Some(mut object) = Object::open(&self.env, &self.path(lsn))? else {
                return Ok(false);
            };
            if !object.check()? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An object to be written.
struct Written<'a> {
    lsn: Lsn,
    below: Vec<Below>,
    taken_in: Vec<Lsn>,
    changes: &'a mut dyn Iterator<Item = Change>,
}

fn object_path(dir: &Path, lsn: Lsn) -> PathBuf {
    dir.join(format!("{lsn:020}.ckpt"))
}

fn lsn_of(path: &Path) -> Option<Lsn> {
    path.file_name()?
        .to_str()?
        .strip_suffix(".ckpt")?
        .parse()
        .ok()
}

/// The objects that are neither a generation nor below one.
fn not_needed(known: &BTreeMap<Lsn, Known>) -> Vec<Lsn> {
    let generations = known.iter().rev().take(GENERATIONS);
    let needed: BTreeSet<Lsn> = generations
        .flat_map(|(lsn, known)| {
            let below = known.manifest.iter().flat_map(|manifest| &manifest.below);
            below.map(|(lsn, _)| *lsn).chain([*lsn])
        })
        .collect();
    known
        .keys()
        .copied()
        .filter(|lsn| !needed.contains(lsn))
        .collect()
}

/// The objects of a checkpoint, oldest first; `None` if one is missing, another, or its manifest damaged.
fn chain(env: &Env, dir: &Path, lsn: Lsn) -> io::Result<Option<Vec<Lsn>>> {
    let Some(object) = Object::open(env, &object_path(dir, lsn))? else {
        return Ok(None);
    };
    if object.manifest.lsn != lsn {
        return Ok(None);
    }
    let there: BTreeSet<Lsn> = env
        .files
        .list(dir)?
        .iter()
        .filter_map(|path| lsn_of(path))
        .collect();
    let mut chain = Vec::new();
    for (lsn, crc) in &object.manifest.below {
        if !there.contains(lsn) {
            return Ok(None);
        }
        match Object::open(env, &object_path(dir, *lsn))? {
            Some(object) if object.manifest.crc == *crc && object.manifest.lsn == *lsn => {}
            _ => return Ok(None),
        }
        chain.push(*lsn);
    }
    chain.push(lsn);
    Ok(Some(chain))
}

impl CheckpointStore for LocalCheckpoints {
    fn write_changes(
        &self,
        below: Lsn,
        lsn: Lsn,
        changes: &mut dyn Iterator<Item = Change>,
        bytes: u64,
        pause: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let (taken_in, below) = self.split(below, bytes)?;
        let given = Written {
            lsn,
            below,
            taken_in,
            changes,
        };
        let unfinished = self.dir.join("unfinished");
        let written = self.write_to(&unfinished, given, pause);
        if written.is_err() {
            // What was claimed is given back; the error speaks for itself.
            let _ = self.env.files.remove(&unfinished);
        }
        let written = written?;
        self.env.files.rename(&unfinished, &self.path(lsn))?;
        self.env.files.sync_dir(&self.dir)?;
        let mut known = self.known.lock();
        known.insert(lsn, written);
        *self.whole.lock() = Some(lsn);
        for lsn in not_needed(&known) {
            known.remove(&lsn);
            self.env.files.remove(&self.path(lsn))?;
        }
        Ok(())
    }

    fn bears(&self, lsn: Lsn) -> bool {
        let known = self.known.lock();
        let manifest = known.get(&lsn).and_then(|known| known.manifest.as_ref());
        manifest.is_some_and(|manifest| manifest.version > 1)
    }

    fn whole(&self) -> io::Result<Lsn> {
        if let Some(lsn) = *self.whole.lock() {
            return Ok(lsn);
        }
        let (lsn, damaged) = self.find_whole()?;
        self.put_aside(&damaged)?;
        if lsn > 0 {
            *self.whole.lock() = Some(lsn);
        }
        Ok(lsn)
    }

    fn read(&self, lsn: Lsn, each: EachEntry<'_>) -> io::Result<()> {
        let what = || {
            let what = format!("checkpoint {lsn} is damaged");
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let chain = chain(&self.env, &self.dir, lsn)?.ok_or_else(what)?;
        let mut sources: Vec<Box<dyn Source + '_>> = Vec::new();
        for lsn in chain.iter().rev() {
            let object = Object::open(&self.env, &self.path(*lsn))?;
            sources.push(Box::new(object.ok_or_else(what)?));
        }
        merge(&mut sources, true, &mut |key, value, _| each(key, value))
    }

    fn oldest_lsn(&self) -> Lsn {
        let known = self.known.lock();
        // With one generation only, its predecessor is the empty state: the whole journal is needed.
        known
            .keys()
            .rev()
            .nth(GENERATIONS - 1)
            .copied()
            .unwrap_or(0)
    }
}
