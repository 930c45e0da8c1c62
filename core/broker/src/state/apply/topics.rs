//! Applying decisions about logs.

use crate::api::*;
use crate::event::Event;
use crate::state::State;
use crate::state::changes::Named;
use crate::state::label::Label;
use crate::state::partition::{Partition, Topic};
use crate::state::raw::RawView;
use crate::template::PathTemplate;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names of deleted topics are looked through when there are more.
const ORPHANS_MAX: usize = 1024;

impl State {
    pub(super) fn apply_topic(&mut self, event: &Event) {
        match event {
            Event::TopicCreated {
                namespace,
                topic,
                uuid,
                name,
                first_partition,
                partitions,
                settings,
                provisional,
            } => {
                self.next_topic = self.next_topic.max(topic.0 + 1);
                self.next_partition = self
                    .next_partition
                    .max(first_partition + u64::from(*partitions));
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.routes.touch(name);
                let keys: Vec<u64> = (0..u64::from(*partitions))
                    .map(|n| first_partition + n)
                    .collect();
                for (key, index) in keys.iter().zip(0i32..) {
                    self.add_partition(Partition::new(*key, *topic, index));
                }
                let mut made = Topic {
                    id: *topic,
                    uuid: *uuid,
                    namespace: *namespace,
                    name: Label::from(&name[..]),
                    partitions: keys.into_iter().collect(),
                    settings: settings.clone().into(),
                    provisional: *provisional,
                    raw: None,
                    mark: Default::default(),
                };
                self.changes.touch(&mut made);
                self.topics.insert(*topic, made);
                self.name_topic(*namespace, *topic);
            }
            Event::TopicAltered {
                topic,
                settings,
                provisional,
            } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    self.changes.touch(topic);
                    topic.settings = settings.clone().into();
                    topic.provisional = *provisional;
                }
            }
            Event::PartitionsAdded {
                topic,
                first_partition,
                count,
            } => {
                self.next_partition = self.next_partition.max(first_partition + u64::from(*count));
                let Some(topic) = self.topics.get_mut(topic) else {
                    return;
                };
                self.changes.touch(topic);
                for key in (0..u64::from(*count)).map(|n| first_partition + n) {
                    let index = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    topic.partitions.push(key);
                    let mut made = Partition::new(key, topic.id, index);
                    self.changes.touch(&mut made);
                    self.partitions.insert(key, made);
                }
            }
            Event::PathTemplateSet { topic, template } => {
                // What was journaled once could be read then.
                if let Ok(template) = PathTemplate::parse(template) {
                    self.template_is(*topic, Arc::new(template));
                }
            }
            Event::AutoNamed { topic, principal } => {
                let Some(namespace) = self.topics.get(topic).map(|topic| topic.namespace) else {
                    return;
                };
                self.touch(Named::Placed(*topic));
                if let Some(names) = self.namespace_mut(namespace) {
                    names.made_by(principal, *topic);
                }
            }
            Event::RawViewed {
                topic,
                view,
                uuid,
                logs,
            } => {
                let view = RawView {
                    id: *view,
                    uuid: *uuid,
                };
                self.raw_viewed(*topic, &view, logs);
            }
            Event::RawViewDropped { topic } => self.raw_dropped(*topic),
            Event::RawStartMoved {
                partition,
                offset,
                bytes,
            } => {
                if let Some((raw, next_offset)) = self.raw_log_mut(*partition) {
                    if *bytes > 0
                        && let Some(span) = raw.spans.first_mut()
                    {
                        span.first_offset = span.first_offset.max(*offset);
                        span.bytes = span.bytes.saturating_sub(*bytes);
                    }
                    raw.start_at(*offset, next_offset);
                }
            }
            Event::TopicDeleted { topic } => {
                self.raw_dropped(*topic);
                self.touch_topic_users(*topic);
                let Some(topic) = self.topics.get_mut(topic) else {
                    return;
                };
                self.changes.gone(topic);
                let (id, namespace) = (topic.id, topic.namespace);
                self.unname_topic(namespace, id);
                let Some(topic) = self.topics.remove(&id) else {
                    return;
                };
                self.touch(Named::Placed(topic.id));
                let template = self.templates.remove(&topic.id);
                for key in &topic.partitions {
                    if let Some(partition) = self.partitions.get_mut(key) {
                        self.changes.gone(partition);
                    }
                    let gone = self.partitions.remove(key);
                    if gone.is_some_and(|partition| partition.linked) {
                        if self.orphans.len() >= ORPHANS_MAX {
                            self.forget_orphans();
                        }
                        self.touch(Named::Orphan(*key));
                        self.orphans.insert(*key, topic.name.name());
                        if let Some(template) = &template {
                            self.touch(Named::OrphanTemplate(*key));
                            self.orphan_templates.insert(*key, template.clone());
                        }
                    }
                    let linked: Vec<_> = self
                        .links
                        .range((*key, QueueId(0))..=(*key, QueueId(u64::MAX)))
                        .map(|(at, _)| *at)
                        .collect();
                    for at in linked {
                        self.touch(Named::Link(at.0, at.1));
                        self.links.remove(&at);
                        if let Some(taker) = self.queues.get_mut(&at.1) {
                            taker.linked_to.remove(key);
                        }
                    }
                }
                let Some(names) = self.namespace_mut(topic.namespace) else {
                    return;
                };
                names.unmade(topic.id);
                if let Some(template) = template {
                    names.untemplate(topic.id, &template);
                }
                names.routes.touch(&topic.name);
                names.forget_positions(topic.id);
                for known in names.transactions.values_mut() {
                    known
                        .partitions
                        .retain(|key| !topic.partitions.contains(key));
                }
            }
            Event::LogStartMoved { partition, offset } => {
                self.touch_partition(*partition);
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.start_at(*offset);
                }
            }
            Event::LogStartCut {
                partition,
                offset,
                bytes,
            } => {
                self.touch_partition(*partition);
                if let Some(partition) = self.partitions.get_mut(partition) {
                    if let Some(span) = partition.spans.first_mut() {
                        span.first_offset = span.first_offset.max(*offset);
                        span.bytes = span.bytes.saturating_sub(*bytes);
                    }
                    partition.start_at(*offset);
                }
            }
            Event::LogCleaned {
                partition,
                until,
                at_ms,
            } => {
                self.touch_partition(*partition);
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.cleaned_below(*until, *at_ms);
                }
            }
            _ => {}
        }
    }

    fn add_partition(&mut self, mut partition: Partition) {
        self.changes.touch(&mut partition);
        self.partitions.insert(partition.key, partition);
    }

    /// Groups and transactions forget a topic that goes.
    fn touch_topic_users(&mut self, topic: TopicId) {
        for user in self.users_of(topic, topic) {
            self.touch(user);
        }
    }

    /// Names of deleted topics of which no queue holds records any more are forgotten.
    fn forget_orphans(&mut self) {
        let held: BTreeSet<u64> = self.aliases.values().map(|it| it.partition).collect();
        let orphans = self.orphans.keys().copied();
        let gone: Vec<u64> = orphans.filter(|key| !held.contains(key)).collect();
        for key in gone {
            self.touch(Named::Orphan(key));
            self.orphans.remove(&key);
            self.touch(Named::OrphanTemplate(key));
            self.orphan_templates.remove(&key);
        }
    }
}
