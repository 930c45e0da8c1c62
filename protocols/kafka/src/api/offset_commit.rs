//! OffsetCommit: stores a group's positions, through the group's coordinator, which knows who may.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use omnilog_wire::ConnectionError;

use super::positions::{Position, Positions, TopicCodes};
use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, own_option, unexpected};
use crate::group::{Caller, GroupReply, GroupRequest};
use crate::rescue;

struct OffsetCommit {
    positions: Positions,
}

/// Passes the positions on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &OffsetCommitRequest,
) -> Result<Begun, ConnectionError> {
    let mut positions = Positions::default();
    for topic in &request.topics {
        let named = topic.partitions.iter().map(|named| Position {
            partition: named.partition_index,
            offset: named.committed_offset,
            leader_epoch: named.committed_leader_epoch,
            metadata: named.committed_metadata.as_ref(),
        });
        positions.topic(call, &topic.name, named);
    }
    if !call.may_use_group(request.group_id.as_bytes()) {
        positions.fail(ResponseError::GroupAuthorizationFailed);
        return call.answer(&response(positions));
    }
    let caller = Caller {
        generation: request.generation_id_or_member_epoch,
        member: own(&request.member_id),
        instance: own_option(request.group_instance_id.as_ref()),
    };
    // Asked even without a position: the coordinator still says who is out.
    let commit_offsets = GroupRequest::Commit(caller, positions.take());
    call.group(0, group_name(&request.group_id), commit_offsets);
    Ok(Begun::Waiting(Box::new(OffsetCommit { positions })))
}

impl Exchange for OffsetCommit {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Answer::Group(GroupReply::Commit(result)) = answer else {
            return Err(unexpected(&answer));
        };
        self.positions.hear(result, rescue::coordinator);
        call.finish(&response(std::mem::take(&mut self.positions)))
    }
}

fn response(positions: Positions) -> OffsetCommitResponse {
    let topic = |TopicCodes { name, partitions }| {
        let partition = |(index, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        };
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    OffsetCommitResponse::default().with_topics(positions.answer().map(topic).collect())
}
