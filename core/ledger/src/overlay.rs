//! Files that can be looked at as if they could be changed: what is written stays in memory.

use crate::env::{Env, File, Files};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes kept together.
const BLOCK: u64 = 4096;

impl Env {
    /// A view of this one whose files are only read: whatever is written, renamed or removed is so in memory alone.
    pub fn overlaid(&self) -> Self {
        Self {
            files: Arc::new(Overlay {
                below: self.files.clone(),
                names: Mutex::default(),
            }),
            ..self.clone()
        }
    }
}

#[derive(Debug)]
struct Overlay {
    below: Arc<dyn Files>,
    /// Files that differ from those below; `None`: removed.
    names: Mutex<BTreeMap<PathBuf, Option<Arc<OverlaidFile>>>>,
}

#[derive(Debug)]
struct OverlaidFile {
    below: Option<Arc<dyn File>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    length: u64,
    /// What is below counts up to here.
    below_until: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Overlay {
    fn find(&self, path: &Path) -> io::Result<Arc<OverlaidFile>> {
        let mut names = self.names.lock();
        match names.get(path) {
            Some(Some(file)) => Ok(file.clone()),
            Some(None) => Err(not_found()),
            None => {
                let below = self.below.open_read(path)?;
                let length = below.len()?;
                let file = Arc::new(OverlaidFile {
                    below: Some(below),
                    inner: Mutex::new(Inner {
                        length,
                        below_until: length,
                        ..Inner::default()
                    }),
                });
                names.insert(path.to_owned(), Some(file.clone()));
                Ok(file)
            }
        }
    }
}

impl Files for Overlay {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match self.find(path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = Arc::new(OverlaidFile {
                    below: None,
                    inner: Mutex::default(),
                });
                let mut names = self.names.lock();
                names.insert(path.to_owned(), Some(file.clone()));
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.find(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find(from)?;
        let mut names = self.names.lock();
        names.insert(from.to_owned(), None);
        names.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.names.lock().insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = match self.below.list(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found?,
        };
        let names = self.names.lock();
        found.retain(|path| !matches!(names.get(path), Some(None)));
        let here = names.iter().filter(|(name, file)| {
            file.is_some() && name.parent() == Some(path) && !found.contains(name)
        });
        let here: Vec<PathBuf> = here.map(|(name, _)| name.clone()).collect();
        found.extend(here);
        found.sort_unstable();
        Ok(found)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        self.below.available(path)
    }
}

impl OverlaidFile {
    /// A block's bytes, as they are now.
    fn block(&self, inner: &Inner, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(block) = inner.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or(4096)];
        let start = number * BLOCK;
        let there = inner.below_until.saturating_sub(start).min(BLOCK);
        if let Some(below) = &self.below
            && let Some(part) = block.get_mut(..usize::try_from(there).unwrap_or(0))
        {
            below.read_at(part, start)?;
        }
        Ok(block.into())
    }
}

impl File for OverlaidFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let inner = self.inner.lock();
        let there = inner
            .length
            .saturating_sub(position)
            .min(buffer.len() as u64);
        let there = usize::try_from(there).unwrap_or(buffer.len());
        let Some(buffer) = buffer.get_mut(..there) else {
            return Ok(0);
        };
        // What nobody wrote to is read at once.
        let end = position + there as u64;
        let touched = inner.blocks.range(position / BLOCK..=end / BLOCK);
        if touched.count() == 0
            && end <= inner.below_until
            && let Some(below) = &self.below
        {
            return below.read_at(buffer, position);
        }
        let mut done = 0;
        while done < there {
            let at = position + done as u64;
            let block = self.block(&inner, at / BLOCK)?;
            let within = usize::try_from(at % BLOCK).unwrap_or(0);
            let rest = block.get(within..).unwrap_or_default();
            let count = rest.len().min(there - done);
            if let (Some(to), Some(from)) = (buffer.get_mut(done..done + count), rest.get(..count))
            {
                to.copy_from_slice(from);
            }
            done += count;
        }
        Ok(there)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let mut block = self.block(&inner, at / BLOCK)?;
            let within = usize::try_from(at % BLOCK).unwrap_or(0);
            let count = (block.len() - within).min(bytes.len() - done);
            if let (Some(to), Some(from)) = (
                block.get_mut(within..within + count),
                bytes.get(done..done + count),
            ) {
                to.copy_from_slice(from);
            }
            inner.blocks.insert(at / BLOCK, block);
            done += count;
        }
        inner.length = inner.length.max(position + bytes.len() as u64);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.lock().length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if length < inner.length {
            inner.below_until = inner.below_until.min(length);
            let kept = length.div_ceil(BLOCK);
            inner.blocks.split_off(&kept);
            // What is cut off does not come back when the file grows again.
            let within = usize::try_from(length % BLOCK).unwrap_or(0);
            if let Some(block) = inner.blocks.get_mut(&(length / BLOCK)) {
                block.get_mut(within..).unwrap_or_default().fill(0);
            }
        }
        inner.length = length;
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        // Zeros need no memory.
        self.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use crate::env::Env;
    use crate::sim::SimFiles;
    use std::path::Path;

    #[test]
    fn what_is_written_is_there_and_nothing_below_changes() -> std::io::Result<()> {
        let files = SimFiles::new(1, 1 << 20);
        let env: Env = files.env(1).0;
        let dir = Path::new("/data");
        env.files.create_dir(dir)?;
        env.files.open(&dir.join("a"))?.write_at(&[7; 10_000], 0)?;
        let over = env.overlaid();
        let file = over.files.open(&dir.join("a"))?;
        file.write_at(b"here", 5_000)?;
        file.set_len(9_000)?;
        file.set_len(9_500)?;
        let mut bytes = vec![1; 10_000];
        assert_eq!(file.read_at(&mut bytes, 0)?, 9_500);
        assert_eq!(
            (&bytes[4_999..5_005], bytes[9_001]),
            (&b"\x07here\x07"[..], 0)
        );
        over.files.rename(&dir.join("a"), &dir.join("b"))?;
        over.files.open(&dir.join("c"))?.allocate(1 << 30)?;
        assert_eq!(over.files.list(dir)?, [dir.join("b"), dir.join("c")]);
        over.files.remove(&dir.join("b"))?;
        assert!(over.files.open_read(&dir.join("b")).is_err());
        assert_eq!(env.files.list(dir)?, [dir.join("a")]);
        let below = env.files.open_read(&dir.join("a"))?;
        assert_eq!(below.read_at(&mut bytes, 0)?, 10_000);
        assert!(bytes.iter().all(|byte| *byte == 7));
        Ok(())
    }
}
