//! Listings of what a namespace holds, with figures, for people and their tools.

use crate::api::{Name, QueueId, QueueKind, SessionId, TopicId};
use serde::{Deserialize, Serialize};

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Listed {
    /// Logs.
    Topics,
    /// AMQP queues.
    Queues,
    /// MQTT sessions.
    Sessions,
}

/// A page of a listing, in the order of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What.
    pub what: Listed,
    /// Names after this one; empty: from the first.
    pub after: Name,
    /// Only this name.
    pub only: bool,
    /// How many at the most; never more than 1,000.
    pub limit: u32,
}

/// The reply to a [`Listing`]: one of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingPage {
    /// Logs.
    pub topics: Vec<TopicFigures>,
    /// Queues.
    pub queues: Vec<QueueFigures>,
    /// Sessions.
    pub sessions: Vec<SessionFigures>,
    /// There are more after the last.
    pub more: bool,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicFigures {
    /// Its name.
    pub name: Name,
    /// Its incarnation.
    pub topic: TopicId,
    /// It came with another protocol's declaration.
    pub provisional: bool,
    /// How many partitions it has; the first hundred are described.
    pub partition_count: u32,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionFigures>,
    /// Which paths its records have.
    pub path_template: String,
}

/// A partition of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFigures {
    /// The first log-live offset.
    pub log_start_offset: i64,
    /// The end of what is durable.
    pub high_watermark: i64,
    /// Bytes of batches in the log.
    pub bytes: u64,
    /// Files that it lies in.
    pub files: u32,
    /// The greatest timestamp, or -1.
    pub max_timestamp_ms: i64,
    /// Queues that read it by links.
    pub links: u32,
    /// Its raw view, if it has one.
    pub raw: Option<RawFigures>,
}

/// The raw view of a partition of a compacted topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFigures {
    /// Its first offset.
    pub log_start_offset: i64,
    /// Bytes of batches in it, as they were written.
    pub bytes: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueFigures {
    /// Its name.
    pub name: Name,
    /// Its incarnation.
    pub queue: QueueId,
    /// What it is for.
    pub kind: QueueKind,
    /// It survives a restart.
    pub durable: bool,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages with a consumer.
    pub leased: u64,
    /// Consumers.
    pub consumers: u64,
    /// Memory that its entries take, without their messages, in bytes.
    pub set_bytes: u64,
    /// Partitions that it reads by links.
    pub links: u32,
    /// Offsets of them that it has yet to look at.
    pub link_lag: u64,
    /// Messages that wait for their next try.
    pub deferred: u64,
}

/// An MQTT session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFigures {
    /// Its client id.
    pub client_id: Name,
    /// Its incarnation.
    pub session: SessionId,
    /// It survives its connection and a restart.
    pub durable: bool,
    /// A connection holds it.
    pub connected: bool,
    /// When it ends by itself, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Its own queue's messages that wait.
    pub ready: u64,
    /// Its own queue's messages on their way.
    pub leased: u64,
    /// Packet ids of QoS 2 exchanges under way.
    pub exchanges: u64,
}
