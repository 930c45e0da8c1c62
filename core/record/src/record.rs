//! One record within a batch, borrowed or as cheap slices of the batch's buffer.

use crate::error::RecordProblem;
use crate::varint::{self, VarintError};
use crate::{BatchHeader, TimestampType};
use bytes::Bytes;

/// What a record's deltas count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBase {
    /// Offset that offset deltas count from.
    pub offset: i64,
    /// Unix milliseconds that timestamp deltas count from.
    pub timestamp: i64,
    /// The time all records have, if the broker stamped the batch.
    pub log_append_time: Option<i64>,
}

impl From<&BatchHeader> for RecordBase {
    fn from(header: &BatchHeader) -> Self {
        Self {
            offset: header.base_offset,
            timestamp: header.base_timestamp,
            log_append_time: (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
        }
    }
}

/// A record, borrowed from its batch's bytes.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Unix milliseconds.
    pub timestamp: i64,
    /// The record's own attributes, of which Kafka uses none.
    pub attributes: u8,
    /// The key; null differs from empty.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone where a topic is compacted.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

/// One header of a record. Keys may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header<'a> {
    /// The name: by Kafka's convention UTF-8, which nothing enforces.
    pub key: &'a [u8],
    /// The value; null differs from empty.
    pub value: Option<&'a [u8]>,
}

/// A record's headers in their order, duplicates included.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    count: u32,
    remaining: &'a [u8],
}

/// A record that holds slices of its batch's buffer instead of borrowing it.
#[derive(Debug, Clone)]
pub struct OwnedRecord {
    /// Offset in the partition.
    pub offset: i64,
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Unix milliseconds.
    pub timestamp: i64,
    /// The key; null differs from empty.
    pub key: Option<Bytes>,
    /// The value; null is a tombstone where a topic is compacted.
    pub value: Option<Bytes>,
    header_count: u32,
    headers: Bytes,
}

// === impl Record ===

impl<'a> Record<'a> {
    /// Reads a record's body: what follows its length varint, and nothing more.
    ///
    /// # Errors
    /// See [`RecordProblem`]. A record that is returned has been read to its end, headers included.
    pub fn parse(mut body: &'a [u8], base: &RecordBase) -> Result<Self, RecordProblem> {
        let input = &mut body;
        let attributes = take(input, 1)?[0];
        let timestamp_delta = varint::take_varlong(input)?;
        let offset_delta = varint::take_varint(input)?;
        let key = take_nullable(input)?;
        let value = take_nullable(input)?;
        let header_count = varint::take_varint(input)?;
        // A header takes two bytes at least.
        let count = u32::try_from(header_count)
            .ok()
            .filter(|count| *count as usize <= input.len() / 2)
            .ok_or(RecordProblem::HeaderCount(header_count))?;
        let headers = Headers {
            count,
            remaining: input,
        };
        for _ in 0..count {
            take_header(input)?;
        }
        if !input.is_empty() {
            return Err(RecordProblem::LeftOver(input.len()));
        }
        Ok(Self {
            offset: base.offset.wrapping_add(i64::from(offset_delta)),
            offset_delta,
            timestamp: base
                .log_append_time
                .unwrap_or_else(|| base.timestamp.wrapping_add(timestamp_delta)),
            attributes,
            key,
            value,
            headers,
        })
    }

    /// The headers in their order.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }

    /// The value of the first header named `key`; the inner `None` is a null value.
    #[must_use]
    pub fn header(&self, key: &[u8]) -> Option<Option<&'a [u8]>> {
        self.headers()
            .find(|header| header.key == key)
            .map(|header| header.value)
    }

    /// Bytes of key, value and headers: what a consumer's byte limits count.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + self.headers.remaining.len()
    }
}

impl<'a> Header<'a> {
    /// The name, if it is UTF-8.
    #[must_use]
    pub fn key_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1)?;
        // The bytes were walked when the record was parsed.
        take_header(&mut self.remaining).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

// === impl OwnedRecord ===

impl OwnedRecord {
    /// Reads a record's body (what follows its length varint) and keeps slices of it.
    ///
    /// # Errors
    /// See [`RecordProblem`].
    pub fn parse(body: &Bytes, base: &RecordBase) -> Result<Self, RecordProblem> {
        Record::parse(body, base).map(|record| Self::of(&record, body))
    }

    /// The owned form of a `record` that was read from `bytes`.
    pub(crate) fn of(record: &Record<'_>, bytes: &Bytes) -> Self {
        Self {
            offset: record.offset,
            offset_delta: record.offset_delta,
            timestamp: record.timestamp,
            key: record.key.map(|key| bytes.slice_ref(key)),
            value: record.value.map(|value| bytes.slice_ref(value)),
            header_count: record.headers.count,
            headers: bytes.slice_ref(record.headers.remaining),
        }
    }

    /// The headers in their order, borrowed.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers {
            count: self.header_count,
            remaining: &self.headers,
        }
    }

    /// The headers in their order, as slices of the batch's buffer.
    pub fn owned_headers(&self) -> impl ExactSizeIterator<Item = (Bytes, Option<Bytes>)> + '_ {
        self.headers().map(|header| {
            let value = header.value.map(|value| self.headers.slice_ref(value));
            (self.headers.slice_ref(header.key), value)
        })
    }
}

// === fields ===

impl From<VarintError> for RecordProblem {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::TooLong => Self::Varint,
        }
    }
}

#[inline]
fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], RecordProblem> {
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or(RecordProblem::Truncated)?;
    *input = rest;
    Ok(taken)
}

#[inline]
fn take_nullable<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordProblem> {
    match varint::take_varint(input)? {
        -1 => Ok(None),
        length @ 0.. => take(input, length as usize).map(Some),
        length => Err(RecordProblem::Length(length)),
    }
}

#[inline]
fn take_header<'a>(input: &mut &'a [u8]) -> Result<Header<'a>, RecordProblem> {
    let key = take_nullable(input)?.ok_or(RecordProblem::Length(-1))?;
    Ok(Header {
        key,
        value: take_nullable(input)?,
    })
}
