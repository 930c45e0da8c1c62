//! IncrementalAlterConfigs: changes topic settings one by one (KIP-339).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use omnilog_auth::Operation;
use omnilog_broker::{AlterTopic, Command, LogSettings, Refusal, Reply, TopicInfo, TopicRef};
use omnilog_wire::ConnectionError;

use super::describe_configs::TOPIC;
use super::settings::{InvalidSetting, PATH_TEMPLATE, Setting};
use super::{
    Answer, Begun, Call, Exchange, Progress, name_of, own, text, topic_error, topic_ref, unexpected,
};

/// What to do with a setting, as the request numbers it.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

struct IncrementalAlterConfigs {
    resources: Vec<AlterConfigsResource>,
    validate_only: bool,
    response: IncrementalAlterConfigsResponse,
    waiting: usize,
}

/// Describes each topic first, to change what it has.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: IncrementalAlterConfigsRequest,
) -> Result<Begun, ConnectionError> {
    let mut alter = IncrementalAlterConfigs {
        resources: request.resources,
        validate_only: request.validate_only,
        response: IncrementalAlterConfigsResponse::default(),
        waiting: 0,
    };
    for (part, resource) in alter.resources.iter().enumerate() {
        let mut response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(own(&resource.resource_name));
        if resource.resource_type != TOPIC {
            response.error_code = ResponseError::InvalidRequest.code();
            response.error_message = Some(text(
                "only topics are altered while the server runs".to_owned(),
            ));
        } else if !call.may(Operation::Configure, &name_of(&resource.resource_name)) {
            response.error_code = ResponseError::TopicAuthorizationFailed.code();
        } else {
            alter.waiting += 1;
            let topic = topic_ref(&resource.resource_name);
            call.command(part, Command::DescribeTopics(Some(vec![topic])));
        }
        alter.response.responses.push(response);
    }
    if alter.waiting == 0 {
        return call.answer(&alter.response);
    }
    Ok(Begun::Waiting(Box::new(alter)))
}

/// The topic's settings after the changes; `None`: an operation that there is not.
fn altered(
    call: &Call<'_>,
    resource: &AlterConfigsResource,
    info: &TopicInfo,
) -> Result<Option<LogSettings>, InvalidSetting> {
    let mut settings = info.settings.clone();
    for config in &resource.configs {
        let setting = Setting::find(&config.name)?;
        let value = config.value.as_deref();
        if setting.name == PATH_TEMPLATE {
            return Err(InvalidSetting::Fixed(setting.name));
        }
        match config.config_operation {
            DELETE => setting.set(&mut settings, None)?,
            SET => {
                let value = value.ok_or(InvalidSetting::Null(setting.name))?;
                setting.set(&mut settings, Some(value))?;
            }
            operation @ (APPEND | SUBTRACT) => {
                let value = value.ok_or(InvalidSetting::Null(setting.name))?;
                let current = setting.of(&settings).unwrap_or_else(|| {
                    setting
                        .default(&call.context.config.broker, &info.name, info.provisional)
                        .0
                });
                let list = setting.with_items(&current, value, operation == APPEND)?;
                setting.set(&mut settings, Some(&list))?;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(settings))
}

impl Exchange for IncrementalAlterConfigs {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let (Some(resource), Some(slot)) = (
            self.resources.get(part),
            self.response.responses.get_mut(part),
        ) else {
            return Err(unexpected(&answer));
        };
        let described = match answer {
            Answer::Broker(Ok(Reply::Topics(mut topics))) => topics.pop(),
            Answer::Broker(Ok(Reply::Topic(_))) => None,
            Answer::Broker(Err(refusal)) => Some(Err(refusal)),
            other => return Err(unexpected(&other)),
        };
        match described {
            None => {}
            Some(Err(refusal)) => {
                slot.error_code = topic_error(&refusal, false).code();
                slot.error_message = Some(text(refusal.to_string()));
            }
            Some(Ok(info)) if info.raw_of.is_some() => {
                let refusal = Refusal::ReadOnly(info.name);
                slot.error_code = topic_error(&refusal, false).code();
                slot.error_message = Some(text(refusal.to_string()));
            }
            Some(Ok(info)) => match altered(call, resource, &info) {
                Err(invalid) => {
                    slot.error_code = ResponseError::InvalidConfig.code();
                    slot.error_message = Some(text(invalid.to_string()));
                }
                Ok(None) => slot.error_code = ResponseError::InvalidRequest.code(),
                Ok(Some(settings)) => {
                    let alter = AlterTopic {
                        topic: TopicRef::Uuid(info.uuid),
                        settings,
                        validate_only: self.validate_only,
                    };
                    call.command(part, Command::AlterTopic(alter));
                    return Ok(Progress::Waiting);
                }
            },
        }
        self.waiting -= 1;
        if self.waiting > 0 {
            Ok(Progress::Waiting)
        } else {
            call.finish(&self.response)
        }
    }
}
