//! What a shard answers.

use crate::api::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The answer to a [`Command`] that was not refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing more to say.
    Done,
    /// A count of messages.
    Count(u64),
    /// Logs: one for each asked.
    Topics(Vec<Result<TopicInfo, Refusal>>),
    /// A log.
    Topic(TopicInfo),
    /// Appended.
    Appended(Appended),
    /// Read: one for each partition asked.
    Fetched(Vec<Result<Fetched, Refusal>>),
    /// An offset.
    Offset(OffsetFound),
    /// A producer id and its epoch.
    Producer(i64, i16),
    /// Offsets committed: one for each given.
    Committed(Vec<Result<(), Refusal>>),
    /// Offsets of a group; those never committed are left out.
    GroupOffsets(Vec<GroupOffset>),
    /// Transactional ids: one for each asked.
    Transactions(Vec<Result<TransactionInfo, Refusal>>),
    /// Topics and partitions whose position is not decided.
    Unstable(Vec<(Name, i32)>),
    /// Groups and what was kept of each.
    Groups(Vec<(Name, Option<Bytes>)>),
    /// A queue.
    Queue(QueueInfo),
    /// Published.
    Published(Published),
    /// A message and how many ready ones remain, or none.
    Got(Option<(Box<Delivery>, u64)>),
    /// A session.
    Session(Box<SessionOpened>),
    /// One for each filter, in order.
    Subscribed(Vec<Result<(), Refusal>>),
    /// One for each filter, in order: was it there?
    Unsubscribed(Vec<bool>),
    /// A step was journaled; `false`: that packet id was not in flight.
    Step(bool),
    /// Figures.
    Stats(Box<Stats>),
    /// A page of a listing.
    Listed(Box<ListingPage>),
}

/// Figures of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Logs.
    pub topics: u64,
    /// Queues of all kinds.
    pub queues: u64,
    /// Sessions.
    pub sessions: u64,
    /// Connected clients.
    pub clients: u64,
    /// Consumers.
    pub consumers: u64,
    /// Bindings and subscriptions.
    pub bindings: u64,
    /// Ready messages in all queues.
    pub ready: u64,
    /// Leased messages in all queues.
    pub leased: u64,
    /// Retained messages.
    pub retained: u64,
    /// Commands decided since the start.
    pub commands: u64,
    /// Records written since the start.
    pub records: u64,
    /// Deliveries made since the start.
    pub deliveries: u64,
    /// QoS 0 deliveries dropped because their receiver was slow.
    pub dropped: u64,
    /// Dead letters published since the start.
    pub dead_letters: u64,
    /// Offsets that queues with links have yet to look at, all together.
    pub link_lag: u64,
    /// The same of the link that is furthest behind.
    pub link_lag_max: u64,
    /// How often retention passed a link since the start.
    pub link_gaps: u64,
    /// Offsets that were missed so.
    pub link_gap_offsets: u64,
    /// Records of tables that could not become retained messages since the start.
    pub not_retained: u64,
    /// Bytes of the in-memory tail.
    pub tail_bytes: u64,
    /// Bytes of journal files.
    pub journal_bytes: u64,
    /// Journal files.
    pub journal_files: u64,
    /// The newest frame.
    pub lsn_head: u64,
    /// The newest durable frame.
    pub lsn_durable: u64,
    /// Nanoseconds the sequencer spent deciding.
    pub decide_ns: u64,
    /// Bytes of frames and wills that wait for space on the disk.
    pub held_bytes: u64,
    /// Publishers wait for space on the disk: 1, else 0.
    pub disk_low: u64,
    /// Bytes of messages that are in memory only.
    pub queues_bytes: u64,
    /// Bytes that queues' entries take, without their messages.
    pub sets_bytes: u64,
    /// Publishers wait for memory: 1, else 0.
    pub memory_low: u64,
    /// Bytes of commands that wait for the sequencer.
    pub commands_bytes: u64,
    /// Messages that are published later.
    pub delayed: u64,
    /// When the first of them is due, in Unix milliseconds; 0: there are none.
    pub delayed_next_ms: u64,
    /// Delayed messages published since the start.
    pub delays_over: u64,
    /// Delayed messages that could not be published any more, since the start: their exchange is gone.
    pub delays_lost: u64,
    /// Messages in queues that wait for their next try.
    pub deferred: u64,
}
