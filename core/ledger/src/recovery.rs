//! Recovery: which frames count after a stop, clean or not.
//!
//! It ends at the first bad frame. That is damage (refuse to start) only if a later valid group of a file's present
//! life, or a checkpoint, declares a frame at or beyond it durable; else it is a torn tail, which was never
//! acknowledged, and is cut off.

use crate::env::{Env, File};
use crate::format::{
    self, DecodedFrame, Entry, FLAG_CLEAN, FileHeader, Footer, GROUP_HEADER, GroupHeader, SECTOR,
};
use crate::frame::{Lsn, Section, ShardId};
use crate::journal::FileInfo;
use crate::reader::{Contents, ShelfFile, read_footer};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why a journal can't be opened.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// A file operation failed.
    #[error("journal: {0}")]
    Io(#[from] io::Error),
    /// Something that was durable is not there (any more) as it was written.
    #[error(
        "the journal is damaged in {file} at byte {position}: frame {lsn} was durable and can't be read"
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        position: u64,
        /// The first frame that is missing.
        lsn: Lsn,
    },
    /// A file of a later version of the format.
    #[error("{file} is in format version {version}, which this version does not know")]
    Version {
        /// Which file.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A file of another journal.
    #[error("{file} belongs to another journal")]
    Foreign {
        /// Which file.
        file: PathBuf,
    },
}

/// A frame to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredFrame {
    /// Its number.
    pub lsn: Lsn,
    /// The epoch it was written in.
    pub epoch: u32,
    /// Whose it is.
    pub shard: ShardId,
    /// The decision.
    pub decision: Bytes,
    /// Its sections.
    pub sections: Vec<Section>,
    /// The file it lies in.
    pub file: u32,
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovery {
    pub(crate) journal: Option<u128>,
    pub(crate) epoch: u32,
    pub(crate) last_lsn: Lsn,
    pub(crate) last_file: u32,
    pub(crate) spare: Option<PathBuf>,
    pub(crate) sealed: BTreeMap<u32, FileInfo>,
    pub(crate) shelf: BTreeMap<u32, ShelfFile>,
    files: Vec<(u32, u32, u32, Arc<dyn File>, u64)>,
    clean: bool,
}

impl Recovery {
    /// Was the journal closed cleanly?
    pub fn clean(&self) -> bool {
        self.clean
    }

    /// The newest frame.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// The frames after this one, in order. Reads a file at a time.
    pub fn frames(&self, after: Lsn) -> impl Iterator<Item = io::Result<RecoveredFrame>> + '_ {
        self.files
            .iter()
            .filter(move |(id, ..)| self.sealed.get(id).is_none_or(|file| file.last_lsn > after))
            .flat_map(move |(id, epoch, seed, file, end)| {
                let frames = match scan(&**file, *seed, *end) {
                    Ok(scanned) => scanned.frames,
                    Err(error) => return vec![Err(error)].into_iter(),
                };
                let found: Vec<io::Result<RecoveredFrame>> = frames
                    .into_iter()
                    .filter(|(frame, _)| frame.lsn > after)
                    .map(|(frame, _)| {
                        Ok(RecoveredFrame {
                            lsn: frame.lsn,
                            epoch: *epoch,
                            shard: frame.shard,
                            decision: frame.decision,
                            sections: frame
                                .sections
                                .into_iter()
                                .map(|(section, _)| section)
                                .collect(),
                            file: *id,
                        })
                    })
                    .collect();
                found.into_iter()
            })
    }
}

/// What a file's bytes hold.
pub(crate) struct Scanned {
    /// Its valid frames and where each begins.
    pub(crate) frames: Vec<(DecodedFrame, u64)>,
    /// Where the next group would begin.
    pub(crate) end: u64,
    /// The first bad frame lies here, and there is something behind it.
    pub(crate) torn_at: Option<u64>,
    /// The greatest frame declared durable by any group of the file, valid frames or not.
    pub(crate) declared_durable: Lsn,
    /// The last group says that the journal was closed cleanly.
    pub(crate) clean: bool,
}

/// Reads a file's groups up to `limit`: frames until the first bad one, then only what later groups declare.
pub(crate) fn scan(file: &dyn File, seed: u32, limit: u64) -> io::Result<Scanned> {
    let length = usize::try_from(limit.min(file.len()?)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let bytes = Bytes::from(bytes);
    let mut scanned = Scanned {
        frames: Vec::new(),
        end: SECTOR as u64,
        torn_at: None,
        declared_durable: 0,
        clean: false,
    };
    let mut at = SECTOR;
    let mut expected: Option<Lsn> = None;
    while at + GROUP_HEADER <= bytes.len() {
        let header = bytes
            .get(at..)
            .and_then(|rest| GroupHeader::decode(rest, seed));
        let Some(header) = header else {
            // Not a group of this file's life: the end, or a hole in an unsynced tail. Later ones still declare.
            scanned.torn_at.get_or_insert(at as u64);
            at += SECTOR;
            continue;
        };
        scanned.declared_durable = scanned.declared_durable.max(header.durable_lsn);
        let body = at + GROUP_HEADER;
        let next = at + format::padded(GROUP_HEADER + header.length as usize);
        if scanned.torn_at.is_none() {
            let in_order = expected.is_none_or(|expected| expected == header.first_lsn);
            let end = body + header.length as usize;
            let whole = if in_order && end <= bytes.len() {
                read_frames(
                    &bytes.slice(body..end),
                    body,
                    &header,
                    seed,
                    &mut scanned.frames,
                )
            } else {
                Err(at)
            };
            match whole {
                Ok(()) => {
                    expected = Some(header.first_lsn + u64::from(header.frames));
                    scanned.end = next as u64;
                    scanned.clean = header.flags & FLAG_CLEAN != 0;
                }
                Err(bad) => scanned.torn_at = Some(bad as u64),
            }
        }
        at = next.max(at + SECTOR);
    }
    Ok(scanned)
}

/// Reads a group's frames; at the first bad one, says where it is.
fn read_frames(
    bytes: &Bytes,
    start: usize,
    header: &GroupHeader,
    seed: u32,
    into: &mut Vec<(DecodedFrame, u64)>,
) -> Result<(), usize> {
    let mut at = 0;
    for number in 0..u64::from(header.frames) {
        let frame = format::decode_frame(&bytes.slice(at..), seed);
        let Some(frame) = frame.filter(|frame| frame.lsn == header.first_lsn + number) else {
            return Err(start + at);
        };
        let length = frame.length;
        into.push((frame, (start + at) as u64));
        at += length;
    }
    Ok(())
}

/// Looks through a journal's directory and makes it whole: a torn tail is cut off, every file that counts is sealed.
pub(crate) fn recover(env: &Env, dir: &Path, checkpoint: Lsn) -> Result<Recovery, RecoveryError> {
    let mut recovery = Recovery {
        journal: None,
        epoch: 0,
        last_lsn: 0,
        last_file: 0,
        spare: None,
        sealed: BTreeMap::new(),
        shelf: BTreeMap::new(),
        files: Vec::new(),
        clean: false,
    };
    let mut headers = Vec::new();
    for path in env.files.list(dir)? {
        if path.file_name().is_some_and(|name| name == "spare") {
            // Half-filled, perhaps: its length tells nothing. It is filled again.
            env.files.remove(&path)?;
            continue;
        }
        let Some(id) = path
            .file_stem()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
        else {
            continue;
        };
        let file = env.files.open(&path)?;
        let mut start = vec![0; SECTOR];
        let read = file.read_at(&mut start, 0)?;
        start.truncate(read);
        recovery.last_file = recovery.last_file.max(id);
        match FileHeader::decode(&start) {
            Some(Ok(header)) if header.file == id => headers.push((header, path, file)),
            Some(Err(version)) => {
                return Err(RecoveryError::Version {
                    file: path,
                    version,
                });
            }
            // Renamed into place, its header never durable: nothing in it was acknowledged.
            _ => env.files.remove(&path)?,
        }
    }
    headers.sort_by_key(|(header, ..)| header.file);
    let declared = declared_durable(&headers)?.max(checkpoint);
    let mut torn: Option<(PathBuf, u64)> = None;
    for (header, path, file) in headers {
        if *recovery.journal.get_or_insert(header.journal) != header.journal {
            return Err(RecoveryError::Foreign { file: path });
        }
        recovery.epoch = recovery.epoch.max(header.epoch);
        if torn.is_some() {
            // Beyond the first bad frame nothing counts, and none of it was declared durable.
            env.files.remove(&path)?;
            continue;
        }
        let seed = format::seed(&header);
        let info = match find_footer(&*file)? {
            Some((position, length, footer)) => {
                sealed_file(&mut recovery, &header, &file, position, length, footer)
            }
            None => {
                let scanned = scan(&*file, seed, u64::MAX)?;
                recovery.clean = scanned.clean;
                let info = seal(&mut recovery, &header, &file, &scanned)?;
                if let Some(position) = scanned.torn_at {
                    torn = Some((path.clone(), position));
                }
                info
            }
        };
        if info.first_lsn != 0 {
            if recovery.last_lsn != 0 && info.first_lsn != recovery.last_lsn + 1 {
                let lsn = recovery.last_lsn + 1;
                return Err(RecoveryError::Damaged {
                    file: path,
                    position: SECTOR as u64,
                    lsn,
                });
            }
            recovery.last_lsn = info.last_lsn;
        }
        recovery
            .files
            .push((header.file, header.epoch, seed, file, info.bytes));
        recovery.sealed.insert(header.file, info);
        // A file whose tail is simply unwritten is the last of its run; a later epoch's file may follow it.
        if torn.as_ref().is_some_and(|_| recovery.last_lsn >= declared) {
            torn = None;
        }
    }
    if recovery.last_lsn < declared {
        let (file, position) = torn.unwrap_or_else(|| (dir.to_owned(), 0));
        return Err(RecoveryError::Damaged {
            file,
            position,
            lsn: recovery.last_lsn + 1,
        });
    }
    env.files.sync_dir(dir)?;
    Ok(recovery)
}

/// The greatest frame that any group declares durable.
fn declared_durable(headers: &[(FileHeader, PathBuf, Arc<dyn File>)]) -> io::Result<Lsn> {
    let mut declared = 0;
    for (header, _, file) in headers {
        // A sealed file is scanned too: its groups' declarations count as any other's. Only the last files can
        // declare what an earlier one does not hold, so two are enough.
        if find_footer(&**file)?.is_none() {
            declared =
                declared.max(scan(&**file, format::seed(header), u64::MAX)?.declared_durable);
        }
    }
    Ok(declared)
}

/// The footer of a sealed file: position, length and contents.
fn find_footer(file: &dyn File) -> io::Result<Option<(u64, u64, Footer)>> {
    let Some(at) = file.len()?.checked_sub(format::TRAILER as u64) else {
        return Ok(None);
    };
    let mut trailer = vec![0; format::TRAILER];
    let read = file.read_at(&mut trailer, at)?;
    trailer.truncate(read);
    let Some((position, length)) = Footer::locate(&trailer) else {
        return Ok(None);
    };
    match read_footer(file, position, length) {
        Ok(footer) => Ok(Some((position, length, footer))),
        // Sealed, but not all of it had reached the disk: the groups speak for themselves.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

fn sealed_file(
    recovery: &mut Recovery,
    header: &FileHeader,
    file: &Arc<dyn File>,
    position: u64,
    length: u64,
    footer: Footer,
) -> FileInfo {
    recovery.clean = false;
    let info = FileInfo {
        id: header.file,
        sealed: true,
        bytes: position + length + format::TRAILER as u64,
        first_lsn: footer.first_lsn,
        last_lsn: footer.last_lsn,
        sequences: footer.sequences.clone(),
    };
    let contents = Contents::Sealed(position, length);
    let sequences = footer.sequences;
    recovery.shelf.insert(
        header.file,
        ShelfFile {
            file: file.clone(),
            sequences,
            contents,
        },
    );
    info
}

/// Seals a file behind its last good group.
fn seal(
    recovery: &mut Recovery,
    header: &FileHeader,
    file: &Arc<dyn File>,
    scanned: &Scanned,
) -> io::Result<FileInfo> {
    let mut entries = Vec::new();
    // A group counts as a whole or up to its bad frame: the frames before it are good and in order.
    let end = scanned.frames.last().map_or(SECTOR as u64, |(frame, at)| {
        format::padded(usize::try_from(*at).unwrap_or(usize::MAX) + frame.length) as u64
    });
    let end = end.max(scanned.end);
    for (frame, at) in &scanned.frames {
        for (section, within) in &frame.sections {
            let length = format::SECTION_HEADER + section.envelope.len() + section.batch.len();
            entries.push(Entry {
                partition: section.partition,
                base_offset: section.base_offset,
                base_sequence: section.base_sequence,
                last_delta: section.last_delta,
                max_timestamp: section.max_timestamp,
                shard: frame.shard,
                position: u32::try_from(*at + *within as u64).unwrap_or(u32::MAX),
                length: u32::try_from(length).unwrap_or(u32::MAX),
            });
        }
    }
    let first = scanned.frames.first().map_or(0, |(frame, _)| frame.lsn);
    let last = scanned.frames.last().map_or(0, |(frame, _)| frame.lsn);
    let footer = Footer::new(first, last, entries);
    let bytes = footer.encode(end);
    file.set_len(end)?;
    file.write_at(&bytes, end)?;
    file.sync_data()?;
    let length = (bytes.len() - format::TRAILER) as u64;
    let clean = recovery.clean;
    let info = sealed_file(recovery, header, file, end, length, footer);
    recovery.clean = clean;
    Ok(info)
}
