//! LeaveGroup: members that go, one or, from version 3 on, several (KIP-345).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, own_option, unexpected};
use crate::group::{GroupReply, GroupRequest, Leaver};
use crate::rescue;

/// The first version that names several members.
const BATCHED_FROM: i16 = 3;

struct LeaveGroup;

/// Passes the request on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &LeaveGroupRequest,
) -> Result<Begun, ConnectionError> {
    if !call.may_use_group(request.group_id.as_bytes()) {
        let error = ResponseError::GroupAuthorizationFailed;
        return call.answer(&LeaveGroupResponse::default().with_error_code(error.code()));
    }
    let leavers = if call.version < BATCHED_FROM {
        vec![Leaver {
            member: own(&request.member_id),
            instance: None,
        }]
    } else {
        let members = request.members.iter();
        let leavers = members.map(|member| Leaver {
            member: own(&member.member_id),
            instance: own_option(member.group_instance_id.as_ref()),
        });
        leavers.collect()
    };
    call.group(
        0,
        group_name(&request.group_id),
        GroupRequest::Leave(leavers),
    );
    Ok(Begun::Waiting(Box::new(LeaveGroup)))
}

impl Exchange for LeaveGroup {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Answer::Group(GroupReply::Leave(results)) = answer else {
            return Err(unexpected(&answer));
        };
        let code = |result: Result<(), _>| result.err().map_or(0, |e| rescue::group(e).code());
        if call.version < BATCHED_FROM {
            let error_code = results
                .into_iter()
                .next()
                .map_or(0, |(_, result)| code(result));
            return call.finish(&LeaveGroupResponse::default().with_error_code(error_code));
        }
        let members = results.into_iter().map(|(leaver, result)| {
            MemberResponse::default()
                .with_member_id(leaver.member)
                .with_group_instance_id(leaver.instance)
                .with_error_code(code(result))
        });
        call.finish(&LeaveGroupResponse::default().with_members(members.collect()))
    }
}
