//! What an operator may set about MQTT.

use omnilog_broker::path::{MQTT_LEVELS_MAX, MQTT_TOPIC_BYTES_MAX};
use std::time::Duration;

/// MQTT's settings: limits, and what clients are told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// The largest packet after CONNECT, header included, bytes (Maximum Packet Size).
    pub packet_bytes_max: usize,
    /// The largest CONNECT, bytes: all that a stranger may make us hold.
    pub connect_bytes_max: usize,
    /// How long a peer may take from the connection's start to its CONNECT, and we to our CONNACK.
    pub connect_timeout: Duration,
    /// Unacknowledged QoS 1 and 2 publishes of a client (Receive Maximum). Clients of MQTT 3 can't be told and are not
    /// held to it.
    pub receive_max: u16,
    /// Unacknowledged QoS 1 and 2 deliveries to a client, where its own Receive Maximum is not lower.
    pub inflight_max: u16,
    /// Topic aliases that a client may set (Topic Alias Maximum).
    pub topic_alias_max: u16,
    /// Topic aliases that we set, where the client takes that many.
    pub topic_alias_out_max: u16,
    /// The longest keep alive, seconds; 0: no limit. A client of MQTT 5 is told (Server Keep Alive).
    pub keep_alive_s_max: u16,
    /// The longest session expiry, seconds; `None`: no limit. It also bounds persistent sessions of MQTT 3.
    pub session_expiry_s_max: Option<u32>,
    /// The longest topic name or filter, bytes.
    pub topic_bytes_max: usize,
    /// The most levels of a topic name or filter.
    pub topic_levels_max: usize,
    /// The most filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_max: usize,
    /// The most subscriptions of one session.
    pub subscriptions_max: usize,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            packet_bytes_max: 16 << 20,
            connect_bytes_max: 128 << 10,
            connect_timeout: Duration::from_secs(10),
            receive_max: 1024,
            inflight_max: 1024,
            topic_alias_max: 64,
            topic_alias_out_max: 16,
            keep_alive_s_max: 0,
            session_expiry_s_max: None,
            topic_bytes_max: MQTT_TOPIC_BYTES_MAX,
            topic_levels_max: MQTT_LEVELS_MAX,
            filters_max: 4096,
            subscriptions_max: 100_000,
        }
    }
}
