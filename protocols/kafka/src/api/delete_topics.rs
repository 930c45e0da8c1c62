//! DeleteTopics: takes the log away from names; what other protocols have under them stays.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::{Command, Reply};
use omnilog_wire::ConnectionError;
use uuid::Uuid;

use super::named::{Named, with_names};
use super::{
    Answer, Begun, Call, Exchange, Progress, name_of, own, text, topic_error, topic_id_ref,
    topic_name, topic_ref, unexpected,
};

/// The first version that may name topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 6;
/// The first version with a message for people.
const MESSAGE_FROM: i16 = 5;

struct DeleteTopics {
    response: DeleteTopicsResponse,
    waiting: usize,
}

/// Asks the broker for each topic.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: DeleteTopicsRequest,
) -> Result<Begun, ConnectionError> {
    let topics = if call.version >= TOPIC_ID_FROM {
        request.topics
    } else {
        let names = request.topic_names.into_iter();
        names
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect()
    };
    let by_id = |topic: &&DeleteTopicState| topic.name.is_none();
    let ids: Vec<Uuid> = topics.iter().filter(by_id).map(|t| t.topic_id).collect();
    with_names(call, ids.into_iter(), move |call, names| {
        begin_named(call, &topics, names)
    })
}

fn begin_named(
    call: &mut Call<'_>,
    topics: &[DeleteTopicState],
    names: Vec<Named>,
) -> Result<Begun, ConnectionError> {
    let mut names = names.into_iter();
    let mut delete = DeleteTopics {
        response: DeleteTopicsResponse::default(),
        waiting: 0,
    };
    for (part, topic) in topics.iter().enumerate() {
        let mut result = DeletableTopicResult::default()
            .with_name(topic.name.as_ref().map(|name| TopicName(own(name))))
            .with_topic_id(topic.topic_id);
        let (topic_ref, error) = match &topic.name {
            Some(_) if !topic.topic_id.is_nil() => {
                (None, Some(ResponseError::InvalidRequest)) // one or the other
            }
            Some(name) if !call.may(Operation::Configure, &name_of(name)) => {
                (None, Some(ResponseError::TopicAuthorizationFailed))
            }
            Some(name) => (Some(topic_ref(name)), None),
            None => match names.next() {
                // Neither the one nor the other.
                _ if topic.topic_id.is_nil() => (None, Some(ResponseError::InvalidRequest)),
                Some(Ok(name)) => {
                    result.name = topic_name(&name).filter(|_| call.may_know(&name));
                    match call.may(Operation::Configure, &name) {
                        true => (Some(topic_id_ref(topic.topic_id)), None),
                        false => (None, Some(ResponseError::TopicAuthorizationFailed)),
                    }
                }
                Some(Err(error)) => (None, Some(error)),
                None => (None, Some(ResponseError::UnknownTopicId)),
            },
        };
        if let Some(topic_ref) = topic_ref {
            delete.waiting += 1;
            call.command(part, Command::DeleteTopic(topic_ref));
        }
        result.error_code = error.map_or(0, |error| error.code());
        delete.response.responses.push(result);
    }
    if delete.waiting == 0 {
        return call.answer(&delete.response);
    }
    Ok(Begun::Waiting(Box::new(delete)))
}

impl Exchange for DeleteTopics {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Some(slot) = self.response.responses.get_mut(part) else {
            return Err(unexpected(&answer));
        };
        match answer {
            Answer::Broker(Ok(Reply::Done)) => {}
            Answer::Broker(Err(refusal)) => {
                let error = match slot.topic_id.is_nil() {
                    true => topic_error(&refusal, false),
                    false => call.id_error(slot.topic_id, &refusal),
                };
                slot.error_code = error.code();
                if call.version >= MESSAGE_FROM {
                    slot.error_message = Some(text(refusal.to_string()));
                }
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
