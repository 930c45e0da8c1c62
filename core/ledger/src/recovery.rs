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
    files: Vec<Replayed>,
    clean: bool,
}

/// A file to replay: its number, epoch, seed, handle and length.
type Replayed = (u32, u32, u32, Arc<dyn File>, u64);

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
                let known = self.sealed.get(id).map_or(0, |file| file.last_lsn);
                let whole = frames.last().map_or(0, |(frame, _)| frame.lsn) == known;
                let mut found: Vec<io::Result<RecoveredFrame>> = frames
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
                if !whole {
                    let next = found
                        .last()
                        .and_then(|last| last.as_ref().ok())
                        .map(|last| last.lsn + 1);
                    let lsn = next.unwrap_or(after + 1);
                    let what = format!("sealed journal file {id} is damaged at frame {lsn}");
                    found.push(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
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
            // A group that was cut still has the frames before its first bad one.
            let end = (body + header.length as usize).min(bytes.len());
            let whole = if in_order {
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

/// A file as it was found.
struct Surveyed {
    header: FileHeader,
    path: PathBuf,
    file: Arc<dyn File>,
    seed: u32,
    state: Found,
}

enum Found {
    Sealed(u64, u64, Footer),
    Open(Scanned),
}

impl Surveyed {
    /// Its first and last frame; zeros if it has none.
    fn range(&self) -> (Lsn, Lsn) {
        match &self.state {
            Found::Sealed(_, _, footer) => (footer.first_lsn, footer.last_lsn),
            Found::Open(scanned) => {
                let lsn = |found: Option<&(DecodedFrame, u64)>| found.map_or(0, |(f, _)| f.lsn);
                (lsn(scanned.frames.first()), lsn(scanned.frames.last()))
            }
        }
    }

    /// Where its frames stop being readable.
    fn stops_at(&self) -> u64 {
        match &self.state {
            Found::Sealed(position, ..) => *position,
            Found::Open(scanned) => scanned.torn_at.unwrap_or(scanned.end),
        }
    }
}

/// Looks through a journal's directory and makes it whole: a torn tail is cut off, every file that counts is sealed.
/// `checkpoint` is the newest checkpoint's frame, `whole` that of the newest one that can be read: frames up to there
/// may be missing. Nothing is changed on disk before it is certain that nothing is damaged.
pub(crate) fn recover(
    env: &Env,
    dir: &Path,
    checkpoint: Lsn,
    whole: Lsn,
) -> Result<Recovery, RecoveryError> {
    let (files, leftovers, last_file) = survey(env, dir)?;
    let mut recovery = Recovery {
        journal: None,
        epoch: 0,
        last_lsn: 0,
        last_file,
        spare: None,
        sealed: BTreeMap::new(),
        shelf: BTreeMap::new(),
        files: Vec::new(),
        clean: false,
    };
    let mut declared = checkpoint;
    let mut stop = (dir.to_owned(), 0);
    for found in &files {
        if *recovery.journal.get_or_insert(found.header.journal) != found.header.journal {
            return Err(RecoveryError::Foreign {
                file: found.path.clone(),
            });
        }
        recovery.epoch = recovery.epoch.max(found.header.epoch);
        if let Found::Open(scanned) = &found.state {
            declared = declared.max(scanned.declared_durable);
        }
        let (first, last) = found.range();
        if first == 0 {
            continue;
        }
        // A file is begun only when the one before is on stable storage: a gap is damage, or a deleted file.
        if first != recovery.last_lsn + 1 && first > whole + 1 {
            let (file, position) = if recovery.last_lsn == 0 {
                (found.path.clone(), SECTOR as u64)
            } else {
                stop
            };
            return Err(RecoveryError::Damaged {
                file,
                position,
                lsn: recovery.last_lsn + 1,
            });
        }
        recovery.last_lsn = last;
        stop = (found.path.clone(), found.stops_at());
    }
    if recovery.last_lsn < declared {
        let (file, position) = stop;
        return Err(RecoveryError::Damaged {
            file,
            position,
            lsn: recovery.last_lsn + 1,
        });
    }
    recovery.clean =
        matches!(files.last(), Some(Surveyed { state: Found::Open(last), .. }) if last.clean);
    for path in leftovers {
        env.files.remove(&path)?;
    }
    for found in files {
        let Surveyed {
            header,
            file,
            seed,
            state,
            ..
        } = found;
        let info = match state {
            Found::Sealed(position, length, footer) => {
                sealed_file(&mut recovery, &header, &file, position, length, footer)
            }
            Found::Open(scanned) => seal(&mut recovery, &header, &file, &scanned)?,
        };
        recovery
            .files
            .push((header.file, header.epoch, seed, file, info.bytes));
        recovery.sealed.insert(header.file, info);
    }
    env.files.sync_dir(dir)?;
    Ok(recovery)
}

type Survey = (Vec<Surveyed>, Vec<PathBuf>, u32);

/// Reads what there is: the files in order, what may be thrown away, the greatest number in use.
fn survey(env: &Env, dir: &Path) -> Result<Survey, RecoveryError> {
    let mut files = Vec::new();
    let mut leftovers = Vec::new();
    let mut blank = None;
    let mut last_file = 0;
    for path in env.files.list(dir)? {
        if path
            .file_name()
            .is_some_and(|name| name == "spare" || name == "filling")
        {
            // Half-filled, perhaps: its length tells nothing. It is filled again.
            leftovers.push(path);
            continue;
        }
        let number = path
            .file_stem()
            .and_then(|name| name.to_str()?.parse::<u32>().ok());
        let Some(id) = number else {
            continue;
        };
        let file = env.files.open(&path)?;
        let mut start = vec![0; SECTOR];
        let read = file.read_at(&mut start, 0)?;
        start.truncate(read);
        last_file = last_file.max(id);
        match FileHeader::decode(&start) {
            Some(Ok(header)) if header.file == id => {
                let seed = format::seed(&header);
                let state = match find_footer(&*file)? {
                    Some((position, length, footer)) => Found::Sealed(position, length, footer),
                    None => Found::Open(scan(&*file, seed, u64::MAX)?),
                };
                files.push(Surveyed {
                    header,
                    path,
                    file,
                    seed,
                    state,
                });
            }
            Some(Err(version)) => {
                return Err(RecoveryError::Version {
                    file: path,
                    version,
                });
            }
            // The newest file may have its name without its header: nothing was written to it.
            _ if blank.is_none() && start.iter().all(|byte| *byte == 0) => blank = Some((id, path)),
            _ => {
                return Err(RecoveryError::Damaged {
                    file: path,
                    position: 0,
                    lsn: 0,
                });
            }
        }
    }
    files.sort_by_key(|found: &Surveyed| found.header.file);
    if let Some((id, path)) = blank {
        if id != last_file {
            return Err(RecoveryError::Damaged {
                file: path,
                position: 0,
                lsn: 0,
            });
        }
        leftovers.push(path);
    }
    Ok((files, leftovers, last_file))
}

/// The footer of a sealed file: position, length and contents.
pub(crate) fn find_footer(file: &dyn File) -> io::Result<Option<(u64, u64, Footer)>> {
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
    // The file has room for it. It is cut behind its footer only then: what is given back may not be had again.
    file.write_at(&bytes, end)?;
    file.sync_data()?;
    file.set_len(end + bytes.len() as u64)?;
    file.sync_data()?;
    let length = (bytes.len() - format::TRAILER) as u64;
    Ok(sealed_file(recovery, header, file, end, length, footer))
}
