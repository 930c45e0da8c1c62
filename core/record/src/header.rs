//! The 61-byte header of a v2 record batch.
//!
//! Layout, big endian: base offset (8), length (4), partition leader epoch (4), magic (1), CRC-32C (4), and then, covered
//! by the CRC: attributes (2), last offset delta (4), base timestamp (8), max timestamp (8), producer id (8), producer
//! epoch (2), base sequence (4), record count (4). The length counts what follows it.

use crate::{BatchError, Compression};
use bytes::{Buf, BufMut};

/// Size of a batch header.
pub const HEADER_BYTES: usize = 61;
/// Size of the header's part that the CRC does not cover, the CRC included.
pub const PREFIX_BYTES: usize = 21;
/// Size of base offset and length, which the length field does not count.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// The only message format there is since Kafka 4.
pub const MAGIC: i8 = 2;
/// No producer id: the batch is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// No producer epoch.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// No sequence.
pub const NO_SEQUENCE: i32 = -1;
/// No leader epoch.
pub const NO_LEADER_EPOCH: i32 = -1;
/// No timestamp.
pub const NO_TIMESTAMP: i64 = -1;

/// What a batch's timestamps mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// Each record carries the time its producer gave it.
    #[default]
    CreateTime,
    /// Every record has the batch's max timestamp, set by the broker.
    LogAppendTime,
}

/// The attributes of a batch. Bits without a meaning are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`] for the ids 5 to 7.
    #[inline]
    pub fn compression(self) -> Result<Compression, BatchError> {
        Compression::from_id((self.0 & Self::COMPRESSION) as u8)
    }

    /// What the timestamps mean.
    #[inline]
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the records are markers for clients rather than messages for users.
    #[inline]
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which tombstones may go (KIP-534).
    #[inline]
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same with another compression.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !Self::COMPRESSION | i16::from(compression.id()))
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with_bit(
            Self::LOG_APPEND_TIME,
            timestamp_type == TimestampType::LogAppendTime,
        )
    }

    /// The same, transactional or not.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Self {
        self.with_bit(Self::TRANSACTIONAL, transactional)
    }

    /// The same, control batch or not.
    #[must_use]
    pub fn with_control(self, control: bool) -> Self {
        self.with_bit(Self::CONTROL, control)
    }

    fn with_bit(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// A batch's header, every field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchHeader {
    /// Offset of the first record, or of the first that was there before compaction.
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub length: i32,
    /// Epoch of the partition's leader when the batch was appended.
    pub leader_epoch: i32,
    /// Message format: [`MAGIC`].
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression, timestamp type and flags.
    pub attributes: Attributes,
    /// Offset of the last record relative to the base offset.
    pub last_offset_delta: i32,
    /// Unix milliseconds that the records' timestamp deltas count from.
    pub base_timestamp: i64,
    /// The largest timestamp of the batch, in Unix milliseconds.
    pub max_timestamp: i64,
    /// The producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// The producer's epoch, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// Sequence of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header without judging it.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut input = &bytes[..];
        Self {
            base_offset: input.get_i64(),
            length: input.get_i32(),
            leader_epoch: input.get_i32(),
            magic: input.get_i8(),
            crc: input.get_u32(),
            attributes: Attributes(input.get_i16()),
            last_offset_delta: input.get_i32(),
            base_timestamp: input.get_i64(),
            max_timestamp: input.get_i64(),
            producer_id: input.get_i64(),
            producer_epoch: input.get_i16(),
            base_sequence: input.get_i32(),
            record_count: input.get_i32(),
        }
    }

    /// Reads and frames the header of the batch that `bytes` begins with. The batch itself need not be there, its
    /// header must.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Length`], [`BatchError::OldMagic`], [`BatchError::UnknownMagic`].
    pub fn peek(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic lies at the same place in all formats, and old message sets can be shorter than a v2 header.
        match bytes.get(16).map(|magic| *magic as i8) {
            Some(MAGIC) => {}
            Some(magic @ (0 | 1)) => return Err(BatchError::OldMagic(magic)),
            Some(magic) => return Err(BatchError::UnknownMagic(magic)),
            None => return Err(Self::truncated(bytes)),
        }
        let header = bytes
            .first_chunk()
            .map(Self::decode)
            .ok_or_else(|| Self::truncated(bytes))?;
        if header.length < (HEADER_BYTES - LENGTH_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::Length(header.length));
        }
        Ok(header)
    }

    fn truncated(bytes: &[u8]) -> BatchError {
        BatchError::Truncated {
            needed: HEADER_BYTES,
            available: bytes.len(),
        }
    }

    /// The header as it goes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut output = &mut bytes[..];
        output.put_i64(self.base_offset);
        output.put_i32(self.length);
        output.put_i32(self.leader_epoch);
        output.put_i8(self.magic);
        output.put_u32(self.crc);
        output.put_i16(self.attributes.0);
        output.put_i32(self.last_offset_delta);
        output.put_i64(self.base_timestamp);
        output.put_i64(self.max_timestamp);
        output.put_i64(self.producer_id);
        output.put_i16(self.producer_epoch);
        output.put_i32(self.base_sequence);
        output.put_i32(self.record_count);
        bytes
    }

    /// The header's first 21 bytes: all that assigning an offset changes.
    #[must_use]
    pub fn encode_prefix(&self) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&self.encode()[..PREFIX_BYTES]);
        prefix
    }

    /// Size of the whole batch, header included. The header must have passed [`BatchHeader::peek`].
    #[inline]
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        LENGTH_OVERHEAD_BYTES + usize::try_from(self.length).unwrap_or(0)
    }

    /// Offset of the batch's last record.
    #[inline]
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .wrapping_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    #[inline]
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    #[inline]
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        (last & i64::from(i32::MAX)) as i32
    }

    /// The CRC that goes with this header and the section of records after it.
    #[must_use]
    pub fn compute_crc(&self, records: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.encode()[PREFIX_BYTES..]), records)
    }
}
