//! Transactions over logs and committed offsets, as Kafka's producers have them (KIP-98).

use crate::api::{GroupOffset, Name};
use serde::{Deserialize, Serialize};

/// A transactional producer as it names itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactor {
    /// The transactional id.
    pub id: Name,
    /// The producer id that it was given.
    pub producer: i64,
    /// The epoch that it was given.
    pub epoch: i16,
}

/// Taking over a transactional id: whoever used it before is fenced, and its open transaction aborted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitTransactions {
    /// The transactional id.
    pub id: Name,
    /// How long a transaction may be open before it is aborted, in milliseconds.
    pub timeout_ms: i64,
    /// The producer id and epoch that the producer had, when it only wants a new epoch (KIP-360).
    pub expected: Option<(i64, i16)>,
}

/// What a transaction is to take in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enlist {
    /// Partitions that will be written to. All are taken in, or none.
    Partitions(Vec<(Name, i32)>),
    /// A group whose positions will be committed.
    Group(Name),
}

/// Positions that count when the transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsInTransaction {
    /// Whose transaction.
    pub transactor: Transactor,
    /// The group.
    pub group: Name,
    /// The positions.
    pub offsets: Vec<GroupOffset>,
}

/// An aborted transaction in a partition: its records up to the marker are not to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer: i64,
    /// The first offset that it wrote.
    pub first_offset: i64,
    /// Its marker's offset.
    pub last_offset: i64,
}

/// How a transactional id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionPhase {
    /// It has had no transaction since its producer was initialised.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The last one was committed.
    Committed,
    /// The last one was aborted.
    Aborted,
}

/// A transactional id, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionInfo {
    /// The id, with its producer id and epoch.
    pub transactor: Transactor,
    /// How it stands.
    pub phase: TransactionPhase,
    /// How long a transaction may be open.
    pub timeout_ms: u32,
    /// When the open transaction began, in Unix milliseconds; -1 without one.
    pub started_ms: i64,
    /// How long it has been open, in milliseconds; -1 without one.
    pub open_ms: i64,
    /// Partitions in the open transaction.
    pub partitions: Vec<(Name, i32)>,
}
