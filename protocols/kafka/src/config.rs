//! What the operator decides about the Kafka protocol.

use std::time::Duration;

use omnilog_broker::BrokerConfig;

use crate::group::GroupConfig;

/// Settings of the Kafka protocol.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// The cluster's identity, the same for its whole life.
    pub cluster_id: String,
    /// This server's node id.
    pub node_id: i32,
    /// The rack it stands in, if any.
    pub rack: Option<String>,
    /// The largest request of an authenticated client, in bytes (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// The largest request before authentication, in bytes (`sasl.server.max.receive.size`).
    pub request_bytes_max_unauthenticated: usize,
    /// The most that one Fetch returns, in bytes (`fetch.max.bytes`).
    pub fetch_bytes_max: u32,
    /// May asking for a topic create it (`auto.create.topics.enable`)?
    pub auto_create_topics: bool,
    /// A connection is closed after so long without a request (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// Consumer groups.
    pub groups: GroupConfig,
    /// What the broker gives topics that say nothing themselves, for DescribeConfigs.
    pub broker: BrokerConfig,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            cluster_id: "omnilog".to_owned(),
            node_id: 0,
            rack: None,
            request_bytes_max: 100 << 20,
            request_bytes_max_unauthenticated: 512 << 10,
            fetch_bytes_max: 55 << 20,
            auto_create_topics: true,
            idle_max: Duration::from_secs(10 * 60),
            groups: GroupConfig::default(),
            broker: BrokerConfig::default(),
        }
    }
}
