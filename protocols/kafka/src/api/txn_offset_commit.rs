//! TxnOffsetCommit: positions that a transaction commits with its records, through the group's coordinator, which
//! knows who may (KIP-447).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use omnilog_wire::ConnectionError;

use super::positions::{Position, Positions, TopicCodes};
use super::{
    Answer, Begun, Call, Exchange, Progress, group_name, own, own_option, transactions, unexpected,
};
use crate::group::{Caller, GroupReply, GroupRequest};

/// `PRODUCER_FENCED` is told as `INVALID_PRODUCER_EPOCH` in all versions: it is the log's no, not the coordinator's.
const FENCED_FROM: i16 = i16::MAX;

struct TxnOffsetCommit {
    positions: Positions,
}

/// Passes the positions on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &TxnOffsetCommitRequest,
) -> Result<Begun, ConnectionError> {
    let id = &request.transactional_id;
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
    let error = call.transactional_id_error(id.as_bytes()).or_else(|| {
        let may = call.may_use_group(request.group_id.as_bytes());
        (!may).then_some(ResponseError::GroupAuthorizationFailed)
    });
    if let Some(error) = error {
        positions.fail(error);
        return call.answer(&response(positions));
    }
    let caller = Caller {
        generation: request.generation_id,
        member: own(&request.member_id),
        instance: own_option(request.group_instance_id.as_ref()),
    };
    let transactor = transactions::transactor(id, request.producer_id, request.producer_epoch);
    let pending = GroupRequest::CommitInTransaction(caller, transactor, positions.take());
    call.group(0, group_name(&request.group_id), pending);
    Ok(Begun::Waiting(Box::new(TxnOffsetCommit { positions })))
}

impl Exchange for TxnOffsetCommit {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Answer::Group(GroupReply::Commit(result)) = answer else {
            return Err(unexpected(&answer));
        };
        let version = call.version;
        let code = |no: &_| transactions::error(no, version, FENCED_FROM);
        self.positions.hear(result, code);
        call.finish(&response(std::mem::take(&mut self.positions)))
    }
}

fn response(positions: Positions) -> TxnOffsetCommitResponse {
    let topic = |TopicCodes { name, partitions }| {
        let partition = |(index, code)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        };
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    TxnOffsetCommitResponse::default().with_topics(positions.answer().map(topic).collect())
}
