//! OffsetCommit: stores a group's positions, through the group's coordinator, which knows who may.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::GroupOffset;
use omnilog_wire::ConnectionError;

use super::{
    Answer, Begun, Call, Exchange, Progress, group_name, name_of, own, own_option, unexpected,
};
use crate::group::{Caller, GroupReply, GroupRequest};
use crate::rescue;

/// The longest metadata string that is stored with a position (`offset.metadata.max.bytes`).
pub(super) const METADATA_BYTES_MAX: usize = 4096;

struct OffsetCommit {
    response: OffsetCommitResponse,
    /// Where in the response each position that was passed on belongs.
    places: Vec<(usize, usize)>,
}

/// Passes the positions on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &OffsetCommitRequest,
) -> Result<Begun, ConnectionError> {
    let mut commit = OffsetCommit {
        response: OffsetCommitResponse::default(),
        places: Vec::new(),
    };
    let mut offsets = Vec::new();
    for topic in &request.topics {
        commit.begin_topic(call, topic, &mut offsets);
    }
    if !call.may_use_group(request.group_id.as_bytes()) {
        commit.fail(ResponseError::GroupAuthorizationFailed);
        return call.answer(&commit.response);
    }
    let caller = Caller {
        generation: request.generation_id_or_member_epoch,
        member: own(&request.member_id),
        instance: own_option(request.group_instance_id.as_ref()),
    };
    // Asked even without a position: the coordinator still says who is out.
    let commit_offsets = GroupRequest::Commit(caller, offsets);
    call.group(0, group_name(&request.group_id), commit_offsets);
    Ok(Begun::Waiting(Box::new(commit)))
}

impl OffsetCommit {
    fn begin_topic(
        &mut self,
        call: &Call<'_>,
        topic: &OffsetCommitRequestTopic,
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
            let response = OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error_code);
            partitions.push(response);
        }
        let response = OffsetCommitResponseTopic::default()
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

impl Exchange for OffsetCommit {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        match answer {
            Answer::Group(GroupReply::Commit(Ok(each))) => {
                for (place, result) in each.into_iter().enumerate() {
                    let code = result.err().map_or(0, |no| rescue::commit(&no).code());
                    self.set(place, code);
                }
            }
            Answer::Group(GroupReply::Commit(Err(error))) => self.fail(rescue::group(error)),
            other => return Err(unexpected(&other)),
        }
        call.finish(&self.response)
    }
}
