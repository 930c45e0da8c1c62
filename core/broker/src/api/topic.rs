//! Logs: topics with partitions, as Kafka clients see them.

use crate::api::{AbortedTransaction, Name, TopicId, Wait};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A topic's log settings. `None`: the server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Milliseconds a record stays log-live; -1: no limit (`retention.ms`).
    pub retention_ms: Option<i64>,
    /// Bytes a partition keeps log-live; -1: no limit (`retention.bytes`).
    pub retention_bytes: Option<i64>,
    /// Delete, compact, or both (`cleanup.policy`). Compaction is kept and reported, and done by the compactor.
    pub cleanup: Option<CleanupPolicy>,
    /// The largest batch a Kafka client may append, in bytes (`max.message.bytes`).
    pub message_bytes_max: Option<i32>,
    /// Timestamps are the broker's (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: Option<bool>,
    /// Other Kafka settings, kept and reported: name and value in Kafka's spelling.
    pub others: Vec<(String, String)>,
}

/// `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CleanupPolicy {
    /// `delete`
    Delete,
    /// `compact`
    Compact,
    /// `compact,delete`
    CompactDelete,
}

/// Creating a log, or adding the log role to a name that has other roles (Kafka CreateTopics).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// The name in the namespace.
    pub name: Name,
    /// Partitions; `None`: the server's default.
    pub partitions: Option<u32>,
    /// Settings.
    pub settings: LogSettings,
    /// Only say whether it would succeed.
    pub validate_only: bool,
    /// Which paths its records have ([`crate::template`]); `None`: a mapping rule's, or the default.
    pub path_template: Option<String>,
}

/// Replacing a log's settings (Kafka IncrementalAlterConfigs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTopic {
    /// Which.
    pub topic: TopicRef,
    /// All its settings from then on.
    pub settings: LogSettings,
    /// Only say whether it would succeed.
    pub validate_only: bool,
}

impl AlterTopic {
    /// Settings that count at once.
    pub fn new(topic: TopicRef, settings: LogSettings) -> Self {
        Self {
            topic,
            settings,
            validate_only: false,
        }
    }
}

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TopicRef {
    /// By name in the namespace.
    Name(Name),
    /// By Kafka's topic id (a UUID's bits).
    Uuid(u128),
}

/// A log, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its incarnation.
    pub topic: TopicId,
    /// Kafka's topic id, never 0.
    pub uuid: u128,
    /// Its name.
    pub name: Name,
    /// Partitions, numbered from 0.
    pub partitions: u32,
    /// Settings given explicitly.
    pub settings: LogSettings,
    /// The log role came with another protocol's declaration and has the bounded default window.
    pub provisional: bool,
    /// The journal epoch, which is Kafka's leader epoch.
    pub leader_epoch: i32,
    /// Which paths its records have, if not the default ones.
    pub path_template: Option<String>,
    /// It is the read-only raw view of this compacted topic.
    pub raw_of: Option<Name>,
}

/// Appending a Kafka client's batch (Produce). The caller has validated it: magic 2, CRC, counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// The batch, opaque and perhaps compressed.
    pub batch: Bytes,
    /// When to reply.
    pub wait: Wait,
    /// A record has no key, and the topic is compacted. The client finds out; protocols leave it `false`.
    pub keyless: bool,
    /// The transactional id of a producer with one: needed for batches of transactions.
    pub transactional_id: Option<Name>,
}

/// The reply to an [`Append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The first record's offset; of the original, for a repeated idempotent batch.
    pub base_offset: i64,
    /// The stamp, where timestamps are the broker's; else -1.
    pub log_append_time_ms: i64,
    /// The partition's first log-live offset.
    pub log_start_offset: i64,
}

/// Reading logs (Fetch): the reply comes when `bytes_min` are there, any partition has an error, or the wait is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// What to read, in the order of the reply.
    pub partitions: Vec<FetchPartition>,
    /// How long to wait.
    pub wait_ms_max: u32,
    /// How much to wait for.
    pub bytes_min: u32,
    /// How much to return; the first batch is returned whatever its size.
    pub bytes_max: u32,
    /// Only what is decided in every transaction (`isolation.level=read_committed`): up to the last stable offset.
    pub committed: bool,
}

/// One partition of a [`Fetch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// From which offset; the batch that contains it is returned whole.
    pub offset: i64,
    /// How much of this one.
    pub bytes_max: u32,
    /// The leader epoch that the client knows, or -1.
    pub current_leader_epoch: i32,
}

/// One partition of the reply to a [`Fetch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Whole batches in offset order, base offsets patched.
    pub batches: Vec<Bytes>,
    /// The end of what is durable.
    pub high_watermark: i64,
    /// The first offset of an open transaction, or the high watermark.
    pub last_stable_offset: i64,
    /// The first log-live offset.
    pub log_start_offset: i64,
    /// Aborted transactions among the batches, where only what is committed was asked for: in the order of their first
    /// offsets.
    pub aborted: Vec<AbortedTransaction>,
}

/// Asking for an offset (ListOffsets).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindOffset {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// Which offset.
    pub at: OffsetAt,
    /// The log ends at the last stable offset.
    pub committed: bool,
}

/// Which offset is asked for (ListOffsets).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OffsetAt {
    /// The first log-live one.
    Earliest,
    /// The high watermark.
    Latest,
    /// That of the record with the greatest timestamp.
    MaxTimestamp,
    /// That of the first record at or after this time in Unix milliseconds.
    Time(i64),
}

/// The reply: offset and timestamp, both -1 if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetFound {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, or -1 where none was asked for.
    pub timestamp_ms: i64,
    /// The leader epoch it was written in.
    pub leader_epoch: i32,
}

/// A committed offset of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The topic's name.
    pub topic: Name,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The leader epoch that the client gave, or -1.
    pub leader_epoch: i32,
    /// The client's metadata string.
    pub metadata: Bytes,
}
