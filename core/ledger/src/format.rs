//! The journal's bytes, version 1. All numbers are little-endian.
//!
//! ```text
//! file    := header zeros(to 512) group* [footer trailer]
//! header  := magic "OMNIJRNL" | version u16 | zero u16 | file u32 | epoch u32 | journal u128 | created_ms i64 | crc u32
//! group   := group-header frame* zeros(to a multiple of 512)
//! group-header := magic "GRUP" | length u32 | frames u32 | flags u32 | first_lsn u64 | durable_lsn u64 | crc u32
//! frame   := length u32 | crc u32 | lsn u64 | shard u16 | sections u16 | decision_length u32 | section* | decision
//! section := partition u64 | base_offset i64 | base_sequence u64 | last_delta u32 | max_timestamp i64
//!          | envelope_length u32 | batch_length u32 | envelope | batch
//! footer  := count u32 | first_lsn u64 | last_lsn u64 | shards u16 | (shard u16, first u64, last u64)*
//!          | entry* (sorted by partition, base_offset) | order u32* (entries by shard and base_sequence) | crc u32
//! entry   := partition u64 | base_offset i64 | base_sequence u64 | last_delta u32 | max_timestamp i64
//!          | shard u16 | position u32 | length u32
//! trailer := magic "OMNISEAL" | footer_position u64 | footer_length u64 | crc u32
//! ```
//!
//! A group's `length` counts its frames, without the padding. A frame's `length` counts what follows its CRC. The CRCs
//! of group headers and frames are CRC-32C seeded with the file's journal, number and epoch, so that what a recycled
//! file held before is never taken for its own. `durable_lsn` is the newest frame known to be on stable storage when
//! the group was written. Group flag 1 marks a clean stop.

mod footer;

pub use footer::{Footer, sequence_ranges};

use crate::frame::{Frame, Lsn, Place, Section, ShardId};
use bytes::Bytes;

/// The version that this code writes.
pub const VERSION: u16 = 1;
/// Groups begin at multiples of this: a disk's smallest unit of writing.
pub const SECTOR: usize = 512;
/// Bytes of a group header.
pub const GROUP_HEADER: usize = 36;
/// Bytes of a frame before its sections.
pub const FRAME_HEADER: usize = 24;
/// Bytes of a section before its envelope.
pub const SECTION_HEADER: usize = 44;
/// Bytes of a trailer.
pub const TRAILER: usize = 28;
/// Group flag: the journal was closed cleanly after this group.
pub const FLAG_CLEAN: u32 = 1;

const FILE_MAGIC: &[u8; 8] = b"OMNIJRNL";
const GROUP_MAGIC: &[u8; 4] = b"GRUP";
const SEAL_MAGIC: &[u8; 8] = b"OMNISEAL";
const FILE_HEADER: usize = 48;
const ENTRY: usize = 46;

/// A file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The file's number.
    pub file: u32,
    /// The epoch in which it was begun.
    pub epoch: u32,
    /// The journal that it belongs to.
    pub journal: u128,
    /// When it was begun, Unix milliseconds.
    pub created_ms: i64,
}

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Bytes of its frames.
    pub length: u32,
    /// How many frames.
    pub frames: u32,
    /// See [`FLAG_CLEAN`].
    pub flags: u32,
    /// Its first frame's number (the next one's, if it has none).
    pub first_lsn: Lsn,
    /// The newest frame known durable when it was written.
    pub durable_lsn: Lsn,
}

/// A decoded frame; its decision and sections are slices of the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedFrame {
    /// Its number.
    pub lsn: Lsn,
    /// Whose it is.
    pub shard: ShardId,
    /// The decision.
    pub decision: Bytes,
    /// Its sections, and where each begins within the frame.
    pub sections: Vec<(Section, usize)>,
    /// Bytes that it takes.
    pub length: usize,
}

/// An entry of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The log that keeps it, or 0.
    pub partition: u64,
    /// Its first offset.
    pub base_offset: i64,
    /// Its first sequence.
    pub base_sequence: u64,
    /// Its last record, relative to the first.
    pub last_delta: u32,
    /// Its greatest timestamp.
    pub max_timestamp: i64,
    /// Whose it is.
    pub shard: ShardId,
    /// Where it lies in the file.
    pub position: u32,
    /// Bytes that it takes.
    pub length: u32,
}

impl Entry {
    /// The offset behind its last.
    pub fn end(&self) -> i64 {
        self.base_offset + i64::from(self.last_delta) + 1
    }

    /// Its place, in this file.
    pub fn place(&self, file: u32) -> Place {
        Place {
            file,
            position: self.position,
            length: self.length,
        }
    }
}

/// Reads numbers off a slice; `None` past its end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// The seed of a file's CRCs.
pub fn seed(header: &FileHeader) -> u32 {
    let crc = crc32c::crc32c(&header.journal.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &header.file.to_le_bytes());
    crc32c::crc32c_append(crc, &header.epoch.to_le_bytes())
}

/// Rounds up to a whole number of sectors.
pub fn padded(bytes: usize) -> usize {
    bytes.div_ceil(SECTOR) * SECTOR
}

impl FileHeader {
    /// Its bytes, padded to a sector.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR);
        out.extend_from_slice(FILE_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&self.file.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.journal.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.resize(SECTOR, 0);
        out
    }

    /// Reads it; `None` if these are not a header's bytes. `Err` is a version that this code does not know.
    pub fn decode(bytes: &[u8]) -> Option<Result<Self, u16>> {
        let mut cursor = Cursor(bytes);
        if cursor.take(8)? != FILE_MAGIC {
            return None;
        }
        let version = cursor.u16()?;
        cursor.u16()?;
        if version != VERSION {
            return Some(Err(version));
        }
        let file = cursor.u32()?;
        let epoch = cursor.u32()?;
        let journal = u128::from_le_bytes(cursor.take(16)?.try_into().ok()?);
        let created_ms = cursor.i64()?;
        let crc = cursor.u32()?;
        (crc == crc32c::crc32c(bytes.get(..FILE_HEADER - 4)?)).then_some(Ok(Self {
            file,
            epoch,
            journal,
            created_ms,
        }))
    }
}

impl GroupHeader {
    /// Writes it over the start of a group.
    pub fn encode(&self, seed: u32) -> [u8; GROUP_HEADER] {
        let mut out = [0; GROUP_HEADER];
        let mut bytes = Vec::with_capacity(GROUP_HEADER);
        bytes.extend_from_slice(GROUP_MAGIC);
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.frames.to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.first_lsn.to_le_bytes());
        bytes.extend_from_slice(&self.durable_lsn.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c_append(seed, &bytes).to_le_bytes());
        out.copy_from_slice(&bytes);
        out
    }

    /// Reads it; `None` if these are not a group header's bytes, of this file's life.
    pub fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        if cursor.take(4)? != GROUP_MAGIC {
            return None;
        }
        let length = cursor.u32()?;
        let frames = cursor.u32()?;
        let flags = cursor.u32()?;
        let first_lsn = cursor.u64()?;
        let durable_lsn = cursor.u64()?;
        let crc = cursor.u32()?;
        (crc == crc32c::crc32c_append(seed, bytes.get(..GROUP_HEADER - 4)?)).then_some(Self {
            length,
            frames,
            flags,
            first_lsn,
            durable_lsn,
        })
    }
}

/// Bytes that a frame takes.
pub fn frame_bytes(frame: &Frame<'_>) -> usize {
    let sections: usize = frame
        .sections
        .iter()
        .map(|section| SECTION_HEADER + section.envelope.len() + section.batch.len())
        .sum();
    FRAME_HEADER + sections + frame.decision.len()
}

/// Appends a frame; returns where each section begins within `out`, and its length. Sizes were checked before.
pub fn encode_frame(
    frame: &Frame<'_>,
    lsn: Lsn,
    seed: u32,
    out: &mut Vec<u8>,
) -> Vec<(usize, usize)> {
    let start = out.len();
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    out.reserve(frame_bytes(frame));
    out.extend_from_slice(&size(frame_bytes(frame) - 8));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&lsn.to_le_bytes());
    out.extend_from_slice(&frame.shard.0.to_le_bytes());
    let count = u16::try_from(frame.sections.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&size(frame.decision.len()));
    let mut places = Vec::with_capacity(frame.sections.len());
    for section in frame.sections {
        let at = out.len();
        encode_section(section, out);
        places.push((at, out.len() - at));
    }
    out.extend_from_slice(frame.decision);
    let crc = out
        .get(start + 8..)
        .map_or(0, |body| crc32c::crc32c_append(seed, body));
    if let Some(field) = out.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    places
}

/// Appends a section. Its size was checked before.
pub fn encode_section(section: &Section, out: &mut Vec<u8>) {
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&section.partition.to_le_bytes());
    out.extend_from_slice(&section.base_offset.to_le_bytes());
    out.extend_from_slice(&section.base_sequence.to_le_bytes());
    out.extend_from_slice(&section.last_delta.to_le_bytes());
    out.extend_from_slice(&section.max_timestamp.to_le_bytes());
    out.extend_from_slice(&size(section.envelope.len()));
    out.extend_from_slice(&size(section.batch.len()));
    out.extend_from_slice(&section.envelope);
    out.extend_from_slice(&section.batch);
}

/// Reads a frame at the start of these bytes; `None` if there is no whole, valid one.
pub fn decode_frame(bytes: &Bytes, seed: u32) -> Option<DecodedFrame> {
    let mut cursor = Cursor(bytes);
    let length = cursor.u32()? as usize + 8;
    let crc = cursor.u32()?;
    let body = bytes.get(8..length)?;
    if length < FRAME_HEADER || crc != crc32c::crc32c_append(seed, body) {
        return None;
    }
    let lsn = cursor.u64()?;
    let shard = ShardId(cursor.u16()?);
    let count = cursor.u16()?;
    let decision_length = cursor.u32()? as usize;
    let mut at = FRAME_HEADER;
    let mut sections = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let section = decode_section(&bytes.slice(at..length))?;
        let taken = SECTION_HEADER + section.envelope.len() + section.batch.len();
        sections.push((section, at));
        at += taken;
    }
    (at + decision_length == length).then(|| DecodedFrame {
        lsn,
        shard,
        decision: bytes.slice(at..length),
        sections,
        length,
    })
}

/// Reads a section at the start of these bytes. Its frame's CRC covers it; a section read alone has its batch's own.
pub fn decode_section(bytes: &Bytes) -> Option<Section> {
    let mut cursor = Cursor(bytes);
    let partition = cursor.u64()?;
    let base_offset = cursor.i64()?;
    let base_sequence = cursor.u64()?;
    let last_delta = cursor.u32()?;
    let max_timestamp = cursor.i64()?;
    let envelope_length = cursor.u32()? as usize;
    let batch_length = cursor.u32()? as usize;
    let envelope_end = SECTION_HEADER.checked_add(envelope_length)?;
    let end = envelope_end.checked_add(batch_length)?;
    (end <= bytes.len()).then(|| Section {
        partition,
        base_offset,
        base_sequence,
        last_delta,
        max_timestamp,
        envelope: bytes.slice(SECTION_HEADER..envelope_end),
        batch: bytes.slice(envelope_end..end),
    })
}
