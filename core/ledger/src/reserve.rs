//! The disk's reserve: whole journal files that were claimed beforehand, so that nobody else on the disk can take them.

use crate::env::Env;
use crate::format::SECTOR;
use crate::zeros::Zeros;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Files that are never given to frames: one to begin with after a restart, one for a checkpoint.
const KEPT: usize = 2;

/// A file that is being claimed: half of one must never look like a whole one.
const CLAIMING: &str = "claiming";

/// Journal files ahead, to be used when no others can be claimed.
#[derive(Debug)]
pub(crate) struct Reserve {
    env: Env,
    dir: PathBuf,
    file_bytes: u64,
    wanted: usize,
    files: Mutex<Vec<PathBuf>>,
    /// The disk is low: a checkpoint takes its space from here.
    low: AtomicBool,
}

/// Who takes a file of the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taker {
    /// Frames of clients.
    Frames,
    /// Frames that lead to space being given back, and checkpoints.
    Upkeep,
    /// A start.
    Start,
}

impl Reserve {
    /// The reserve of a journal: the files that are there already. `bytes` of 0: none at all; else two files at least.
    pub(crate) fn open(env: &Env, dir: &Path, file_bytes: u64, bytes: u64) -> io::Result<Self> {
        let wanted = match bytes {
            0 => 0,
            bytes => usize::try_from(bytes.div_ceil(file_bytes))
                .unwrap_or(usize::MAX)
                .max(KEPT),
        };
        let mut files = Vec::new();
        for path in env.files.list(dir)? {
            if !is_reserve(&path) {
                continue;
            }
            if is_unused(env, &path, file_bytes)? && files.len() < wanted {
                files.push(path);
            } else {
                env.files.remove(&path)?;
            }
        }
        Ok(Self {
            env: env.clone(),
            dir: dir.to_owned(),
            file_bytes,
            wanted,
            files: Mutex::new(files),
            low: AtomicBool::new(false),
        })
    }

    /// Claims what is missing, as far as that is possible. Returns whether all is there.
    pub(crate) fn fill(&self) -> io::Result<bool> {
        loop {
            let free = {
                let files = self.files.lock();
                if files.len() >= self.wanted {
                    return Ok(true);
                }
                (0..=self.wanted)
                    .map(|number| self.dir.join(format!("reserve-{number}")))
                    .find(|path| !files.contains(path))
            };
            let Some(path) = free else { return Ok(true) };
            let claiming = self.dir.join(CLAIMING);
            match self.claim(&claiming, &path) {
                Ok(()) => self.files.lock().push(path),
                Err(error) => {
                    let _ = self.env.files.remove(&claiming);
                    if is_full(&error) {
                        return Ok(false);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn claim(&self, claiming: &Path, path: &Path) -> io::Result<()> {
        if self.env.files.available(&self.dir)? < self.file_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.env.files.open(claiming)?;
        file.allocate(self.file_bytes)?;
        file.sync_data()?;
        self.env.files.rename(claiming, path)?;
        self.env.files.sync_dir(&self.dir)
    }

    /// Takes a file away, for this purpose.
    pub(crate) fn take(&self, taker: Taker) -> Option<PathBuf> {
        let mut files = self.files.lock();
        let kept = match taker {
            Taker::Frames => KEPT,
            Taker::Upkeep => 1,
            Taker::Start => 0,
        };
        if files.len() <= kept.min(self.wanted) {
            return None;
        }
        files.pop()
    }

    /// Is all there that is to be?
    pub(crate) fn whole(&self) -> bool {
        self.files.lock().len() >= self.wanted
    }

    /// Bytes that it has claimed.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.lock().len() as u64 * self.file_bytes
    }

    /// Notes whether the disk is low.
    pub(crate) fn set_low(&self, low: bool) {
        self.low.store(low, Ordering::Relaxed);
    }

    /// Gives a checkpoint the space of a file, under this name, if the disk is low and one is left.
    /// Returns whether it has.
    pub(crate) fn lend(&self, to: &Path) -> io::Result<bool> {
        if !self.low.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(path) = self.take(Taker::Upkeep) else {
            return Ok(false);
        };
        self.env.files.rename(&path, to)?;
        self.env.files.sync_dir(&self.dir)?;
        Ok(true)
    }
}

/// Is a file as it was claimed? A loss of power may have left a second name for one that is in use.
fn is_unused(env: &Env, path: &Path, file_bytes: u64) -> io::Result<bool> {
    let file = env.files.open(path)?;
    let mut start = [0; SECTOR];
    let read = file.read_at(&mut start, 0)?;
    let blank = start.iter().take(read).all(|byte| *byte == 0);
    Ok(blank && file.len()? == file_bytes && !path.ends_with(CLAIMING))
}

/// Is this the name of a file of the reserve, or of one that was being claimed?
pub(crate) fn is_reserve(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("reserve-") || name == CLAIMING)
}

/// Does an error say that no space can be claimed? That is no damage.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Writes zeros to a file.
pub(crate) fn write_zeros(
    write_at: &dyn Fn(&[u8], u64) -> io::Result<()>,
    start: u64,
    end: u64,
) -> io::Result<()> {
    let zeros = Zeros::new();
    let mut at = start;
    while at < end {
        let piece = zeros.piece(end - at);
        write_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}
