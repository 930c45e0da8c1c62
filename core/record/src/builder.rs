//! Building batches: records are written straight behind room for the header, which is filled in at the end.

use crate::header::{
    HEADER_BYTES, MAGIC, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
};
use crate::{
    Attributes, BatchError, BatchHeader, Compression, Header, RecordBatch, TimestampType,
    compression, varint,
};

/// What a batch says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// How the records are compressed.
    pub compression: Compression,
    /// The compression's level; none is its default.
    pub compression_level: Option<i32>,
    /// Whose clock the timestamps are of.
    pub timestamp_type: TimestampType,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the records are markers for clients rather than messages for users.
    pub control: bool,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Epoch of the partition's leader.
    pub leader_epoch: i32,
    /// The producer.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// The most records the batch may hold.
    pub records_max: u32,
    /// The most bytes the batch may take before compression. A first record is taken whatever its size.
    pub bytes_max: usize,
}

impl Default for BatchOptions {
    /// Uncompressed, CreateTime, no producer, offset 0, bounded by the format only.
    fn default() -> Self {
        Self {
            compression: Compression::None,
            compression_level: None,
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            base_offset: 0,
            leader_epoch: NO_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            records_max: i32::MAX as u32,
            bytes_max: BATCH_BYTES_MAX,
        }
    }
}

/// The largest batch the format can say, header included.
pub const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// A record to append: key, value and headers are copied into the batch.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a, H> {
    /// Unix milliseconds.
    pub timestamp: i64,
    /// The key; null differs from empty.
    pub key: Option<&'a [u8]>,
    /// The value; null differs from empty.
    pub value: Option<Pieces<'a>>,
    /// The headers in their order. They are gone over twice, to measure and to write them.
    pub headers: H,
}

/// A value that may lie in several pieces, as AMQP's body frames bring it.
#[derive(Debug, Clone, Copy)]
pub enum Pieces<'a> {
    /// All in one.
    One(&'a [u8]),
    /// One after the other.
    Many(&'a [bytes::Bytes]),
}

/// Where an appended record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The record's offset relative to the base offset.
    pub offset_delta: i32,
    /// Where the record's body (what follows its length) begins, counted from the batch's first byte. It holds for an
    /// uncompressed batch.
    pub body_position: u32,
    /// Size of the body in bytes.
    pub body_bytes: u32,
}

impl Appended {
    /// The body's position and size.
    pub fn range(self) -> (u32, u32) {
        (self.body_position, self.body_bytes)
    }
}

/// Gathers records into one batch.
///
/// ```
/// use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
/// let mut builder = BatchBuilder::new(BatchOptions::default());
/// builder.append(&NewRecord {
///     timestamp: 1_700_000_000_000,
///     key: Some(b"eu/created"),
///     value: Some(Pieces::One(b"hello")),
///     headers: [Header { key: b"type", value: None }],
/// })?;
/// let batch = builder.finish()?;
/// assert_eq!(batch.header().record_count, 1);
/// # Ok::<(), omnilog_record::BatchError>(())
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records; nothing before the first record.
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl<'a> Pieces<'a> {
    fn len(self) -> usize {
        match self {
            Self::One(piece) => piece.len(),
            Self::Many(pieces) => pieces.iter().map(bytes::Bytes::len).sum(),
        }
    }

    fn write(self, output: &mut Vec<u8>) {
        match self {
            Self::One(piece) => output.extend_from_slice(piece),
            Self::Many(pieces) => pieces
                .iter()
                .for_each(|piece| output.extend_from_slice(piece)),
        }
    }
}

impl<'a> From<&'a [u8]> for Pieces<'a> {
    fn from(piece: &'a [u8]) -> Self {
        Self::One(piece)
    }
}

impl BatchBuilder {
    /// An empty batch. Nothing is allocated before the first record, and for a batch of one record only once.
    #[must_use]
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            bytes: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
        }
    }

    /// An empty batch with room for `bytes`, header included, capped at the batch's limit.
    #[must_use]
    pub fn with_capacity(options: BatchOptions, bytes: usize) -> Self {
        let mut builder = Self::new(options);
        builder
            .bytes
            .reserve_exact(bytes.min(builder.options.bytes_max));
        builder
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch so far, before compression, header included.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len().max(HEADER_BYTES)
    }

    /// Whether not even a small record fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count >= self.options.records_max
            || self.count > 0
                && self.bytes.len() + crate::records::RECORD_BYTES_MIN > self.options.bytes_max
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`BatchError::Full`] if the record belongs into the next batch, [`BatchError::TooLarge`] if it fits in none.
    /// The batch is then as it was.
    pub fn append<'h, H>(&mut self, record: &NewRecord<'_, H>) -> Result<Appended, BatchError>
    where
        H: IntoIterator<Item = Header<'h>> + Clone,
    {
        if self.count >= self.options.records_max {
            return Err(BatchError::Full);
        }
        let base_timestamp = if self.count == 0 {
            record.timestamp
        } else {
            self.base_timestamp
        };
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let offset_delta = self.count as i32;

        let mut header_count = 0_usize;
        let mut body_bytes = 1
            + varint::varlong_bytes(timestamp_delta)
            + varint::varint_bytes(offset_delta)
            + nullable_bytes(record.key.map(<[u8]>::len))
            + nullable_bytes(record.value.map(Pieces::len));
        for header in record.headers.clone() {
            header_count += 1;
            body_bytes += nullable_bytes(Some(header.key.len()))
                + nullable_bytes(header.value.map(<[u8]>::len));
        }
        body_bytes += length_bytes(header_count);
        let record_bytes = length_bytes(body_bytes) + body_bytes;
        if HEADER_BYTES + record_bytes > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge(record_bytes));
        }
        let bytes_max = self.options.bytes_max.min(BATCH_BYTES_MAX);
        if self.count > 0 && self.bytes.len() + record_bytes > bytes_max {
            return Err(BatchError::Full);
        }

        if self.count == 0 {
            self.bytes.reserve_exact(HEADER_BYTES + record_bytes);
            self.bytes.resize(HEADER_BYTES, 0);
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        } else {
            self.bytes.reserve(record_bytes);
            self.max_timestamp = self.max_timestamp.max(record.timestamp);
        }
        let output = &mut self.bytes;
        put_length(output, body_bytes);
        let body_position = output.len();
        output.push(0);
        varint::put_varlong(output, timestamp_delta);
        varint::put_varint(output, offset_delta);
        put_nullable(output, record.key);
        match record.value {
            None => output.push(NULL),
            Some(value) => {
                put_length(output, value.len());
                value.write(output);
            }
        }
        put_length(output, header_count);
        for header in record.headers.clone() {
            put_nullable(output, Some(header.key));
            put_nullable(output, header.value);
        }
        debug_assert_eq!(output.len(), body_position + body_bytes);
        self.count += 1;
        Ok(Appended {
            offset_delta,
            body_position: body_position as u32,
            body_bytes: body_bytes as u32,
        })
    }

    /// Completes the batch.
    ///
    /// # Errors
    /// [`BatchError::NoRecords`]; [`BatchError::Compressed`] if the compression library fails;
    /// [`BatchError::TooLarge`] if compression made it larger than the format can say.
    pub fn finish(mut self) -> Result<RecordBatch, BatchError> {
        if self.count == 0 {
            return Err(BatchError::NoRecords);
        }
        // A batch may be kept for long, and keeps all its room.
        if self.bytes.capacity() / 2 > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        let options = &self.options;
        let header = BatchHeader {
            base_offset: options.base_offset,
            length: 0,
            leader_epoch: options.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default()
                .with_compression(options.compression)
                .with_timestamp_type(options.timestamp_type)
                .with_transactional(options.transactional)
                .with_control(options.control),
            last_offset_delta: self.count as i32 - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count as i32,
        };
        if options.compression == Compression::None {
            return Ok(RecordBatch::from_parts(header, self.bytes));
        }
        compress_section(
            header,
            &self.bytes[HEADER_BYTES..],
            options.compression_level,
        )
    }
}

/// Completes a batch of which `section` holds the uncompressed records, compressed as the header says.
pub(crate) fn compress_section(
    header: BatchHeader,
    section: &[u8],
    level: Option<i32>,
) -> Result<RecordBatch, BatchError> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + section.len() / 2);
    bytes.resize(HEADER_BYTES, 0);
    compression::compress(header.attributes.compression()?, level, section, &mut bytes)?;
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge(bytes.len()));
    }
    Ok(RecordBatch::from_parts(header, bytes))
}

/// The varint of -1.
const NULL: u8 = 1;

fn length_bytes(length: usize) -> usize {
    varint::unsigned_bytes((length as u64) << 1)
}

fn nullable_bytes(length: Option<usize>) -> usize {
    length.map_or(1, |length| length_bytes(length) + length)
}

fn put_length(output: &mut Vec<u8>, length: usize) {
    varint::put_unsigned(output, (length as u64) << 1);
}

fn put_nullable(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => output.push(NULL),
        Some(bytes) => {
            put_length(output, bytes.len());
            output.extend_from_slice(bytes);
        }
    }
}
