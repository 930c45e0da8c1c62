//! A stored record as a consumer gets it: the batch's bytes, shared, and the record's envelope.

use crate::api::{Address, Name, Provenance, Table};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the broker knows of one record beside its bytes. It lies in the frame, outside the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where it was published to, and so its provenance.
    pub address: Address,
    /// The road it came by.
    pub provenance: Provenance,
    /// The publisher: an MQTT client id, an AMQP user. Empty when unknown. Never taken from a header.
    pub publisher: Name,
    /// The publishing protocol's own property bytes, verbatim: an AMQP content header's flags and list, an MQTT 5
    /// property block. Empty when there are none.
    pub properties: Bytes,
    /// The QoS it was published with: 0 or 1 for AMQP's transient and persistent, 0 to 2 for MQTT.
    pub qos: u8,
    /// MQTT's RETAIN flag as published.
    pub retain: bool,
    /// Unix milliseconds from which it is not delivered any more (message expiry, per-message TTL).
    pub expires_at_ms: Option<i64>,
    /// AMQP priority, 0 when not given.
    pub priority: u8,
    /// How many of the record's leading headers are mapped properties (`content-type`, ...); the others are the user's.
    pub property_headers: u16,
    /// Where the record lies within the batch: position of its body after the length varint, and the body's length.
    pub range: (u32, u32),
}

impl Envelope {
    /// A persistent record by this address and nobody in particular, without properties. `range` as in [`Envelope`].
    pub fn new(address: Address, provenance: Provenance, range: (u32, u32)) -> Self {
        Self {
            address,
            provenance,
            publisher: Name::new(),
            properties: Bytes::new(),
            qos: 1,
            retain: false,
            expires_at_ms: None,
            priority: 0,
            property_headers: 0,
            range,
        }
    }
}

/// A batch in the log with its envelopes: one for each record of a gathered batch, none for a Kafka client's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredBatch {
    /// The v2 batch. Base offset and leader epoch are patched when it is appended to a log.
    pub batch: Bytes,
    /// One for each record; empty for a batch that a Kafka client wrote.
    pub envelopes: Vec<Envelope>,
    /// The histories of those of its records that are dead letters: which record, and its history.
    pub deaths: Vec<(u32, Arc<Deaths>)>,
    /// What those of its records that are published later are routed by then, beside their addresses.
    pub hints: Vec<(u32, Arc<RoutingHints>)>,
}

/// What a message is routed by beside its address (AMQP).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoutingHints {
    /// `CC` and `BCC`: further routing keys.
    pub more_routing_keys: Vec<Bytes>,
    /// Headers, for a headers exchange.
    pub headers: Table,
}

/// Why a queue let go of a message before it was consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum DeathReason {
    /// A consumer refused it for good.
    Rejected = 0,
    /// Its time was over.
    Expired = 1,
    /// The queue was full.
    MaxLen = 2,
    /// It came back too often.
    DeliveryLimit = 3,
}

/// A dead letter's history (RabbitMQ's `x-death`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaths {
    /// The road by which the message came first: whose properties its envelope has.
    pub origin: Provenance,
    /// Once for each queue and reason, the newest first.
    pub deaths: Vec<Death>,
    /// The first of all.
    pub first: FirstDeath,
}

/// Where, why and how often a message died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The queue.
    pub queue: Name,
    /// Why.
    pub reason: DeathReason,
    /// How often, there and for that reason.
    pub count: u64,
    /// The exchange it had been published to.
    pub exchange: Name,
    /// Its routing key.
    pub routing_key: Bytes,
    /// When it died there first, in Unix milliseconds.
    pub time_ms: i64,
    /// It had an expiration of its own, which ended with this death.
    pub had_expiration: bool,
}

/// A message's first death.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDeath {
    /// The queue.
    pub queue: Name,
    /// Why.
    pub reason: DeathReason,
    /// The exchange it had been published to.
    pub exchange: Name,
}

impl StoredBatch {
    /// A batch whose records are no dead letters.
    pub fn new(batch: Bytes, envelopes: Vec<Envelope>) -> Self {
        Self {
            batch,
            envelopes,
            deaths: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// What lies beside the batch in its frame: envelopes, and behind them histories and hints, if there are any.
    pub(crate) fn encode_beside(&self) -> Bytes {
        let room = Vec::with_capacity(ENVELOPE_BYTES * self.envelopes.len());
        let mut beside = postcard::to_extend(&self.envelopes, room).unwrap_or_default();
        if !self.deaths.is_empty() || !self.hints.is_empty() {
            beside = postcard::to_extend(&self.deaths, beside).unwrap_or_default();
        }
        if !self.hints.is_empty() {
            beside = postcard::to_extend(&self.hints, beside).unwrap_or_default();
        }
        Bytes::from(beside)
    }

    /// A batch and what lies beside it.
    pub(crate) fn decode(batch: Bytes, beside: &[u8]) -> Self {
        let mut decoded = Self::new(batch, Vec::new());
        if let Ok((envelopes, rest)) = postcard::take_from_bytes(beside) {
            decoded.envelopes = envelopes;
            if let Ok((deaths, rest)) = postcard::take_from_bytes(rest) {
                decoded.deaths = deaths;
                if !rest.is_empty() {
                    decoded.hints = postcard::from_bytes(rest).unwrap_or_default();
                }
            }
        }
        decoded
    }
}

/// Room to begin with for one record's encoded envelope.
const ENVELOPE_BYTES: usize = 64;

/// One record for a consumer. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The batch it lies in, uncompressed.
    pub stored: Arc<StoredBatch>,
    /// Which of the batch's records, counted from 0.
    pub index: u32,
    /// Where it lies in a Kafka-readable log, if anywhere: partition and offset.
    pub position: Option<(i32, i64)>,
}

impl Message {
    /// The record's envelope.
    ///
    /// Every message that is delivered has one: records pulled from Kafka clients' batches get theirs when they are
    /// pulled, with [`Provenance::Kafka`].
    pub fn envelope(&self) -> Option<&Envelope> {
        self.stored.envelopes.get(self.index as usize)
    }

    /// Its history, if it is a dead letter.
    pub fn deaths(&self) -> Option<&Arc<Deaths>> {
        let deaths = &self.stored.deaths;
        deaths
            .iter()
            .find(|(index, _)| *index == self.index)
            .map(|(_, deaths)| deaths)
    }

    /// What it is routed by beside its address, if it is published later.
    pub(crate) fn hints(&self) -> Option<&RoutingHints> {
        let mut hints = self.stored.hints.iter();
        let (_, hints) = hints.find(|(index, _)| *index == self.index)?;
        Some(hints)
    }

    /// The record's bytes after its length varint: attributes, timestamp delta, offset delta, key, value, headers.
    pub fn record_bytes(&self) -> Option<&[u8]> {
        let (position, length) = self.envelope()?.range;
        let end = position.checked_add(length)? as usize;
        self.stored.batch.get(position as usize..end)
    }

    /// The batch's base timestamp in Unix milliseconds, to which record timestamps are deltas.
    pub fn base_timestamp_ms(&self) -> i64 {
        self.stored
            .batch
            .get(27..35)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(-1, i64::from_be_bytes)
    }
}
