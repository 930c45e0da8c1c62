//! SyncGroup: the leader hands in the assignment, every member gets its share.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, own_option, unexpected};
use crate::group::{Caller, GroupReply, GroupRequest, Sync};
use crate::rescue;

/// The first version that names protocol type and protocol, and must.
const PROTOCOL_FROM: i16 = 5;

struct SyncGroup;

/// Passes the request on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &SyncGroupRequest,
) -> Result<Begun, ConnectionError> {
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    let error = if !call.may_use_group(request.group_id.as_bytes()) {
        Some(ResponseError::GroupAuthorizationFailed)
    } else if call.version >= PROTOCOL_FROM && unnamed {
        Some(ResponseError::InconsistentGroupProtocol)
    } else {
        None
    };
    if let Some(error) = error {
        return call.answer(&SyncGroupResponse::default().with_error_code(error.code()));
    }
    let assignments = request.assignments.iter();
    let assignments =
        assignments.map(|a| (own(&a.member_id), Bytes::copy_from_slice(&a.assignment)));
    let sync = Sync {
        caller: Caller {
            generation: request.generation_id,
            member: own(&request.member_id),
            instance: own_option(request.group_instance_id.as_ref()),
        },
        protocol_type: own_option(request.protocol_type.as_ref()),
        protocol: own_option(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    };
    call.group(0, group_name(&request.group_id), GroupRequest::Sync(sync));
    Ok(Begun::Waiting(Box::new(SyncGroup)))
}

impl Exchange for SyncGroup {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let response = match answer {
            Answer::Group(GroupReply::Sync(Ok(synced))) => {
                let mut response = SyncGroupResponse::default().with_assignment(synced.assignment);
                if call.version >= PROTOCOL_FROM {
                    response.protocol_type = Some(synced.protocol_type);
                    response.protocol_name = Some(synced.protocol);
                }
                response
            }
            Answer::Group(GroupReply::Sync(Err(error))) => {
                SyncGroupResponse::default().with_error_code(rescue::group(error).code())
            }
            other => return Err(unexpected(&other)),
        };
        call.finish(&response)
    }
}
