//! A record batch as it lies on the wire and in the log: its header, which may be patched, and its bytes, which are not.

use crate::header::{HEADER_BYTES, LENGTH_OVERHEAD_BYTES, MAGIC};
use crate::header::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP};
use crate::{
    Attributes, BatchError, BatchHeader, Compression, Records, TimestampType, compression,
};
use bytes::{BufMut, Bytes};

/// One v2 record batch. Cloning and reading it copies no record.
///
/// Base offset and leader epoch lie outside the CRC, so [`RecordBatch::assign`] costs nothing. To send or store a
/// batch without copying it write [`RecordBatch::header_bytes`] and then [`RecordBatch::section`].
#[derive(Debug, Clone)]
pub struct RecordBatch {
    header: BatchHeader,
    /// As received or built: the first 61 bytes are stale where the header was patched.
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes exactly one batch. Only its framing is checked: length and magic.
    ///
    /// # Errors
    /// Those of [`RecordBatch::take_first`], and [`BatchError::TrailingBytes`].
    pub fn parse(mut bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::take_first(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(BatchError::TrailingBytes(bytes.len()));
        }
        Ok(batch)
    }

    /// Takes the first of several concatenated batches off `bytes`. Only its framing is checked: length and magic.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Length`], [`BatchError::OldMagic`], [`BatchError::UnknownMagic`];
    /// `bytes` is then as it was.
    pub fn take_first(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::peek(bytes)?;
        let needed = header.batch_bytes();
        if bytes.len() < needed {
            return Err(BatchError::Truncated {
                needed,
                available: bytes.len(),
            });
        }
        Ok(Self {
            header,
            bytes: bytes.split_to(needed),
        })
    }

    /// Iterates over concatenated batches; ends after the first error.
    #[must_use]
    pub fn split(bytes: Bytes) -> Batches {
        Batches { bytes }
    }

    /// A batch without records that covers the offsets `base_offset..=last_offset`, for readers to step over a gap.
    ///
    /// A gap wider than one batch can say is covered from its beginning; `last_offset` below `base_offset` counts as
    /// equal.
    #[must_use]
    pub fn empty(base_offset: i64, last_offset: i64) -> Self {
        let delta = last_offset
            .saturating_sub(base_offset)
            .clamp(0, i64::from(i32::MAX));
        Self::from_parts(
            BatchHeader {
                base_offset,
                length: 0,
                leader_epoch: crate::header::NO_LEADER_EPOCH,
                magic: MAGIC,
                crc: 0,
                attributes: Attributes::default(),
                last_offset_delta: delta as i32,
                base_timestamp: NO_TIMESTAMP,
                max_timestamp: NO_TIMESTAMP,
                producer_id: NO_PRODUCER_ID,
                producer_epoch: NO_PRODUCER_EPOCH,
                base_sequence: NO_SEQUENCE,
                record_count: 0,
            },
            vec![0; HEADER_BYTES],
        )
    }

    /// Completes a batch: `bytes` is room for the header, and after it the section of records. Sets length and CRC.
    pub(crate) fn from_parts(mut header: BatchHeader, mut bytes: Vec<u8>) -> Self {
        debug_assert!(bytes.len() >= HEADER_BYTES && bytes.len() <= i32::MAX as usize);
        header.length = (bytes.len() - LENGTH_OVERHEAD_BYTES) as i32;
        header.crc = header.compute_crc(&bytes[HEADER_BYTES..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        Self {
            header,
            bytes: Bytes::from(bytes),
        }
    }

    // === reading ===

    /// The header, patches included.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header as it goes on the wire, patches included.
    #[must_use]
    pub fn header_bytes(&self) -> [u8; HEADER_BYTES] {
        self.header.encode()
    }

    /// The section of records after the header, compressed as the attributes say.
    #[must_use]
    pub fn section(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// The section of records after the header, borrowed.
    #[inline]
    #[must_use]
    pub fn section_slice(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Size of the whole batch in bytes.
    #[inline]
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The whole batch in one piece; copies it if the header was patched.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let header = self.header_bytes();
        if self.bytes[..HEADER_BYTES] == header {
            return self.bytes.clone();
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        self.write_to(&mut bytes);
        Bytes::from(bytes)
    }

    /// Appends the whole batch to `output`.
    pub fn write_to(&self, output: &mut impl BufMut) {
        output.put_slice(&self.header_bytes());
        output.put_slice(self.section_slice());
    }

    /// The records, expanded into a buffer of `expanded_bytes_max` at most if they are compressed, else shared.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`], [`BatchError::Compressed`], [`BatchError::ExpandedTooLarge`].
    pub fn records(&self, expanded_bytes_max: usize) -> Result<Records, BatchError> {
        let section = match self.header.attributes.compression()? {
            Compression::None => self.section(),
            kind => {
                let section = self.section_slice();
                Bytes::from(compression::decompress(kind, section, expanded_bytes_max)?)
            }
        };
        Ok(Records::new(&self.header, section))
    }

    // === patching ===

    /// Gives the batch its place in a partition. The CRC does not cover these fields.
    #[inline]
    pub fn assign(&mut self, base_offset: i64, leader_epoch: i32) {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
    }

    /// Stamps every record with the broker's time (`message.timestamp.type=LogAppendTime`); computes the CRC anew.
    pub fn stamp_log_append_time(&mut self, timestamp: i64) {
        let attributes = self.header.attributes;
        self.header.attributes = attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = timestamp;
        self.refresh_crc();
    }

    /// Corrects the max timestamp of a batch whose producer got it wrong; computes the CRC anew if it changes.
    pub fn set_max_timestamp(&mut self, timestamp: i64) {
        if self.header.max_timestamp != timestamp {
            self.header.max_timestamp = timestamp;
            self.refresh_crc();
        }
    }

    fn refresh_crc(&mut self) {
        self.header.crc = self.header.compute_crc(&self.bytes[HEADER_BYTES..]);
    }
}

/// Concatenated batches, taken off one by one.
#[derive(Debug, Clone)]
pub struct Batches {
    bytes: Bytes,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let batch = RecordBatch::take_first(&mut self.bytes);
        if batch.is_err() {
            self.bytes.clear();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
