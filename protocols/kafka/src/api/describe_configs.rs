//! DescribeConfigs: the settings of topics and of this broker, all of them, each with its source.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use omnilog_auth::Operation;
use omnilog_broker::{Command, Reply, TopicInfo};
use omnilog_wire::ConnectionError;

use super::operations::may_configure_cluster;
use super::settings::{self, Kind, PATH_TEMPLATE, SETTINGS, Setting, Source};
use super::{
    Answer, Begun, Call, Exchange, Progress, name_of, own, text, topic_error, topic_ref, unexpected,
};
use crate::mapping;

/// The first version that tells types and what a setting is for (KIP-569).
const TYPE_FROM: i16 = 3;

/// Resource types, as this request numbers them.
pub(super) const TOPIC: i8 = 2;
const BROKER: i8 = 4;

struct DescribeConfigs {
    resources: Vec<DescribeConfigsResource>,
    synonyms: bool,
    documentation: bool,
    response: DescribeConfigsResponse,
    waiting: usize,
}

/// Describes topics at the broker; answers for this broker at once.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: DescribeConfigsRequest,
) -> Result<Begun, ConnectionError> {
    let mut describe = DescribeConfigs {
        resources: request.resources,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && call.version >= TYPE_FROM,
        response: DescribeConfigsResponse::default(),
        waiting: 0,
    };
    for part in 0..describe.resources.len() {
        describe.begin_resource(call, part);
    }
    if describe.waiting == 0 {
        return call.answer(&describe.response);
    }
    Ok(Begun::Waiting(Box::new(describe)))
}

impl DescribeConfigs {
    fn begin_resource(&mut self, call: &mut Call<'_>, part: usize) {
        let Some(resource) = self.resources.get(part) else {
            return;
        };
        let mut result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(own(&resource.resource_name));
        let error = match resource.resource_type {
            TOPIC => match mapping::check_topic_name(&resource.resource_name) {
                Err(_) => Some(ResponseError::InvalidTopicException),
                Ok(()) if !call.may(Operation::Configure, &name_of(&resource.resource_name)) => {
                    Some(ResponseError::TopicAuthorizationFailed)
                }
                Ok(()) => {
                    self.waiting += 1;
                    let topic = topic_ref(&resource.resource_name);
                    call.command(part, Command::DescribeTopics(Some(vec![topic])));
                    None
                }
            },
            BROKER if !may_configure_cluster(call) => {
                Some(ResponseError::ClusterAuthorizationFailed)
            }
            BROKER if is_this_broker(call, &resource.resource_name) => {
                result.configs = self.of_broker(call, resource);
                None
            }
            _ => Some(ResponseError::InvalidRequest),
        };
        if let Some(error) = error {
            result.error_code = error.code();
            result.error_message = Some(text(error.to_string()));
        }
        self.response.results.push(result);
    }

    fn of_topic(
        &self,
        call: &Call<'_>,
        resource: &DescribeConfigsResource,
        info: &TopicInfo,
    ) -> Vec<DescribeConfigsResourceResult> {
        let asked = SETTINGS
            .iter()
            .filter(|setting| is_asked(resource, setting.name));
        asked
            .map(|setting| self.topic_setting(call, setting, info))
            .collect()
    }

    fn topic_setting(
        &self,
        call: &Call<'_>,
        setting: &Setting,
        info: &TopicInfo,
    ) -> DescribeConfigsResourceResult {
        if setting.name == PATH_TEMPLATE {
            let (value, source) = settings::path_template(info);
            let documentation = setting.documentation;
            return self
                .result(
                    call.version,
                    setting.name,
                    value,
                    setting.kind,
                    documentation,
                )
                .with_read_only(true)
                .with_config_source(source as i8);
        }
        let own = setting.of(&info.settings);
        let default = setting.default(&call.context.config.broker, &info.name, info.provisional);
        let mut synonyms = Vec::new();
        if self.synonyms {
            synonyms.extend(
                own.iter()
                    .map(|value| synonym(setting.name, value, Source::Topic)),
            );
            synonyms.push(synonym(setting.server_name, &default.0, default.1));
        }
        let (value, source) = own.map_or(default, |value| (value, Source::Topic));
        self.result(
            call.version,
            setting.name,
            value,
            setting.kind,
            setting.documentation,
        )
        .with_read_only(info.raw_of.is_some())
        .with_config_source(source as i8)
        .with_synonyms(synonyms)
    }

    fn of_broker(
        &self,
        call: &Call<'_>,
        resource: &DescribeConfigsResource,
    ) -> Vec<DescribeConfigsResourceResult> {
        let all = broker_settings(call).into_iter();
        let asked = all.filter(|(name, _, _)| is_asked(resource, name));
        asked
            .map(|(name, kind, value)| {
                let synonyms = if self.synonyms {
                    vec![synonym(name, &value, Source::Server)]
                } else {
                    Vec::new()
                };
                self.result(call.version, name, value, kind, "")
                    .with_read_only(true)
                    .with_config_source(Source::Server as i8)
                    .with_synonyms(synonyms)
            })
            .collect()
    }

    fn result(
        &self,
        version: i16,
        name: &'static str,
        value: String,
        kind: Kind,
        documentation: &'static str,
    ) -> DescribeConfigsResourceResult {
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(text(value)));
        if version >= TYPE_FROM {
            result.config_type = kind as i8;
        }
        if self.documentation {
            result.documentation = Some(StrBytes::from_static_str(documentation));
        }
        result
    }
}

impl Exchange for DescribeConfigs {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let described = match answer {
            Answer::Broker(Ok(Reply::Topics(mut topics))) => topics.pop(),
            Answer::Broker(Err(refusal)) => Some(Err(refusal)),
            other => return Err(unexpected(&other)),
        };
        let configs = match (&described, self.resources.get(part)) {
            (Some(Ok(info)), Some(resource)) => self.of_topic(call, resource, info),
            _ => Vec::new(),
        };
        if let Some(slot) = self.response.results.get_mut(part) {
            slot.configs = configs;
            if let Some(Err(refusal)) = described {
                slot.error_code = topic_error(&refusal, false).code();
                slot.error_message = Some(text(refusal.to_string()));
            }
        }
        self.waiting -= 1;
        if self.waiting > 0 {
            Ok(Progress::Waiting)
        } else {
            call.finish(&self.response)
        }
    }
}

fn is_asked(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_ref();
    keys.is_none_or(|keys| keys.iter().any(|key| &**key == name))
}

/// The broker's resource name is its node id; the empty one stands for all brokers.
fn is_this_broker(call: &Call<'_>, name: &str) -> bool {
    name.is_empty() || name.parse() == Ok(call.context.config.node_id)
}

fn synonym(name: &'static str, value: &str, source: Source) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(text(value)))
        .with_source(source as i8)
}

fn broker_settings(call: &Call<'_>) -> Vec<(&'static str, Kind, String)> {
    let config = &call.context.config;
    let (broker, groups) = (&config.broker, &config.groups);
    let ms = |duration: std::time::Duration| duration.as_millis().to_string();
    vec![
        (
            "advertised.listeners",
            Kind::String,
            format!("{}", call.context.advertised),
        ),
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            config.auto_create_topics.to_string(),
        ),
        ("broker.id", Kind::Int, config.node_id.to_string()),
        ("connections.max.idle.ms", Kind::Long, ms(config.idle_max)),
        ("default.replication.factor", Kind::Int, "1".to_owned()),
        ("delete.topic.enable", Kind::Boolean, "true".to_owned()),
        (
            "fetch.max.bytes",
            Kind::Int,
            config.fetch_bytes_max.to_string(),
        ),
        (
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            ms(groups.initial_rebalance_delay),
        ),
        (
            "group.max.session.timeout.ms",
            Kind::Int,
            ms(groups.session_timeout_max),
        ),
        ("group.max.size", Kind::Int, groups.members_max.to_string()),
        (
            "group.min.session.timeout.ms",
            Kind::Int,
            ms(groups.session_timeout_min),
        ),
        (
            "log.retention.bytes",
            Kind::Long,
            broker.retention_bytes_default.to_string(),
        ),
        (
            "log.retention.ms",
            Kind::Long,
            broker.retention_ms_default.to_string(),
        ),
        (
            "message.max.bytes",
            Kind::Int,
            broker.message_bytes_max.to_string(),
        ),
        ("min.insync.replicas", Kind::Int, "1".to_owned()),
        ("node.id", Kind::Int, config.node_id.to_string()),
        (
            "num.partitions",
            Kind::Int,
            broker.partitions_default.to_string(),
        ),
        (
            "offsets.retention.minutes",
            Kind::Int,
            (groups.offsets_retention.as_secs() / 60).to_string(),
        ),
        (
            "socket.request.max.bytes",
            Kind::Int,
            config.request_bytes_max.to_string(),
        ),
        (
            "transaction.max.timeout.ms",
            Kind::Int,
            broker.transaction_timeout_ms_max.to_string(),
        ),
        (
            "transactional.id.expiration.ms",
            Kind::Int,
            broker.transactional_id_expiration_ms.to_string(),
        ),
    ]
}
