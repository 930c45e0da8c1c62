//! TxnOffsetCommit: positions that a transaction commits with its records, through the group's coordinator, which
//! knows who may (KIP-447).

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use omnilog_auth::Operation;
use omnilog_broker::GroupOffset;
use omnilog_wire::ConnectionError;

use super::offset_commit::METADATA_BYTES_MAX;
use super::{
    Answer, Begun, Call, Exchange, Progress, group_name, name_of, own, own_option, transactions,
    unexpected,
};
use crate::group::{Caller, GroupReply, GroupRequest};
use crate::rescue;

/// `PRODUCER_FENCED` is told as `INVALID_PRODUCER_EPOCH` in all versions: it is the log's no, not the coordinator's.
const FENCED_FROM: i16 = i16::MAX;

struct TxnOffsetCommit {
    response: TxnOffsetCommitResponse,
    /// Where in the response each position that was passed on belongs.
    places: Vec<(usize, usize)>,
}

/// Passes the positions on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &TxnOffsetCommitRequest,
) -> Result<Begun, ConnectionError> {
    let id = &request.transactional_id;
    let mut commit = TxnOffsetCommit {
        response: TxnOffsetCommitResponse::default(),
        places: Vec::new(),
    };
    let mut offsets = Vec::new();
    for topic in &request.topics {
        commit.begin_topic(call, topic, &mut offsets);
    }
    let error = call.transactional_id_error(id.as_bytes()).or_else(|| {
        let may = call.may_use_group(request.group_id.as_bytes());
        (!may).then_some(ResponseError::GroupAuthorizationFailed)
    });
    if let Some(error) = error {
        commit.fail(error);
        return call.answer(&commit.response);
    }
    let caller = Caller {
        generation: request.generation_id,
        member: own(&request.member_id),
        instance: own_option(request.group_instance_id.as_ref()),
    };
    let transactor = transactions::transactor(id, request.producer_id, request.producer_epoch);
    let request_offsets = GroupRequest::CommitInTransaction(caller, transactor, offsets);
    call.group(0, group_name(&request.group_id), request_offsets);
    Ok(Begun::Waiting(Box::new(commit)))
}

impl TxnOffsetCommit {
    fn begin_topic(
        &mut self,
        call: &Call<'_>,
        topic: &TxnOffsetCommitRequestTopic,
        offsets: &mut Vec<GroupOffset>,
    ) {
        let name = name_of(&topic.name);
        let may = call.may(Operation::Read, &name);
        let topic_index = self.response.topics.len();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let metadata = partition
                .committed_metadata
                .as_ref()
                .map_or(&b""[..], |m| m.as_bytes());
            let error_code = if !may {
                ResponseError::TopicAuthorizationFailed.code()
            } else if metadata.len() > METADATA_BYTES_MAX {
                ResponseError::OffsetMetadataTooLarge.code()
            } else {
                self.places.push((topic_index, partitions.len()));
                offsets.push(GroupOffset {
                    topic: name.clone(),
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: Bytes::copy_from_slice(metadata),
                });
                0
            };
            let response = TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error_code);
            partitions.push(response);
        }
        let response = TxnOffsetCommitResponseTopic::default()
            .with_name(TopicName(own(&topic.name)))
            .with_partitions(partitions);
        self.response.topics.push(response);
    }

    fn fail(&mut self, error: ResponseError) {
        for place in 0..self.places.len() {
            self.set(place, error.code());
        }
    }

    fn set(&mut self, place: usize, error_code: i16) {
        let Some(&(topic, partition)) = self.places.get(place) else {
            return;
        };
        let topic = self.response.topics.get_mut(topic);
        if let Some(slot) = topic.and_then(|topic| topic.partitions.get_mut(partition)) {
            slot.error_code = error_code;
        }
    }
}

impl Exchange for TxnOffsetCommit {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        match answer {
            Answer::Group(GroupReply::Commit(Ok(each))) => {
                for (place, result) in each.into_iter().enumerate() {
                    let error = result
                        .err()
                        .map(|no| transactions::error(&no, call.version, FENCED_FROM));
                    self.set(place, error.map_or(0, |error| error.code()));
                }
            }
            Answer::Group(GroupReply::Commit(Err(error))) => self.fail(rescue::group(error)),
            other => return Err(unexpected(&other)),
        }
        call.finish(&self.response)
    }
}
