//! Rewriting a batch: without some of its records (compaction), or with another compression (`compression.type`).
//!
//! Records that stay keep their bytes, and so their offsets, timestamps and headers.

use crate::builder::{BATCH_BYTES_MAX, compress_section};
use crate::header::HEADER_BYTES;
use crate::records::take_body;
use crate::{BatchError, BatchHeader, Compression, Record, RecordBatch, Records, TimestampType};

impl RecordBatch {
    /// The batch with those records only that `keep` says, over the same offsets and with the same producer fields,
    /// so that readers and producer state lose nothing. Without a record it is a header alone, uncompressed.
    ///
    /// # Errors
    /// Those of [`RecordBatch::records`] and of reading the records.
    pub fn retain(
        &self,
        expanded_bytes_max: usize,
        mut keep: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let records = self.records(expanded_bytes_max)?;
        let section = &records.section()[..];
        let mut header = *self.header();
        let mut bytes = vec![0; HEADER_BYTES];
        let mut kept = 0_usize;
        let mut newest = None;
        let mut remaining = section;
        for index in 0..records.len() {
            let failed = |problem| BatchError::Record {
                index: index as u32,
                problem,
            };
            let start = section.len() - remaining.len();
            let body = take_body(&mut remaining).map_err(failed)?;
            let record = Record::parse(body, records.base()).map_err(failed)?;
            if keep(&record) {
                kept += 1;
                newest = newest.max(Some(record.timestamp));
                bytes.extend_from_slice(&section[start..section.len() - remaining.len()]);
            }
        }
        if !remaining.is_empty() {
            return Err(BatchError::RecordsRemain(remaining.len()));
        }
        if kept == records.len() {
            return Ok(self.clone());
        }
        header.record_count = kept as i32;
        if let (TimestampType::CreateTime, Some(newest)) =
            (header.attributes.timestamp_type(), newest)
        {
            header.max_timestamp = newest;
        }
        if kept == 0 {
            header.attributes = header.attributes.with_compression(Compression::None);
        }
        finish(header, bytes, None)
    }

    /// The batch with another compression; the same batch if it has that already.
    ///
    /// # Errors
    /// Those of [`RecordBatch::records`]; [`BatchError::TooLarge`].
    pub fn recompress(
        &self,
        compression: Compression,
        level: Option<i32>,
        expanded_bytes_max: usize,
    ) -> Result<Self, BatchError> {
        if self.header().attributes.compression()? == compression {
            return Ok(self.clone());
        }
        let records = self.records(expanded_bytes_max)?;
        self.with_section(&records, compression, level)
    }

    /// The batch with its `records`, expanded before, in another compression.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`].
    pub fn with_section(
        &self,
        records: &Records,
        compression: Compression,
        level: Option<i32>,
    ) -> Result<Self, BatchError> {
        let mut header = *self.header();
        header.attributes = header.attributes.with_compression(compression);
        let section = records.section();
        if compression != Compression::None {
            return compress_section(header, section, level);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + section.len());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(section);
        finish(header, bytes, level)
    }
}

/// Completes a batch of which `bytes` holds room for the header and the uncompressed records.
fn finish(
    header: BatchHeader,
    bytes: Vec<u8>,
    level: Option<i32>,
) -> Result<RecordBatch, BatchError> {
    if header.attributes.compression()? != Compression::None {
        return compress_section(header, &bytes[HEADER_BYTES..], level);
    }
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge(bytes.len()));
    }
    Ok(RecordBatch::from_parts(header, bytes))
}
