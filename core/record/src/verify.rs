//! What a batch must fulfil before it is believed: checksum, header fields, and every record read to its end.

use crate::error::RecordProblem;
use crate::header::PREFIX_BYTES;
use crate::{BatchError, RecordBatch, Records, TimestampType};

/// What walking the records of a batch shows.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The records, expanded.
    pub records: Records,
    /// The smallest record timestamp in Unix milliseconds; of no records, the header's.
    pub min_timestamp: i64,
    /// The largest record timestamp in Unix milliseconds; of no records, the header's.
    pub max_timestamp: i64,
    /// Offset delta of the first record with the largest timestamp.
    pub max_timestamp_delta: i32,
    /// Index of the first record without a key, which a compacted topic refuses.
    pub first_without_key: Option<u32>,
}

impl RecordBatch {
    /// Compares the CRC with the content.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        // Patching keeps the covered fields and the CRC in step, so a header that was patched is hashed as patched.
        let header = self.header_bytes();
        let actual = crc32c::crc32c_append(
            crc32c::crc32c(&header[PREFIX_BYTES..]),
            self.section_slice(),
        );
        let stated = self.header().crc;
        if stated == actual {
            Ok(())
        } else {
            Err(BatchError::Crc { stated, actual })
        }
    }

    /// Checks that the header's fields can be true of a stored batch: a known compression, and no more records than
    /// offsets.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`], [`BatchError::Count`], [`BatchError::LastOffsetDelta`].
    pub fn verify_header(&self) -> Result<(), BatchError> {
        let header = self.header();
        header.attributes.compression()?;
        if header.record_count < 0 {
            return Err(BatchError::Count(header.record_count));
        }
        let offsets = i64::from(header.last_offset_delta) + 1;
        if offsets < 1 || offsets < i64::from(header.record_count) {
            return Err(self.last_offset_delta_error());
        }
        Ok(())
    }

    /// Checks that the header's fields are those of a batch that a producer may send: one to many records, as many as
    /// offsets, no control batch, producer fields that go together, CreateTime.
    ///
    /// # Errors
    /// Those of [`RecordBatch::verify_header`], [`BatchError::ControlFromProducer`], [`BatchError::ProducerFields`],
    /// [`BatchError::TransactionalWithoutProducer`], [`BatchError::LogAppendTimeFromProducer`].
    pub fn verify_produced_header(&self) -> Result<(), BatchError> {
        self.verify_header()?;
        let header = self.header();
        if header.record_count == 0 {
            return Err(BatchError::Count(0));
        }
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(self.last_offset_delta_error());
        }
        if header.attributes.is_control() {
            return Err(BatchError::ControlFromProducer);
        }
        if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
            return Err(BatchError::ProducerFields {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                sequence: header.base_sequence,
            });
        }
        if header.attributes.is_transactional() && !header.has_producer_id() {
            return Err(BatchError::TransactionalWithoutProducer);
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchError::LogAppendTimeFromProducer);
        }
        Ok(())
    }

    /// All that a broker checks of a producer's batch: CRC, header, and each record, with offset deltas 0, 1, 2...
    ///
    /// # Errors
    /// The first of [`RecordBatch::verify_crc`], [`RecordBatch::verify_produced_header`] and of reading the records.
    pub fn verify_produced(&self, expanded_bytes_max: usize) -> Result<Verified, BatchError> {
        self.verify_crc()?;
        self.verify_produced_header()?;
        self.walk(expanded_bytes_max, true)
    }

    /// Checks a stored batch, compacted or not: CRC, header, and each record, with growing offset deltas.
    ///
    /// # Errors
    /// The first of [`RecordBatch::verify_crc`], [`RecordBatch::verify_header`] and of reading the records.
    pub fn verify_stored(&self, expanded_bytes_max: usize) -> Result<Verified, BatchError> {
        self.verify_crc()?;
        self.verify_header()?;
        self.walk(expanded_bytes_max, false)
    }

    fn walk(&self, expanded_bytes_max: usize, dense: bool) -> Result<Verified, BatchError> {
        let records = self.records(expanded_bytes_max)?;
        let header = self.header();
        let mut verified = Verified {
            min_timestamp: header.max_timestamp,
            max_timestamp: header.max_timestamp,
            max_timestamp_delta: header.last_offset_delta,
            first_without_key: None,
            records,
        };
        let mut next_delta = 0_i32;
        let mut iter = verified.records.iter();
        for (index, record) in (0_u32..).zip(iter.by_ref()) {
            let record = record?;
            let delta = record.offset_delta;
            let in_order = if dense {
                delta == next_delta
            } else {
                delta >= next_delta
            };
            if !in_order || delta > header.last_offset_delta {
                let problem = RecordProblem::OffsetDelta(delta);
                return Err(BatchError::Record { index, problem });
            }
            next_delta = delta.saturating_add(1);
            if index == 0 || record.timestamp > verified.max_timestamp {
                verified.max_timestamp = record.timestamp;
                verified.max_timestamp_delta = delta;
            }
            if index == 0 || record.timestamp < verified.min_timestamp {
                verified.min_timestamp = record.timestamp;
            }
            if record.key.is_none() && verified.first_without_key.is_none() {
                verified.first_without_key = Some(index);
            }
        }
        match iter.remaining().len() {
            0 => Ok(verified),
            left => Err(BatchError::RecordsRemain(left)),
        }
    }

    fn last_offset_delta_error(&self) -> BatchError {
        BatchError::LastOffsetDelta {
            last_offset_delta: self.header().last_offset_delta,
            count: self.header().record_count,
        }
    }
}
