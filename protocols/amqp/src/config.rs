//! What an operator may set about AMQP.

use std::time::Duration;

/// AMQP's settings: limits, and what clients are told of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpConfig {
    /// `product` in the server properties. Clients tell RabbitMQ's dialect by it.
    pub product: String,
    /// `version` in the server properties. Clients turn features on by it.
    pub version: String,
    /// `cluster_name` in the server properties.
    pub cluster_name: String,
    /// The largest frame offered, bytes.
    pub frame_bytes_max: u32,
    /// The most channels of a connection offered; 0: no limit.
    pub channels_max: u16,
    /// The heartbeat offered, seconds; 0: none.
    pub heartbeat_s: u16,
    /// The largest message, bytes.
    pub message_bytes_max: u64,
    /// How long a connection may take until it is open.
    pub handshake_timeout: Duration,
    /// How long somebody who may not come in waits for the end of the connection.
    pub refusal_delay: Duration,
    /// How long a peer may take to answer a `connection.close`.
    pub close_timeout: Duration,
}

impl Default for AmqpConfig {
    fn default() -> Self {
        Self {
            product: "RabbitMQ".to_owned(),
            version: "3.13.7".to_owned(),
            cluster_name: "omnilog".to_owned(),
            frame_bytes_max: 131_072,
            channels_max: 2047,
            heartbeat_s: 60,
            message_bytes_max: 128 << 20,
            handshake_timeout: Duration::from_secs(10),
            refusal_delay: Duration::from_secs(1),
            close_timeout: Duration::from_secs(10),
        }
    }
}
