//! A record of a gathered batch, taken out of it.

use crate::api::*;
use crate::mapping::Placed;
use bytes::Bytes;
use omnilog_record::{
    BatchBuilder, BatchHeader, BatchOptions, NewRecord, Pieces, Record, RecordBase,
};

/// One record of a gathered batch as a batch of its own.
pub(crate) fn single(
    batch: &Bytes,
    mut record: PublishRecord,
) -> Result<(Bytes, PublishRecord), Refusal> {
    let (batch, range) = rebatch(batch, record.envelope.range, None).ok_or_else(|| {
        Refusal::InvalidRecord("a gathered batch that can't be taken apart".to_owned())
    })?;
    record.envelope.range = range;
    Ok((batch, record))
}

/// A record of a gathered batch as a batch of its own, under the key that its place says.
pub(crate) fn rebatch(
    batch: &Bytes,
    (position, length): (u32, u32),
    placed: Option<&Placed>,
) -> Option<(Bytes, (u32, u32))> {
    let header = BatchHeader::peek(batch).ok()?;
    let body = batch.get(position as usize..position.checked_add(length)? as usize)?;
    let record = Record::parse(body, &RecordBase::from(&header)).ok()?;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let appended = builder
        .append(&NewRecord {
            timestamp: record.timestamp,
            key: placed.map_or(record.key, |placed| placed.key.as_deref()),
            value: record.value.map(Pieces::One),
            headers: record.headers(),
        })
        .ok()?;
    let batch = builder.finish().ok()?.to_bytes();
    Some((batch, appended.range()))
}
