//! The four compressions of record batches, each bounded: no expansion goes beyond the caller's cap, and no buffer is
//! sized by a number that a peer wrote.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use crate::BatchError;

/// How a batch's section of records is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the frames of Java's snappy library; bare snappy is read, too.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Every compression, in the order of the ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The compression with this id.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`] beyond 4.
    pub fn from_id(id: u8) -> Result<Self, BatchError> {
        Self::ALL
            .get(usize::from(id))
            .copied()
            .ok_or(BatchError::UnknownCompression(id))
    }

    /// The number that stands in the attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name in Kafka's configuration: `uncompressed` is the topic's spelling, `none` the producer's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Expands `section`.
///
/// # Errors
/// [`BatchError::Compressed`], [`BatchError::ExpandedTooLarge`].
pub fn decompress(
    compression: Compression,
    section: &[u8],
    expanded_bytes_max: usize,
) -> Result<Vec<u8>, BatchError> {
    match compression {
        Compression::None if section.len() > expanded_bytes_max => {
            Err(BatchError::ExpandedTooLarge {
                limit: expanded_bytes_max,
            })
        }
        Compression::None => Ok(section.to_vec()),
        Compression::Gzip => gzip::decompress(section, expanded_bytes_max),
        Compression::Snappy => snappy::decompress(section, expanded_bytes_max),
        Compression::Lz4 => lz4::decompress(section, expanded_bytes_max),
        Compression::Zstd => zstd::decompress(section, expanded_bytes_max),
    }
}

/// Appends `section`, compressed, to `output`. A level out of the compression's range is moved into it; snappy and LZ4
/// have no levels here.
///
/// # Errors
/// [`BatchError::Compressed`] if the library fails.
pub fn compress(
    compression: Compression,
    level: Option<i32>,
    section: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    match compression {
        Compression::None => {
            output.extend_from_slice(section);
            Ok(())
        }
        Compression::Gzip => gzip::compress(section, level, output),
        Compression::Snappy => snappy::compress(section, output),
        Compression::Lz4 => lz4::compress(section, output),
        Compression::Zstd => zstd::compress(section, level, output),
    }
}

/// The first room for an expansion: a usual ratio, and no more than the cap.
fn first_room(section: &[u8], expanded_bytes_max: usize) -> usize {
    section
        .len()
        .saturating_mul(4)
        .clamp(64, expanded_bytes_max.max(64))
}

#[cfg(test)]
mod tests;
