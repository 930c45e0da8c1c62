//! Every key of the configuration, with its default. `configs/default.toml` says what each is for.

mod protocols;

pub(crate) use protocols::{AmqpSettings, KafkaSettings, MqttSettings};

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) namespaces: Vec<String>,
    pub(crate) listeners: BTreeMap<String, ListenerSettings>,
    pub(crate) admin: AdminSettings,
    pub(crate) users: BTreeMap<String, UserSettings>,
    pub(crate) topics: TopicSettings,
    pub(crate) kafka: KafkaSettings,
    pub(crate) amqp: AmqpSettings,
    pub(crate) mqtt: MqttSettings,
    pub(crate) journal: JournalSettings,
    pub(crate) links: LinkSettings,
    pub(crate) memory: MemorySettings,
    pub(crate) limits: LimitSettings,
    pub(crate) log: LogSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "./data".into(),
            durability: Durability::Synced,
            namespaces: vec!["/".to_owned()],
            listeners: BTreeMap::new(),
            admin: AdminSettings::default(),
            users: BTreeMap::new(),
            topics: TopicSettings::default(),
            kafka: KafkaSettings::default(),
            amqp: AmqpSettings::default(),
            mqtt: MqttSettings::default(),
            journal: JournalSettings::default(),
            links: LinkSettings::default(),
            memory: MemorySettings::default(),
            limits: LimitSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    Synced,
    Written,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListenerSettings {
    pub(crate) enabled: Option<bool>,
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) protocol: Option<ProtocolName>,
    pub(crate) advertised: Option<String>,
    pub(crate) anonymous: Option<bool>,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) connections_max: Option<usize>,
}

impl ListenerSettings {
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled != Some(false)
    }
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolName {
    Kafka,
    Amqp,
    Mqtt,
    /// Whatever the client's first bytes are.
    Auto,
}

impl ProtocolName {
    /// The listeners that are there without a word in the configuration.
    pub(crate) const DEFAULT: [(&'static str, Self, u16); 3] = [
        ("kafka", Self::Kafka, 9092),
        ("amqp", Self::Amqp, 5672),
        ("mqtt", Self::Mqtt, 1883),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Amqp => "amqp",
            Self::Mqtt => "mqtt",
            Self::Auto => "auto",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Clients must show a certificate that one of these signed.
    pub(crate) client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminSettings {
    pub(crate) enabled: bool,
    pub(crate) bind: SocketAddr,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UserSettings {
    pub(crate) password: Option<String>,
    pub(crate) argon2: Option<String>,
    pub(crate) loopback_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TopicSettings {
    pub(crate) partitions_default: u32,
    pub(crate) retention_ms_default: i64,
    pub(crate) retention_bytes_default: i64,
    pub(crate) window_ms_default: i64,
    pub(crate) window_bytes_default: i64,
    pub(crate) message_bytes_max: i32,
    pub(crate) auto_names_max: u64,
    pub(crate) log_none: Vec<String>,
    pub(crate) expose: Vec<String>,
    pub(crate) hold_links: Vec<String>,
    pub(crate) retain_latest: Vec<String>,
    pub(crate) retain_latest_max: u64,
    pub(crate) auto_names_principal_max: u64,
    pub(crate) auto_names_per_s_max: u64,
    pub(crate) catch_all: String,
    pub(crate) catch_all_partitions: u32,
    pub(crate) catch_all_partition_key: String,
    pub(crate) mapping: Vec<MappingSettings>,
}

/// Where records of some paths are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MappingSettings {
    pub(crate) filter: String,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) partition_key: Option<String>,
    pub(crate) partitions: Option<u32>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions_default: 1,
            retention_ms_default: 7 * DAY_MS,
            retention_bytes_default: -1,
            window_ms_default: DAY_MS,
            window_bytes_default: 1 << 30,
            message_bytes_max: 1_048_588,
            auto_names_max: 1_000_000,
            log_none: Vec::new(),
            expose: Vec::new(),
            hold_links: Vec::new(),
            retain_latest: Vec::new(),
            retain_latest_max: 1_000_000,
            auto_names_principal_max: 100_000,
            auto_names_per_s_max: 0,
            catch_all: String::new(),
            catch_all_partitions: 1,
            catch_all_partition_key: "{1}".to_owned(),
            mapping: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournalSettings {
    pub(crate) file_bytes: u64,
    pub(crate) disk_low_bytes: u64,
    pub(crate) disk_reserve_bytes: u64,
    pub(crate) bytes_max: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) checkpoint_ms: u64,
    pub(crate) unclustered_files_max: u32,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            file_bytes: 64 * MIB,
            disk_low_bytes: 512 * MIB,
            disk_reserve_bytes: 256 * MIB,
            bytes_max: 0,
            checkpoint_bytes: 256 * MIB,
            checkpoint_ms: 30_000,
            unclustered_files_max: 32,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LinkSettings {
    pub(crate) cpu_percent: u32,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self { cpu_percent: 50 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MemorySettings {
    pub(crate) tail_bytes_max: u64,
    pub(crate) mailbox_bytes_max: u64,
    pub(crate) queue_bytes_max: u64,
    pub(crate) queues_bytes_max: u64,
    pub(crate) sets_bytes_max: u64,
    pub(crate) commands_bytes_max: u64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            tail_bytes_max: 256 * MIB,
            mailbox_bytes_max: MIB,
            queue_bytes_max: 256 * MIB,
            queues_bytes_max: 1024 * MIB,
            sets_bytes_max: 1024 * MIB,
            commands_bytes_max: 256 * MIB,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitSettings {
    pub(crate) connections_max: usize,
    pub(crate) connection_threads: usize,
    pub(crate) handshake_ms_max: u64,
    pub(crate) write_backlog_bytes_max: usize,
    pub(crate) peer_stall_ms_max: u64,
    pub(crate) shutdown_ms_max: u64,
    pub(crate) password_checks_max: usize,
    pub(crate) delayed_messages_max: u64,
    pub(crate) delay_ms_max: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connection_threads: 0,
            handshake_ms_max: 10_000,
            write_backlog_bytes_max: 1 << 20,
            peer_stall_ms_max: 60_000,
            shutdown_ms_max: 10_000,
            password_checks_max: 2,
            delayed_messages_max: 5_000_000,
            delay_ms_max: 3660 * 24 * 60 * 60 * 1000,
        }
    }
}

impl LimitSettings {
    /// How many threads serve connections: as set, or one less than there are cores, as the sequencer and the journal
    /// share one; two at least, so that what takes long leaves a thread to the others.
    pub(crate) fn connection_threads(&self) -> usize {
        match self.connection_threads {
            0 => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                cores.saturating_sub(1).max(2)
            }
            set => set,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSettings {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}
