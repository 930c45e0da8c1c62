//! Fetch: reads batches from logs, waiting for them if need be. Fetch sessions (KIP-227) are
//! declined: every response has session id 0, and clients then name all their partitions.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use omnilog_auth::Operation;
use omnilog_broker::{Command, Fetch as BrokerFetch, Fetched, Refusal, Reply, TopicRef};
use omnilog_wire::ConnectionError;

use super::named::{Named, with_names};
use super::{
    Answer, Begun, Call, Exchange, Progress, own, topic_error, topic_id_ref, topic_ref, unexpected,
};
use crate::codec::{FetchReply, FetchReplyPartition, FetchReplyTopic};

/// The first version that names topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 13;

/// `isolation.level=read_committed` on the wire.
const READ_COMMITTED: i8 = 1;

/// Fetch under way.
struct Fetch {
    reply: FetchReply,
    /// Where in the reply each partition that the broker was asked for belongs.
    places: Vec<(usize, usize)>,
    by_id: bool,
}

/// Asks the broker for all partitions at once: the wait is one wait for all.
pub(super) fn begin(call: &mut Call<'_>, request: FetchRequest) -> Result<Begun, ConnectionError> {
    if request.session_id != 0 {
        let error_code = ResponseError::FetchSessionIdNotFound.code();
        let reply = FetchReply {
            error_code,
            ..FetchReply::default()
        };
        return Ok(Begun::Done(Some(
            reply.encode(call.version, call.correlation_id),
        )));
    }
    let by_id = call.version >= TOPIC_ID_FROM;
    let topics = request.topics.iter().map(|topic| match by_id {
        true => topic_id_ref(topic.topic_id),
        false => topic_ref(&topic.topic),
    });
    let topics: Vec<TopicRef> = topics.collect();
    with_names(call, topics.into_iter(), move |call, names| {
        begin_named(call, &request, names)
    })
}

fn begin_named(
    call: &mut Call<'_>,
    request: &FetchRequest,
    names: Vec<Named>,
) -> Result<Begun, ConnectionError> {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let mut fetch = Fetch {
        reply: FetchReply::default(),
        places: Vec::new(),
        by_id: call.version >= TOPIC_ID_FROM,
    };
    let mut asked = Vec::new();
    for (topic, name) in request.topics.iter().zip(names) {
        let may = call.permitted(Operation::Read, name);
        fetch.begin_topic(topic, may, read_committed, &mut asked);
    }
    if asked.is_empty() {
        let reply = fetch.reply.encode(call.version, call.correlation_id);
        return Ok(Begun::Done(Some(reply)));
    }
    // An error that is known already must not wait for data.
    let has_error =
        fetch.places.len() < fetch.reply.topics.iter().map(|t| t.partitions.len()).sum();
    let wait_ms_max = if has_error { 0 } else { request.max_wait_ms };
    let command = BrokerFetch {
        partitions: asked,
        wait_ms_max: u32::try_from(wait_ms_max).unwrap_or(0),
        bytes_min: u32::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: u32::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(call.context.config.fetch_bytes_max),
        committed: read_committed,
    };
    call.command(0, Command::Fetch(command));
    Ok(Begun::Waiting(Box::new(fetch)))
}

impl Fetch {
    fn begin_topic(
        &mut self,
        topic: &FetchTopic,
        may: Named,
        read_committed: bool,
        asked: &mut Vec<omnilog_broker::FetchPartition>,
    ) {
        let topic_ref = may.map(|name| match self.by_id {
            true => topic_id_ref(topic.topic_id),
            false => TopicRef::Name(name),
        });
        let topic_index = self.reply.topics.len();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let error = match &topic_ref {
                Ok(topic) => {
                    self.places.push((topic_index, partitions.len()));
                    asked.push(question(topic.clone(), partition));
                    0
                }
                Err(error) => error.code(),
            };
            partitions.push(empty(partition.partition, error, read_committed));
        }
        self.reply.topics.push(FetchReplyTopic {
            name: own(&topic.topic),
            topic_id: topic.topic_id,
            partitions,
        });
    }

    fn fill(&mut self, call: &Call<'_>, part: usize, result: Result<Fetched, Refusal>) {
        let Some(&(topic, partition)) = self.places.get(part) else {
            return;
        };
        let Some(topic) = self.reply.topics.get_mut(topic) else {
            return;
        };
        let Some(slot) = topic.partitions.get_mut(partition) else {
            return;
        };
        match result {
            Ok(fetched) => {
                slot.high_watermark = fetched.high_watermark;
                slot.last_stable_offset = fetched.last_stable_offset;
                slot.log_start_offset = fetched.log_start_offset;
                slot.batches = fetched.batches;
                if let Some(aborted) = &mut slot.aborted {
                    let told = fetched.aborted.iter();
                    aborted.extend(told.map(|a| (a.producer, a.first_offset)));
                }
            }
            Err(refusal) => {
                let error = match self.by_id {
                    true => call.id_error(topic.topic_id, &refusal),
                    false => topic_error(&refusal, false),
                };
                slot.error_code = error.code();
                if let Refusal::OffsetOutOfRange {
                    log_start_offset,
                    high_watermark,
                } = refusal
                {
                    slot.high_watermark = high_watermark;
                    slot.last_stable_offset = high_watermark;
                    slot.log_start_offset = log_start_offset;
                }
            }
        }
    }
}

impl Exchange for Fetch {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        match answer {
            Answer::Broker(Ok(Reply::Fetched(results))) => {
                for (part, result) in results.into_iter().enumerate() {
                    self.fill(call, part, result);
                }
            }
            Answer::Broker(Err(refusal)) => {
                for part in 0..self.places.len() {
                    self.fill(call, part, Err(refusal.clone()));
                }
            }
            other => return Err(unexpected(&other)),
        }
        Ok(Progress::Done(Some(
            self.reply.encode(call.version, call.correlation_id),
        )))
    }
}

fn question(topic: TopicRef, partition: &FetchPartition) -> omnilog_broker::FetchPartition {
    omnilog_broker::FetchPartition {
        topic,
        partition: partition.partition,
        offset: partition.fetch_offset,
        bytes_max: u32::try_from(partition.partition_max_bytes).unwrap_or(0),
        current_leader_epoch: partition.current_leader_epoch,
    }
}

fn empty(index: i32, error_code: i16, read_committed: bool) -> FetchReplyPartition {
    FetchReplyPartition {
        index,
        error_code,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted: read_committed.then(Vec::new),
        batches: Vec::<Bytes>::new(),
    }
}
