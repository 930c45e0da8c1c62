//! Raw views: whether a topic has one, who may do what to it, and where it begins.
//!
//! `omnilog.raw.retention.ms` gives a compacted topic `NAME` the read-only topic `NAME.raw`: the same partitions and
//! offsets, every record as it was written, within a window of its own. Nothing is written twice. What was not cleaned
//! yet is read from the topic's own log; a round of cleaning copies what it is about to change
//! ([`crate::shard::compaction`]), and readers go through the copies first ([`omnilog_ledger::LogRange::copies`]).

use crate::api::*;
use crate::event::Event as Decision;
use crate::mapping::has_kafka_name;
use crate::shard::Shard;
use crate::shard::append::not_found;
use crate::shard::compaction::number;
use crate::state::partition::{Partition, Topic};
use crate::state::raw::{Readable, ReadablePartition, raw_name};
use omnilog_ledger::COPIES;

/// Is a topic with these settings to have a raw view?
fn has_view(settings: &LogSettings) -> bool {
    number(settings, RAW_RETENTION_MS).is_some_and(|ms| ms != 0)
}

fn invalid(text: String) -> Refusal {
    Refusal::InvalidSetting(text)
}

/// The values that settings of a raw view have, whatever topic they are for.
pub(crate) fn check_raw_settings(settings: &LogSettings) -> Result<(), Refusal> {
    for name in [RAW_RETENTION_MS, RAW_RETENTION_BYTES] {
        if number(settings, name).is_some_and(|value| value < -1) {
            return Err(invalid(format!("{name} must be at least -1")));
        }
    }
    let compacts = matches!(
        settings.cleanup,
        Some(CleanupPolicy::Compact | CleanupPolicy::CompactDelete)
    );
    if has_view(settings) && !compacts {
        return Err(invalid(format!(
            "{RAW_RETENTION_MS} needs cleanup.policy to be compact, or compact,delete: nothing else has a raw view"
        )));
    }
    Ok(())
}

impl Shard {
    /// Can a topic of this name have these settings, as far as its raw view goes?
    pub(crate) fn check_raw(
        &self,
        namespace: NamespaceId,
        name: &[u8],
        settings: &LogSettings,
    ) -> Result<(), Refusal> {
        check_raw_settings(settings)?;
        if !has_view(settings) {
            return Ok(());
        }
        let view = raw_name(name);
        let spelled = String::from_utf8_lossy(&view);
        let names = self.state.namespace(namespace);
        if names.is_some_and(|names| names.topics.contains(&self.state.topics, &view)) {
            return Err(invalid(format!(
                "{RAW_RETENTION_MS}: the raw view would be called '{spelled}', and there is a topic of that name"
            )));
        }
        if self.mapping.rule_of(&view).is_some() {
            return Err(invalid(format!(
                "{RAW_RETENTION_MS}: the raw view would be called '{spelled}', and the server's mapping keeps records \
                 in a topic of that name"
            )));
        }
        if !has_kafka_name(&view) {
            return Err(invalid(format!(
                "{RAW_RETENTION_MS}: '{spelled}' is too long for a topic's name"
            )));
        }
        Ok(())
    }

    /// A name that is a raw view's is nobody else's.
    pub(crate) fn check_free(&self, namespace: NamespaceId, name: &Name) -> Result<(), Refusal> {
        let names = self.state.namespace(namespace);
        if names.is_some_and(|names| names.raws.contains_key(name)) {
            return Err(Refusal::Exists(Noun::Topic, name.clone()));
        }
        Ok(())
    }

    /// Why a topic can't be changed: it is a raw view, or there is none.
    pub(crate) fn no_topic(&self, namespace: NamespaceId, topic: &TopicRef) -> Refusal {
        match self.state.raw_topic(namespace, topic) {
            Some(known) => Refusal::ReadOnly(raw_name(&known.name)),
            None => not_found(topic),
        }
    }

    /// The key of a partition that a request reads, and the topic's incarnation. And is it read as it was written?
    pub(crate) fn readable_key(
        &self,
        namespace: NamespaceId,
        topic: &TopicRef,
        partition: i32,
    ) -> Result<(TopicId, u64, bool), Refusal> {
        let known = self
            .state
            .readable(namespace, topic)
            .ok_or_else(|| not_found(topic))?;
        let key = usize::try_from(partition)
            .ok()
            .and_then(|index| known.topic.partitions.get(index))
            .ok_or(Refusal::NoPartition)?;
        Ok((known.id(), *key, known.raw.is_some()))
    }

    /// The partition that a request reads.
    pub(crate) fn readable_partition(
        &self,
        namespace: NamespaceId,
        topic: &TopicRef,
        partition: i32,
    ) -> Result<ReadablePartition<'_>, Refusal> {
        let (_, key, raw) = self.readable_key(namespace, topic, partition)?;
        let partition = self.state.partitions.get(&key);
        let partition = partition.ok_or(Refusal::NoPartition)?;
        let raw = match raw {
            true => Some(
                partition
                    .compacted
                    .raw
                    .as_ref()
                    .ok_or(Refusal::NoPartition)?,
            ),
            false => None,
        };
        Ok(ReadablePartition { partition, raw })
    }

    /// A topic's raw view as Kafka clients see it: its own window, and otherwise what its topic says of records.
    pub(crate) fn raw_info(&self, readable: &Readable<'_>) -> TopicInfo {
        let Readable { topic, raw } = *readable;
        let mut info = self.info(topic);
        let Some(view) = raw else {
            return info;
        };
        let others = std::mem::take(&mut info.settings.others);
        info.settings.retention_bytes = number(&topic.settings, RAW_RETENTION_BYTES);
        info.settings.retention_ms = number(&topic.settings, RAW_RETENTION_MS);
        info.settings.cleanup = Some(CleanupPolicy::Delete);
        info.settings.others = others
            .into_iter()
            .filter(|(name, _)| name.starts_with("message."))
            .collect();
        TopicInfo {
            topic: view.id,
            uuid: view.uuid,
            name: raw_name(&topic.name),
            path_template: Some(self.template_text(topic)),
            raw_of: Some(topic.name.name()),
            ..info
        }
    }

    /// A topic's settings or partitions may have changed: it has a raw view from now on, of each of its partitions, or
    /// none any more.
    pub(crate) fn settle_raw(&mut self, topic: TopicId) {
        let Some(known) = self.state.topics.get(&topic) else {
            return;
        };
        let (partitions, view) = (known.partitions.clone(), known.raw.as_deref().cloned());
        if !has_view(&known.settings) {
            if view.is_some() {
                let parked = self.waiters_of(&partitions);
                self.record(&Decision::RawViewDropped { topic });
                for id in parked {
                    self.answer_parked(id);
                }
            }
            return;
        }
        let all = partitions
            .iter()
            .filter_map(|key| self.state.partitions.get(key));
        let new = all.filter(|partition| partition.compacted.raw.is_none());
        let logs: Vec<(u64, u64, i64)> = (self.state.next_partition..)
            .zip(new)
            .map(|(number, partition)| (partition.key, number | COPIES, self.raw_from(partition)))
            .collect();
        if logs.is_empty() {
            return;
        }
        let (view, uuid) = match view {
            Some(view) => (view.id, view.uuid),
            None => (TopicId(self.state.next_topic), self.topic_uuid()),
        };
        self.record(&Decision::RawViewed {
            topic,
            view,
            uuid,
            logs,
        });
    }

    /// From where on a partition is as it was written, and will be.
    fn raw_from(&self, partition: &Partition) -> i64 {
        let doubtful = self.compaction.cleaned_at_most(partition.key);
        let cleaned = partition.cleaned_until().max(doubtful);
        let from = partition.log_start.max(cleaned);
        from.min(partition.next_offset)
    }

    /// How long, and how many bytes of, a topic's records its raw view keeps; -1: without end.
    pub(crate) fn raw_window(topic: &Topic) -> (i64, i64) {
        let ms = number(&topic.settings, RAW_RETENTION_MS);
        let bytes = number(&topic.settings, RAW_RETENTION_BYTES);
        (ms.unwrap_or(-1), bytes.unwrap_or(-1))
    }
}
