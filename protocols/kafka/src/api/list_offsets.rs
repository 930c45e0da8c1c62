//! ListOffsets: where a partition begins and ends, and where a time is in it.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use omnilog_broker::{Command, FindOffset, OffsetAt, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, name_of, own, topic_ref, unexpected};
use crate::rescue;

/// `isolation.level=read_committed` on the wire.
const READ_COMMITTED: i8 = 1;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The earliest offset on the broker's own disk: there are no other places (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// The latest offset in tiered storage: there is none.
const LATEST_TIERED: i64 = -5;

/// What is asked by a timestamp or one of its special values.
enum Asked {
    At(OffsetAt),
    /// Nothing of the kind exists; that is no error.
    Nothing,
    /// The version has no such special value.
    Unknown,
}

fn asked(timestamp: i64, version: i16) -> Asked {
    match timestamp {
        LATEST => Asked::At(OffsetAt::Latest),
        EARLIEST => Asked::At(OffsetAt::Earliest),
        MAX_TIMESTAMP if version >= 7 => Asked::At(OffsetAt::MaxTimestamp),
        EARLIEST_LOCAL if version >= 8 => Asked::At(OffsetAt::Earliest),
        LATEST_TIERED if version >= 9 => Asked::Nothing,
        time if time >= 0 => Asked::At(OffsetAt::Time(time)),
        _ => Asked::Unknown,
    }
}

/// ListOffsets under way.
struct ListOffsets {
    response: ListOffsetsResponse,
    places: Vec<(usize, usize)>,
    waiting: usize,
}

/// Asks the broker for each partition.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &ListOffsetsRequest,
) -> Result<Begun, ConnectionError> {
    let mut list = ListOffsets {
        response: ListOffsetsResponse::default(),
        places: Vec::new(),
        waiting: 0,
    };
    for topic in &request.topics {
        let may = call.may_know(&name_of(&topic.name));
        let mut seen = HashSet::new();
        let mut partitions: Vec<ListOffsetsPartitionResponse> = Vec::new();
        for partition in &topic.partitions {
            let twice = !seen.insert(partition.partition_index);
            let mut response = nothing(partition.partition_index);
            match asked(partition.timestamp, call.version) {
                _ if !may => {
                    response.error_code = ResponseError::TopicAuthorizationFailed.code();
                }
                _ if twice => response.error_code = ResponseError::InvalidRequest.code(),
                Asked::Unknown => response.error_code = ResponseError::UnsupportedVersion.code(),
                _ if let Some(error) = epoch_error(call, partition) => {
                    response.error_code = error.code();
                }
                Asked::Nothing => {}
                Asked::At(at) => {
                    let part = list.places.len();
                    list.places
                        .push((list.response.topics.len(), partitions.len()));
                    list.waiting += 1;
                    let topic = topic_ref(&topic.name);
                    let find = FindOffset {
                        topic,
                        partition: partition.partition_index,
                        at,
                        committed: request.isolation_level == READ_COMMITTED,
                    };
                    call.command(part, Command::FindOffset(find));
                }
            }
            partitions.push(response);
        }
        let name = TopicName(own(&topic.name));
        let topic = ListOffsetsTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions);
        list.response.topics.push(topic);
    }
    if list.waiting == 0 {
        return call.answer(&list.response);
    }
    Ok(Begun::Waiting(Box::new(list)))
}

/// The client's leader epoch, where it gives one, must be ours (KIP-320).
fn epoch_error(call: &Call<'_>, partition: &ListOffsetsPartition) -> Option<ResponseError> {
    let (theirs, ours) = (partition.current_leader_epoch, call.context.leader_epoch);
    match theirs {
        -1 => None,
        epoch if epoch < ours => Some(ResponseError::FencedLeaderEpoch),
        epoch if epoch > ours => Some(ResponseError::UnknownLeaderEpoch),
        _ => None,
    }
}

fn nothing(index: i32) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_timestamp(-1)
        .with_offset(-1)
}

impl Exchange for ListOffsets {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let (topic, partition) = self.places.get(part).copied().unwrap_or_default();
        let topic = self.response.topics.get_mut(topic);
        let Some(slot) = topic.and_then(|topic| topic.partitions.get_mut(partition)) else {
            return Err(unexpected(&answer));
        };
        match answer {
            Answer::Broker(Ok(Reply::Offset(found))) => {
                slot.offset = found.offset;
                slot.timestamp = found.timestamp_ms;
                if call.version >= 4 {
                    slot.leader_epoch = found.leader_epoch;
                }
            }
            Answer::Broker(Err(refusal)) => slot.error_code = rescue::refusal(&refusal).code(),
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
