//! What a batch must fulfil before it is appended.
//!
//! The checksum and the header are always verified, and the records of uncompressed batches are
//! read to their end. Compressed batches are not expanded: they stay opaque, and their readers
//! bound and check what they expand.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use omnilog_record::{BatchError, BatchErrorKind, BatchHeader, Compression, RecordBatch};

/// The first version whose clients may write zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// Why a batch is not appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("a partition needs exactly one record batch")]
    None,
    #[error("zstd needs version {ZSTD_FROM} of Produce")]
    ZstdTooEarly,
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Unfit {
    /// The code that tells it.
    pub(super) fn code(&self) -> ResponseError {
        match self {
            Self::None => ResponseError::InvalidRecord,
            Self::ZstdTooEarly => ResponseError::UnsupportedCompressionType,
            Self::Batch(error) => match error.kind() {
                BatchErrorKind::Corrupt => ResponseError::CorruptMessage,
                BatchErrorKind::InvalidRecord => ResponseError::InvalidRecord,
                BatchErrorKind::InvalidTimestamp => ResponseError::InvalidTimestamp,
                BatchErrorKind::UnsupportedCompression => ResponseError::UnsupportedCompressionType,
                // Versions 3 and later carry format 2 only.
                BatchErrorKind::UnsupportedFormat => ResponseError::InvalidRecord,
                BatchErrorKind::TooLarge => ResponseError::MessageTooLarge,
            },
        }
    }
}

/// Checks what a partition is to get: one whole batch that deserves to be appended.
pub(super) fn check(records: Option<&Bytes>, version: i16) -> Result<Bytes, Unfit> {
    let bytes = records
        .filter(|records| !records.is_empty())
        .ok_or(Unfit::None)?;
    let batch = RecordBatch::parse(bytes.clone())?;
    let attributes = batch.header().attributes;
    let compression = attributes.compression()?;
    if compression == Compression::Zstd && version < ZSTD_FROM {
        return Err(Unfit::ZstdTooEarly);
    }
    if compression == Compression::None {
        batch.verify_produced(bytes.len())?;
    } else {
        batch.verify_crc()?;
        batch.verify_produced_header()?;
    }
    Ok(bytes.clone())
}

/// Does what a partition is to get belong to a transaction, as far as its header says?
pub(super) fn is_transactional(records: &[u8]) -> bool {
    BatchHeader::peek(records).is_ok_and(|header| header.attributes.is_transactional())
}
