//! A seeded world for simulations: a clock that is told the time, and files that lose what was not synced.

use crate::env::{Clock, Env, File, Files, Random};
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// What is written as a whole or not at all. Smaller than a real disk's, as the frames of simulations are smaller than
/// real ones: a loss of power may leave any of them as the last.
const SECTOR: usize = 64;
/// But for a file's header, which is one sector of a real disk.
const HEADER: usize = 512;
const DISK_FULL: i32 = 28;
const IO_ERROR: i32 = 5;

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct SimClock {
    passed_us: AtomicI64,
    /// By how much it was set forth or back.
    set_by_ms: AtomicI64,
}

impl SimClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.passed_us.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the time of day forth, or back; the monotonic time stays.
    pub fn set_by(&self, ms: i64) {
        self.set_by_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        let passed_ms = self.passed_us.load(Ordering::SeqCst) / 1000;
        1_700_000_000_000 + passed_ms + self.set_by_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.passed_us.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// Random numbers from a seed.
#[derive(Debug)]
pub struct SimRandom(Mutex<ChaCha8Rng>);

impl SimRandom {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

/// Files in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct SimFiles(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    random: ChaCha8Rng,
    /// Grows with each loss of power: handles of an earlier life fail.
    life: u64,
    capacity: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// What the operating system shows.
    names: BTreeMap<PathBuf, u64>,
    /// What is on stable storage.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since, in order.
    name_changes: Vec<(PathBuf, Option<u64>)>,
    syncs: u64,
    removals: u64,
    fail_sync_at: Option<u64>,
    fail_writes: bool,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Disk {
    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes
            .iter()
            .filter(|(inode, _)| named.contains(inode))
            .map(|(_, inode)| inode.now.len() as u64)
            .sum()
    }

    fn rename(&mut self, path: &Path, inode: Option<u64>) {
        match inode {
            Some(inode) => self.names.insert(path.to_owned(), inode),
            None => self.names.remove(path),
        };
        self.name_changes.push((path.to_owned(), inode));
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl SimFiles {
    /// An empty disk of this many bytes.
    pub fn new(seed: u64, capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            random: ChaCha8Rng::seed_from_u64(seed),
            life: 0,
            capacity,
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            syncs: 0,
            removals: 0,
            fail_sync_at: None,
            fail_writes: false,
        })))
    }

    /// An [`Env`] over these files, with a clock and random numbers of its own.
    pub fn env(&self, seed: u64) -> (Env, Arc<SimClock>) {
        let clock = Arc::new(SimClock::default());
        let env = Env {
            clock: clock.clone(),
            random: Arc::new(SimRandom::new(seed)),
            files: Arc::new(self.clone()),
        };
        (env, clock)
    }

    /// Power is lost: of what was not synced in a file, each sector is kept or lost on its own, or all before some place
    /// is kept and nothing behind it; of the directories' changes the first few are kept. Open handles fail from now on.
    pub fn lose_power(&self) {
        let mut disk = self.0.lock();
        let disk = &mut *disk;
        disk.life += 1;
        disk.fail_sync_at = None;
        disk.fail_writes = false;
        let kept = disk.random.random_range(0..=disk.name_changes.len());
        for (path, inode) in disk.name_changes.drain(..).take(kept) {
            match inode {
                Some(inode) => disk.durable_names.insert(path, inode),
                None => disk.durable_names.remove(&path),
            };
        }
        disk.names = disk.durable_names.clone();
        let named: BTreeSet<u64> = disk.names.values().copied().collect();
        disk.inodes.retain(|inode, _| named.contains(inode));
        for inode in disk.inodes.values_mut() {
            let mut after = inode.durable.clone();
            let dirty = std::mem::take(&mut inode.dirty);
            let in_order = disk.random.random_bool(0.7);
            let cut = disk.random.random_range(0..=dirty.len());
            if in_order || disk.random.random_bool(0.5) {
                after.resize(inode.now.len(), 0);
            }
            let header = disk.random.random_bool(0.5);
            for (number, sector) in dirty.into_iter().enumerate() {
                let start = sector * SECTOR;
                let keep = if start < HEADER {
                    header
                } else if in_order {
                    number < cut
                } else {
                    disk.random.random_bool(0.5)
                };
                let end = (start + SECTOR).min(inode.now.len()).min(after.len());
                if keep
                    && let (Some(to), Some(from)) =
                        (after.get_mut(start..end), inode.now.get(start..end))
                {
                    to.copy_from_slice(from);
                }
            }
            inode.now.clone_from(&after);
            inode.durable = after;
        }
    }

    /// The process dies, the operating system lives: nothing is lost, open handles fail from now on.
    pub fn kill_process(&self) {
        self.0.lock().life += 1;
    }

    /// The n-th sync from now on fails with EIO (0: the next one).
    pub fn fail_sync(&self, after: u64) {
        let mut disk = self.0.lock();
        disk.fail_sync_at = Some(disk.syncs + after);
    }

    /// From now on writes fail with EIO, or do not.
    pub fn fail_writes(&self, fail: bool) {
        self.0.lock().fail_writes = fail;
    }

    /// Gives the disk another size.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Gives the disk a size that leaves this many bytes free.
    pub fn leave_free(&self, bytes: u64) {
        let mut disk = self.0.lock();
        disk.capacity = disk.used().saturating_add(bytes);
    }

    /// How often anything was synced.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// How often a file was removed.
    pub fn removals(&self) -> u64 {
        self.0.lock().removals
    }

    /// Flips bits of a byte, on stable storage too.
    pub fn damage(&self, path: &Path, position: usize, bits: u8) {
        let mut disk = self.0.lock();
        let Some(inode) = disk.names.get(path).copied() else {
            return;
        };
        if let Some(inode) = disk.inodes.get_mut(&inode) {
            for bytes in [&mut inode.now, &mut inode.durable] {
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= bits;
                }
            }
        }
    }

    /// A copy of the disk as the operating system shows it, everything synced.
    pub fn image(&self, seed: u64) -> Self {
        let disk = self.0.lock();
        let copy = Self::new(seed, disk.capacity);
        {
            let mut to = copy.0.lock();
            to.names = disk.names.clone();
            to.durable_names = disk.names.clone();
            to.next_inode = disk.next_inode;
            to.inodes = disk.inodes.clone();
            for inode in to.inodes.values_mut() {
                inode.durable.clone_from(&inode.now);
                inode.dirty.clear();
            }
        }
        copy
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Disk, &mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::from_raw_os_error(IO_ERROR));
        }
        // Taken out while it is worked on; a file without a name lives on in its handles.
        let mut inode = disk.inodes.remove(&self.inode).unwrap_or_default();
        let done = work(&mut disk, &mut inode);
        disk.inodes.insert(self.inode, inode);
        done
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|_, inode| {
            let start = usize::try_from(position)
                .unwrap_or(usize::MAX)
                .min(inode.now.len());
            let end = start.saturating_add(buffer.len()).min(inode.now.len());
            let count = end - start;
            if let (Some(to), Some(from)) = (buffer.get_mut(..count), inode.now.get(start..end)) {
                to.copy_from_slice(from);
            }
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut disk_used = 0;
        {
            let disk = self.disk.lock();
            if disk.capacity < u64::MAX {
                disk_used = disk.used();
            }
        }
        self.with(|disk, inode| {
            if disk.fail_writes {
                return Err(io::Error::from_raw_os_error(IO_ERROR));
            }
            let start = usize::try_from(position).map_err(io::Error::other)?;
            let end = start + bytes.len();
            let growth = end.saturating_sub(inode.now.len()) as u64;
            if growth > 0 && disk_used + growth > disk.capacity {
                return Err(io::Error::from_raw_os_error(DISK_FULL));
            }
            if end > inode.now.len() {
                inode.now.resize(end, 0);
            }
            if let Some(to) = inode.now.get_mut(start..end) {
                to.copy_from_slice(bytes);
            }
            inode.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk, inode| {
            let number = disk.syncs;
            disk.syncs += 1;
            if disk.fail_sync_at == Some(number) {
                // As Linux does: the pages count as clean from now on, and are lost.
                inode.dirty.clear();
                return Err(io::Error::from_raw_os_error(IO_ERROR));
            }
            inode.durable.resize(inode.now.len(), 0);
            for sector in std::mem::take(&mut inode.dirty) {
                let start = sector * SECTOR;
                let end = (start + SECTOR).min(inode.now.len());
                if let (Some(to), Some(from)) =
                    (inode.durable.get_mut(start..end), inode.now.get(start..end))
                {
                    to.copy_from_slice(from);
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.now.len() as u64))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.with(|_, inode| {
            let old = inode.now.len();
            inode.now.resize(length, 0);
            let (from, to) = (old.min(length) / SECTOR, old.max(length).div_ceil(SECTOR));
            inode.dirty.extend(from..to);
            Ok(())
        })
    }
}

impl Files for SimFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        {
            let mut disk = self.0.lock();
            if !disk.names.contains_key(path) {
                let inode = disk.next_inode;
                disk.next_inode += 1;
                disk.inodes.insert(inode, Inode::default());
                disk.rename(path, Some(inode));
            }
        }
        self.open_read(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let disk = self.0.lock();
        let inode = disk.names.get(path).copied().ok_or_else(|| missing(path))?;
        let life = disk.life;
        Ok(Arc::new(SimFile {
            disk: self.0.clone(),
            inode,
            life,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        let inode = disk.names.get(from).copied().ok_or_else(|| missing(from))?;
        disk.rename(to, Some(inode));
        disk.rename(from, None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if !disk.names.contains_key(path) {
            return Err(missing(path));
        }
        disk.rename(path, None);
        disk.removals += 1;
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.syncs += 1;
        let changes = std::mem::take(&mut disk.name_changes);
        for (name, inode) in changes {
            if name.parent() != Some(path) {
                disk.name_changes.push((name, inode));
                continue;
            }
            match inode {
                Some(inode) => disk.durable_names.insert(name, inode),
                None => disk.durable_names.remove(&name),
            };
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let disk = self.0.lock();
        Ok(disk
            .names
            .keys()
            .filter(|name| name.parent() == Some(path))
            .cloned()
            .collect())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        let disk = self.0.lock();
        Ok(disk.capacity.saturating_sub(disk.used()))
    }
}
