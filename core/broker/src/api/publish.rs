//! Publishing by AMQP and MQTT: gathered batches whose records are routed by the sequencer.

use crate::api::{Envelope, Name, SessionId, Table};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// When the reply to a write is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// As soon as it is decided: non-persistent messages, QoS 0, acks=0.
    Decided,
    /// When the journal holds it, as the server's durability says: on stable storage, or written.
    Durable,
}

/// One to 256 records for the same exchange or MQTT first level, in the publisher's order, as one v2 batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// The uncompressed v2 batch with base offset 0, CRC valid. At most 64 KiB, or one record.
    pub batch: Bytes,
    /// One for each record of the batch.
    pub records: Vec<PublishRecord>,
    /// When to reply.
    pub wait: Wait,
    /// MQTT QoS 2: journal this packet id with the message, and publish only if the id is not in flight yet. Only with
    /// a single record.
    pub dedupe: Option<Dedupe>,
}

/// One record of a [`Publish`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishRecord {
    /// What is kept beside the record.
    pub envelope: Envelope,
    /// AMQP's `CC` and `BCC`: further routing keys, matched beside the address's own.
    pub more_routing_keys: Vec<Bytes>,
    /// The headers, for a headers exchange; empty where no header is matched.
    pub headers: Table,
    /// MQTT: put it into (or, with an empty payload, take it from) the retained table.
    pub retain: Option<RetainAction>,
    /// To be published later, if its address is one where that is done. A will has none.
    #[serde(skip)]
    pub delay: Option<Box<Delay>>,
}

impl PublishRecord {
    /// A record that is only published: routed by its address alone, now, and retained nowhere.
    pub fn of(envelope: Envelope) -> Self {
        Self {
            envelope,
            more_routing_keys: Vec::new(),
            headers: Vec::new(),
            retain: None,
            delay: None,
        }
    }
}

/// How long after it was taken in a message is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delay {
    /// Milliseconds. Not more than 0: at once.
    pub ms: i64,
    /// The publishing protocol's property bytes that it has then, where they differ.
    pub properties: Option<Bytes>,
}

/// What a publish does to the retained table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetainAction {
    /// The message becomes its topic's retained one.
    Set,
    /// The topic's retained message goes.
    Clear,
}

/// An incoming QoS 2 packet id (MQTT 4.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedupe {
    /// The publisher's session.
    pub session: SessionId,
    /// The packet id, not 0.
    pub packet_id: u16,
}

/// What became of one record of a [`Publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routed {
    /// At least one queue or session takes it.
    Taken,
    /// No queue or session takes it (AMQP `mandatory`: return it; MQTT 5: 0x10). A log may hold it all the same.
    NoTaker,
    /// A queue refused it by its policy (`reject-publish`): nack.
    Rejected,
}

/// The reply to a [`Publish`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// One for each record, or empty: all [`Routed::Taken`].
    pub outcomes: Vec<Routed>,
    /// The packet id was in flight already; nothing was published.
    pub duplicate: bool,
}

/// A will (MQTT 3.1.2.5), kept by the broker from connect on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Will {
    /// What to publish.
    pub publish: Publish,
    /// How long after the loss of the connection, at most until the session's end.
    pub delay_ms: u64,
    /// How long the message lives, counted from its publication: the record's `expires_at_ms` is set when it fires.
    pub message_expiry_ms: Option<u64>,
    /// The principal for whom it is checked when it fires.
    pub principal: Name,
}
