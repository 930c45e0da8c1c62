//! Where a record was published to, as its own protocol said it.

use crate::api::Name;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The address of a publish; with it comes its provenance, which decides who gets the record (design, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Address {
    /// AMQP: exchange (empty: the default exchange) and routing key.
    Amqp {
        /// The exchange's name as published, `""` for the default one.
        exchange: Name,
        /// The routing key, at most 255 bytes.
        routing_key: Bytes,
    },
    /// MQTT: a topic name, validated, without wildcards.
    Mqtt {
        /// The topic name, UTF-8.
        topic: Bytes,
    },
    /// Kafka: topic and key; only ever read, since Kafka's batches come by [`crate::Command::Append`].
    Kafka {
        /// The topic's name in the namespace (not its Kafka spelling).
        topic: Name,
        /// The record's key.
        key: Option<Bytes>,
    },
}

/// Which road a record came by. It is kept in the frame, outside the batch, where no client can forge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Provenance {
    /// A Kafka client's batch.
    Kafka = 0,
    /// AMQP, a named exchange that is not predeclared.
    AmqpExchange = 1,
    /// AMQP, `amq.topic`: the root view.
    AmqpTopic = 2,
    /// AMQP, the default exchange.
    AmqpDefault = 3,
    /// AMQP, another predeclared exchange (`amq.direct`, `amq.fanout`, `amq.headers`, `amq.match`).
    AmqpPredeclared = 4,
    /// MQTT.
    Mqtt = 5,
}

impl Provenance {
    /// The provenance with this number.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Kafka,
            1 => Self::AmqpExchange,
            2 => Self::AmqpTopic,
            3 => Self::AmqpDefault,
            4 => Self::AmqpPredeclared,
            5 => Self::Mqtt,
            _ => return None,
        })
    }
}
