//! JoinGroup: entering a group's rebalance. The response comes when the rebalance has its members.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, own_option, unexpected};
use crate::group::{GroupReply, GroupRequest, Join, JoinRefused, Joined};
use crate::rescue;

/// The first version whose new members come back with the id they are given (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// The first version with the protocol type in the response, and with null for no protocol.
const PROTOCOL_TYPE_FROM: i16 = 7;
/// The first version in which a leader may be told to skip its part (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

struct JoinGroup;

/// Passes the request on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &JoinGroupRequest,
) -> Result<Begun, ConnectionError> {
    if !call.may_use_group(request.group_id.as_bytes()) {
        let error = ResponseError::GroupAuthorizationFailed;
        let response = refused(call.version, error, request.member_id.clone());
        return call.answer(&response);
    }
    // Version 0 had one timeout for both.
    let rebalance_timeout_ms = if call.version == 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let protocols = request.protocols.iter();
    let protocols = protocols.map(|p| (own(&p.name), Bytes::copy_from_slice(&p.metadata)));
    let join = Join {
        member: own(&request.member_id),
        instance: own_option(request.group_instance_id.as_ref()),
        client_id: own(call.client_id),
        client_host: call.context.client_host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: own(&request.protocol_type),
        protocols: protocols.collect(),
        known_member_required: call.version >= MEMBER_ID_REQUIRED_FROM,
        can_skip_assignment: call.version >= SKIP_ASSIGNMENT_FROM,
    };
    call.group(0, group_name(&request.group_id), GroupRequest::Join(join));
    Ok(Begun::Waiting(Box::new(JoinGroup)))
}

impl Exchange for JoinGroup {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let response = match answer {
            Answer::Group(GroupReply::Join(Ok(joined))) => response(call.version, joined),
            Answer::Group(GroupReply::Join(Err(JoinRefused { error, member }))) => {
                refused(call.version, rescue::group(error), member)
            }
            other => return Err(unexpected(&other)),
        };
        call.finish(&response)
    }
}

fn response(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|(member, instance, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(member)
                .with_group_instance_id(instance)
                .with_metadata(metadata)
        });
    let mut response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(joined.protocol))
        .with_leader(joined.leader)
        .with_member_id(joined.member)
        .with_members(members.collect());
    if version >= PROTOCOL_TYPE_FROM {
        response.protocol_type = Some(joined.protocol_type);
    }
    if version >= SKIP_ASSIGNMENT_FROM {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

fn refused(version: i16, error: ResponseError, member: StrBytes) -> JoinGroupResponse {
    let protocol = (version < PROTOCOL_TYPE_FROM).then(StrBytes::new);
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(protocol)
        .with_member_id(member)
}
