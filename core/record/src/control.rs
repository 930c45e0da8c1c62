//! Control records: the markers that end a transaction in a partition (KIP-98).
//!
//! The key is a version and a type, the value of an end marker a version and the coordinator's epoch, all big endian.

use crate::{
    BatchBuilder, BatchError, BatchOptions, Header, NewRecord, Pieces, Record, RecordBatch,
};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionOutcome {
    /// Its records are not to be read.
    Abort,
    /// Its records are to be read.
    Commit,
}

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlRecord {
    /// A transaction of the batch's producer ended.
    EndTransaction {
        /// How.
        outcome: TransactionOutcome,
        /// Epoch of the coordinator that wrote the marker.
        coordinator_epoch: i32,
    },
    /// A type that readers skip.
    Other(i16),
}

/// A marker to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMarker {
    /// The transaction's producer.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// How the transaction ended.
    pub outcome: TransactionOutcome,
    /// Epoch of the coordinator that writes the marker.
    pub coordinator_epoch: i32,
    /// Unix milliseconds.
    pub timestamp: i64,
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const KEY_BYTES: usize = 4;
const VALUE_BYTES: usize = 6;

impl ControlRecord {
    /// Reads a record of a control batch. Later versions may append fields, which are skipped.
    ///
    /// # Errors
    /// [`BatchError::ControlRecord`].
    pub fn parse(record: &Record<'_>) -> Result<Self, BatchError> {
        let malformed = BatchError::ControlRecord;
        let key: &[u8; KEY_BYTES] = record.key.and_then(<[u8]>::first_chunk).ok_or(malformed)?;
        let [v0, v1, t0, t1] = *key;
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(malformed);
        }
        let outcome = match i16::from_be_bytes([t0, t1]) {
            ABORT => TransactionOutcome::Abort,
            COMMIT => TransactionOutcome::Commit,
            other => return Ok(Self::Other(other)),
        };
        let value: &[u8; VALUE_BYTES] = record
            .value
            .and_then(<[u8]>::first_chunk)
            .ok_or(malformed)?;
        let [v0, v1, epoch @ ..] = *value;
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(malformed);
        }
        Ok(Self::EndTransaction {
            outcome,
            coordinator_epoch: i32::from_be_bytes(epoch),
        })
    }
}

impl TransactionMarker {
    /// The control batch that says it: one record, transactional, without a sequence.
    ///
    /// # Errors
    /// None in practice; those of [`BatchBuilder::finish`].
    pub fn to_batch(&self) -> Result<RecordBatch, BatchError> {
        let kind = match self.outcome {
            TransactionOutcome::Abort => ABORT,
            TransactionOutcome::Commit => COMMIT,
        };
        let [t0, t1] = kind.to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        let mut builder = BatchBuilder::new(BatchOptions {
            transactional: true,
            control: true,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            ..BatchOptions::default()
        });
        builder.append(&NewRecord {
            timestamp: self.timestamp,
            key: Some(&[0, 0, t0, t1]),
            value: Some(Pieces::One(&[0, 0, e0, e1, e2, e3])),
            headers: std::iter::empty::<Header<'_>>(),
        })?;
        builder.finish()
    }
}
