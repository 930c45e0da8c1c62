//! The file ahead: zero-filled away from the sequencer, piece by piece.

use crate::env::{Env, File};
use crate::reserve::Reserve;
use crate::zeros::Zeros;
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

/// What the journal and the preparer of its next file know of each other.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Bytes that the journal's file has room for.
    room: AtomicU64,
    /// Whoever prepares.
    thread: OnceLock<Thread>,
}

impl Ahead {
    /// The journal's file has this much room now.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// The spare file was taken: the next one is wanted.
    pub(crate) fn taken(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Prepares a journal's next file. A real server calls [`Preparer::step`] on a thread, pausing between calls so that the
/// journal's syncs don't queue behind it, unless it [hurries](Preparer::hurries).
#[derive(Debug)]
pub struct Preparer {
    env: Env,
    dir: PathBuf,
    file_bytes: u64,
    spare: Arc<Mutex<Option<PathBuf>>>,
    reserve: Arc<Reserve>,
    ahead: Arc<Ahead>,
    filling: Option<(Arc<dyn File>, u64)>,
    zeros: Zeros,
}

impl Preparer {
    pub(crate) fn new(
        env: &Env,
        dir: PathBuf,
        file_bytes: u64,
        spare: Arc<Mutex<Option<PathBuf>>>,
        reserve: Arc<Reserve>,
        ahead: Arc<Ahead>,
    ) -> Self {
        Self {
            env: env.clone(),
            dir,
            file_bytes,
            spare,
            reserve,
            ahead,
            filling: None,
            zeros: Zeros::new(),
        }
    }

    /// This thread calls it: it is unparked when the next file is wanted.
    pub fn attend(&self) {
        self.ahead.thread.get_or_init(std::thread::current);
    }

    /// Is the journal's own file so nearly full that the next one might come too late? A journal that has to write it
    /// by itself does nothing else meanwhile.
    pub fn hurries(&self) -> bool {
        let left = |(_, at): &(_, u64)| self.file_bytes.saturating_sub(*at);
        let Some(left) = self.filling.as_ref().map(left) else {
            return false;
        };
        left + self.file_bytes / 8 > self.ahead.room.load(Ordering::Relaxed)
    }

    /// Writes the next piece. Returns whether there is more to do; `false` if a file is ready. When it fails, most
    /// likely for want of space, what was claimed is given back; try again after a while.
    pub fn step(&mut self) -> io::Result<bool> {
        let path = self.dir.join("filling");
        // What the reserve lacks comes first.
        if self.filling.is_none() && (self.spare.lock().is_some() || !self.reserve.whole()) {
            return Ok(false);
        }
        let filled = self.fill_piece(&path);
        if filled.is_err() {
            self.filling = None;
            self.env.files.remove(&path)?;
        }
        filled
    }

    fn fill_piece(&mut self, path: &std::path::Path) -> io::Result<bool> {
        if self.filling.is_none() {
            let file = self.env.files.open_to_fill(path)?;
            file.set_len(0)?;
            self.filling = Some((file, 0));
        }
        let Some((file, at)) = &mut self.filling else {
            return Ok(false);
        };
        let zeros = self.zeros.piece(self.file_bytes - *at);
        file.write_at(zeros, *at)?;
        file.sync_data()?;
        *at += zeros.len() as u64;
        if *at < self.file_bytes {
            return Ok(true);
        }
        self.filling = None;
        // A recycled file may have come in between.
        let mut spare = self.spare.lock();
        if spare.is_some() {
            self.env.files.remove(path)?;
        } else {
            let ready = self.dir.join("spare");
            self.env.files.rename(path, &ready)?;
            *spare = Some(ready);
        }
        Ok(false)
    }
}
