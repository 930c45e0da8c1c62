//! What the composition root decides for a broker.

use crate::api::{LogSettings, Name};
use crate::shard::name_matches;
use serde::{Deserialize, Serialize};

/// When writes are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On stable storage.
    #[default]
    Synced,
    /// Written to the operating system: survives a crash of the process, not of the machine.
    Written,
}

/// A broker's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerConfig {
    /// Namespaces that exist from the start; the first is the default one.
    pub namespaces: Vec<Name>,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// Threads that serve connections: those that catch up leave one of them to the others.
    pub connection_threads: usize,
    /// Partitions of a log made by Kafka's auto-creation or without a number.
    pub partitions_default: u32,
    /// Retention of a log made by Kafka: milliseconds, -1 for no limit.
    pub retention_ms_default: i64,
    /// Retention of a log made by Kafka: bytes a partition, -1 for no limit.
    pub retention_bytes_default: i64,
    /// The window of a log that came with another protocol's declaration: milliseconds.
    pub window_ms_default: i64,
    /// The window of a log that came with another protocol's declaration: bytes.
    pub window_bytes_default: i64,
    /// Names whose publishes are not logged (`log = none`): a name, or a prefix ending in `*`.
    pub log_none: Vec<Name>,
    /// Kafka topics that first-level wildcards reach (`expose`): a name, or a prefix ending in `*`.
    pub expose: Vec<Name>,
    /// The largest batch a Kafka client may append, bytes.
    pub message_bytes_max: i32,
    /// Bytes of recent records kept in memory.
    pub tail_bytes_max: u64,
    /// Bytes of unread events a client may have before its deliveries pause.
    pub mailbox_bytes_max: u64,
    /// Bytes of messages a non-durable queue may hold before its publishers are blocked.
    pub memory_queue_bytes_max: u64,
    /// Names that publishing may create by itself in one namespace.
    pub auto_names_max: u64,
    /// A checkpoint is due after this many bytes of journal.
    pub checkpoint_bytes: u64,
    /// A checkpoint is due after this many milliseconds in which anything was written.
    pub checkpoint_ms: u64,
    /// Sealed journal files that may wait to be clustered.
    pub unclustered_files_max: usize,
    /// Bytes of messages that all non-durable queues may hold before all publishers are blocked.
    pub memory_queues_bytes_max: u64,
    /// Bytes that the entries of all queues may take, without their messages, before all publishers are blocked.
    pub memory_sets_bytes_max: u64,
    /// Bytes of commands of all connections that may wait for the sequencer; beyond it each connection has one at a
    /// time.
    pub commands_bytes_max: u64,
    /// MQTT shared subscriptions give each topic's messages to one member while it has any of them.
    pub shared_by_key: bool,
    /// Where records of some paths are kept, in the order in which rules are tried.
    pub mapping: Vec<MappingRule>,
    /// The topic for what has no log of its own by any rule; empty: none.
    pub catch_all: Name,
    /// Its partitions.
    pub catch_all_partitions: u32,
    /// By what its partition is chosen: `{n}` for a path's n-th level; empty: by the whole path.
    pub catch_all_partition_key: String,
    /// Names that publishing may create by itself in one namespace for one principal.
    pub auto_names_principal_max: u64,
    /// The same within one second; 0: no limit.
    pub auto_names_per_s_max: u64,
    /// The longest that a transaction may be open, in milliseconds (Kafka's `transaction.max.timeout.ms`).
    pub transaction_timeout_ms_max: u32,
    /// What reading for links may take, in percent of one core.
    pub links_cpu_percent: u32,
    /// A transactional id that nobody used for so many milliseconds is forgotten (`transactional.id.expiration.ms`).
    pub transactional_id_expiration_ms: i64,
    /// Messages that may wait to be published later, in all.
    pub delayed_messages_max: u64,
    /// The longest that a message may be delayed, in milliseconds.
    pub delay_ms_max: i64,
    /// Topics whose logs keep what links have not read, where they don't say so themselves: names, or prefixes ending
    /// in `*`.
    pub hold_links: Vec<Name>,
    /// Topics whose records are retained messages, where they don't say so themselves: names, or prefixes ending in `*`.
    pub retain_latest: Vec<Name>,
    /// With so many retained messages in a namespace, topics' records add none under further paths.
    pub table_retained_max: u64,
}

/// The topic setting by which a log keeps what links have not read: `links`, or `none`.
pub const HOLD: &str = "omnilog.hold";

/// The topic setting by which what Kafka clients write are retained messages: `latest`, or `none`.
pub const RETAIN: &str = "omnilog.retain";

/// The setting of a compacted topic that gives it a raw view, and says for how many milliseconds that keeps records; -1:
/// without end.
pub const RAW_RETENTION_MS: &str = "omnilog.raw.retention.ms";

/// How many bytes of a partition its raw view keeps; -1: no limit.
pub const RAW_RETENTION_BYTES: &str = "omnilog.raw.retention.bytes";

/// What a raw view's name has behind its topic's.
pub const RAW_SUFFIX: &str = ".raw";

impl BrokerConfig {
    /// Are a topic's records retained messages, as far as Kafka clients write them?
    pub fn retains_latest(&self, topic: &[u8], settings: &LogSettings) -> bool {
        let own = settings.others.iter().find(|(name, _)| name == RETAIN);
        own.map_or_else(
            || self.retains_by_default(topic),
            |(_, value)| value == "latest",
        )
    }

    /// The same for a topic that says nothing itself.
    pub fn retains_by_default(&self, topic: &[u8]) -> bool {
        let mut patterns = self.retain_latest.iter();
        patterns.any(|pattern| name_matches(pattern, topic))
    }

    /// Does a topic's log keep what links have not read?
    pub fn holds_for_links(&self, topic: &[u8], settings: &LogSettings) -> bool {
        let own = settings.others.iter().find(|(name, _)| name == HOLD);
        own.map_or_else(
            || self.holds_by_default(topic),
            |(_, value)| value == "links",
        )
    }

    /// The same for a topic that says nothing itself.
    pub fn holds_by_default(&self, topic: &[u8]) -> bool {
        let mut patterns = self.hold_links.iter();
        patterns.any(|pattern| name_matches(pattern, topic))
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        const GIB: i64 = 1 << 30;
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            namespaces: vec![Name::from_static(b"/")],
            durability: Durability::Synced,
            connection_threads: 1,
            partitions_default: 1,
            retention_ms_default: 7 * DAY_MS,
            retention_bytes_default: -1,
            window_ms_default: DAY_MS,
            window_bytes_default: GIB,
            log_none: Vec::new(),
            expose: Vec::new(),
            message_bytes_max: 1_048_588,
            tail_bytes_max: 256 << 20,
            mailbox_bytes_max: 1 << 20,
            memory_queue_bytes_max: 256 << 20,
            auto_names_max: 1_000_000,
            checkpoint_bytes: 256 << 20,
            checkpoint_ms: 30_000,
            unclustered_files_max: 32,
            memory_queues_bytes_max: 1 << 30,
            memory_sets_bytes_max: 1 << 30,
            commands_bytes_max: 256 << 20,
            shared_by_key: false,
            links_cpu_percent: 50,
            mapping: Vec::new(),
            catch_all: Name::new(),
            catch_all_partitions: 1,
            catch_all_partition_key: "{1}".to_owned(),
            auto_names_principal_max: 100_000,
            auto_names_per_s_max: 0,
            transaction_timeout_ms_max: 15 * 60 * 1000,
            transactional_id_expiration_ms: 7 * DAY_MS,
            delayed_messages_max: 5_000_000,
            delay_ms_max: 3660 * DAY_MS,
            hold_links: Vec::new(),
            retain_latest: Vec::new(),
            table_retained_max: 1_000_000,
        }
    }
}

/// Who a connection is, for the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The authenticated principal.
    pub principal: Name,
    /// `kafka`, `amqp`, `mqtt`.
    pub protocol: String,
    /// The peer's address, for people.
    pub peer: String,
}

/// A mapping rule: where records of the paths that a filter matches are kept, and under which key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRule {
    /// An MQTT filter over paths.
    pub filter: String,
    /// The topic that keeps them.
    pub topic: Name,
    /// The record's key: `{n}` for what the n-th `+` matched, `{rest}` for the levels of the `#`, divided by slashes;
    /// each exactly once, `{rest}` last.
    pub key: String,
    /// By what the partition is chosen, of the same placeholders; `None`: by the key.
    pub partition_key: Option<String>,
    /// The topic's partitions; `None`: the server's default.
    pub partitions: Option<u32>,
}
