//! The journal's files: claimed ahead, filled with zeros, begun, sealed, deleted or used again; and the space for them.

use crate::checkpoint::CheckpointStore;
use crate::env::{File, PAGE};
use crate::format::{self, FileHeader, Footer, SECTOR};
use crate::journal::{Class, FileInfo, JournalError, Space};
use crate::local::{Active, LocalJournal};
use crate::open_index::OpenIndex;
use crate::reader::{Contents, ShelfFile};
use crate::reserve::{self, Taker};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Adds zeros to what is written at this position of a file with so much room, to the end of its last page, where nothing
/// else is yet: the system would read a page of which it is given a part only.
pub(super) fn fill_page(bytes: &mut Vec<u8>, position: u64, capacity: u64) {
    let end = position + bytes.len() as u64;
    let filled = end.next_multiple_of(PAGE as u64).min(capacity).max(end);
    bytes.resize(bytes.len() + usize::try_from(filled - end).unwrap_or(0), 0);
}

impl LocalJournal {
    fn path(&self, id: u32) -> PathBuf {
        self.dir.join(format!("{id:08}.log"))
    }

    /// Claims the next file: the spare one if there is one, else one of the disk, else one of the reserve.
    pub(super) fn claim(&mut self, taker: Taker) -> io::Result<PathBuf> {
        // Under a name of its own at once: the preparer may have another spare one ready at any moment.
        let path = self.dir.join("claimed");
        {
            let mut spare = self.spare.lock();
            if let Some(spare) = spare.take() {
                self.env.files.rename(&spare, &path)?;
                self.ahead.taken();
                return Ok(path);
            }
        }
        let claimed = if self.free_bytes()? < self.options.file_bytes {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            self.fill(&path).map(|()| path)
        };
        match claimed {
            Err(error) if reserve::is_full(&error) => {
                let path = self.reserve.take(taker).ok_or(error)?;
                // From now on publishers wait.
                self.space = Space::Reserve;
                Ok(path)
            }
            claimed => claimed,
        }
    }

    /// Begins the next file, which was claimed under this name.
    pub(super) fn begin_file(&mut self, claimed: &Path) -> io::Result<()> {
        let id = self.next_file;
        let path = self.path(id);
        self.env.files.rename(claimed, &path)?;
        let file = self.env.files.open(&path)?;
        let header = FileHeader {
            file: id,
            epoch: self.epoch,
            journal: self.journal,
            created_ms: self.env.clock.now_ms(),
        };
        let mut first = header.encode();
        fill_page(&mut first, 0, self.options.file_bytes);
        file.write_at(&first, 0)?;
        file.sync_data()?;
        self.env.files.sync_dir(&self.dir)?;
        self.next_file += 1;
        let entries: Arc<OpenIndex> = Arc::default();
        self.shelf.put(
            id,
            ShelfFile {
                file: file.clone(),
                sequences: Vec::new(),
                contents: Contents::Open(entries.clone()),
            },
        );
        self.active = Active {
            id,
            seed: format::seed(&header),
            position: SECTOR as u64,
            first_lsn: 0,
            entries,
            count: 0,
            capacity: file.len()?.max(self.options.file_bytes),
            file,
        };
        self.ahead.set_room(self.room_for(0));
        Ok(())
    }

    /// Makes a file of written zeros: its blocks are claimed, and syncing writes to it needs no new metadata.
    fn fill(&self, path: &Path) -> io::Result<()> {
        let file = self.env.files.open_to_fill(path)?;
        self.fill_from(&file, 0).inspect_err(|_| {
            // Give back what was claimed; the caller says that there is no space.
            let _ = self.env.files.remove(path);
        })
    }

    fn fill_from(&self, file: &Arc<dyn File>, start: u64) -> io::Result<()> {
        let write_at = |piece: &[u8], at| file.write_at(piece, at);
        reserve::write_zeros(&write_at, start, self.options.file_bytes)?;
        file.sync_data()
    }

    /// Prepares the file ahead, if there is none. Blocks for as long as the disk takes to write it.
    pub(super) fn prepare_spare(&self) -> io::Result<()> {
        if self.spare.lock().is_some() {
            return Ok(());
        }
        let path = self.dir.join("spare");
        match self.fill(&path) {
            Ok(()) => {
                *self.spare.lock() = Some(path);
                Ok(())
            }
            // Not damage: the space marks speak of it.
            Err(error) if reserve::is_full(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Seals the active file and begins the next. Without space for it, nothing has changed.
    pub(super) fn roll(&mut self, class: Class) -> Result<(), JournalError> {
        let taker = match class {
            Class::Upkeep => Taker::Upkeep,
            Class::Normal | Class::Reserve => Taker::Frames,
        };
        let claimed = match self.claim(taker) {
            Err(error) if reserve::is_full(&error) => return Err(JournalError::Full),
            claimed => claimed?,
        };
        // A footer, and a file after it, say that everything before them is on stable storage: so only the last file
        // can have a torn tail.
        while self.syncer.step() {}
        if self.syncer.failed().is_some() {
            self.poisoned = true;
            return Err(JournalError::Poisoned);
        }
        self.seal_active()?;
        self.begin_file(&claimed)?;
        Ok(())
    }

    fn seal_active(&mut self) -> io::Result<()> {
        let active = &self.active;
        let entries = active.entries.entries();
        let last = self.group_first.saturating_sub(1);
        let footer = Footer::new(
            active.first_lsn,
            if active.first_lsn == 0 { 0 } else { last },
            entries,
        );
        let mut bytes = footer.encode(active.position);
        let length = active.position + bytes.len() as u64;
        let footer_length = (bytes.len() - format::TRAILER) as u64;
        fill_page(&mut bytes, active.position, active.capacity);
        active.file.write_at(&bytes, active.position)?;
        active.file.set_len(length)?;
        // The footer is synced with the next group; recovery rebuilds one that was lost.
        self.syncer.written(&active.file, last, 0);
        self.shelf.put(
            active.id,
            ShelfFile {
                file: active.file.clone(),
                sequences: footer.sequences.clone(),
                contents: Contents::Sealed(active.position, footer_length),
            },
        );
        self.sealed.insert(
            active.id,
            FileInfo {
                id: active.id,
                sealed: true,
                bytes: length,
                first_lsn: footer.first_lsn,
                last_lsn: footer.last_lsn,
                sequences: footer.sequences,
            },
        );
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.values().map(|file| file.bytes).sum();
        let spare = if self.spare.lock().is_some() {
            self.options.file_bytes
        } else {
            0
        };
        sealed
            + self.active.capacity
            + spare
            + self.reserve.bytes()
            + self.checkpoints.bytes()
            + self.clusters.bytes()
    }

    /// Bytes that may still be claimed: those of the disk, within the journal's own bound.
    fn free_bytes(&self) -> io::Result<u64> {
        let disk = self.env.files.available(&self.dir)?;
        Ok(match self.options.bytes_max {
            0 => disk,
            bound => disk.min(bound.saturating_sub(self.used_bytes())),
        })
    }

    /// Deletes a sealed file, or keeps it as the next spare one. False if it is still needed.
    pub(super) fn delete(&mut self, id: u32) -> Result<bool, JournalError> {
        let Some(file) = self.sealed.get(&id).cloned() else {
            return Ok(false);
        };
        if file.last_lsn > self.checkpoints.oldest_lsn() {
            return Ok(false);
        }
        let path = self.path(id);
        let whole = file.bytes >= self.options.file_bytes / 2;
        self.sealed.remove(&id);
        // A reader that still holds the file must not see it written over.
        let unread = self
            .shelf
            .remove(id)
            .is_some_and(|file| Arc::strong_count(&file) == 1);
        if self.spare.lock().is_none() && whole && unread {
            // Recycled: its blocks are there already. Its header says that it is nobody's.
            let recycled = self.dir.join("recycled");
            self.env.files.rename(&path, &recycled)?;
            let handle = self.env.files.open(&recycled)?;
            handle.write_at(&[0; SECTOR], 0)?;
            match self.fill_from(&handle, file.bytes) {
                Ok(()) => {
                    let mut spare = self.spare.lock();
                    if spare.is_none() {
                        let ready = self.dir.join("spare");
                        self.env.files.rename(&recycled, &ready)?;
                        *spare = Some(ready);
                    } else {
                        self.env.files.remove(&recycled)?;
                    }
                }
                // What it lacks can't be claimed: better all of it is free.
                Err(error) if reserve::is_full(&error) => self.env.files.remove(&recycled)?,
                Err(error) => return Err(error.into()),
            }
        } else {
            self.env.files.remove(&path)?;
        }
        self.env.files.sync_dir(&self.dir)?;
        Ok(true)
    }

    /// Looks how much space is left, and claims what is to be claimed ahead.
    pub(super) fn look(&mut self) -> Space {
        let whole = self.reserve.fill().unwrap_or_else(|error| {
            tracing::warn!(%error, "the reserve can't be claimed");
            self.reserve.whole()
        });
        if !self.prepared_elsewhere && whole && self.prepare_spare().is_err() {
            // The next write to the disk will say what is wrong with it.
            tracing::warn!("the journal's next file can't be prepared");
        }
        let free = self.free_bytes().unwrap_or(0);
        let can_begin = free >= self.options.file_bytes || self.spare.lock().is_some();
        self.space = if !whole || (self.options.reserve_bytes > 0 && !can_begin) {
            Space::Reserve
        } else if free < self.options.low_bytes {
            Space::Low
        } else {
            Space::Plenty
        };
        self.reserve.set_low(self.space != Space::Plenty);
        self.space
    }
}
