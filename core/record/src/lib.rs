//! Record batches in the Kafka v2 format: parse, validate, iterate, build, compress within bounds.
//!
//! A batch is read from [`bytes::Bytes`] without copying it and stays opaque until somebody asks for its records:
//! [`RecordBatch::parse`] checks the framing, [`RecordBatch::verify_produced`] all that a broker checks of a producer's
//! batch, [`RecordBatch::records`] expands and iterates. [`RecordBatch::assign`] gives it an offset without touching
//! the bytes that its CRC covers. [`BatchBuilder`] makes batches.
//!
//! Nothing here does I/O, and no input makes it panic or allocate beyond a cap that the caller gives.

mod batch;
mod builder;
pub mod compression;
mod control;
mod error;
pub mod header;
mod record;
mod records;
mod rewrite;
pub mod varint;
mod verify;

pub use batch::{Batches, RecordBatch};
pub use builder::{Appended, BATCH_BYTES_MAX, BatchBuilder, BatchOptions, NewRecord, Pieces};
pub use compression::Compression;
pub use control::{ControlRecord, TransactionMarker, TransactionOutcome};
pub use error::{BatchError, BatchErrorKind, RecordProblem};
pub use header::{Attributes, BatchHeader, HEADER_BYTES, PREFIX_BYTES, TimestampType};
pub use record::{Header, Headers, OwnedRecord, Record, RecordBase};
pub use records::{RecordIter, RecordTable, Records};
pub use verify::Verified;
