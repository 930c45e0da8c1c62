//! CreateTopics: gives names a log, with partitions and settings.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use omnilog_auth::Operation;
use omnilog_broker::{Command, CreateTopic, Refusal, Reply, TopicInfo};
use omnilog_wire::ConnectionError;
use uuid::Uuid;

use super::settings::{self, PATH_TEMPLATE, SETTINGS};
use super::{Answer, Begun, Call, Exchange, Progress, name_of, own, text, unexpected};
use crate::{mapping, rescue};

/// The first version that tells partitions and settings of what was created (KIP-525).
const DETAILS_FROM: i16 = 5;
/// The first version that tells the topic id.
const TOPIC_ID_FROM: i16 = 7;
/// The first version in which -1 partitions mean the default (KIP-464).
const DEFAULTS_FROM: i16 = 4;

struct CreateTopics {
    response: CreateTopicsResponse,
    waiting: usize,
}

/// A topic that is not created: the code and what is wrong.
type No = (ResponseError, String);

/// Vets each topic and asks the broker to create it.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &CreateTopicsRequest,
) -> Result<Begun, ConnectionError> {
    let mut create = CreateTopics {
        response: CreateTopicsResponse::default(),
        waiting: 0,
    };
    let mut times: HashMap<&StrBytes, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    for topic in &request.topics {
        let part = create.response.topics.len();
        let twice = times.get(&*topic.name).is_some_and(|times| *times > 1);
        let vetted = if twice {
            Err((
                ResponseError::InvalidRequest,
                "the topic is named twice".to_owned(),
            ))
        } else {
            vet(call, topic, request.validate_only)
        };
        let name = TopicName(own(&topic.name));
        match vetted {
            Ok(command) => {
                create.waiting += 1;
                call.command(part, Command::CreateTopic(command));
                create
                    .response
                    .topics
                    .push(CreatableTopicResult::default().with_name(name));
            }
            Err((error, message)) => create.response.topics.push(failed(name, error, message)),
        }
    }
    if create.waiting == 0 {
        return call.answer(&create.response);
    }
    Ok(Begun::Waiting(Box::new(create)))
}

fn vet(call: &Call<'_>, topic: &CreatableTopic, validate_only: bool) -> Result<CreateTopic, No> {
    mapping::check_topic_name(&topic.name)
        .map_err(|invalid| (ResponseError::InvalidTopicException, invalid.to_string()))?;
    let name = name_of(&topic.name);
    if !call.may(Operation::Configure, &name) {
        let error = ResponseError::TopicAuthorizationFailed;
        return Err((error, error.to_string()));
    }
    let partitions = partitions(call, topic)?;
    let configs = topic
        .configs
        .iter()
        .map(|config| (&config.name, config.value.as_ref()));
    let mut settings = settings::parse(configs)
        .map_err(|invalid| (ResponseError::InvalidConfig, invalid.to_string()))?;
    let path_template = settings::take_path_template(&mut settings);
    Ok(CreateTopic {
        name,
        partitions,
        settings,
        validate_only,
        path_template,
    })
}

/// How many partitions; `None`: the default. A replication factor above one is taken, since a
/// client's default should not fail, and one is what is told.
fn partitions(call: &Call<'_>, topic: &CreatableTopic) -> Result<Option<u32>, No> {
    if !topic.assignments.is_empty() {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let message = "partitions and replication factor must be -1 beside assignments";
            return Err((ResponseError::InvalidRequest, message.to_owned()));
        }
        let node = call.node();
        let mut indexes: Vec<i32> = topic
            .assignments
            .iter()
            .map(|a| a.partition_index)
            .collect();
        indexes.sort_unstable();
        let dense = indexes
            .iter()
            .zip(0..)
            .all(|(index, expected)| *index == expected);
        let known = topic.assignments.iter().all(|a| a.broker_ids == [node]);
        return if dense && known {
            Ok(u32::try_from(indexes.len()).ok())
        } else {
            let message = "assignments must name partitions 0 to n-1 and this broker".to_owned();
            Err((ResponseError::InvalidReplicaAssignment, message))
        };
    }
    if topic.replication_factor == 0 || topic.replication_factor < -1 {
        let message = "the replication factor must be positive, or -1 for the default".to_owned();
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    match topic.num_partitions {
        -1 if call.version >= DEFAULTS_FROM => Ok(None),
        count if count > 0 => Ok(u32::try_from(count).ok()),
        _ => {
            let message = "the number of partitions must be positive, or -1 for the default";
            Err((ResponseError::InvalidPartitions, message.to_owned()))
        }
    }
}

impl Exchange for CreateTopics {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Some(slot) = self.response.topics.get_mut(part) else {
            return Err(unexpected(&answer));
        };
        match answer {
            Answer::Broker(Ok(Reply::Topic(info))) => fill(call, slot, &info),
            Answer::Broker(Err(refusal)) => {
                let error = match refusal {
                    Refusal::InvalidSetting(_) => ResponseError::InvalidConfig,
                    ref other => rescue::refusal(other),
                };
                *slot = failed(slot.name.clone(), error, refusal.to_string());
            }
            other => return Err(unexpected(&other)),
        }
        self.waiting -= 1;
        if self.waiting > 0 {
            Ok(Progress::Waiting)
        } else {
            call.finish(&self.response)
        }
    }
}

fn fill(call: &Call<'_>, slot: &mut CreatableTopicResult, info: &TopicInfo) {
    if call.version >= TOPIC_ID_FROM {
        slot.topic_id = Uuid::from_u128(info.uuid);
    }
    if call.version >= DETAILS_FROM {
        slot.num_partitions = i32::try_from(info.partitions).unwrap_or(i32::MAX);
        slot.replication_factor = 1;
        let configs = SETTINGS.iter().map(|setting| {
            let own = setting
                .of(&info.settings)
                .map(|value| (value, settings::Source::Topic));
            let (value, source) = match setting.name {
                PATH_TEMPLATE => settings::path_template(info),
                _ => own.unwrap_or_else(|| {
                    setting.default(&call.context.config.broker, &info.name, false)
                }),
            };
            CreatableTopicConfigs::default()
                .with_name(settings::name_text(setting))
                .with_value(Some(text(value)))
                .with_config_source(source as i8)
        });
        slot.configs = Some(configs.collect());
    }
}

fn failed(name: TopicName, error: ResponseError, message: String) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
}
