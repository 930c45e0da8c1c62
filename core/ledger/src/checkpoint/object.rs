//! A checkpoint's object: pages of entries, a manifest that names them and the objects below, a trailer.

use crate::checkpoint::merge::Source;
use crate::env::{Env, File};
use crate::frame::Lsn;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The version that this code writes.
const VERSION: u16 = 2;
const MAGIC: &[u8; 8] = b"OMNICKPT";
const TRAILER: usize = 20;
/// What is in front of a page.
const HEAD: usize = 8;
/// What is in front of an entry.
const ENTRY: usize = 6;
/// Of an entry's length of value: the entry is gone.
const GONE: u32 = 1 << 31;
/// Of an entry's length of value: everything older whose key begins with this one's is gone.
const CLEARS: u32 = 1 << 30;
const LENGTH: u32 = CLEARS - 1;

/// An object that another one lies on: its frame, and its manifest's checksum.
pub(super) type Below = (Lsn, u32);

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) version: u16,
    pub(super) lsn: Lsn,
    pub(super) crc: u32,
    /// Oldest first.
    pub(super) below: Vec<Below>,
    pages: Vec<u64>,
    /// Where the pages end.
    end: u64,
}

/// What an entry does to older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) gone: bool,
    pub(super) clears: bool,
}

/// Writes an object.
pub(super) struct Writer<'a> {
    file: &'a dyn File,
    page_bytes: usize,
    position: u64,
    synced: u64,
    pages: Vec<u64>,
    page: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: &'a dyn File, page_bytes: usize) -> Self {
        Self {
            file,
            page_bytes,
            position: 0,
            synced: 0,
            pages: Vec::new(),
            page: Vec::with_capacity(HEAD),
        }
    }

    /// Bytes written and not synced.
    pub(super) fn unsynced(&self) -> u64 {
        self.position - self.synced
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced = self.position;
        Ok(())
    }

    pub(super) fn add(&mut self, key: &[u8], value: &[u8], effect: Effect) -> io::Result<()> {
        let too_long = || {
            let what = "a checkpoint entry is too long";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        };
        let key_length = u16::try_from(key.len()).map_err(|_| too_long())?;
        let mut length = u32::try_from(value.len()).map_err(|_| too_long())?;
        if length > LENGTH {
            return Err(too_long());
        }
        length |= if effect.gone { GONE } else { 0 };
        length |= if effect.clears { CLEARS } else { 0 };
        if self.page.is_empty() {
            self.page.resize(HEAD, 0);
        }
        self.page.extend_from_slice(&key_length.to_le_bytes());
        self.page.extend_from_slice(&length.to_le_bytes());
        self.page.extend_from_slice(key);
        self.page.extend_from_slice(value);
        if self.page.len() - HEAD >= self.page_bytes {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some((head, body)) = self.page.split_at_mut_checked(HEAD) else {
            return Ok(());
        };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let crc = crc32c::crc32c(body);
        head.copy_from_slice(&(u64::from(crc) << 32 | u64::from(length)).to_le_bytes());
        self.file.write_at(&self.page, self.position)?;
        self.pages.push(self.position);
        self.position += self.page.len() as u64;
        self.page.clear();
        Ok(())
    }

    /// Writes the manifest and the trailer; returns how long the object is, and the manifest's checksum.
    pub(super) fn finish(&mut self, lsn: Lsn, below: &[Below]) -> io::Result<(u64, u32)> {
        self.flush()?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        let mut out = Vec::new();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&lsn.to_le_bytes());
        out.extend_from_slice(&count(self.pages.len()));
        for position in &self.pages {
            out.extend_from_slice(&position.to_le_bytes());
        }
        out.extend_from_slice(&count(below.len()));
        for (lsn, crc) in below {
            out.extend_from_slice(&lsn.to_le_bytes());
            out.extend_from_slice(&crc.to_le_bytes());
        }
        let manifest_crc = crc32c::crc32c(&out);
        out.extend_from_slice(&manifest_crc.to_le_bytes());
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.position.to_le_bytes());
        let crc = out.get(start..).map_or(0, crc32c::crc32c);
        out.extend_from_slice(&crc.to_le_bytes());
        self.file.write_at(&out, self.position)?;
        Ok((self.position + out.len() as u64, manifest_crc))
    }
}

/// An object that is read from its first entry to its last, a page at a time.
#[derive(Debug)]
pub(super) struct Object {
    file: Arc<dyn File>,
    pub(super) manifest: Manifest,
    next_page: usize,
    page: Vec<u8>,
    at: usize,
    /// The entry at hand: where its key and its value begin, where it ends.
    entry: Option<(usize, usize, usize, Effect)>,
}

impl Object {
    /// Opens an object; `None` if its manifest is damaged.
    pub(super) fn open(env: &Env, path: &Path) -> io::Result<Option<Self>> {
        let file = env.files.open_read(path)?;
        let manifest = read_manifest(&*file)?;
        Ok(manifest.map(|manifest| Self {
            file,
            manifest,
            next_page: 0,
            page: Vec::new(),
            at: 0,
            entry: None,
        }))
    }

    /// Are all pages whole? Goes to the end.
    pub(super) fn check(&mut self) -> io::Result<bool> {
        loop {
            match self.advance() {
                Ok(()) if self.entry.is_none() => return Ok(true),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn load_page(&mut self) -> io::Result<bool> {
        let Some(position) = self.manifest.pages.get(self.next_page).copied() else {
            return Ok(false);
        };
        self.next_page += 1;
        let end = self.manifest.end;
        let head = read_exact(&*self.file, position, HEAD)?.ok_or_else(damaged)?;
        let (Some(length), Some(crc)) = (u32_at(&head, 0), u32_at(&head, 4)) else {
            return Err(damaged());
        };
        if position + HEAD as u64 + u64::from(length) > end {
            return Err(damaged());
        }
        let body = read_exact(&*self.file, position + HEAD as u64, length as usize)?;
        self.page = body.ok_or_else(damaged)?;
        self.at = 0;
        if crc32c::crc32c(&self.page) != crc {
            return Err(damaged());
        }
        Ok(true)
    }

    fn parse_entry(&self) -> Option<(usize, usize, usize, Effect)> {
        let rest = self.page.get(self.at..)?;
        let key_length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        let length = u32_at(rest, 2)?;
        let (effect, length) = if self.manifest.version == 1 {
            (Effect::default(), length)
        } else {
            let effect = Effect {
                gone: length & GONE != 0,
                clears: length & CLEARS != 0,
            };
            (effect, length & LENGTH)
        };
        let key = self.at + ENTRY;
        let value = key + key_length;
        let end = value.checked_add(length as usize)?;
        (end <= self.page.len()).then_some((key, value, end, effect))
    }
}

impl Default for Effect {
    /// It takes the place of an entry of the same key.
    fn default() -> Self {
        Self {
            gone: false,
            clears: false,
        }
    }
}

impl Source for Object {
    fn head(&self) -> Option<(&[u8], &[u8], Effect)> {
        let (key, value, end, effect) = self.entry?;
        Some((
            self.page.get(key..value)?,
            self.page.get(value..end)?,
            effect,
        ))
    }

    fn advance(&mut self) -> io::Result<()> {
        self.entry = None;
        while self.at >= self.page.len() {
            if !self.load_page()? {
                return Ok(());
            }
        }
        let entry = self.parse_entry().ok_or_else(damaged)?;
        self.at = entry.2;
        self.entry = Some(entry);
        Ok(())
    }
}

/// What a damaged object gives.
pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a checkpoint is damaged")
}

fn read_manifest(file: &dyn File) -> io::Result<Option<Manifest>> {
    let Some(at) = file.len()?.checked_sub(TRAILER as u64) else {
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
    let manifest = read_exact(file, position, size)?;
    Ok(manifest.and_then(|manifest| parse_manifest(&manifest, position)))
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

fn parse_manifest(manifest: &[u8], end: u64) -> Option<Manifest> {
    let body = manifest.get(..manifest.len().checked_sub(4)?)?;
    let crc = u32_at(manifest, body.len())?;
    if crc != crc32c::crc32c(body) {
        return None;
    }
    let version = u16::from_le_bytes(body.get(..2)?.try_into().ok()?);
    let lsn = u64_at(body, 2)?;
    let count = u32_at(body, 10)? as usize;
    let behind = 14 + count.checked_mul(8)?;
    body.get(..behind)?;
    let pages = (0..count)
        .map(|page| u64_at(body, 14 + page * 8))
        .collect::<Option<_>>()?;
    let below = match version {
        1 if body.len() == behind => Vec::new(),
        VERSION => {
            let count = u32_at(body, behind)? as usize;
            if body.len() != behind + 4 + count.checked_mul(12)? {
                return None;
            }
            let at = |index: usize| behind + 4 + index * 12;
            (0..count)
                .map(|index| Some((u64_at(body, at(index))?, u32_at(body, at(index) + 8)?)))
                .collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Manifest {
        version,
        lsn,
        crc,
        below,
        pages,
        end,
    })
}
