//! CreatePartitions: raises the number of a topic's partitions (KIP-195).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::{Command, Reply, TopicRef};
use omnilog_wire::ConnectionError;

use super::{
    Answer, Begun, Call, Exchange, Progress, name_of, own, text, topic_error, topic_ref, unexpected,
};

struct CreatePartitions {
    topics: Vec<CreatePartitionsTopic>,
    response: CreatePartitionsResponse,
    validate_only: bool,
    waiting: usize,
}

/// Describes each topic first, to compare the numbers.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: CreatePartitionsRequest,
) -> Result<Begun, ConnectionError> {
    let mut create = CreatePartitions {
        topics: request.topics,
        response: CreatePartitionsResponse::default(),
        validate_only: request.validate_only,
        waiting: 0,
    };
    for (part, topic) in create.topics.iter().enumerate() {
        let mut result =
            CreatePartitionsTopicResult::default().with_name(TopicName(own(&topic.name)));
        if call.may(Operation::Configure, &name_of(&topic.name)) {
            create.waiting += 1;
            call.command(
                part,
                Command::DescribeTopics(Some(vec![topic_ref(&topic.name)])),
            );
        } else {
            result.error_code = ResponseError::TopicAuthorizationFailed.code();
        }
        create.response.results.push(result);
    }
    if create.waiting == 0 {
        return call.answer(&create.response);
    }
    Ok(Begun::Waiting(Box::new(create)))
}

/// What is wrong with the wish, given the number there is.
fn wrong(
    call: &Call<'_>,
    topic: &CreatePartitionsTopic,
    current: u32,
) -> Option<(ResponseError, String)> {
    let added = i64::from(topic.count) - i64::from(current);
    if added <= 0 {
        let message = format!("the topic has {current} partitions, which cannot become fewer");
        return Some((ResponseError::InvalidPartitions, message));
    }
    let assignments = topic.assignments.as_ref()?;
    let node = call.node();
    let fits = i64::try_from(assignments.len()) == Ok(added)
        && assignments
            .iter()
            .all(|assignment| assignment.broker_ids == [node]);
    (!fits).then(|| {
        let message = "assignments must give each new partition this broker".to_owned();
        (ResponseError::InvalidReplicaAssignment, message)
    })
}

impl Exchange for CreatePartitions {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let (Some(topic), Some(slot)) =
            (self.topics.get(part), self.response.results.get_mut(part))
        else {
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
            Some(Ok(info)) => match wrong(call, topic, info.partitions) {
                Some((error, message)) => {
                    slot.error_code = error.code();
                    slot.error_message = Some(text(message));
                }
                None if self.validate_only => {}
                None => {
                    let count = u32::try_from(topic.count).unwrap_or(0);
                    let command = Command::AddPartitions(TopicRef::Uuid(info.uuid), count);
                    call.command(part, command);
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
