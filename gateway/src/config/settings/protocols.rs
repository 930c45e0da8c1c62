//! What each protocol lets an operator decide.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KafkaSettings {
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) auto_create_topics: bool,
    pub(crate) request_bytes_max: usize,
    pub(crate) fetch_bytes_max: u32,
    pub(crate) idle_ms_max: u64,
    pub(crate) session_timeout_ms_min: u64,
    pub(crate) session_timeout_ms_max: u64,
    pub(crate) rebalance_delay_ms: u64,
    pub(crate) group_members_max: usize,
    pub(crate) offsets_retention_ms: u64,
    pub(crate) transaction_timeout_ms_max: u32,
    pub(crate) transactional_id_expiration_ms: i64,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            cluster_id: "omnilog".to_owned(),
            node_id: 0,
            auto_create_topics: true,
            request_bytes_max: 100 << 20,
            fetch_bytes_max: 55 << 20,
            idle_ms_max: 600_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            rebalance_delay_ms: 3_000,
            group_members_max: 10_000,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            transaction_timeout_ms_max: 900_000,
            transactional_id_expiration_ms: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AmqpSettings {
    pub(crate) product: String,
    pub(crate) version: String,
    pub(crate) cluster_name: String,
    pub(crate) frame_bytes_max: u32,
    pub(crate) channels_max: u16,
    pub(crate) heartbeat_s: u16,
    pub(crate) message_bytes_max: u64,
}

impl Default for AmqpSettings {
    fn default() -> Self {
        Self {
            product: "RabbitMQ".to_owned(),
            version: "3.13.7".to_owned(),
            cluster_name: "omnilog".to_owned(),
            frame_bytes_max: 131_072,
            channels_max: 2047,
            heartbeat_s: 60,
            message_bytes_max: 134_217_728,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MqttSettings {
    pub(crate) packet_bytes_max: usize,
    pub(crate) receive_max: u16,
    pub(crate) inflight_max: u16,
    pub(crate) topic_alias_max: u16,
    pub(crate) keep_alive_s_max: u16,
    pub(crate) session_expiry_s_max: u32,
    pub(crate) subscriptions_max: usize,
    pub(crate) shared_by_key: bool,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            packet_bytes_max: 16 << 20,
            receive_max: 1024,
            inflight_max: 1024,
            topic_alias_max: 64,
            keep_alive_s_max: 0,
            session_expiry_s_max: 0,
            subscriptions_max: 100_000,
            shared_by_key: false,
        }
    }
}
