//! Produce: appends record batches, opaque and compressed as they came.

mod batch;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use omnilog_auth::Operation;
use omnilog_broker::{Append, Command, Name, Refusal, Reply, TopicRef, Wait};
use omnilog_wire::ConnectionError;
use uuid::Uuid;

use super::named::{Named, with_names};
use super::{Answer, Begun, Call, Exchange, Progress, topic_id_ref, topic_ref, unexpected};
use crate::codec::{
    ProduceReply, ProduceReplyPartition, ProduceReplyTopic, ProduceRequest, ProduceTopic,
};
use crate::rescue;

/// The first version that names topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 13;

/// What a batch waits for, by the request's acks; `None`: a number that means nothing.
fn wait(acks: i16) -> Option<Wait> {
    match acks {
        0 => Some(Wait::Decided),
        1 | -1 => Some(Wait::Durable),
        _ => None,
    }
}

/// Produce under way.
struct Produce {
    reply: ProduceReply,
    /// Where in the reply each part belongs: topic and partition.
    places: Vec<(usize, usize)>,
    waiting: usize,
    wants_response: bool,
    by_id: bool,
    /// Whose transaction the batches belong to, if to any.
    transactional_id: Option<Name>,
}

/// Checks every batch and sends the good ones to the broker.
pub(super) fn begin(call: &mut Call<'_>, body: &Bytes) -> Result<Begun, ConnectionError> {
    let request = ProduceRequest::decode(body, call.version).map_err(rescue::codec)?;
    let by_id = call.version >= TOPIC_ID_FROM;
    let topics = request.topics.iter().map(|topic| match by_id {
        true => topic_id_ref(topic.topic_id),
        false => topic_ref(&topic.name),
    });
    let topics: Vec<TopicRef> = topics.collect();
    with_names(call, topics.into_iter(), move |call, names| {
        begin_named(call, &request, names)
    })
}

fn begin_named(
    call: &mut Call<'_>,
    request: &ProduceRequest,
    names: Vec<Named>,
) -> Result<Begun, ConnectionError> {
    let mut produce = Produce {
        reply: ProduceReply::default(),
        places: Vec::new(),
        waiting: 0,
        wants_response: request.acks != 0,
        by_id: call.version >= TOPIC_ID_FROM,
        transactional_id: request
            .transactional_id
            .as_ref()
            .map(|id| Name::copy_from_slice(id.as_bytes())),
    };
    let whole = if wait(request.acks).is_none() {
        Some(ResponseError::InvalidRequiredAcks)
    } else {
        // The request as a whole is about one transaction, or about none.
        let id = request.transactional_id.as_ref();
        let transactional = request.topics.iter().flat_map(|topic| &topic.partitions);
        let transactional = transactional
            .filter_map(|partition| partition.records.as_deref())
            .any(batch::is_transactional);
        let may = id.is_some_and(|id| call.may_transact(id.as_bytes()));
        (transactional && !may).then_some(ResponseError::TransactionalIdAuthorizationFailed)
    };
    for (topic, name) in request.topics.iter().zip(names) {
        let may = call.permitted(Operation::Write, name);
        produce.begin_topic(call, topic, request.acks, &whole.map_or(may, Err));
    }
    if produce.waiting > 0 {
        return Ok(Begun::Waiting(Box::new(produce)));
    }
    let reply = produce.finish(call)?;
    Ok(Begun::Done(reply))
}

impl Produce {
    fn begin_topic(&mut self, call: &mut Call<'_>, topic: &ProduceTopic, acks: i16, may: &Named) {
        let topic_index = self.reply.topics.len();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let batch = match may {
                Err(error) => Err((*error, None)),
                Ok(name) => batch::check(partition.records.as_ref(), call.version)
                    .map(|batch| (name, batch))
                    .map_err(|error| (error.code(), Some(error.to_string()))),
            };
            let place = (topic_index, partitions.len());
            partitions.push(match batch {
                Ok((name, batch)) => {
                    let part = self.places.len();
                    self.places.push(place);
                    self.waiting += 1;
                    let wait = wait(acks).unwrap_or(Wait::Durable);
                    let append = Append {
                        topic: match self.by_id {
                            true => topic_id_ref(topic.topic_id),
                            false => TopicRef::Name(name.clone()),
                        },
                        partition: partition.index,
                        batch,
                        wait,
                        keyless: false,
                        transactional_id: self.transactional_id.clone(),
                    };
                    call.command(part, Command::Append(append));
                    failed(partition.index, ResponseError::RequestTimedOut, None)
                }
                Err((error, message)) => failed(partition.index, error, message),
            });
        }
        self.reply.topics.push(ProduceReplyTopic {
            name: topic.name.clone(),
            topic_id: if self.by_id {
                topic.topic_id
            } else {
                Uuid::nil()
            },
            partitions,
        });
    }

    fn finish(&self, call: &Call<'_>) -> Result<Option<crate::codec::Reply>, ConnectionError> {
        if self.wants_response {
            return Ok(Some(self.reply.encode(call.version, call.correlation_id)));
        }
        // Without a response, closing the connection is the only way to tell of an error.
        let partitions = self.reply.topics.iter().flat_map(|topic| &topic.partitions);
        match partitions
            .map(|partition| partition.error_code)
            .find(|code| *code != 0)
        {
            None => Ok(None),
            Some(code) => {
                let reason = format!("produce without acknowledgement failed with error {code}");
                Err(ConnectionError::refused(reason))
            }
        }
    }

    fn fill(
        &mut self,
        call: &Call<'_>,
        part: usize,
        result: Result<Reply, Refusal>,
    ) -> Result<(), ConnectionError> {
        let place = self.places.get(part).copied().unwrap_or_default();
        let Some(topic) = self.reply.topics.get_mut(place.0) else {
            return Ok(());
        };
        let Some(slot) = topic.partitions.get_mut(place.1) else {
            return Ok(());
        };
        *slot = match result {
            Ok(Reply::Appended(appended)) => ProduceReplyPartition {
                index: slot.index,
                error_code: 0,
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time_ms,
                log_start_offset: appended.log_start_offset,
                error_message: None,
            },
            Ok(other) => return Err(unexpected(&Answer::Broker(Ok(other)))),
            Err(refusal) => {
                let error = match &refusal {
                    Refusal::NotFound(..) if self.by_id => call.id_error(topic.topic_id, &refusal),
                    no => rescue::write(no),
                };
                failed(slot.index, error, Some(refusal.to_string()))
            }
        };
        Ok(())
    }
}

impl Exchange for Produce {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Answer::Broker(result) = answer else {
            return Err(unexpected(&answer));
        };
        self.fill(call, part, result)?;
        self.waiting -= 1;
        if self.waiting > 0 {
            return Ok(Progress::Waiting);
        }
        self.finish(call).map(Progress::Done)
    }
}

fn failed(index: i32, error: ResponseError, message: Option<String>) -> ProduceReplyPartition {
    ProduceReplyPartition {
        index,
        error_code: error.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        error_message: message,
    }
}
