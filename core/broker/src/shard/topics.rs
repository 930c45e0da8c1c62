//! Logs: making, changing, describing and deleting them.

use crate::api::*;
use crate::event::Event as Decision;
use crate::mapping::has_kafka_name;
use crate::server::Compacted;
use crate::shard::Shard;
use crate::shard::append::not_found;
use crate::shard::raw::check_raw_settings;
use crate::state::namespace::Namespace;
use crate::state::partition::Topic;
use crate::state::raw::Readable;
use crate::template::PathTemplate;
use std::sync::Arc;

/// Partitions of one topic, at the most.
const PARTITIONS_MAX: u32 = 10_000;

impl Shard {
    pub(crate) fn describe_topics(
        &self,
        namespace: NamespaceId,
        wanted: Option<Vec<TopicRef>>,
    ) -> Vec<Result<TopicInfo, Refusal>> {
        match wanted {
            Some(wanted) => wanted
                .iter()
                .map(|topic| {
                    let known = self.state.readable(namespace, topic);
                    known
                        .map(|topic| self.raw_info(&topic))
                        .ok_or_else(|| not_found(topic))
                })
                .collect(),
            None => self
                .state
                .namespace(namespace)
                .into_iter()
                .flat_map(|names| names.topics.iter())
                .filter_map(|topic| self.state.topics.get(&topic))
                .flat_map(|topic| {
                    let view = topic.raw.as_deref();
                    let own = Readable { topic, raw: None };
                    let raw = view.map(|view| Readable {
                        topic,
                        raw: Some(view),
                    });
                    std::iter::once(own).chain(raw)
                })
                .map(|topic| Ok(self.raw_info(&topic)))
                .collect(),
        }
    }

    pub(crate) fn info(&self, topic: &Topic) -> TopicInfo {
        TopicInfo {
            topic: topic.id,
            uuid: topic.uuid,
            name: topic.name.name(),
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            settings: (*topic.settings).clone(),
            provisional: topic.provisional,
            leader_epoch: i32::try_from(self.state.epoch).unwrap_or(-1),
            path_template: self.state.templates.get(&topic.id).map(ToString::to_string),
            raw_of: None,
        }
    }

    /// Which paths a topic's records have.
    pub(crate) fn template_text(&self, topic: &Topic) -> String {
        let template = self.state.templates.get(&topic.id);
        template.map_or_else(
            || PathTemplate::default_text(&topic.name),
            ToString::to_string,
        )
    }

    /// The template that a topic is to be made with; none: the default one.
    fn template_for(&self, create: &CreateTopic) -> Result<Option<Arc<PathTemplate>>, Refusal> {
        let asked = create
            .path_template
            .as_ref()
            .map(|text| PathTemplate::parse(text))
            .transpose()
            .map_err(|error| Refusal::InvalidSetting(format!("the path template: {error}")))?;
        let Some(rule) = self.mapping.rule_of(&create.name) else {
            let own = asked.filter(|template| !template.is_default(&create.name));
            return Ok(own.map(Arc::new));
        };
        if asked.is_some_and(|asked| asked != *rule.template) {
            return Err(Refusal::InvalidSetting(format!(
                "the server's mapping keeps records in this topic, so its path template is '{}'",
                rule.template
            )));
        }
        Ok(Some(rule.template.clone()))
    }

    /// Makes a log. A provisional one becomes a full one: it keeps partition 0 and takes the settings given.
    pub(crate) fn create_topic(
        &mut self,
        namespace: NamespaceId,
        create: CreateTopic,
    ) -> Result<Reply, Refusal> {
        let partitions = create.partitions.unwrap_or(self.config.partitions_default);
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(Refusal::InvalidPartitions);
        }
        check_settings(&create.settings)?;
        self.check_free(namespace, &create.name)?;
        self.check_raw(namespace, &create.name, &create.settings)?;
        let template = self.template_for(&create)?;
        let known = self
            .state
            .topic(namespace, &TopicRef::Name(create.name.clone()));
        if let Some(known) = known {
            if !known.provisional {
                return Err(Refusal::Exists(Noun::Topic, create.name));
            }
            let (topic, present) = (known.id, known.partitions.len());
            let mut info = self.info(known);
            if create.path_template.is_some()
                && self.state.templates.get(&topic) != template.as_ref()
            {
                return Err(Refusal::InvalidSetting(format!(
                    "records were written under the path template '{}', which can't change any more",
                    self.template_text(known)
                )));
            }
            let partitions = match create.partitions {
                None => partitions.max(info.partitions),
                Some(fewer) if fewer < info.partitions => return Err(Refusal::InvalidPartitions),
                Some(partitions) => partitions,
            };
            info.partitions = partitions;
            info.settings = create.settings.clone();
            info.provisional = false;
            if !create.validate_only {
                self.may_publish()?;
                self.record(&Decision::TopicAltered {
                    topic,
                    settings: create.settings,
                    provisional: false,
                });
                self.note_compacted(topic, true);
                let present = u32::try_from(present).unwrap_or(u32::MAX);
                if partitions > present {
                    let first_partition = self.state.next_partition;
                    let count = partitions - present;
                    self.record(&Decision::PartitionsAdded {
                        topic,
                        first_partition,
                        count,
                    });
                }
                self.settle_table(topic);
                self.settle_raw(topic);
            }
            return Ok(Reply::Topic(info));
        }
        if create.validate_only {
            return Ok(Reply::Topic(TopicInfo {
                topic: TopicId(0),
                uuid: 0,
                name: create.name,
                partitions,
                settings: create.settings,
                provisional: false,
                leader_epoch: i32::try_from(self.state.epoch).unwrap_or(-1),
                path_template: template.map(|template| template.to_string()),
                raw_of: None,
            }));
        }
        self.may_publish()?;
        let topic = self.add_log(namespace, create.name, partitions, create.settings, false);
        self.set_template(topic, template.as_deref());
        self.settle_raw(topic);
        self.topic_reply(topic)
    }

    fn topic_reply(&self, topic: TopicId) -> Result<Reply, Refusal> {
        let topic = self.state.topics.get(&topic).ok_or(Refusal::ShardLost)?;
        Ok(Reply::Topic(self.info(topic)))
    }

    fn add_log(
        &mut self,
        namespace: NamespaceId,
        name: Name,
        partitions: u32,
        settings: LogSettings,
        provisional: bool,
    ) -> TopicId {
        let topic = TopicId(self.state.next_topic);
        let uuid = self.topic_uuid();
        self.record(&Decision::TopicCreated {
            namespace,
            topic,
            uuid,
            name,
            first_partition: self.state.next_partition,
            partitions,
            settings,
            provisional,
        });
        self.note_compacted(topic, true);
        topic
    }

    /// Kafka's topic ids are random (version 4) UUIDs; 0 means none.
    pub(crate) fn topic_uuid(&mut self) -> u128 {
        let random = u128::from((self.random)()) << 64 | u128::from((self.random)());
        random & !(0xf000 << 64 | 0xc0 << 56) | 0x4000 << 64 | 0x80 << 56
    }

    /// Are a topic's keys compacted?
    pub(crate) fn compacts(&self, topic: TopicId) -> bool {
        let topic = self.state.topics.get(&topic);
        topic.is_some_and(|topic| {
            matches!(
                topic.settings.cleanup,
                Some(CleanupPolicy::Compact | CleanupPolicy::CompactDelete)
            )
        })
    }

    /// Tells connections whether a topic is compacted.
    fn note_compacted(&self, topic: TopicId, there: bool) {
        if let Some(known) = self.state.topics.get(&topic) {
            let names = [
                TopicRef::Name(known.name.name()),
                TopicRef::Uuid(known.uuid),
            ];
            let compacted = there && self.compacts(topic);
            self.compacted.note(known.namespace, names, compacted);
        }
    }

    /// The compacted topics, for connections.
    pub(crate) fn compacted(&self) -> Arc<Compacted> {
        for topic in self.state.topics.keys() {
            self.note_compacted(topic, true);
        }
        self.compacted.clone()
    }

    /// A topic that was just made has this template, if not the default one.
    pub(crate) fn set_template(&mut self, topic: TopicId, template: Option<&PathTemplate>) {
        if let Some(template) = template {
            self.record(&Decision::PathTemplateSet {
                topic,
                template: template.to_string(),
            });
        }
    }

    /// Adds a bounded log to a name whose role came with another protocol's declaration.
    pub(crate) fn add_provisional_log(&mut self, namespace: NamespaceId, name: Name) -> TopicId {
        // Not by that name itself, but the log is one that rules write to.
        let (partitions, template) = match self.mapping.rule_of(&name) {
            Some(rule) => (
                rule.partitions.unwrap_or(self.config.partitions_default),
                Some(rule.template.clone()),
            ),
            None => (1, None),
        };
        let settings = LogSettings {
            retention_ms: Some(self.config.window_ms_default),
            retention_bytes: Some(self.config.window_bytes_default),
            ..LogSettings::default()
        };
        let topic = self.add_log(namespace, name, partitions, settings, true);
        self.set_template(topic, template.as_deref());
        topic
    }

    /// May this name have a log of its own accord?
    pub(crate) fn may_have_log(&self, names: &Namespace, name: &[u8]) -> bool {
        has_kafka_name(name)
            && !names.raws.contains_key(name)
            && !name.starts_with(b"$")
            && !name.starts_with(b"amq.")
            && !self
                .config
                .log_none
                .iter()
                .any(|pattern| name_matches(pattern, name))
    }

    pub(crate) fn delete_topic(
        &mut self,
        namespace: NamespaceId,
        topic: &TopicRef,
    ) -> Result<Reply, Refusal> {
        let known = self
            .state
            .topic(namespace, topic)
            .ok_or_else(|| self.no_topic(namespace, topic))?;
        let (id, partitions) = (known.id, known.partitions.clone());
        let parked = self.waiters_of(&partitions);
        self.note_compacted(id, false);
        let table = self.retains(id);
        self.record(&Decision::TopicDeleted { topic: id });
        if table {
            self.forget_tables();
        }
        for id in parked {
            self.answer_parked(id);
        }
        Ok(Reply::Done)
    }

    /// Takes out who waits for more of these partitions.
    pub(crate) fn waiters_of(&mut self, partitions: &[u64]) -> Vec<u64> {
        let mut parked = Vec::new();
        for key in partitions {
            if let Some(partition) = self.state.partitions.get_mut(key) {
                parked.append(&mut partition.waiters);
            }
        }
        parked
    }

    pub(crate) fn add_partitions(
        &mut self,
        namespace: NamespaceId,
        topic: &TopicRef,
        total: u32,
    ) -> Result<Reply, Refusal> {
        self.may_publish()?;
        let known = self
            .state
            .topic(namespace, topic)
            .ok_or_else(|| self.no_topic(namespace, topic))?;
        let (id, present) = (
            known.id,
            u32::try_from(known.partitions.len()).unwrap_or(u32::MAX),
        );
        if total <= present || total > PARTITIONS_MAX {
            return Err(Refusal::InvalidPartitions);
        }
        let first_partition = self.state.next_partition;
        self.record(&Decision::PartitionsAdded {
            topic: id,
            first_partition,
            count: total - present,
        });
        self.settle_raw(id);
        self.topic_reply(id)
    }

    pub(crate) fn alter_topic(
        &mut self,
        namespace: NamespaceId,
        alter: AlterTopic,
    ) -> Result<Reply, Refusal> {
        let AlterTopic {
            topic,
            settings,
            validate_only,
        } = alter;
        check_settings(&settings)?;
        let known = self
            .state
            .topic(namespace, &topic)
            .ok_or_else(|| self.no_topic(namespace, &topic))?;
        let (id, view) = (known.id, known.raw.is_some());
        match view {
            true => check_raw_settings(&settings)?,
            false => self.check_raw(namespace, &known.name, &settings)?,
        }
        if validate_only {
            return self.topic_reply(id);
        }
        self.record(&Decision::TopicAltered {
            topic: id,
            settings,
            provisional: false,
        });
        self.note_compacted(id, true);
        self.settle_table(id);
        self.settle_raw(id);
        self.topic_reply(id)
    }

    pub(crate) fn delete_records(
        &mut self,
        namespace: NamespaceId,
        topic: &TopicRef,
        partition: i32,
        offset: i64,
    ) -> Result<Reply, Refusal> {
        let (_, key) = self.partition_key(namespace, topic, partition)?;
        let known = self
            .state
            .partitions
            .get(&key)
            .ok_or(Refusal::NoPartition)?;
        let wanted = if offset == -1 {
            known.high_watermark
        } else {
            offset
        };
        if wanted < 0 || wanted > known.high_watermark {
            return Err(Refusal::OffsetOutOfRange {
                log_start_offset: known.log_start,
                high_watermark: known.high_watermark,
            });
        }
        let start = wanted.max(known.log_start);
        if start > known.log_start {
            self.record(&Decision::LogStartMoved {
                partition: key,
                offset: start,
            });
        }
        let leader_epoch = i32::try_from(self.state.epoch).unwrap_or(-1);
        Ok(Reply::Offset(OffsetFound {
            offset: start,
            timestamp_ms: -1,
            leader_epoch,
        }))
    }

    pub(crate) fn init_producer(&mut self) -> Result<Reply, Refusal> {
        self.may_publish()?;
        let id = self.state.next_producer;
        self.record(&Decision::ProducersAllotted { next: id + 1 });
        Ok(Reply::Producer(id, 0))
    }
}

/// Does a name equal a pattern, or begin with it where the pattern ends in `*`?
pub(crate) fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn check_settings(settings: &LogSettings) -> Result<(), Refusal> {
    let limits = [
        ("retention.ms", settings.retention_ms),
        ("retention.bytes", settings.retention_bytes),
    ];
    for (name, value) in limits {
        if value.is_some_and(|value| value < -1) {
            return Err(Refusal::InvalidSetting(format!(
                "{name} must be at least -1"
            )));
        }
    }
    let hold = settings.others.iter().find(|(name, _)| name == HOLD);
    if hold.is_some_and(|(_, value)| value != "links" && value != "none") {
        return Err(Refusal::InvalidSetting(format!(
            "{HOLD} must be links or none"
        )));
    }
    let retain = settings.others.iter().find(|(name, _)| name == RETAIN);
    if retain.is_some_and(|(_, value)| value != "latest" && value != "none") {
        return Err(Refusal::InvalidSetting(format!(
            "{RETAIN} must be latest or none"
        )));
    }
    if settings.message_bytes_max.is_some_and(|bytes| bytes < 0) {
        return Err(Refusal::InvalidSetting(
            "max.message.bytes must be at least 0".to_owned(),
        ));
    }
    Ok(())
}
