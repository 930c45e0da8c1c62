//! Heartbeat: a member's sign of life.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, own_option, unexpected};
use crate::group::{Caller, GroupReply, GroupRequest};
use crate::rescue;

struct Heartbeat;

/// Passes the request on to the group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &HeartbeatRequest,
) -> Result<Begun, ConnectionError> {
    if !call.may_use_group(request.group_id.as_bytes()) {
        let error = ResponseError::GroupAuthorizationFailed;
        return call.answer(&HeartbeatResponse::default().with_error_code(error.code()));
    }
    let caller = Caller {
        generation: request.generation_id,
        member: own(&request.member_id),
        instance: own_option(request.group_instance_id.as_ref()),
    };
    call.group(
        0,
        group_name(&request.group_id),
        GroupRequest::Heartbeat(caller),
    );
    Ok(Begun::Waiting(Box::new(Heartbeat)))
}

impl Exchange for Heartbeat {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Answer::Group(GroupReply::Heartbeat(result)) = answer else {
            return Err(unexpected(&answer));
        };
        let error_code = result.err().map_or(0, |error| rescue::group(error).code());
        call.finish(&HeartbeatResponse::default().with_error_code(error_code))
    }
}
