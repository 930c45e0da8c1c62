//! DeleteGroups: forgets empty groups with their positions.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use omnilog_auth::Operation;
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, unexpected};
use crate::group::{GroupReply, GroupRequest};
use crate::rescue;

struct DeleteGroups {
    response: DeleteGroupsResponse,
    waiting: usize,
}

/// Asks each group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &DeleteGroupsRequest,
) -> Result<Begun, ConnectionError> {
    let mut delete = DeleteGroups {
        response: DeleteGroupsResponse::default(),
        waiting: 0,
    };
    for (part, group) in request.groups_names.iter().enumerate() {
        let mut result = DeletableGroupResult::default().with_group_id(GroupId(own(group)));
        if call.may_group(Operation::Configure, group.as_bytes()) {
            delete.waiting += 1;
            call.group(part, group_name(group), GroupRequest::Delete);
        } else {
            result.error_code = ResponseError::GroupAuthorizationFailed.code();
        }
        delete.response.results.push(result);
    }
    if delete.waiting == 0 {
        return call.answer(&delete.response);
    }
    Ok(Begun::Waiting(Box::new(delete)))
}

impl Exchange for DeleteGroups {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let slot = self.response.results.get_mut(part);
        let (Some(slot), Answer::Group(GroupReply::Deleted(result))) = (slot, &answer) else {
            return Err(unexpected(&answer));
        };
        slot.error_code = result.err().map_or(0, |error| rescue::group(error).code());
        self.waiting -= 1;
        if self.waiting > 0 {
            Ok(Progress::Waiting)
        } else {
            call.finish(&self.response)
        }
    }
}
