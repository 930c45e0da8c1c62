//! Reading a journal file from its start: groups and their frames, a window of the file at a time.

use crate::env::File;
use crate::format::{self, DecodedFrame, GROUP_HEADER, GroupHeader, SECTOR};
use crate::frame::Lsn;
use bytes::Bytes;
use std::io;

/// Bytes read at a time, unless a group is larger.
const WINDOW: usize = 1 << 20;

/// A group as it was found.
#[derive(Debug)]
pub(crate) struct FoundGroup {
    pub(crate) header: GroupHeader,
    /// Its valid frames and where each begins, if all before it were valid.
    pub(crate) frames: Vec<(DecodedFrame, u64)>,
    /// Where the next group would begin.
    pub(crate) next: u64,
}

/// The groups of a file, in order: with their frames until the first bad one, then only what later ones declare.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    file: &'a dyn File,
    seed: u32,
    limit: u64,
    at: u64,
    window: Bytes,
    window_at: u64,
    expected: Option<Lsn>,
    torn_at: Option<u64>,
}

impl<'a> Groups<'a> {
    /// Those of a file, up to `limit`.
    pub(crate) fn new(file: &'a dyn File, seed: u32, limit: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            seed,
            limit: limit.min(file.len()?),
            at: SECTOR as u64,
            window: Bytes::new(),
            window_at: 0,
            expected: None,
            torn_at: None,
        })
    }

    /// The first bad frame lies here, and there is something behind it.
    pub(crate) fn torn_at(&self) -> Option<u64> {
        self.torn_at
    }

    /// Up to this many bytes from here; fewer at the end.
    fn bytes(&mut self, at: u64, length: usize) -> io::Result<Bytes> {
        let end = self.limit.min(at.saturating_add(length as u64));
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let wanted = (self.limit.saturating_sub(at)).min(WINDOW.max(length) as u64);
            let mut window = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
            let read = self.file.read_at(&mut window, at)?;
            window.truncate(read);
            self.window = window.into();
            self.window_at = at;
        }
        let from = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        let from = from.min(self.window.len());
        let to = from.saturating_add(length).min(self.window.len());
        Ok(self.window.slice(from..to))
    }

    /// The next group.
    pub(crate) fn next(&mut self) -> io::Result<Option<FoundGroup>> {
        while self.at + GROUP_HEADER as u64 <= self.limit {
            let start = self.at;
            let bytes = self.bytes(start, GROUP_HEADER)?;
            let Some(header) = GroupHeader::decode(&bytes, self.seed) else {
                // Not a group of this file's life: the end, or a hole in an unsynced tail. Later ones still declare.
                self.torn_at.get_or_insert(start);
                self.at += SECTOR as u64;
                continue;
            };
            let body = start + GROUP_HEADER as u64;
            let next = start + format::padded(GROUP_HEADER + header.length as usize) as u64;
            self.at = next.max(start + SECTOR as u64);
            let mut group = FoundGroup {
                header,
                frames: Vec::new(),
                next,
            };
            if self.torn_at.is_none() {
                // A group that was cut still has the frames before its first bad one.
                let in_order = self.expected.is_none_or(|at| at == group.header.first_lsn);
                let whole = if in_order {
                    let bytes = self.bytes(body, group.header.length as usize)?;
                    read_frames(&bytes, body, self.seed, &mut group)
                } else {
                    Err(start)
                };
                match whole {
                    Ok(()) => {
                        let header = &group.header;
                        self.expected = Some(header.first_lsn + u64::from(header.frames));
                    }
                    Err(bad) => self.torn_at = Some(bad),
                }
            }
            return Ok(Some(group));
        }
        Ok(None)
    }
}

/// Reads a group's frames; at the first bad one, says where it is.
fn read_frames(bytes: &Bytes, start: u64, seed: u32, group: &mut FoundGroup) -> Result<(), u64> {
    let mut at = 0;
    for number in 0..u64::from(group.header.frames) {
        let frame = format::decode_frame(&bytes.slice(at.min(bytes.len())..), seed);
        let wanted = group.header.first_lsn + number;
        let Some(frame) = frame.filter(|frame| frame.lsn == wanted) else {
            return Err(start + at as u64);
        };
        let length = frame.length;
        group.frames.push((frame, start + at as u64));
        at += length;
    }
    Ok(())
}

/// What a file's bytes hold.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Its first and last valid frame; 0 if there is none.
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    /// Its valid frames.
    pub(crate) frames: u64,
    /// Where the last of them ends, to the next sector.
    pub(crate) frames_end: u64,
    /// Where the next group would begin.
    pub(crate) end: u64,
    /// The first bad frame lies here, and there is something behind it.
    pub(crate) torn_at: Option<u64>,
    /// The greatest frame declared durable by any group of the file, valid frames or not.
    pub(crate) declared_durable: Lsn,
    /// The last group says that the journal was closed cleanly.
    pub(crate) clean: bool,
}

/// Reads all of a file's groups up to `limit`; `each` sees every valid frame, and where it begins.
pub(crate) fn scan(
    file: &dyn File,
    seed: u32,
    limit: u64,
    each: &mut dyn FnMut(&DecodedFrame, u64),
) -> io::Result<Scanned> {
    let mut scanned = Scanned {
        frames_end: SECTOR as u64,
        end: SECTOR as u64,
        ..Scanned::default()
    };
    let mut groups = Groups::new(file, seed, limit)?;
    while let Some(group) = groups.next()? {
        scanned.declared_durable = scanned.declared_durable.max(group.header.durable_lsn);
        for (frame, at) in &group.frames {
            if scanned.frames == 0 {
                scanned.first_lsn = frame.lsn;
            }
            scanned.frames += 1;
            scanned.last_lsn = frame.lsn;
            let end = usize::try_from(*at).unwrap_or(usize::MAX) + frame.length;
            scanned.frames_end = format::padded(end) as u64;
            each(frame, *at);
        }
        if groups.torn_at().is_none() {
            scanned.end = group.next;
            scanned.clean = group.header.flags & format::FLAG_CLEAN != 0;
        }
    }
    scanned.torn_at = groups.torn_at();
    Ok(scanned)
}
