//! The data directory: one process at a time.

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Holds the directory's lock until dropped, or until the process ends however it does.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it isn't there, and locks it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot create the data directory {}", path.display()))?;
        Self::lock(path)
    }

    /// Locks a directory that is there.
    pub(crate) fn lock(path: &Path) -> anyhow::Result<Self> {
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            _ = lock.read_to_string(&mut holder);
            bail!(
                "the data directory {} is in use by another process ({})",
                path.display(),
                match holder.trim() {
                    "" => "unknown",
                    pid => pid,
                }
            );
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "pid {}", std::process::id())?;
        Ok(Self { _lock: lock })
    }
}
