//! A normal no: what was asked can't be done, and the shard is as it was.

use crate::api::{ExchangeKind, Name};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a command was refused. Protocols map it to their codes in their `rescue.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// No such thing.
    #[error("no {0} '{name}'", name = String::from_utf8_lossy(.1))]
    NotFound(Noun, Name),
    /// There is one already.
    #[error("{0} '{name}' exists", name = String::from_utf8_lossy(.1))]
    Exists(Noun, Name),
    /// Declared again with another setting: which, what was asked, what it is.
    #[error("inequivalent arg '{argument}' for {noun} '{name}': received {received} but current is {current}", name = String::from_utf8_lossy(.name))]
    Inequivalent {
        /// What was declared.
        noun: Noun,
        /// Its name.
        name: Name,
        /// The setting.
        argument: String,
        /// What was asked, as RabbitMQ spells it: `'true'`, `the value '5' of type 'long'`, `none`.
        received: String,
        /// What it is.
        current: String,
    },
    /// An argument's value can't be.
    #[error("invalid arg '{argument}' for {noun} '{name}': {reason}", name = String::from_utf8_lossy(.name))]
    InvalidArgument {
        /// What was declared.
        noun: Noun,
        /// Its name.
        name: Name,
        /// The argument.
        argument: String,
        /// What is wrong.
        reason: String,
    },
    /// Another connection has the exclusive queue.
    #[error("cannot obtain exclusive access to locked queue '{name}'", name = String::from_utf8_lossy(.0))]
    Locked(Name),
    /// The queue has an exclusive consumer, or consumers where an exclusive one was asked for.
    #[error("queue '{name}' in exclusive use", name = String::from_utf8_lossy(.0))]
    ExclusiveUse(Name),
    /// The name is reserved, or the operation is not for this one (`amq.`, the default exchange, an internal one).
    #[error("operation not permitted on {0} '{name}'", name = String::from_utf8_lossy(.1))]
    NotPermitted(Noun, Name),
    /// The topic is a raw view: it is read, and goes with its topic.
    #[error("the topic '{name}' is the raw view of a compacted topic, and read-only", name = String::from_utf8_lossy(.0))]
    ReadOnly(Name),
    /// It has consumers or bindings, and was to be deleted only if unused.
    #[error("{0} '{name}' in use", name = String::from_utf8_lossy(.1))]
    InUse(Noun, Name),
    /// It has messages, and was to be deleted only if empty.
    #[error("queue '{name}' not empty", name = String::from_utf8_lossy(.0))]
    NotEmpty(Name),
    /// The exchange is of another kind than this operation needs.
    #[error("exchange kind {0:?} does not fit")]
    WrongKind(ExchangeKind),
    /// No partition of that number.
    #[error("no such partition")]
    NoPartition,
    /// The offset is outside the log: log start and high watermark.
    #[error("offset out of range: the log runs from {log_start_offset} to {high_watermark}")]
    OffsetOutOfRange {
        /// The first log-live offset.
        log_start_offset: i64,
        /// The end.
        high_watermark: i64,
    },
    /// The client's leader epoch is older than the journal's.
    #[error("leader epoch is fenced")]
    FencedEpoch,
    /// The client's leader epoch is newer than the journal's.
    #[error("leader epoch is not known yet")]
    UnknownEpoch,
    /// An idempotent producer's sequence has a gap.
    #[error("producer sequence is out of order")]
    OutOfOrderSequence,
    /// An idempotent producer's batch repeats one that is too old to be told apart.
    #[error("producer sequence is a duplicate")]
    DuplicateSequence,
    /// A newer epoch of this producer id is known.
    #[error("producer epoch is fenced")]
    InvalidProducerEpoch,
    /// The batch or message is larger than allowed, in bytes.
    #[error("too large: at most {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A record that the topic's settings don't allow (a keyless one in a compacted topic).
    #[error("invalid record: {0}")]
    InvalidRecord(String),
    /// A setting's value can't be.
    #[error("invalid setting: {0}")]
    InvalidSetting(String),
    /// The number of partitions can't be.
    #[error("invalid number of partitions")]
    InvalidPartitions,
    /// The disk is nearly full: publishers wait, consumers drain.
    #[error("disk is nearly full")]
    DiskFull,
    /// A limit of names, clients, queues or the like is reached.
    #[error("limit reached: {0}")]
    Limit(String),
    /// The credit group, consumer or session is not this connection's, or is used twice.
    #[error("not yours or used twice: {0}")]
    Conflict(String),
    /// A filter, pattern or binding that can't be matched: too deep, or malformed.
    #[error("{0}")]
    BadPattern(String),
    /// The transactional id is not this producer's.
    #[error("the producer id is not that of the transactional id")]
    InvalidProducerMapping,
    /// Another producer has taken over the transactional id, or its transaction's time was over.
    #[error("a newer producer has the transactional id")]
    ProducerFenced,
    /// The transaction is not open, or does not take in what was asked.
    #[error("invalid transaction state")]
    InvalidTransactionState,
    /// The transaction's timeout is none, or longer than allowed.
    #[error("invalid transaction timeout")]
    InvalidTransactionTimeout,
    /// The shard is closing or lost.
    #[error("the shard is not served here")]
    ShardLost,
}

/// What a [`Refusal`] speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noun {
    /// A namespace.
    Namespace,
    /// A log.
    Topic,
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// A session.
    Session,
    /// A consumer group.
    Group,
    /// A consumer.
    Consumer,
    /// A transactional id.
    Transaction,
}

impl std::fmt::Display for Noun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Namespace => "vhost",
            Self::Topic => "topic",
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Session => "session",
            Self::Group => "group",
            Self::Consumer => "consumer",
            Self::Transaction => "transactional id",
        })
    }
}
