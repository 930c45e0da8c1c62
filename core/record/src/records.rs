//! The records of a batch: expanded once, then read in order or one by one.

use crate::error::RecordProblem;
use crate::record::RecordBase;
use crate::{BatchError, BatchHeader, OwnedRecord, Record, varint};
use bytes::Bytes;
use std::ops::Range;

/// A batch's section of records, uncompressed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Records {
    base: RecordBase,
    count: u32,
    section: Bytes,
}

/// Iterates borrowed records; ends after the first error.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    base: RecordBase,
    index: u32,
    count: u32,
    remaining: &'a [u8],
}

/// Where each record's body lies in an uncompressed section, to reach record `i` without reading those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTable {
    bodies: Box<[(u32, u32)]>,
}

// === impl Records ===

impl Records {
    /// The records of `section`, uncompressed, of the batch with this `header`.
    #[must_use]
    pub fn new(header: &BatchHeader, section: Bytes) -> Self {
        Self {
            base: RecordBase::from(header),
            count: u32::try_from(header.record_count).unwrap_or(0),
            section,
        }
    }

    /// How many records the header counts.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the header counts no records.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The uncompressed section.
    #[must_use]
    pub fn section(&self) -> &Bytes {
        &self.section
    }

    /// What the records' deltas count from.
    #[must_use]
    pub fn base(&self) -> &RecordBase {
        &self.base
    }

    /// The records in order, borrowed.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            base: self.base,
            index: 0,
            count: self.count,
            remaining: &self.section,
        }
    }

    /// The records in order, as slices of the section.
    pub fn iter_owned(&self) -> impl Iterator<Item = Result<OwnedRecord, BatchError>> + '_ {
        self.iter()
            .map(|record| record.map(|record| OwnedRecord::of(&record, &self.section)))
    }

    /// Finds where each record lies.
    ///
    /// # Errors
    /// [`BatchError::Record`] if a length does not fit, [`BatchError::RecordsRemain`].
    pub fn table(&self) -> Result<RecordTable, BatchError> {
        RecordTable::of(&self.section, self.count)
    }

    /// Record `index` by the section's own table; none beyond the last.
    ///
    /// # Errors
    /// [`BatchError::Record`].
    pub fn get(&self, table: &RecordTable, index: usize) -> Result<Option<Record<'_>>, BatchError> {
        let Some(body) = table.body(index).and_then(|range| self.section.get(range)) else {
            return Ok(None);
        };
        Record::parse(body, &self.base)
            .map(Some)
            .map_err(|problem| BatchError::Record {
                index: index as u32,
                problem,
            })
    }

    /// Record `index` by the section's own table, as slices of the section; none beyond the last.
    ///
    /// # Errors
    /// [`BatchError::Record`].
    pub fn get_owned(
        &self,
        table: &RecordTable,
        index: usize,
    ) -> Result<Option<OwnedRecord>, BatchError> {
        let record = self.get(table, index)?;
        Ok(record.map(|record| OwnedRecord::of(&record, &self.section)))
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

// === impl RecordIter ===

impl<'a> RecordIter<'a> {
    /// The bytes after the records taken so far.
    #[must_use]
    pub fn remaining(&self) -> &'a [u8] {
        self.remaining
    }

    /// Takes the next record's body without reading its fields.
    fn next_body(&mut self) -> Option<Result<&'a [u8], BatchError>> {
        if self.index >= self.count {
            return None;
        }
        match take_body(&mut self.remaining) {
            Ok(body) => {
                self.index += 1;
                Some(Ok(body))
            }
            Err(problem) => Some(Err(self.fail(self.index, problem))),
        }
    }

    fn fail(&mut self, index: u32, problem: RecordProblem) -> BatchError {
        self.index = self.count;
        BatchError::Record { index, problem }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        let body = match self.next_body()? {
            Ok(body) => body,
            Err(error) => return Some(Err(error)),
        };
        Some(Record::parse(body, &self.base).map_err(|problem| self.fail(index, problem)))
    }

    /// The header's count is no promise: the lower bound is 0 and the upper one is what the bytes can hold.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let counted = (self.count - self.index) as usize;
        (
            0,
            Some(counted.min(self.remaining.len() / RECORD_BYTES_MIN + 1)),
        )
    }
}

/// The least a record takes: length, attributes, both deltas, key and value length, header count.
pub(crate) const RECORD_BYTES_MIN: usize = 7;

/// Takes a record's length and body.
#[inline]
pub(crate) fn take_body<'a>(remaining: &mut &'a [u8]) -> Result<&'a [u8], RecordProblem> {
    let mut input = *remaining;
    let length = varint::take_varint(&mut input)?;
    let bytes = usize::try_from(length).map_err(|_| RecordProblem::Length(length))?;
    let (body, rest) = input
        .split_at_checked(bytes)
        .ok_or(RecordProblem::Truncated)?;
    *remaining = rest;
    Ok(body)
}

// === impl RecordTable ===

impl RecordTable {
    fn of(section: &Bytes, count: u32) -> Result<Self, BatchError> {
        // The count is the peer's word: no more room than the bytes can fill.
        let room = (count as usize).min(section.len() / RECORD_BYTES_MIN);
        let mut bodies = Vec::with_capacity(room);
        let mut remaining = &section[..];
        for index in 0..count {
            let body = take_body(&mut remaining)
                .map_err(|problem| BatchError::Record { index, problem })?;
            let end = section.len() - remaining.len();
            bodies.push(((end - body.len()) as u32, body.len() as u32));
        }
        if !remaining.is_empty() {
            return Err(BatchError::RecordsRemain(remaining.len()));
        }
        Ok(Self {
            bodies: bodies.into_boxed_slice(),
        })
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Where the body of record `index` (what follows its length) lies in the section.
    #[inline]
    #[must_use]
    pub fn body(&self, index: usize) -> Option<Range<usize>> {
        let (position, length) = *self.bodies.get(index)?;
        Some(position as usize..position as usize + length as usize)
    }

    /// Bytes the table takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.bodies)
    }
}
