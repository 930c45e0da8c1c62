//! Where everything in a sealed file lies.

use super::{Cursor, ENTRY, Entry, SEAL_MAGIC, TRAILER};
use crate::frame::{Lsn, ShardId};

/// A footer: where everything in a sealed file lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footer {
    /// The file's first frame; 0 if it has none.
    pub first_lsn: Lsn,
    /// Its last frame.
    pub last_lsn: Lsn,
    /// The sequences of each shard: first and last.
    pub sequences: Vec<(ShardId, u64, u64)>,
    /// Sorted by partition and base offset.
    pub entries: Vec<Entry>,
    /// Indexes into `entries`, by shard and base sequence.
    pub order: Vec<u32>,
}

impl Footer {
    /// A footer over these entries.
    pub fn new(first_lsn: Lsn, last_lsn: Lsn, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| {
            (entry.partition, entry.base_offset, entry.base_sequence)
        });
        let mut order: Vec<u32> = (0..u32::try_from(entries.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by_key(|at| {
            entries
                .get(*at as usize)
                .map(|entry| (entry.shard, entry.base_sequence))
        });
        let sequences = sequence_ranges(&entries);
        Self {
            first_lsn,
            last_lsn,
            sequences,
            entries,
            order,
        }
    }

    /// Bytes of a footer of so many entries, with its trailer, at the most.
    pub fn bytes_max(entries: usize) -> u64 {
        (512 + entries * (ENTRY + 4)) as u64
    }

    /// The footer and its trailer.
    pub fn encode(&self, position: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.entries.len() * (ENTRY + 4));
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.first_lsn.to_le_bytes());
        out.extend_from_slice(&self.last_lsn.to_le_bytes());
        let shards = u16::try_from(self.sequences.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&shards.to_le_bytes());
        for (shard, first, last) in &self.sequences {
            out.extend_from_slice(&shard.0.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        for entry in &self.entries {
            out.extend_from_slice(&entry.partition.to_le_bytes());
            out.extend_from_slice(&entry.base_offset.to_le_bytes());
            out.extend_from_slice(&entry.base_sequence.to_le_bytes());
            out.extend_from_slice(&entry.last_delta.to_le_bytes());
            out.extend_from_slice(&entry.max_timestamp.to_le_bytes());
            out.extend_from_slice(&entry.shard.0.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.length.to_le_bytes());
        }
        for at in &self.order {
            out.extend_from_slice(&at.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        let length = out.len() as u64;
        let start = out.len();
        out.extend_from_slice(SEAL_MAGIC);
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        let crc = out.get(start..).map_or(0, crc32c::crc32c);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a trailer: the footer's position and length.
    pub fn locate(trailer: &[u8]) -> Option<(u64, u64)> {
        let mut cursor = Cursor(trailer);
        if cursor.take(8)? != SEAL_MAGIC {
            return None;
        }
        let position = cursor.u64()?;
        let length = cursor.u64()?;
        let crc = cursor.u32()?;
        (crc == crc32c::crc32c(trailer.get(..TRAILER - 4)?)).then_some((position, length))
    }

    /// Reads a footer; `None` if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if u32::from_le_bytes(crc.try_into().ok()?) != crc32c::crc32c(body) {
            return None;
        }
        let mut cursor = Cursor(body);
        let count = cursor.u32()? as usize;
        let first_lsn = cursor.u64()?;
        let last_lsn = cursor.u64()?;
        let shards = cursor.u16()?;
        let mut sequences = Vec::with_capacity(usize::from(shards));
        for _ in 0..shards {
            sequences.push((ShardId(cursor.u16()?), cursor.u64()?, cursor.u64()?));
        }
        if cursor.0.len() != count.checked_mul(ENTRY + 4)? {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry {
                partition: cursor.u64()?,
                base_offset: cursor.i64()?,
                base_sequence: cursor.u64()?,
                last_delta: cursor.u32()?,
                max_timestamp: cursor.i64()?,
                shard: ShardId(cursor.u16()?),
                position: cursor.u32()?,
                length: cursor.u32()?,
            });
        }
        let mut order = Vec::with_capacity(count);
        for _ in 0..count {
            order.push(cursor.u32()?);
        }
        Some(Self {
            first_lsn,
            last_lsn,
            sequences,
            entries,
            order,
        })
    }
}

/// The sequences of each shard among these entries.
pub fn sequence_ranges(entries: &[Entry]) -> Vec<(ShardId, u64, u64)> {
    let mut ranges = std::collections::BTreeMap::new();
    for entry in entries {
        let last = entry.base_sequence + u64::from(entry.last_delta);
        let range = ranges
            .entry(entry.shard)
            .or_insert((entry.base_sequence, last));
        range.0 = range.0.min(entry.base_sequence);
        range.1 = range.1.max(last);
    }
    ranges
        .into_iter()
        .map(|(shard, (first, last))| (shard, first, last))
        .collect()
}
