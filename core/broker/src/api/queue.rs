//! Exchanges, queues, bindings, consumers and what they are asked.

use crate::api::{ConsumerKey, CreditGroup, EntryId, Message, Name, QueueId, Table};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The kinds of exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ExchangeKind {
    /// By equal routing key.
    Direct = 0,
    /// To every binding.
    Fanout = 1,
    /// By pattern.
    Topic = 2,
    /// By headers.
    Headers = 3,
    /// As the argument `x-delayed-type` says, each message when its time has come (`x-delayed-message`).
    Delayed = 4,
}

/// Declaring an exchange (AMQP `exchange.declare`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclareExchange {
    /// Its name.
    pub name: Name,
    /// Its kind.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// All arguments as declared; `alternate-exchange` and `x-delayed-type` are honoured and compared.
    pub arguments: Table,
}

impl DeclareExchange {
    /// How it routes: of one that delays, what its argument says, if that is a kind that routes.
    pub fn routing(&self) -> Option<ExchangeKind> {
        if self.kind != ExchangeKind::Delayed {
            return Some(self.kind);
        }
        let mut arguments = self.arguments.iter();
        let (_, kind) = arguments.find(|(name, _)| name == "x-delayed-type")?;
        match &kind.as_bytes()?[..] {
            b"direct" => Some(ExchangeKind::Direct),
            b"fanout" => Some(ExchangeKind::Fanout),
            b"topic" => Some(ExchangeKind::Topic),
            b"headers" => Some(ExchangeKind::Headers),
            _ => None,
        }
    }
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum QueueKind {
    /// An AMQP queue.
    Classic = 0,
    /// An MQTT session's queue.
    Session = 1,
    /// A shared subscription (`$share/group/filter`).
    Shared = 2,
}

/// Declaring a queue (AMQP `queue.declare`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclareQueue {
    /// Its name; empty: the broker makes one (`amq.gen-...`).
    pub name: Name,
    /// Survives a restart.
    pub durable: bool,
    /// For this connection alone, and gone with it.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// All arguments as declared.
    pub arguments: Table,
}

/// A queue as its declarer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueInfo {
    /// Its incarnation.
    pub queue: QueueId,
    /// Its name.
    pub name: Name,
    /// Ready messages, not leased ones.
    pub ready: u64,
    /// Consumers.
    pub consumers: u32,
}

/// The destination end of a binding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Destination {
    /// A queue, by name.
    Queue(Name),
    /// An exchange, by name.
    Exchange(Name),
}

/// A binding (AMQP `queue.bind`, `exchange.bind`): equal ones are one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The exchange that messages come from.
    pub source: Name,
    /// Where they go.
    pub destination: Destination,
    /// Key or pattern.
    pub routing_key: Bytes,
    /// Arguments (`x-match` and the headers to match).
    pub arguments: Table,
}

/// Starting a consumer (AMQP `basic.consume`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consume {
    /// The queue's name.
    pub queue: Name,
    /// The consumer's key, chosen by the client.
    pub consumer: ConsumerKey,
    /// Deliveries are settled as they are sent.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
    /// Unsettled deliveries at the most; 0: no limit.
    pub credit: u32,
    /// A further limit shared with others of this connection.
    pub credit_group: Option<CreditGroup>,
    /// Consumers of higher priority are served first.
    pub priority: i32,
    /// Arguments as given.
    pub arguments: Table,
}

/// One message for one consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Whose.
    pub consumer: ConsumerKey,
    /// From which queue: settle it with this and `entry`.
    pub queue: QueueId,
    /// Which entry.
    pub entry: EntryId,
    /// Must be settled. Otherwise it is the client's already (no-ack, QoS 0).
    pub unsettled: bool,
    /// Somebody may have seen it before.
    pub redelivered: bool,
    /// How often it was delivered and came back.
    pub returned_count: u32,
    /// The QoS at which an MQTT session gets it: the publisher's, at most the subscription's.
    pub qos: u8,
    /// It is a retained message sent because of a new subscription.
    pub retained: bool,
    /// An AMQP queue has it by a binding of `amq.topic`, the root view, and not by its first level's own exchange:
    /// its routing key is the whole path.
    pub by_root: bool,
    /// How often it came back, or failed, where the queue tells its consumers (a quorum queue).
    pub delivery_count: Option<u32>,
    /// The message.
    pub message: Message,
    /// How often it came back, where that is told beside how often it failed.
    pub acquired_count: Option<u32>,
}

/// How deliveries are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// Done with it.
    Ack,
    /// Back to its original place, redelivered.
    Requeue,
    /// Refused for good (AMQP reject without requeue): dead-lettered where the queue says so, else dropped.
    Reject,
    /// Back to its original place, as its consumer failed at it (AMQP `basic.reject` with requeue, a channel's end):
    /// it differs from [`Settlement::Requeue`] where the queue tries again later.
    Fail,
    /// Back to its original place, as its consumer never got it: it counts as not delivered.
    Undelivered,
}

/// Settling deliveries. Unknown entries are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// Queue and entry of each.
    pub entries: Vec<(QueueId, EntryId)>,
    /// How.
    pub settlement: Settlement,
}
