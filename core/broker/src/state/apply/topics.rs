//! Applying decisions about logs.

use crate::api::*;
use crate::event::Event;
use crate::state::State;
use crate::state::partition::{Partition, Topic};

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
                names.topics.insert(name.clone(), *topic);
                names.topic_uuids.insert(*uuid, *topic);
                names.routes.touch(name);
                let keys: Vec<u64> = (0..u64::from(*partitions))
                    .map(|n| first_partition + n)
                    .collect();
                for (key, index) in keys.iter().zip(0i32..) {
                    self.partitions
                        .insert(*key, Partition::new(*key, *topic, index));
                }
                self.topics.insert(
                    *topic,
                    Topic {
                        id: *topic,
                        uuid: *uuid,
                        namespace: *namespace,
                        name: name.clone(),
                        partitions: keys.into_iter().collect(),
                        settings: settings.clone(),
                        provisional: *provisional,
                    },
                );
            }
            Event::TopicAltered {
                topic,
                settings,
                provisional,
            } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.settings = settings.clone();
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
                for key in (0..u64::from(*count)).map(|n| first_partition + n) {
                    let index = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    topic.partitions.push(key);
                    self.partitions
                        .insert(key, Partition::new(key, topic.id, index));
                }
            }
            Event::TopicDeleted { topic } => {
                let Some(topic) = self.topics.remove(topic) else {
                    return;
                };
                for key in &topic.partitions {
                    let gone = self.partitions.remove(key);
                    if gone.is_some_and(|partition| partition.linked) {
                        if self.orphans.len() >= ORPHANS_MAX {
                            let aliases = &self.aliases;
                            self.orphans.retain(|partition, _| {
                                aliases.values().any(|alias| alias.partition == *partition)
                            });
                        }
                        self.orphans.insert(*key, topic.name.clone());
                    }
                    let linked: Vec<_> = self
                        .links
                        .range((*key, QueueId(0))..=(*key, QueueId(u64::MAX)))
                        .map(|(at, _)| *at)
                        .collect();
                    for at in linked {
                        self.links.remove(&at);
                        if let Some(taker) = self.queues.get_mut(&at.1) {
                            taker.linked_to.remove(key);
                        }
                    }
                }
                let Some(names) = self.namespace_mut(topic.namespace) else {
                    return;
                };
                names.topics.remove(&topic.name);
                names.topic_uuids.remove(&topic.uuid);
                names.routes.touch(&topic.name);
                for group in names.groups.values_mut() {
                    group.offsets.retain(|(of, _), _| *of != topic.id);
                }
                Self::forget_pending(&mut names.transactions, &|_, of| of == topic.id);
                for known in names.transactions.values_mut() {
                    known
                        .partitions
                        .retain(|key| !topic.partitions.contains(key));
                }
                names
                    .groups
                    .retain(|_, group| group.state.is_some() || !group.offsets.is_empty());
            }
            Event::LogStartMoved { partition, offset } => {
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.start_at(*offset);
                }
            }
            Event::LogStartCut {
                partition,
                offset,
                bytes,
            } => {
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
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.cleaned_below(*until, *at_ms);
                }
            }
            _ => {}
        }
    }
}
