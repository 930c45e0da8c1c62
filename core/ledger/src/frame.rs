//! What a journal stores: frames, each a decision and the record batches that go with it.

use bytes::Bytes;

/// A frame's number: journal-wide, from 1, without gaps.
pub type Lsn = u64;

/// A shard's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u16);

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file's number.
    pub file: u32,
    /// The section's first byte within it.
    pub position: u32,
    /// The section's bytes, header included.
    pub length: u32,
}

/// A record batch in a frame, and what its readers need to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The log that keeps it; 0: none, it is only held.
    pub partition: u64,
    /// The first record's offset in that log, or -1.
    pub base_offset: i64,
    /// The first record's sequence in its shard.
    pub base_sequence: u64,
    /// The last record's offset and sequence, relative to the first.
    pub last_delta: u32,
    /// The greatest record timestamp, Unix milliseconds.
    pub max_timestamp: i64,
    /// What is kept beside the batch.
    pub envelope: Bytes,
    /// The batch.
    pub batch: Bytes,
}

/// A frame to be written: one atomic decision.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Whose it is.
    pub shard: ShardId,
    /// The decision, opaque here.
    pub decision: &'a [u8],
    /// Its batches.
    pub sections: &'a [Section],
}
