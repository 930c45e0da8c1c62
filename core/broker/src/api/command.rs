//! Everything a protocol can ask of a shard.

use crate::api::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A request to a shard. Each is answered by one [`Reply`] or [`Refusal`] with its correlation number, except those
/// sent with correlation 0, whose success nobody waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    // Logs.
    /// All logs, or these. → [`Reply::Topics`], one `Result` for each asked, in order; all when `None`.
    DescribeTopics(Option<Vec<TopicRef>>),
    /// → [`Reply::Topic`]
    CreateTopic(CreateTopic),
    /// Takes the log role away; other roles stay. → [`Reply::Done`]
    DeleteTopic(TopicRef),
    /// Raises the number of partitions to this. → [`Reply::Topic`]
    AddPartitions(TopicRef, u32),
    /// Replaces the settings. → [`Reply::Topic`]
    AlterTopic(AlterTopic),
    /// → [`Reply::Appended`]
    Append(Append),
    /// → [`Reply::Fetched`], one for each partition, in order.
    Fetch(Fetch),
    /// → [`Reply::Offset`]
    FindOffset(FindOffset),
    /// The end offset of a leader epoch (KIP-320): the largest known epoch not above it, and where it ends.
    /// → [`Reply::Offset`]
    EpochEnd(TopicRef, i32, i32),
    /// Moves the log start up to this offset; -1: the high watermark. → [`Reply::Offset`] with the new log start.
    DeleteRecords(TopicRef, i32, i64),
    /// A producer id of its own for an idempotent producer. → [`Reply::Producer`]
    InitProducer,

    // Transactions.
    /// Fences whoever had the transactional id, and aborts what they left open. → [`Reply::Producer`]
    InitTransactions(InitTransactions),
    /// → [`Reply::Committed`], one for each partition, or one for the group; if one is refused, none is taken in.
    Enlist(Transactor, Enlist),
    /// → [`Reply::Committed`], one for each position.
    OffsetsInTransaction(OffsetsInTransaction),
    /// Commits (`true`) or aborts. → [`Reply::Done`] when all of it is journaled.
    EndTransaction(Transactor, bool),
    /// These transactional ids, or all. → [`Reply::Transactions`], one for each asked, in order; all when `None`.
    DescribeTransactions(Option<Vec<Name>>),
    /// Partitions for which an open transaction is to commit a position of this group. → [`Reply::Unstable`]
    UnstableOffsets(Name),

    // Consumer groups: what of them is kept.
    /// Journaled together; a topic that isn't there is refused by itself. → [`Reply::Committed`]
    CommitOffsets(Name, Vec<GroupOffset>),
    /// These (topic, partition) pairs, or all of the group's. → [`Reply::GroupOffsets`]
    FetchOffsets(Name, Option<Vec<(Name, i32)>>),
    /// Keeps this as the group's state; `None` deletes the group and its offsets. → [`Reply::Done`]
    PutGroup(Name, Option<Bytes>),
    /// All groups that have state or offsets, with their state. → [`Reply::Groups`]
    ListGroups,

    // Exchanges, queues, bindings.
    /// Declares. → [`Reply::Done`]
    DeclareExchange(DeclareExchange),
    /// Is it there? → [`Reply::Done`] or not found
    CheckExchange(Name),
    /// Name, if-unused. → [`Reply::Done`], also if there was none.
    DeleteExchange(Name, bool),
    /// → [`Reply::Queue`]
    DeclareQueue(DeclareQueue),
    /// Passive declaration. → [`Reply::Queue`]
    CheckQueue(Name),
    /// → [`Reply::Count`] of ready messages; 0 if there was no such queue.
    DeleteQueue {
        /// The queue.
        name: Name,
        /// Only if it has no consumer.
        if_unused: bool,
        /// Only if it is empty.
        if_empty: bool,
    },
    /// Drops the ready messages. → [`Reply::Count`]
    PurgeQueue(Name),
    /// → [`Reply::Done`]
    Bind(Binding),
    /// → [`Reply::Done`], also if there was none.
    Unbind(Binding),

    // Publishing and consuming.
    /// → [`Reply::Published`]
    Publish(Publish),
    /// → [`Reply::Queue`]; deliveries follow it.
    Consume(Consume),
    /// Ends a consumer. Its unsettled deliveries stay with the client. → [`Reply::Done`], after its last delivery.
    Cancel(ConsumerKey),
    /// Sets a credit group's limit; 0: none. → [`Reply::Done`]
    SetCredit(CreditGroup, u32),
    /// One message (AMQP `basic.get`); `true`: settled at once. → [`Reply::Got`]
    Get(Name, bool),
    /// → [`Reply::Done`] when journaled.
    Settle(Settle),
    /// Several [`Command::Publish`], [`Command::Settle`] and [`Command::Cancel`] as one atomic frame (AMQP `tx.commit`,
    /// a channel's end).
    /// → [`Reply::Published`] with one outcome for each record published.
    Atomic(Vec<Self>),

    // Sessions.
    /// → [`Reply::Session`]; deliveries follow it.
    OpenSession(OpenSession),
    /// → [`Reply::Done`]
    CloseSession(CloseSession),
    /// → [`Reply::Subscribed`]; retained messages follow it.
    Subscribe(Subscribe),
    /// → [`Reply::Unsubscribed`]
    Unsubscribe(Unsubscribe),
    /// → [`Reply::Step`] when journaled.
    Step(SessionId, SessionStep),

    // The server.
    /// Figures for metrics and the admin API. → [`Reply::Stats`]
    Stats,
    /// A page of a listing. → [`Reply::Listed`]
    List(Listing),
}
