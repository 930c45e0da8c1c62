//! The one door to the world: clock, randomness, files. A simulation brings its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A page of the page cache: what the system reads and writes of a file is a multiple of this.
pub(crate) const PAGE: usize = 4096;

/// Time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Unix milliseconds.
    fn now_ms(&self) -> i64;
    /// Time of a clock that never goes back.
    fn monotonic(&self) -> Duration;
}

/// Randomness.
pub trait Random: Send + Sync + std::fmt::Debug {
    /// Sixty-four random bits.
    fn next_u64(&self) -> u64;
}

/// An open file.
pub trait File: Send + Sync + std::fmt::Debug {
    /// Fills the buffer from this position; short at the file's end. Returns how much was read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes everything at this position.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Brings what was written, and the length, to stable storage.
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Is it empty?
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Claims the space of an empty file that is to have this many bytes, as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        crate::reserve::write_zeros(&|piece, at| self.write_at(piece, at), 0, bytes)
    }
}

/// A file system.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Makes a directory and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file, making it if need be.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file, making it if need be, that is to be filled and not read: where the system can, what is written goes
    /// to the disk past the page cache. Only whole pages of 4 KiB do, at such positions and from memory aligned so.
    fn open_to_fill(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }
    /// Opens a file for reading only; it must be there.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Brings a directory's entries to stable storage.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The files in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Bytes that may still be claimed on the file system of this path.
    fn available(&self, path: &Path) -> io::Result<u64>;
}

/// Clock, randomness and files.
#[derive(Debug, Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Files.
    pub files: Arc<dyn Files>,
}

impl Env {
    /// The real world.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(RealClock {
                start: Instant::now(),
            }),
            random: Arc::new(RealRandom),
            files: Arc::new(RealFiles),
        }
    }
}

#[derive(Debug)]
struct RealClock {
    start: Instant,
}

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

#[derive(Debug)]
struct RealRandom;

impl Random for RealRandom {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

#[derive(Debug)]
struct RealFiles;

#[derive(Debug)]
struct RealFile {
    file: std::fs::File,
    /// The same, past the page cache.
    direct: Option<std::fs::File>,
}

impl RealFile {
    fn new(file: std::fs::File) -> Self {
        Self { file, direct: None }
    }

    /// Writes whole pages past the page cache. Returns whether that was possible.
    fn write_direct(&self, bytes: &[u8], position: u64) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;
        let Some(direct) = &self.direct else {
            return Ok(false);
        };
        let whole = bytes.len().is_multiple_of(PAGE) && position.is_multiple_of(PAGE as u64);
        if !whole || bytes.as_ptr().align_offset(PAGE) != 0 {
            return Ok(false);
        }
        match direct.write_all_at(bytes, position) {
            // A device with larger blocks.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
            done => done.map(|()| true),
        }
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, position + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        if self.write_direct(bytes, position)? {
            return Ok(());
        }
        self.file.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        use rustix::fs::FallocateFlags;
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system knows how to.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                crate::reserve::write_zeros(&|piece, at| self.write_at(piece, at), 0, bytes)
            }
            done => Ok(done?),
        }
    }
}

fn writable() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
}

impl Files for RealFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile::new(writable().open(path)?)))
    }

    fn open_to_fill(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = writable().open(path)?;
        let flag = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        // Not every file system knows it.
        let direct = writable().custom_flags(flag).open(path).ok();
        Ok(Arc::new(RealFile { file, direct }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile::new(std::fs::File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                found.push(entry.path());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
