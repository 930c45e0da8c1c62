//! What the sequencer decided, as it is journaled: the only thing that changes a shard's durable state.
//!
//! Live, an event is applied as soon as it is decided; in replay it is applied when its frame is read. Nothing here
//! is evaluated against a clock, a pattern, a random number or a consumer.
//!
//! The encoding is postcard's, one event after another. A variant keeps its number for ever: new ones go to the end,
//! and a variant whose fields must change is followed by a new one.

use crate::api::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A decision. A frame holds one or several, all or none of which take effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The journal was opened: its epoch and the first sequence of it.
    EpochBegan {
        epoch: u32,
        first_sequence: u64,
    },
    /// A log, or the log role of a name.
    TopicCreated {
        namespace: NamespaceId,
        topic: TopicId,
        uuid: u128,
        name: Name,
        /// The first of its partitions' keys; the others follow it.
        first_partition: u64,
        partitions: u32,
        settings: LogSettings,
        provisional: bool,
    },
    /// Settings replaced; a log asked for explicitly is not provisional any more.
    TopicAltered {
        topic: TopicId,
        settings: LogSettings,
        provisional: bool,
    },
    /// Partitions added at the end, under keys of their own.
    PartitionsAdded {
        topic: TopicId,
        first_partition: u64,
        count: u32,
    },
    /// The log role is gone.
    TopicDeleted {
        topic: TopicId,
    },
    /// The log start moved.
    LogStartMoved {
        partition: u64,
        offset: i64,
    },
    /// A Kafka client's batch: the frame's section says the rest.
    Appended {
        section: u32,
    },
    /// A gathered batch: which queues hold its records, in runs over the records.
    Published {
        namespace: NamespaceId,
        section: u32,
        holders: Vec<(u32, Holders)>,
    },
    /// A set of queues, defined for the frames after this one up to the next checkpoint.
    HoldersDefined {
        id: u32,
        queues: Vec<QueueId>,
    },
    ExchangeDeclared {
        namespace: NamespaceId,
        exchange: DeclareExchange,
    },
    ExchangeDeleted {
        namespace: NamespaceId,
        name: Name,
    },
    QueueDeclared {
        namespace: NamespaceId,
        queue: QueueId,
        kind: QueueKind,
        declared: DeclareQueue,
    },
    /// The queue, its entries and its bindings are gone.
    QueueDeleted {
        queue: QueueId,
    },
    Bound {
        namespace: NamespaceId,
        binding: Binding,
    },
    Unbound {
        namespace: NamespaceId,
        binding: Binding,
    },
    /// Entries are done with, in runs (first, last): acknowledged, expired, dropped, purged.
    Removed {
        queue: QueueId,
        runs: Vec<(u64, u64)>,
    },
    /// Entries came back: how often each has by now.
    Returned {
        queue: QueueId,
        entries: Vec<(u64, u32)>,
    },
    OffsetsCommitted {
        namespace: NamespaceId,
        group: Name,
        offsets: Vec<(TopicId, GroupOffset)>,
    },
    GroupPut {
        namespace: NamespaceId,
        group: Name,
        state: Option<Bytes>,
    },
    /// Producer ids below this one are taken.
    ProducersAllotted {
        next: i64,
    },
    /// A durable session is there, with its own queue (declared before it), and connected.
    SessionOpened {
        namespace: NamespaceId,
        session: SessionId,
        client_id: Name,
        queue: QueueId,
        expiry: SessionExpiry,
        will: Option<Will>,
    },
    /// Its connection ended; it expires at this Unix time in milliseconds, if ever. A pending will stays.
    SessionClosed {
        session: SessionId,
        expiry: SessionExpiry,
        expires_at_ms: Option<i64>,
    },
    /// Its will was published or forgotten.
    WillGone {
        session: SessionId,
    },
    SessionEnded {
        session: SessionId,
    },
    /// The queue that takes it, and the subscription.
    Subscribed {
        session: SessionId,
        queue: QueueId,
        subscription: Subscription,
    },
    Unsubscribed {
        session: SessionId,
        filter: Bytes,
        share: Option<Name>,
    },
    IncomingReserved {
        session: SessionId,
        packet_id: u16,
    },
    IncomingReleased {
        session: SessionId,
        packet_id: u16,
    },
    OutgoingAssigned {
        session: SessionId,
        packet_id: u16,
        queue: QueueId,
        entry: EntryId,
    },
    OutgoingReceived {
        session: SessionId,
        packet_id: u16,
    },
    OutgoingCompleted {
        session: SessionId,
        packet_id: u16,
    },
    /// The record at this sequence is the topic's retained message.
    RetainedSet {
        namespace: NamespaceId,
        topic: Bytes,
        sequence: u64,
    },
    RetainedCleared {
        namespace: NamespaceId,
        topic: Bytes,
    },
    /// A queue reads a partition that Kafka clients write, from this offset on.
    LinkCreated {
        queue: QueueId,
        partition: u64,
        offset: i64,
        routed_from: i64,
    },
    /// A link read on: records at these sequences (first, last) were put into the queue under fresh ones.
    LinkAdvanced {
        queue: QueueId,
        partition: u64,
        next_offset: i64,
        first_sequence: u64,
        runs: Vec<(u64, u64)>,
    },
    LinkDropped {
        queue: QueueId,
        partition: u64,
    },
    /// A clean stop: for each queue, entries below this were delivered to somebody.
    Stopped {
        delivered: Vec<(QueueId, u64)>,
    },
    /// Under this sequence a retained message was put into a queue once more (a new subscription).
    Copied {
        queue: QueueId,
        sequence: u64,
        original: u64,
    },
    /// Records that came with a priority: it counts in those of the queues that have priorities.
    Prioritised {
        queues: Holders,
        first: u64,
        last: u64,
        priority: u8,
    },
    /// Records of a lane of keys: it counts in those of the queues that share by key.
    Keyed {
        queues: Holders,
        first: u64,
        last: u64,
        lane: u16,
    },
    /// Keys were compacted below this offset, at this Unix time in milliseconds.
    LogCleaned {
        partition: u64,
        until: i64,
        at_ms: i64,
    },
    /// The log start moved within the first of its files: so many bytes of that are outside the log now.
    LogStartCut {
        partition: u64,
        offset: i64,
        bytes: u64,
    },
    /// Entries of these queues are not to be delivered from this time on (Unix milliseconds; 0: unless at once).
    Expires {
        queues: Holders,
        first: u64,
        last: u64,
        at_ms: i64,
    },
    /// What consecutive entries count for in a queue that is limited by bytes.
    Sized {
        queue: QueueId,
        first: u64,
        bytes: Vec<u64>,
    },
    /// A producer took over a transactional id; what was open was ended before.
    TransactionsInitialised {
        namespace: NamespaceId,
        id: Name,
        producer: i64,
        epoch: i16,
        last_producer: i64,
        last_epoch: i16,
        timeout_ms: u32,
        at_ms: i64,
    },
    /// Partitions and groups are in the id's transaction, which begins with them.
    TransactionJoined {
        namespace: NamespaceId,
        id: Name,
        partitions: Vec<u64>,
        groups: Vec<Name>,
        at_ms: i64,
    },
    /// Positions that count when the transaction is committed.
    TransactionOffsets {
        namespace: NamespaceId,
        id: Name,
        group: Name,
        offsets: Vec<(TopicId, GroupOffset)>,
    },
    /// A transaction's marker: the frame's section says where.
    Marked {
        section: u32,
        committed: bool,
    },
    /// The transaction is over, after its markers; the id's epoch is this from now on.
    TransactionEnded {
        namespace: NamespaceId,
        id: Name,
        committed: bool,
        epoch: i16,
        at_ms: i64,
    },
    /// A transactional id that nobody used for long.
    TransactionalForgotten {
        namespace: NamespaceId,
        id: Name,
    },
    /// Readers of a partition are not told any more of transactions that were aborted below this offset: compaction
    /// has left nothing of them.
    AbortedForgotten {
        partition: u64,
        below: i64,
    },
    /// Retention passed a link, which goes on here: the records before it are missing in the queue.
    LinkPassed {
        queue: QueueId,
        partition: u64,
        next_offset: i64,
    },
    /// Records that are published at this time (Unix milliseconds), and held until then.
    Delayed {
        namespace: NamespaceId,
        first: u64,
        last: u64,
        at_ms: i64,
    },
    /// They have been published, or can't be.
    DelayOver {
        entries: Vec<(i64, u64)>,
    },
    /// A topic that was just made has this path template, for ever.
    PathTemplateSet {
        topic: TopicId,
        template: String,
    },
    /// A topic that was just made came of this principal's publishing.
    AutoNamed {
        topic: TopicId,
        principal: Name,
    },
    /// Entries came back to a queue in which they are tried again later: how often each has come back by now, and
    /// failed, and until when it waits (Unix milliseconds; 0: it doesn't).
    Deferred {
        queue: QueueId,
        entries: Vec<(u64, u32, u32, i64)>,
    },
    /// The table of a partition was read on: records at these sequences are their topics' retained messages, and these
    /// topics have none any more.
    TableAdvanced {
        namespace: NamespaceId,
        partition: u64,
        next_offset: i64,
        kept: Vec<(Bytes, u64)>,
        gone: Vec<Bytes>,
    },
    /// Under this sequence a retained message that a Kafka client wrote was put into a queue (a new subscription).
    TableCopied {
        queue: QueueId,
        sequence: u64,
        original: u64,
        partition: u64,
    },
    /// A topic has a raw view under this id, with these logs: the partition, the key of its copies, where it begins.
    RawViewed {
        topic: TopicId,
        view: TopicId,
        uuid: u128,
        logs: Vec<(u64, u64, i64)>,
    },
    /// It has none any more.
    RawViewDropped {
        topic: TopicId,
    },
    /// A partition's raw view begins here; so many bytes of its first file are outside, if it begins within that.
    RawStartMoved {
        partition: u64,
        offset: i64,
        bytes: u64,
    },
}

/// The durable queues that hold a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Holders {
    /// Named in place: at most four.
    Inline(smallvec::SmallVec<[QueueId; 4]>),
    /// A set defined by [`Event::HoldersDefined`].
    Set(u32),
}

/// Appends an event to a frame's decision.
pub(crate) fn encode(event: &Event, decision: &mut Vec<u8>) -> Result<(), postcard::Error> {
    let taken = std::mem::take(decision);
    *decision = postcard::to_extend(event, taken)?;
    Ok(())
}

/// The events of a frame's decision, in order.
pub(crate) fn decode(mut decision: &[u8]) -> Result<Vec<Event>, postcard::Error> {
    let mut events = Vec::new();
    while !decision.is_empty() {
        let (event, rest) = postcard::take_from_bytes(decision)?;
        events.push(event);
        decision = rest;
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
