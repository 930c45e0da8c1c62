//! The journal and the broker over it.

use crate::config::{Durability, MappingSettings, Settings};
use anyhow::{Context, anyhow};
use omnilog_broker::{Broker, BrokerConfig, MappingRule, Name, Running};
use omnilog_ledger::{Env, JournalOptions};
use tracing::info;

/// A broker that runs over the journal in the data directory.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) broker: Broker,
    running: Running,
}

impl Engine {
    /// Recovers the journal and starts. Blocks until that is done.
    pub(crate) fn start(settings: &Settings) -> anyhow::Result<Self> {
        let dir = &settings.data_dir;
        let journal = &settings.journal;
        let options = JournalOptions {
            file_bytes: journal.file_bytes,
            low_bytes: journal.disk_low_bytes,
            reserve_bytes: journal.disk_reserve_bytes,
            bytes_max: journal.bytes_max,
            ..JournalOptions::default()
        };
        let running = Broker::start(&Env::real(), dir, options, broker_config(settings))
            .with_context(|| format!("cannot start on the data in {}", dir.display()))?;
        let (frames, clean) = running.replayed();
        info!(frames, after_clean_stop = clean, "journal replayed");
        Ok(Self {
            broker: running.broker().clone(),
            running,
        })
    }

    /// Waits until the broker can't go on; says why.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        match self.running.stopped().await {
            Ok(()) => anyhow!("the broker stopped by itself"),
            Err(why) => anyhow!("the journal failed and nothing more is acknowledged: {why}"),
        }
    }

    /// Brings everything decided to stable storage and leaves a clean end. Blocks.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.running.stop().map_err(anyhow::Error::msg)
    }
}

fn rule(rule: &MappingSettings) -> MappingRule {
    MappingRule {
        filter: rule.filter.clone(),
        topic: Name::from(rule.topic.clone()),
        key: rule.key.clone(),
        partition_key: rule.partition_key.clone(),
        partitions: rule.partitions,
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
        connection_threads: settings.limits.connection_threads(),
        partitions_default: topics.partitions_default,
        retention_ms_default: topics.retention_ms_default,
        retention_bytes_default: topics.retention_bytes_default,
        window_ms_default: topics.window_ms_default,
        window_bytes_default: topics.window_bytes_default,
        log_none: names(&topics.log_none),
        expose: names(&topics.expose),
        hold_links: names(&topics.hold_links),
        retain_latest: names(&topics.retain_latest),
        table_retained_max: topics.retain_latest_max,
        mapping: topics.mapping.iter().map(rule).collect(),
        catch_all: Name::from(topics.catch_all.clone()),
        catch_all_partitions: topics.catch_all_partitions,
        catch_all_partition_key: topics.catch_all_partition_key.clone(),
        auto_names_principal_max: topics.auto_names_principal_max,
        auto_names_per_s_max: topics.auto_names_per_s_max,
        message_bytes_max: topics.message_bytes_max,
        tail_bytes_max: memory.tail_bytes_max,
        mailbox_bytes_max: memory.mailbox_bytes_max,
        memory_queue_bytes_max: memory.queue_bytes_max,
        auto_names_max: topics.auto_names_max,
        checkpoint_bytes: journal.checkpoint_bytes,
        memory_queues_bytes_max: memory.queues_bytes_max,
        memory_sets_bytes_max: memory.sets_bytes_max,
        commands_bytes_max: memory.commands_bytes_max,
        checkpoint_ms: journal.checkpoint_ms,
        shared_by_key: settings.mqtt.shared_by_key,
        links_cpu_percent: settings.links.cpu_percent,
        delayed_messages_max: settings.limits.delayed_messages_max,
        delay_ms_max: i64::try_from(settings.limits.delay_ms_max).unwrap_or(i64::MAX),
        transaction_timeout_ms_max: settings.kafka.transaction_timeout_ms_max,
        transactional_id_expiration_ms: settings.kafka.transactional_id_expiration_ms,
        unclustered_files_max: usize::try_from(journal.unclustered_files_max).unwrap_or(usize::MAX),
    }
}
