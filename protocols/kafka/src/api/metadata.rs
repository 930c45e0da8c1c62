//! Metadata: this broker, the topics that have a log, and their partitions. Asking for a topic by
//! name may create it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::{Command, CreateTopic, LogSettings, Noun, Refusal, Reply, TopicInfo};
use omnilog_wire::ConnectionError;
use uuid::Uuid;

use super::operations::{NOT_ASKED, of_cluster, of_topic};
use super::{
    Answer, Begun, Call, Exchange, Progress, name_of, own, text, topic_error, topic_id_ref,
    topic_name, topic_ref, unexpected,
};
use crate::mapping;

/// The versions with the cluster's authorized operations.
const CLUSTER_OPERATIONS: std::ops::RangeInclusive<i16> = 8..=10;

/// The part that describes; parts above it create the topic of that index, less one.
const DESCRIBE: usize = 0;

/// What becomes of one topic of the request.
enum Asked {
    /// To be described.
    Open(MetadataRequestTopic),
    /// Its part of the response is known.
    Answered(MetadataResponseTopic),
}

/// Metadata under way.
struct Metadata {
    /// What was asked for, in order; `None`: everything.
    asked: Option<Vec<Asked>>,
    allow_creation: bool,
    topic_operations: bool,
    cluster_operations: bool,
    creating: usize,
}

/// Begins with describing what was asked for.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: MetadataRequest,
) -> Result<Begun, ConnectionError> {
    // Version 0 had no null: there, no topics means all topics.
    let topics = request
        .topics
        .filter(|topics| call.version > 0 || !topics.is_empty());
    let mut metadata = Metadata {
        asked: None,
        allow_creation: request.allow_auto_topic_creation && call.context.config.auto_create_topics,
        topic_operations: request.include_topic_authorized_operations,
        cluster_operations: request.include_cluster_authorized_operations
            && CLUSTER_OPERATIONS.contains(&call.version),
        creating: 0,
    };
    let Some(topics) = topics else {
        call.command(DESCRIBE, Command::DescribeTopics(None));
        return Ok(Begun::Waiting(Box::new(metadata)));
    };
    let asked: Vec<Asked> = topics.into_iter().map(|topic| vet(call, topic)).collect();
    let refs: Vec<_> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Open(topic) => Some(match &topic.name {
                Some(name) => topic_ref(name),
                None => topic_id_ref(topic.topic_id),
            }),
            Asked::Answered(_) => None,
        })
        .collect();
    let nothing_to_ask = refs.is_empty();
    metadata.asked = Some(asked);
    if nothing_to_ask {
        let response = metadata.response(call);
        return call.answer(&response);
    }
    call.command(DESCRIBE, Command::DescribeTopics(Some(refs)));
    Ok(Begun::Waiting(Box::new(metadata)))
}

/// Answers at once for what cannot be a topic's name.
fn vet(call: &Call<'_>, topic: MetadataRequestTopic) -> Asked {
    match &topic.name {
        Some(name) if mapping::check_topic_name(name).is_err() => {
            let name = Some(TopicName(own(name)));
            Asked::Answered(failed(
                name,
                Uuid::nil(),
                ResponseError::InvalidTopicException,
            ))
        }
        Some(name) if !call.may_know(&name_of(name)) => {
            let name = Some(TopicName(own(name)));
            Asked::Answered(failed(
                name,
                Uuid::nil(),
                ResponseError::TopicAuthorizationFailed,
            ))
        }
        None if topic.topic_id.is_nil() => {
            Asked::Answered(failed(None, Uuid::nil(), ResponseError::UnknownTopicId))
        }
        _ => Asked::Open(topic),
    }
}

impl Exchange for Metadata {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        match answer {
            Answer::Broker(Ok(Reply::Topics(topics))) if part == DESCRIBE => {
                self.described(call, topics);
            }
            Answer::Broker(result) if part > DESCRIBE => {
                self.creating -= 1;
                self.created(call, part - 1, result);
            }
            // Not even asking worked: tell a code for each that clients retry.
            Answer::Broker(Err(_)) => self.give_up(),
            other => return Err(unexpected(&other)),
        }
        if self.creating > 0 {
            return Ok(Progress::Waiting);
        }
        let response = self.response(call);
        call.finish(&response)
    }
}

impl Metadata {
    fn described(&mut self, call: &mut Call<'_>, topics: Vec<Result<TopicInfo, Refusal>>) {
        let Some(asked) = &mut self.asked else {
            let known = topics.into_iter().flatten();
            let listed = known.filter_map(|info| {
                let name = topic_name(&info.name)?;
                let known = call.may_know(&info.name);
                known.then(|| described(call, &info, name, self.topic_operations))
            });
            self.asked = Some(listed.map(Asked::Answered).collect());
            return;
        };
        let open = asked
            .iter_mut()
            .enumerate()
            .filter(|(_, a)| matches!(a, Asked::Open(_)));
        for ((index, slot), result) in open.zip(topics) {
            let Asked::Open(topic) = slot else { continue };
            match (result, &topic.name) {
                (Ok(info), None) if !call.may_know(&info.name) => {
                    let error = ResponseError::TopicAuthorizationFailed;
                    *slot = Asked::Answered(failed(None, topic.topic_id, error));
                }
                (Ok(info), name) => {
                    call.context.learn(&info);
                    let name = name.as_ref().map(|name| TopicName(own(name)));
                    let name = name.or_else(|| topic_name(&info.name)).unwrap_or_default();
                    *slot = Asked::Answered(described(call, &info, name, self.topic_operations));
                }
                (Err(Refusal::NotFound(Noun::Topic, _)), Some(name))
                    if self.allow_creation && !call.may(Operation::Configure, &name_of(name)) =>
                {
                    let error = ResponseError::TopicAuthorizationFailed;
                    let name = Some(TopicName(own(name)));
                    *slot = Asked::Answered(failed(name, Uuid::nil(), error));
                }
                (Err(Refusal::NotFound(Noun::Topic, _)), Some(name)) if self.allow_creation => {
                    let create = CreateTopic {
                        name: name_of(name),
                        partitions: None,
                        settings: LogSettings::default(),
                        validate_only: false,
                        path_template: None,
                    };
                    call.command(index + 1, Command::CreateTopic(create));
                    self.creating += 1;
                }
                (Err(refusal), name) => {
                    let error = topic_error(&refusal, name.is_none());
                    let name = name.as_ref().map(|name| TopicName(own(name)));
                    *slot = Asked::Answered(failed(name, topic.topic_id, error));
                }
            }
        }
    }

    fn created(&mut self, call: &Call<'_>, index: usize, result: Result<Reply, Refusal>) {
        let asked = self.asked.as_mut().and_then(|asked| asked.get_mut(index));
        let Some(slot @ Asked::Open(_)) = asked else {
            return;
        };
        let Asked::Open(topic) = slot else { return };
        let name = topic.name.as_ref().map(|name| TopicName(own(name)));
        *slot = Asked::Answered(match result {
            Ok(Reply::Topic(info)) => {
                call.context.learn(&info);
                described(call, &info, name.unwrap_or_default(), self.topic_operations)
            }
            // Another client was quicker: the next question finds it.
            Ok(_) | Err(Refusal::Exists(..)) => {
                failed(name, Uuid::nil(), ResponseError::LeaderNotAvailable)
            }
            Err(refusal) => failed(name, Uuid::nil(), topic_error(&refusal, false)),
        });
    }

    fn give_up(&mut self) {
        for slot in self.asked.iter_mut().flatten() {
            if let Asked::Open(topic) = slot {
                let name = topic.name.as_ref().map(|name| TopicName(own(name)));
                let error = ResponseError::LeaderNotAvailable;
                *slot = Asked::Answered(failed(name, topic.topic_id, error));
            }
        }
    }

    fn response(&mut self, call: &Call<'_>) -> MetadataResponse {
        let context = call.context;
        let broker = MetadataResponseBroker::default()
            .with_node_id(call.node())
            .with_host(text(&context.advertised.host))
            .with_port(i32::from(context.advertised.port))
            .with_rack(context.config.rack.as_ref().map(text));
        let topics = self.asked.take().into_iter().flatten();
        let topics = topics.filter_map(|asked| match asked {
            Asked::Answered(topic) => Some(topic),
            Asked::Open(_) => None,
        });
        let cluster = if self.cluster_operations {
            of_cluster(call)
        } else {
            NOT_ASKED
        };
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(text(&context.config.cluster_id)))
            .with_controller_id(call.node())
            .with_topics(topics.collect())
            .with_cluster_authorized_operations(cluster)
    }
}

fn described(
    call: &Call<'_>,
    info: &TopicInfo,
    name: TopicName,
    with_operations: bool,
) -> MetadataResponseTopic {
    let node = call.node();
    let partitions = (0..info.partitions).map(|index| partition(index, info.leader_epoch, node));
    let operations = if with_operations {
        of_topic(call, info)
    } else {
        NOT_ASKED
    };
    MetadataResponseTopic::default()
        .with_name(Some(name))
        .with_topic_id(Uuid::from_u128(info.uuid))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

fn partition(index: u32, leader_epoch: i32, node: BrokerId) -> MetadataResponsePartition {
    MetadataResponsePartition::default()
        .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
        .with_leader_id(node)
        .with_leader_epoch(leader_epoch)
        .with_replica_nodes(vec![node])
        .with_isr_nodes(vec![node])
}

fn failed(name: Option<TopicName>, topic_id: Uuid, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(topic_id)
}
