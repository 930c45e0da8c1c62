//! Recovery: which frames count after a stop, clean or not.
//!
//! It ends at the first bad frame. That is damage (refuse to start) only if a later valid group of a file's present
//! life, or a checkpoint, declares a frame at or beyond it durable; else it is a torn tail, which was never
//! acknowledged, and is cut off.

mod replay;

use self::replay::{Replay, Replayed};
use crate::env::{Env, File};
use crate::format::{self, Entry, FileHeader, Footer, SECTOR};
use crate::frame::{Lsn, Section, ShardId};
use crate::journal::FileInfo;
use crate::reader::{Contents, ShelfFile, read_footer};
use crate::scan::{Scanned, scan};
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
    /// Frames are only in a checkpoint, and that can't be read.
    #[error(
        "checkpoint {checkpoint} is damaged, and nothing else holds frames {lsn} to {last}: the journal goes on in {file}"
    )]
    Checkpoint {
        /// The newest checkpoint's frame.
        checkpoint: Lsn,
        /// The first frame that is missing.
        lsn: Lsn,
        /// The last of them.
        last: Lsn,
        /// The file behind them.
        file: PathBuf,
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

impl Recovery {
    /// Was the journal closed cleanly?
    pub fn clean(&self) -> bool {
        self.clean
    }

    /// The newest frame.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// The frames after this one, in order. Reads a group at a time.
    pub fn frames(&self, after: Lsn) -> impl Iterator<Item = io::Result<RecoveredFrame>> + '_ {
        self.files
            .iter()
            .filter(move |(id, ..)| self.sealed.get(id).is_none_or(|file| file.last_lsn > after))
            .flat_map(move |file| {
                let known = self.sealed.get(&file.0).map_or(0, |file| file.last_lsn);
                Replay::new(file, known)
            })
            .filter(move |frame| frame.as_ref().map_or(true, |frame| frame.lsn > after))
    }
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
    Open(Scanned, Vec<Entry>),
}

impl Surveyed {
    /// Its first and last frame; zeros if it has none.
    fn range(&self) -> (Lsn, Lsn) {
        match &self.state {
            Found::Sealed(_, _, footer) => (footer.first_lsn, footer.last_lsn),
            Found::Open(scanned, _) => (scanned.first_lsn, scanned.last_lsn),
        }
    }

    /// Where its frames stop being readable.
    fn stops_at(&self) -> u64 {
        match &self.state {
            Found::Sealed(position, ..) => *position,
            Found::Open(scanned, _) => scanned.torn_at.unwrap_or(scanned.end),
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
        if let Found::Open(scanned, _) = &found.state {
            declared = declared.max(scanned.declared_durable);
        }
        let (first, last) = found.range();
        if first == 0 {
            continue;
        }
        // A file is begun only when the one before is on stable storage: a gap is damage, or a deleted file.
        if first != recovery.last_lsn + 1 && first > whole + 1 {
            if whole < checkpoint && first <= checkpoint + 1 {
                return Err(RecoveryError::Checkpoint {
                    checkpoint,
                    lsn: recovery.last_lsn.max(whole) + 1,
                    last: first - 1,
                    file: found.path.clone(),
                });
            }
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
        matches!(files.last(), Some(Surveyed { state: Found::Open(last, _), .. }) if last.clean);
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
            Found::Open(scanned, entries) => {
                seal(&mut recovery, &header, &file, &scanned, entries)?
            }
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
            .and_then(|name| name.to_str())
            .is_some_and(|name| matches!(name, "spare" | "filling" | "claimed" | "recycled"))
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
                    None => open_file(&*file, seed)?,
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

/// What an unsealed file holds.
fn open_file(file: &dyn File, seed: u32) -> io::Result<Found> {
    let mut entries = Vec::new();
    let scanned = scan(file, seed, u64::MAX, &mut |frame, at| {
        for (section, within) in &frame.sections {
            let length = format::SECTION_HEADER + section.envelope.len() + section.batch.len();
            entries.push(Entry {
                partition: section.partition,
                base_offset: section.base_offset,
                base_sequence: section.base_sequence,
                last_delta: section.last_delta,
                max_timestamp: section.max_timestamp,
                shard: frame.shard,
                position: u32::try_from(at + *within as u64).unwrap_or(u32::MAX),
                length: u32::try_from(length).unwrap_or(u32::MAX),
            });
        }
    })?;
    Ok(Found::Open(scanned, entries))
}

/// Seals a file behind its last good group.
fn seal(
    recovery: &mut Recovery,
    header: &FileHeader,
    file: &Arc<dyn File>,
    scanned: &Scanned,
    entries: Vec<Entry>,
) -> io::Result<FileInfo> {
    // A group counts as a whole or up to its bad frame: the frames before it are good and in order.
    let end = scanned.frames_end.max(scanned.end);
    let footer = Footer::new(scanned.first_lsn, scanned.last_lsn, entries);
    let bytes = footer.encode(end);
    // The file has room for it. It is cut behind its footer only then: what is given back may not be had again.
    file.write_at(&bytes, end)?;
    file.sync_data()?;
    file.set_len(end + bytes.len() as u64)?;
    file.sync_data()?;
    let length = (bytes.len() - format::TRAILER) as u64;
    Ok(sealed_file(recovery, header, file, end, length, footer))
}
