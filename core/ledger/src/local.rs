//! The journal on a local disk.

mod files;

use crate::checkpoint::{CheckpointStore, LocalCheckpoints};
use crate::cluster::Clusters;
use crate::env::{Env, File};
use crate::format::{self, Entry, FLAG_CLEAN, Footer, GROUP_HEADER, GroupHeader, SECTOR};
use crate::frame::{Frame, Lsn, Place};
use crate::journal::{Class, Completion, FileInfo, Journal, JournalError, Pushed, Space};
use crate::open_index::OpenIndex;
use crate::prepare::{Ahead, Preparer};
use crate::reader::{SectionReader, Shelf};
use crate::recovery::{self, Recovery, RecoveryError};
use crate::reserve::{Reserve, Taker};
use crate::sync::{Syncer, Waker};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a local journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes of a journal file. A frame is at most a third of it.
    pub file_bytes: u64,
    /// Publishers wait below this many available bytes.
    pub low_bytes: u64,
    /// Claimed beforehand, in whole files, two at least; acknowledgements, deletions and checkpoints are served from it
    /// when no other space can be claimed. 0: nothing is.
    pub reserve_bytes: u64,
    /// Bytes that journal and checkpoints may take in all; 0: as the disk has.
    pub bytes_max: u64,
    /// A page of a checkpoint is closed when it has grown to this.
    pub checkpoint_page_bytes: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            file_bytes: 64 * MIB,
            low_bytes: 512 * MIB,
            reserve_bytes: 256 * MIB,
            bytes_max: 0,
            checkpoint_page_bytes: 256 << 10,
        }
    }
}

/// A journal on a local disk.
#[derive(Debug)]
pub struct LocalJournal {
    env: Env,
    dir: PathBuf,
    options: JournalOptions,
    journal: u128,
    epoch: u32,
    next_file: u32,
    next_lsn: Lsn,
    active: Active,
    /// One file ahead, zero-filled.
    spare: Arc<Mutex<Option<PathBuf>>>,
    sealed: BTreeMap<u32, FileInfo>,
    group: Vec<u8>,
    group_first: Lsn,
    group_frames: u32,
    group_entries: Vec<Entry>,
    /// Somebody waits for what has been pushed.
    wanted: bool,
    syncer: Syncer,
    /// Groups written and not yet reported: written, synced.
    written: VecDeque<(Lsn, Lsn)>,
    syncing: VecDeque<(Lsn, Lsn)>,
    reported_failure: bool,
    poisoned: bool,
    shelf: Arc<Shelf>,
    checkpoints: Arc<LocalCheckpoints>,
    space: Space,
    prepared_elsewhere: bool,
    ahead: Arc<Ahead>,
    clusters: Arc<Clusters>,
    reserve: Arc<Reserve>,
}

#[derive(Debug)]
struct Active {
    id: u32,
    file: Arc<dyn File>,
    seed: u32,
    position: u64,
    first_lsn: Lsn,
    entries: Arc<OpenIndex>,
    /// How many sections it will have with the group under construction.
    count: usize,
    capacity: u64,
}

impl LocalJournal {
    /// Opens (or makes) the journal in this directory. Returns it with what must be replayed; the caller replays
    /// before it pushes. Its syncing stage is [`LocalJournal::syncer`].
    pub fn open(
        env: &Env,
        dir: &Path,
        options: JournalOptions,
        waker: Waker,
    ) -> Result<(Self, Recovery), RecoveryError> {
        let journal_dir = dir.join("journal");
        env.files.create_dir(&journal_dir)?;
        let reserve = Reserve::open(env, &journal_dir, options.file_bytes, options.reserve_bytes)?;
        let reserve = Arc::new(reserve);
        let checkpoints = LocalCheckpoints::open(env, &dir.join("checkpoints"))?;
        let checkpoints = checkpoints.with_pages(options.checkpoint_page_bytes);
        let checkpoints = Arc::new(checkpoints.with_reserve(reserve.clone()));
        // Frames up to here are not needed: files that hold no others may be gone.
        let newest = checkpoints.newest_lsn();
        let (whole, damaged) = checkpoints.find_whole()?;
        let recovered = recovery::recover(env, &journal_dir, newest, whole)?;
        checkpoints.put_aside(&damaged)?;
        let journal = recovered.journal.unwrap_or_else(|| {
            u128::from(env.random.next_u64()) << 64 | u128::from(env.random.next_u64())
        });
        let epoch = recovered.epoch + 1;
        let shelf = Arc::new(Shelf::default());
        for (id, file) in &recovered.shelf {
            shelf.put(*id, file.clone());
        }
        let clusters = Arc::new(Clusters::open(
            env,
            &dir.join("clusters"),
            journal,
            options.file_bytes,
            shelf.clone(),
        )?);
        for id in clusters.replaced() {
            shelf.remove(id);
        }
        let syncer = Syncer::new(recovered.last_lsn, waker);
        let mut opened = Self {
            env: env.clone(),
            dir: journal_dir,
            journal,
            epoch,
            next_file: recovered.last_file + 1,
            next_lsn: recovered.last_lsn + 1,
            active: Active {
                id: 0,
                file: Arc::new(Nowhere),
                seed: 0,
                position: 0,
                first_lsn: 0,
                entries: Arc::default(),
                count: 0,
                capacity: 0,
            },
            spare: Arc::new(Mutex::new(recovered.spare.clone())),
            sealed: recovered.sealed.clone(),
            group: Vec::new(),
            group_first: recovered.last_lsn + 1,
            group_frames: 0,
            group_entries: Vec::new(),
            wanted: false,
            syncer,
            written: VecDeque::new(),
            syncing: VecDeque::new(),
            reported_failure: false,
            poisoned: false,
            shelf,
            checkpoints,
            space: Space::Plenty,
            prepared_elsewhere: false,
            ahead: Arc::default(),
            clusters,
            reserve,
            options,
        };
        let first = opened.claim(Taker::Start)?;
        opened.begin_file(&first)?;
        opened.reserve.fill()?;
        opened.prepare_spare()?;
        opened.look_at_space();
        Ok((opened, recovered))
    }

    /// The syncing stage, to be run or stepped by whoever composes the server.
    pub fn syncer(&self) -> Syncer {
        self.syncer.clone()
    }

    /// Prepares the file ahead; to be stepped on a thread of its own. Once taken, [`Journal::look_at_space`] leaves
    /// that work to it.
    pub fn preparer(&mut self) -> Preparer {
        self.prepared_elsewhere = true;
        let bytes = self.options.file_bytes;
        let spare = self.spare.clone();
        let reserve = self.reserve.clone();
        let ahead = self.ahead.clone();
        Preparer::new(&self.env, self.dir.clone(), bytes, spare, reserve, ahead)
    }

    /// Bytes of groups that the active file takes, if so many sections come with them: the footer has its place.
    fn room_for(&self, sections: usize) -> u64 {
        let footer = Footer::bytes_max(self.active.count + sections) + SECTOR as u64;
        let used = self.active.position.saturating_add(footer);
        self.active.capacity.saturating_sub(used)
    }

    fn poison(&mut self, error: io::Error) -> JournalError {
        self.poisoned = true;
        let kind = error.kind();
        let shared = self.syncer.fail(error);
        JournalError::Io(io::Error::new(kind, shared.to_string()))
    }

    /// Writes the group under construction, with these flags.
    fn write_group(&mut self, flags: u32) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if self.group.is_empty() {
            self.group.resize(GROUP_HEADER, 0);
        }
        let durable_lsn = self.syncer.state.0.lock().synced;
        let header = GroupHeader {
            length: u32::try_from(self.group.len() - GROUP_HEADER).unwrap_or(u32::MAX),
            frames: self.group_frames,
            flags,
            first_lsn: self.group_first,
            durable_lsn,
        };
        let encoded = header.encode(self.active.seed);
        if let Some(start) = self.group.get_mut(..GROUP_HEADER) {
            start.copy_from_slice(&encoded);
        }
        let bytes = self.group.len() as u64;
        self.group.resize(format::padded(self.group.len()), 0);
        let position = self.active.position;
        let end = position + self.group.len() as u64;
        files::fill_page(&mut self.group, position, self.active.capacity);
        if let Err(error) = self.active.file.write_at(&self.group, position) {
            return Err(self.poison(error));
        }
        self.active.position = end;
        self.ahead.set_room(self.room_for(0));
        self.group.clear();
        let last = self.next_lsn - 1;
        if self.group_frames > 0 {
            if self.active.first_lsn == 0 {
                self.active.first_lsn = self.group_first;
            }
            let sequences = format::sequence_ranges(&self.group_entries);
            self.active.entries.append(&mut self.group_entries);
            self.shelf.grown(self.active.id, &sequences);
            self.written.push_back((self.group_first, last));
            self.syncing.push_back((self.group_first, last));
        }
        self.group_frames = 0;
        self.group_first = self.next_lsn;
        self.syncer.written(&self.active.file, last, bytes);
        Ok(())
    }
}

impl Journal for LocalJournal {
    fn push(&mut self, frame: &Frame<'_>, class: Class) -> Result<Pushed, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if class == Class::Normal && self.space != Space::Plenty {
            return Err(JournalError::Full);
        }
        let bytes = format::frame_bytes(frame);
        let limit = self.frame_bytes_max();
        if bytes > limit {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        let group_end = format::padded(GROUP_HEADER.max(self.group.len()) + bytes) as u64;
        if group_end > self.room_for(frame.sections.len()) {
            self.submit()?;
            let alone = format::padded(GROUP_HEADER + bytes) as u64;
            if alone > self.room_for(frame.sections.len()) {
                self.roll(class).map_err(|error| match error {
                    JournalError::Io(error) => self.poison(error),
                    other => other,
                })?;
            }
        }
        if self.group.is_empty() {
            self.group.resize(GROUP_HEADER, 0);
        }
        self.active.count += frame.sections.len();
        let lsn = self.next_lsn;
        let placed = format::encode_frame(frame, lsn, self.active.seed, &mut self.group);
        let mut places = Vec::with_capacity(placed.len());
        for (section, (at, length)) in frame.sections.iter().zip(placed) {
            let position = u32::try_from(self.active.position + at as u64).unwrap_or(u32::MAX);
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            places.push(Place {
                file: self.active.id,
                position,
                length,
            });
            self.group_entries.push(Entry {
                partition: section.partition,
                base_offset: section.base_offset,
                base_sequence: section.base_sequence,
                last_delta: section.last_delta,
                max_timestamp: section.max_timestamp,
                shard: frame.shard,
                position,
                length,
            });
        }
        self.next_lsn += 1;
        self.group_frames += 1;
        Ok(Pushed { lsn, places })
    }

    fn group_bytes(&self) -> usize {
        self.group.len()
    }

    fn submit(&mut self) -> Result<(), JournalError> {
        let wanted = std::mem::take(&mut self.wanted);
        if !self.group.is_empty() {
            self.write_group(0)?;
        } else if !wanted {
            return Ok(());
        }
        self.syncer.announce(wanted);
        Ok(())
    }

    fn sync(&mut self) {
        self.wanted = true;
    }

    fn poll(&mut self) -> Option<Completion> {
        if let Some((first_lsn, last_lsn)) = self.written.pop_front() {
            return Some(Completion::Written {
                first_lsn,
                last_lsn,
            });
        }
        let (synced, failed) = {
            let state = self.syncer.state.0.lock();
            (state.synced, state.failed.clone())
        };
        if let Some((first_lsn, last_lsn)) = self.syncing.front().copied()
            && last_lsn <= synced
        {
            self.syncing.pop_front();
            return Some(Completion::Synced {
                first_lsn,
                last_lsn,
            });
        }
        let error = failed?;
        self.poisoned = true;
        (!std::mem::replace(&mut self.reported_failure, true)).then_some(Completion::Failed(error))
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn room(&self) -> u64 {
        self.room_for(0)
    }

    fn frame_bytes_max(&self) -> usize {
        usize::try_from(self.options.file_bytes / 3).unwrap_or(usize::MAX)
    }

    fn reader(&self) -> Arc<dyn SectionReader> {
        self.shelf.clone()
    }

    fn files(&self) -> Vec<FileInfo> {
        let active = FileInfo {
            id: self.active.id,
            sealed: false,
            bytes: self.active.position,
            first_lsn: self.active.first_lsn,
            last_lsn: if self.active.first_lsn == 0 {
                0
            } else {
                self.group_first - 1
            },
            sequences: self.active.entries.sequences(),
        };
        self.sealed.values().cloned().chain([active]).collect()
    }

    fn delete_file(&mut self, id: u32) -> Result<bool, JournalError> {
        self.delete(id)
    }

    fn clusters(&self) -> Option<Arc<Clusters>> {
        Some(self.clusters.clone())
    }

    fn reclaim(&mut self) -> Result<bool, JournalError> {
        for id in self.clusters.replaced() {
            let known = self.sealed.contains_key(&id);
            if known && !self.delete_file(id)? {
                continue;
            }
            self.clusters.forget(id);
            if known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn space(&self) -> Space {
        self.space
    }

    fn look_at_space(&mut self) -> Space {
        self.look()
    }

    fn checkpoints(&self) -> Arc<dyn CheckpointStore> {
        self.checkpoints.clone()
    }

    fn close(&mut self, clean: bool) -> Result<(), JournalError> {
        self.submit()?;
        if clean {
            self.write_group(FLAG_CLEAN)?;
        }
        while self.syncer.step() {}
        if let Some(error) = self.syncer.failed() {
            self.poisoned = true;
            return Err(JournalError::Io(io::Error::new(
                error.kind(),
                error.to_string(),
            )));
        }
        let mut state = self.syncer.state.0.lock();
        state.stopping = true;
        self.syncer.state.1.notify_all();
        Ok(())
    }
}

/// The file of a journal that has not begun one.
#[derive(Debug)]
struct Nowhere;

impl File for Nowhere {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::Error::other("no file"))
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}
