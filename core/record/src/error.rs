//! What can be wrong with a record batch, precise enough for every protocol to answer in its own terms.

use thiserror::Error;

/// A record batch that cannot be accepted, read or built, and why.
///
/// [`BatchError::kind`] groups the reasons as Kafka's error codes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the batch's header or its length field claim.
    #[error("batch is cut short: {needed} bytes needed, {available} there")]
    Truncated {
        /// Bytes the batch claims, or the least a batch has.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The length field is below the header's size or negative.
    #[error("batch length {0} is impossible")]
    Length(i32),
    /// Bytes follow where exactly one batch was expected.
    #[error("{0} bytes follow the batch")]
    TrailingBytes(usize),
    /// A message set of the formats before v2 (magic 0 or 1).
    #[error("message format v{0} is not supported")]
    OldMagic(i8),
    /// A magic byte that no message format has.
    #[error("magic {0} is unknown")]
    UnknownMagic(i8),
    /// The checksum does not match the content.
    #[error("CRC-32C is {actual:#010x}, the batch says {stated:#010x}")]
    Crc {
        /// The header's field.
        stated: u32,
        /// What the content hashes to.
        actual: u32,
    },
    /// A compression type that the attributes may not name (5 to 7).
    #[error("compression type {0} is unknown")]
    UnknownCompression(u8),
    /// The compressed section cannot be expanded.
    #[error("{0} data is damaged")]
    Compressed(&'static str),
    /// The section expands to more than the caller allows.
    #[error("records expand to more than {limit} bytes")]
    ExpandedTooLarge {
        /// The cap that was given, in bytes.
        limit: usize,
    },
    /// The record count is negative, or zero in a producer's batch.
    #[error("record count {0} is impossible")]
    Count(i32),
    /// The last offset delta is negative or does not fit the record count.
    #[error("last offset delta {last_offset_delta} does not fit {count} records")]
    LastOffsetDelta {
        /// The header's last offset delta.
        last_offset_delta: i32,
        /// The header's record count.
        count: i32,
    },
    /// More bytes follow the counted records.
    #[error("{0} bytes follow the counted records")]
    RecordsRemain(usize),
    /// A record's bytes end within a field, or its fields do not fill its length.
    #[error("record {index} is malformed: {problem}")]
    Record {
        /// Which record, counted from 0.
        index: u32,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// A producer sent a control batch.
    #[error("producers may not write control batches")]
    ControlFromProducer,
    /// A producer id without a sequence, or an epoch below 0.
    #[error("producer id {producer_id} comes with epoch {epoch} and sequence {sequence}")]
    ProducerFields {
        /// The producer id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// The first sequence.
        sequence: i32,
    },
    /// A transactional batch without a producer id.
    #[error("a transactional batch needs a producer id")]
    TransactionalWithoutProducer,
    /// A producer set the LogAppendTime bit, which is the broker's.
    #[error("producers may not set the LogAppendTime bit")]
    LogAppendTimeFromProducer,
    /// A control record's key or value has not the form of one.
    #[error("control record is malformed")]
    ControlRecord,
    /// A batch was finished without a record.
    #[error("a batch needs a record")]
    NoRecords,
    /// The builder holds as many records or bytes as it may; the record goes into the next batch.
    #[error("the batch is full")]
    Full,
    /// The record or batch is larger than the format can say (2 GiB).
    #[error("{0} bytes are more than a batch can hold")]
    TooLarge(usize),
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordProblem {
    /// A field reaches beyond the record, or a record beyond the section.
    #[error("it is cut short")]
    Truncated,
    /// A varint is longer than its type.
    #[error("a varint is too long")]
    Varint,
    /// A length is negative where only -1 (null) or a size may stand.
    #[error("length {0} is impossible")]
    Length(i32),
    /// The header count is negative or larger than the record.
    #[error("header count {0} is impossible")]
    HeaderCount(i32),
    /// The fields end before the record does.
    #[error("{0} bytes are left over")]
    LeftOver(usize),
    /// The offset delta is not the expected one.
    #[error("offset delta {0} is out of order")]
    OffsetDelta(i32),
}

/// The groups of [`BatchError`], named for the answers that Kafka gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchErrorKind {
    /// The bytes are damaged: `CORRUPT_MESSAGE`.
    Corrupt,
    /// The bytes are whole, but say what a batch may not say: `INVALID_RECORD`.
    InvalidRecord,
    /// A timestamp type that producers may not choose: `INVALID_TIMESTAMP`.
    InvalidTimestamp,
    /// A compression type that does not exist: `UNSUPPORTED_COMPRESSION_TYPE`.
    UnsupportedCompression,
    /// An old message format: `UNSUPPORTED_FOR_MESSAGE_FORMAT`.
    UnsupportedFormat,
    /// Larger, or expanding to more, than allowed: `MESSAGE_TOO_LARGE`.
    TooLarge,
}

impl BatchError {
    /// Which answer the error calls for.
    #[must_use]
    pub fn kind(&self) -> BatchErrorKind {
        match self {
            Self::Truncated { .. }
            | Self::Length(_)
            | Self::UnknownMagic(_)
            | Self::Crc { .. }
            | Self::Compressed(_) => BatchErrorKind::Corrupt,
            Self::TrailingBytes(_)
            | Self::Count(_)
            | Self::LastOffsetDelta { .. }
            | Self::RecordsRemain(_)
            | Self::Record { .. }
            | Self::ControlFromProducer
            | Self::ProducerFields { .. }
            | Self::TransactionalWithoutProducer
            | Self::ControlRecord
            | Self::NoRecords => BatchErrorKind::InvalidRecord,
            Self::LogAppendTimeFromProducer => BatchErrorKind::InvalidTimestamp,
            Self::UnknownCompression(_) => BatchErrorKind::UnsupportedCompression,
            Self::OldMagic(_) => BatchErrorKind::UnsupportedFormat,
            Self::ExpandedTooLarge { .. } | Self::Full | Self::TooLarge(_) => {
                BatchErrorKind::TooLarge
            }
        }
    }
}
