//! The journal and the broker over it.

use crate::config::{Durability, Settings};
use omnilog_broker::{Broker, BrokerConfig, Name};

pub(crate) struct Engine {
    pub(crate) broker: Broker,
}

impl Engine {
    pub(crate) fn start(_settings: &Settings) -> anyhow::Result<Self> {
        anyhow::bail!("no engine yet")
    }

    /// Waits until the journal has failed; says how.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        std::future::pending().await
    }

    /// Lets the journal finish and leaves a clean end.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The broker's settings.
pub(crate) fn broker_config(settings: &Settings) -> BrokerConfig {
    let names = |names: &[String]| -> Vec<Name> {
        names.iter().map(|name| Name::from(name.clone())).collect()
    };
    let Settings {
        topics,
        memory,
        journal,
        ..
    } = settings;
    BrokerConfig {
        namespaces: names(&settings.namespaces),
        durability: match settings.durability {
            Durability::Synced => omnilog_broker::Durability::Synced,
            Durability::Written => omnilog_broker::Durability::Written,
        },
        partitions_default: topics.partitions_default,
        retention_ms_default: topics.retention_ms_default,
        retention_bytes_default: topics.retention_bytes_default,
        window_ms_default: topics.window_ms_default,
        window_bytes_default: topics.window_bytes_default,
        log_none: names(&topics.log_none),
        expose: names(&topics.expose),
        message_bytes_max: topics.message_bytes_max,
        tail_bytes_max: memory.tail_bytes_max,
        mailbox_bytes_max: memory.mailbox_bytes_max,
        memory_queue_bytes_max: memory.queue_bytes_max,
        auto_names_max: topics.auto_names_max,
        checkpoint_bytes: journal.checkpoint_bytes,
        checkpoint_ms: journal.checkpoint_ms,
    }
}
