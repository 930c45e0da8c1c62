//! Checkpoints: primary data, not a cache. Each is one immutable object of pages over an ordered key space; two
//! generations are kept.
//!
//! ```text
//! object   := page* manifest trailer
//! page     := length u32 | crc u32 | (key_length u16 | value_length u32 | key | value)*
//! manifest := version u16 | lsn u64 | pages u32 | (position u64)* | crc u32
//! trailer  := magic "OMNICKPT" | manifest_position u64 | crc u32
//! ```
//!
//! Entries are in key order; pages hold about 256 KiB. CRCs are CRC-32C.

use crate::env::{Env, File};
use crate::frame::Lsn;
use crate::reserve::Reserve;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version that this code writes.
const VERSION: u16 = 1;
/// A page is closed when it has grown to this.
const PAGE_BYTES: usize = 256 << 10;
/// Written bytes are synced in steps of this, so that the journal's syncs need not wait for all of them.
const STEP_BYTES: u64 = 8 << 20;
const MAGIC: &[u8; 8] = b"OMNICKPT";
const TRAILER: usize = 20;
/// Generations kept.
const GENERATIONS: usize = 2;

/// Takes a key and its value.
pub type EachEntry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

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
    /// Writes a checkpoint of everything up to this frame; durable when it returns. Blocks; `pause` is called between
    /// its steps. Entries come in key order.
    fn write(
        &self,
        lsn: Lsn,
        entries: &mut dyn Iterator<Item = Pair>,
        pause: &mut dyn FnMut(),
    ) -> io::Result<()>;
    /// The frame of the newest whole checkpoint, 0 if there is none; a damaged one is passed over for the generation
    /// before it.
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

/// Checkpoints in a directory.
#[derive(Debug)]
pub struct LocalCheckpoints {
    env: Env,
    dir: PathBuf,
    /// By the frame they hold everything up to: their size.
    known: Mutex<BTreeMap<Lsn, u64>>,
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
                    known.insert(lsn, env.files.open_read(&path)?.len()?);
                }
                // Kept for whoever wants to know what happened to it.
                None if path.extension().is_some_and(|name| name == "damaged") => {}
                // A checkpoint that was never finished.
                None => env.files.remove(&path)?,
            }
        }
        // Removing a generation need not have reached the disk: what comes back does not count.
        while known.len() > GENERATIONS {
            if let Some((lsn, _)) = known.pop_first() {
                env.files.remove(&dir.join(format!("{lsn:020}.ckpt")))?;
            }
        }
        Ok(Self {
            env: env.clone(),
            dir: dir.to_owned(),
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
            match is_whole(&*env.files.open_read(&path)?, lsn)? {
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
        self.known.lock().values().sum()
    }

    fn path(&self, lsn: Lsn) -> PathBuf {
        self.dir.join(format!("{lsn:020}.ckpt"))
    }

    /// Writes pages, manifest and trailer; returns how many bytes.
    fn write_to(
        &self,
        path: &Path,
        entries: &mut dyn Iterator<Item = Pair>,
        lsn: Lsn,
        pause: &mut dyn FnMut(),
    ) -> io::Result<u64> {
        let lent = match &self.reserve {
            Some(reserve) => reserve.lend(path)?,
            None => false,
        };
        let file = self.env.files.open(path)?;
        if !lent {
            file.set_len(0)?;
        }
        let mut writer = Writer {
            file: &*file,
            position: 0,
            synced: 0,
            pages: Vec::new(),
            page: Vec::new(),
        };
        for (key, value) in entries {
            writer.add(&key, &value)?;
            if writer.position - writer.synced >= STEP_BYTES {
                file.sync_data()?;
                writer.synced = writer.position;
                pause();
            }
        }
        let bytes = writer.finish(lsn)?;
        if lent {
            file.set_len(bytes)?;
        }
        file.sync_data()?;
        Ok(bytes)
    }

    fn put_aside(&self, damaged: &[Lsn]) -> io::Result<()> {
        for lsn in damaged {
            let path = self.path(*lsn);
            self.env
                .files
                .rename(&path, &path.with_extension("damaged"))?;
            self.known.lock().remove(lsn);
        }
        Ok(())
    }
}

fn lsn_of(path: &Path) -> Option<Lsn> {
    path.file_name()?
        .to_str()?
        .strip_suffix(".ckpt")?
        .parse()
        .ok()
}

impl CheckpointStore for LocalCheckpoints {
    fn write(
        &self,
        lsn: Lsn,
        entries: &mut dyn Iterator<Item = Pair>,
        pause: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let unfinished = self.dir.join("unfinished");
        let written = self.write_to(&unfinished, entries, lsn, pause);
        if written.is_err() {
            // What was claimed is given back; the error speaks for itself.
            let _ = self.env.files.remove(&unfinished);
        }
        let bytes = written?;
        self.env.files.rename(&unfinished, &self.path(lsn))?;
        self.env.files.sync_dir(&self.dir)?;
        let mut known = self.known.lock();
        known.insert(lsn, bytes);
        *self.whole.lock() = Some(lsn);
        while known.len() > GENERATIONS {
            if let Some((oldest, _)) = known.pop_first() {
                self.env.files.remove(&self.path(oldest))?;
            }
        }
        Ok(())
    }

    fn whole(&self) -> io::Result<Lsn> {
        if let Some(lsn) = *self.whole.lock() {
            return Ok(lsn);
        }
        let known: Vec<Lsn> = self.known.lock().keys().rev().copied().collect();
        let mut damaged = Vec::new();
        for lsn in &known {
            if is_whole(&*self.env.files.open_read(&self.path(*lsn))?, *lsn)? {
                self.put_aside(&damaged)?;
                *self.whole.lock() = Some(*lsn);
                return Ok(*lsn);
            }
            tracing::warn!(lsn, "a checkpoint is damaged; the one before it is used");
            // It must not count as a generation: the next one would push out the last that is whole.
            damaged.push(*lsn);
        }
        if known.is_empty() {
            return Ok(0);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "every checkpoint is damaged",
        ))
    }

    fn read(&self, lsn: Lsn, each: EachEntry<'_>) -> io::Result<()> {
        let file = self.env.files.open_read(&self.path(lsn))?;
        if read(&*file, each)? == Some(lsn) {
            return Ok(());
        }
        let what = format!("checkpoint {lsn} is damaged");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }

    fn oldest_lsn(&self) -> Lsn {
        let known = self.known.lock();
        // With one generation only, its predecessor is the empty state: the whole journal is needed.
        if known.len() < GENERATIONS {
            0
        } else {
            known.first_key_value().map_or(0, |(lsn, _)| *lsn)
        }
    }
}

struct Writer<'a> {
    file: &'a dyn File,
    position: u64,
    synced: u64,
    pages: Vec<u64>,
    page: Vec<u8>,
}

impl Writer<'_> {
    fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = |_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a checkpoint entry is too long",
            )
        };
        self.page
            .extend_from_slice(&u16::try_from(key.len()).map_err(too_long)?.to_le_bytes());
        self.page
            .extend_from_slice(&u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        self.page.extend_from_slice(key);
        self.page.extend_from_slice(value);
        if self.page.len() >= PAGE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        let mut head = Vec::with_capacity(8);
        head.extend_from_slice(
            &u32::try_from(self.page.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        head.extend_from_slice(&crc32c::crc32c(&self.page).to_le_bytes());
        self.file.write_at(&head, self.position)?;
        self.file.write_at(&self.page, self.position + 8)?;
        self.pages.push(self.position);
        self.position += 8 + self.page.len() as u64;
        self.page.clear();
        Ok(())
    }

    fn finish(&mut self, lsn: Lsn) -> io::Result<u64> {
        self.flush()?;
        let mut out = Vec::new();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&lsn.to_le_bytes());
        out.extend_from_slice(
            &u32::try_from(self.pages.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        for position in &self.pages {
            out.extend_from_slice(&position.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.position.to_le_bytes());
        let crc = out.get(start..).map_or(0, crc32c::crc32c);
        out.extend_from_slice(&crc.to_le_bytes());
        self.file.write_at(&out, self.position)?;
        Ok(self.position + out.len() as u64)
    }
}

/// Can all of it be read?
fn is_whole(file: &dyn File, lsn: Lsn) -> io::Result<bool> {
    Ok(read(file, &mut |_, _| Ok(()))? == Some(lsn))
}

/// Reads a checkpoint, a page at a time; `None` if any part of it is damaged.
fn read(file: &dyn File, each: EachEntry<'_>) -> io::Result<Option<Lsn>> {
    let length = file.len()?;
    let Some(at) = length.checked_sub(TRAILER as u64) else {
        return Ok(None);
    };
    let trailer = read_exact(file, at, TRAILER)?;
    let Some(position) = trailer.as_deref().and_then(trailer_position) else {
        return Ok(None);
    };
    let Some(size) = at.checked_sub(position) else {
        return Ok(None);
    };
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let Some(manifest) = read_exact(file, position, size)? else {
        return Ok(None);
    };
    let Some((lsn, pages)) = parse_manifest(&manifest) else {
        return Ok(None);
    };
    for page in pages {
        let Some(head) = read_exact(file, page, 8)? else {
            return Ok(None);
        };
        let (Some(length), Some(crc)) = (u32_at(&head, 0), u32_at(&head, 4)) else {
            return Ok(None);
        };
        if page + 8 + u64::from(length) > position {
            return Ok(None);
        }
        let Some(body) = read_exact(file, page + 8, length as usize)? else {
            return Ok(None);
        };
        if crc32c::crc32c(&body) != crc {
            return Ok(None);
        }
        let mut rest = &body[..];
        while !rest.is_empty() {
            let Some((key, value, behind)) = parse_entry(rest) else {
                return Ok(None);
            };
            each(key, value)?;
            rest = behind;
        }
    }
    Ok(Some(lsn))
}

fn read_exact(file: &dyn File, position: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, position)?;
    Ok((read == length).then_some(bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn trailer_position(trailer: &[u8]) -> Option<u64> {
    let whole =
        trailer.starts_with(MAGIC) && u32_at(trailer, 16)? == crc32c::crc32c(trailer.get(..16)?);
    if whole { u64_at(trailer, 8) } else { None }
}

fn parse_manifest(manifest: &[u8]) -> Option<(Lsn, Vec<u64>)> {
    let body = manifest.get(..manifest.len().checked_sub(4)?)?;
    if u32_at(manifest, body.len())? != crc32c::crc32c(body) {
        return None;
    }
    if u16::from_le_bytes(body.get(..2)?.try_into().ok()?) != VERSION {
        return None;
    }
    let lsn = u64_at(body, 2)?;
    let count = u32_at(body, 10)? as usize;
    if body.len() != 14 + count.checked_mul(8)? {
        return None;
    }
    let pages = (0..count)
        .map(|page| u64_at(body, 14 + page * 8))
        .collect::<Option<_>>()?;
    Some((lsn, pages))
}

/// A page's first entry, and what is behind it.
fn parse_entry(page: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let key_length = usize::from(u16::from_le_bytes(page.get(..2)?.try_into().ok()?));
    let value_length = u32_at(page, 2)? as usize;
    let key = page.get(6..6 + key_length)?;
    let end = (6 + key_length).checked_add(value_length)?;
    let value = page.get(6 + key_length..end)?;
    Some((key, value, page.get(end..)?))
}
