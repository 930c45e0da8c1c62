//! The manifest: which clustered files count, and which journal files do not any more. Replaced as a whole.

use crate::env::Env;
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"OMNICLUS";
const VERSION: u16 = 1;

/// What a manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The next file's number.
    pub(super) next: u32,
    pub(super) files: Vec<u32>,
    pub(super) replaced: Vec<u32>,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        for list in [&self.files, &self.replaced] {
            let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&count.to_le_bytes());
            for id in list {
                out.extend_from_slice(&id.to_le_bytes());
            }
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if u32::from_le_bytes(crc.try_into().ok()?) != crc32c::crc32c(body) {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?;
        let (version, rest) = rest.split_at_checked(2)?;
        if u16::from_le_bytes(version.try_into().ok()?) != VERSION {
            return None;
        }
        let mut numbers = rest.chunks_exact(4).map(|number| {
            number
                .try_into()
                .map_or(0, |number: [u8; 4]| u32::from_le_bytes(number))
        });
        let next = numbers.next()?;
        let mut list = || -> Option<Vec<u32>> {
            let count = numbers.next()?;
            (0..count).map(|_| numbers.next()).collect()
        };
        let (files, replaced) = (list()?, list()?);
        Some(Self {
            next,
            files,
            replaced,
        })
    }

    /// The one in this directory; an empty one if there is none.
    pub(super) fn read(env: &Env, dir: &Path) -> io::Result<Self> {
        let path = dir.join("manifest");
        let file = match env.files.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Self::decode(&bytes)
            .ok_or_else(|| super::damaged(&path, "is damaged, or of a later version"))
    }

    /// Writes it beside the one in this directory.
    pub(super) fn prepare(&self, env: &Env, dir: &Path) -> io::Result<()> {
        let file = env.files.open(&dir.join("manifest.new"))?;
        file.set_len(0)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()
    }

    /// Puts what was prepared in the place of the one in this directory. When that fails, either may count.
    pub(super) fn commit(env: &Env, dir: &Path) -> io::Result<()> {
        env.files
            .rename(&dir.join("manifest.new"), &dir.join("manifest"))?;
        env.files.sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    #[test]
    fn a_manifest_is_read_back_and_a_damaged_one_is_known() {
        let manifest = Manifest {
            next: 7,
            files: vec![1 << 31, 6 | 1 << 31],
            replaced: vec![3],
        };
        let mut bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        for at in 0..bytes.len() {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
            }
            assert_eq!(Manifest::decode(&bytes), None);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
            }
        }
    }
}
