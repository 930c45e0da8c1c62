//! OffsetFetch: reads positions, of one group or, from version 8 on, of several (KIP-709). A
//! position that was never stored is -1, which is no error.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use omnilog_broker::{Command, GroupOffset, Name, Reply};
use omnilog_wire::ConnectionError;

use super::{
    Answer, Begun, Call, Exchange, Progress, group_name, name_of, own, topic_name, unexpected,
};
use crate::rescue;

/// The first version that asks for several groups.
const BATCHED_FROM: i16 = 8;

/// One group of the request.
struct Group {
    id: StrBytes,
    /// Topics and partitions asked for; `None`: all that are stored.
    topics: Option<Vec<(StrBytes, Vec<i32>)>>,
    error_code: i16,
    /// Topics and partitions whose position an open transaction is to commit, if the client asks
    /// for decided ones (KIP-447).
    unstable: BTreeSet<(Name, i32)>,
    /// Topics of which the client may not know.
    forbidden: BTreeSet<Name>,
    /// What was found, by topic and partition.
    found: BTreeMap<(Name, i32), GroupOffset>,
}

struct OffsetFetch {
    groups: Vec<Group>,
    waiting: usize,
}

/// Asks the broker for each group.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: OffsetFetchRequest,
) -> Result<Begun, ConnectionError> {
    let groups: Vec<Group> = if call.version < BATCHED_FROM {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| (own(&topic.name), topic.partition_indexes))
                .collect()
        });
        vec![asked(&request.group_id, topics)]
    } else {
        let groups = request.groups.into_iter().map(|group| {
            let topics = group.topics.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .map(|topic| (own(&topic.name), topic.partition_indexes))
                    .collect()
            });
            asked(&group.group_id, topics)
        });
        groups.collect()
    };
    let mut fetch = OffsetFetch { groups, waiting: 0 };
    for (part, group) in fetch.groups.iter_mut().enumerate() {
        if !call.may_use_group(group.id.as_bytes()) {
            group.error_code = ResponseError::GroupAuthorizationFailed.code();
            continue;
        }
        for (topic, _) in group.topics.iter().flatten() {
            let name = name_of(topic);
            if !call.may_know(&name) {
                group.forbidden.insert(name);
            }
        }
        let pairs = group.topics.as_ref().map(|topics| {
            let names = topics
                .iter()
                .map(|(topic, partitions)| (name_of(topic), partitions));
            let known = names.filter(|(name, _)| !group.forbidden.contains(name));
            let pairs = known.flat_map(|(name, partitions)| {
                partitions
                    .iter()
                    .map(move |partition| (name.clone(), *partition))
            });
            pairs.collect()
        });
        let name = group_name(&group.id);
        if request.require_stable {
            // Asked first: what is not pending here is decided in what comes after.
            fetch.waiting += 1;
            call.command(part, Command::UnstableOffsets(name.clone()));
        }
        fetch.waiting += 1;
        call.command(part, Command::FetchOffsets(name, pairs));
    }
    if fetch.waiting == 0 {
        return call.answer(&fetch.response(call.version));
    }
    Ok(Begun::Waiting(Box::new(fetch)))
}

fn asked(id: &GroupId, topics: Option<Vec<(StrBytes, Vec<i32>)>>) -> Group {
    Group {
        id: own(id),
        topics,
        error_code: 0,
        unstable: BTreeSet::new(),
        forbidden: BTreeSet::new(),
        found: BTreeMap::new(),
    }
}

impl Exchange for OffsetFetch {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Some(group) = self.groups.get_mut(part) else {
            return Err(unexpected(&answer));
        };
        match answer {
            Answer::Broker(Ok(Reply::GroupOffsets(offsets))) => {
                let keyed = offsets
                    .into_iter()
                    .map(|o| ((o.topic.clone(), o.partition), o));
                group.found = keyed.collect();
                if group.topics.is_none() {
                    let topics = group.found.keys().map(|(topic, _)| topic.clone());
                    let topics: BTreeSet<Name> = topics.collect();
                    let known = |topic: &Name| call.may_know(topic);
                    let forbidden: BTreeSet<Name> =
                        topics.into_iter().filter(|topic| !known(topic)).collect();
                    group
                        .found
                        .retain(|(topic, _), _| !forbidden.contains(topic));
                }
            }
            Answer::Broker(Ok(Reply::Unstable(pending))) => {
                group.unstable = pending.into_iter().collect();
            }
            Answer::Broker(Err(refusal)) => group.error_code = rescue::refusal(&refusal).code(),
            other => return Err(unexpected(&other)),
        }
        self.waiting -= 1;
        if self.waiting > 0 {
            return Ok(Progress::Waiting);
        }
        let response = self.response(call.version);
        call.finish(&response)
    }
}

impl OffsetFetch {
    fn response(&mut self, version: i16) -> OffsetFetchResponse {
        let groups = std::mem::take(&mut self.groups).into_iter();
        if version >= BATCHED_FROM {
            let groups = groups.map(Group::into_response);
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let mut response = OffsetFetchResponse::default();
        for group in groups {
            let code = group.error_code;
            let topics = group.into_response().topics.into_iter();
            response.topics = topics
                .map(|topic| unbatched(topic, version, code))
                .collect();
            if version >= 2 {
                response.error_code = code;
            }
        }
        response
    }
}

impl Group {
    fn into_response(self) -> OffsetFetchResponseGroup {
        let topics = match &self.topics {
            Some(topics) => topics
                .iter()
                .map(|(topic, partitions)| {
                    let name = name_of(topic);
                    let partitions = partitions
                        .iter()
                        .map(|&index| self.partition(index, &(name.clone(), index)));
                    OffsetFetchResponseTopics::default()
                        .with_name(TopicName(topic.clone()))
                        .with_partitions(partitions.collect())
                })
                .collect(),
            None => self.all_topics(),
        };
        OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(self.id))
            .with_topics(topics)
            .with_error_code(self.error_code)
    }

    fn all_topics(&self) -> Vec<OffsetFetchResponseTopics> {
        let mut topics: Vec<(Name, OffsetFetchResponseTopics)> = Vec::new();
        for (name, index) in self.found.keys() {
            if topics.last().is_none_or(|(last, _)| last != name) {
                let Some(spelled) = topic_name(name) else {
                    continue;
                };
                let topic = OffsetFetchResponseTopics::default().with_name(spelled);
                topics.push((name.clone(), topic));
            }
            if let Some((_, topic)) = topics.last_mut() {
                let response = self.partition(*index, &(name.clone(), *index));
                topic.partitions.push(response);
            }
        }
        topics.into_iter().map(|(_, topic)| topic).collect()
    }

    fn partition(&self, index: i32, key: &(Name, i32)) -> OffsetFetchResponsePartitions {
        if self.forbidden.contains(&key.0) {
            let error = ResponseError::TopicAuthorizationFailed;
            return partition(index, None).with_error_code(error.code());
        }
        if self.unstable.contains(key) {
            let error = ResponseError::UnstableOffsetCommit;
            return partition(index, None).with_error_code(error.code());
        }
        partition(index, self.found.get(key))
    }
}

fn partition(index: i32, found: Option<&GroupOffset>) -> OffsetFetchResponsePartitions {
    let metadata = found.and_then(|offset| StrBytes::from_utf8(offset.metadata.clone()).ok());
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(found.map_or(-1, |offset| offset.offset))
        .with_committed_leader_epoch(found.map_or(-1, |offset| offset.leader_epoch))
        .with_metadata(Some(metadata.unwrap_or_default()))
}

/// The same in the shape of the versions that knew one group only. Version 1 has no place for an
/// error but the partition.
fn unbatched(
    topic: OffsetFetchResponseTopics,
    version: i16,
    group_error: i16,
) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        let mut response = OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_metadata(partition.metadata)
            .with_error_code(match group_error {
                0 => partition.error_code,
                error => error,
            });
        if version >= 5 {
            response.committed_leader_epoch = partition.committed_leader_epoch;
        }
        response
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions.collect())
}
