//! DeleteTopics: takes the log away from names; what other protocols have under them stays.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::{Command, Reply, TopicRef};
use omnilog_wire::ConnectionError;

use super::named::{Named, with_names};
use super::{
    Answer, Begun, Call, Exchange, Progress, own, text, topic_error, topic_id_ref, topic_name,
    topic_ref, unexpected,
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
    let refs = topics.iter().map(|topic| match &topic.name {
        Some(name) => topic_ref(name),
        None => topic_id_ref(topic.topic_id),
    });
    let refs: Vec<TopicRef> = refs.collect();
    with_names(call, refs.into_iter(), move |call, names| {
        begin_named(call, &topics, names)
    })
}

fn begin_named(
    call: &mut Call<'_>,
    topics: &[DeleteTopicState],
    names: Vec<Named>,
) -> Result<Begun, ConnectionError> {
    let mut delete = DeleteTopics {
        response: DeleteTopicsResponse::default(),
        waiting: 0,
    };
    for (part, (topic, name)) in topics.iter().zip(names).enumerate() {
        let mut result = DeletableTopicResult::default()
            .with_name(topic.name.as_ref().map(|name| TopicName(own(name))))
            .with_topic_id(topic.topic_id);
        let by_id = topic.name.is_none();
        if by_id && let Ok(name) = &name {
            result.name = topic_name(name).filter(|_| call.may_know(name));
        }
        // One or the other.
        let may = match by_id == topic.topic_id.is_nil() {
            true => Err(ResponseError::InvalidRequest),
            false => call.permitted(Operation::Configure, name),
        };
        match may {
            Ok(name) => {
                let topic = match by_id {
                    true => topic_id_ref(topic.topic_id),
                    false => TopicRef::Name(name),
                };
                delete.waiting += 1;
                call.command(part, Command::DeleteTopic(topic));
            }
            Err(error) => result.error_code = error.code(),
        }
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
