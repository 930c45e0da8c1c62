//! DescribeGroups: state and members of classic groups.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use omnilog_wire::ConnectionError;

use super::operations::{NOT_ASKED, of_group};
use super::{Answer, Begun, Call, Exchange, Progress, group_name, own, text, unexpected};
use crate::group::{Description, GroupReply, GroupRequest};

/// The first version that tells of a missing group with an error (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;
/// The first version with static identities.
const INSTANCE_FROM: i16 = 4;

struct DescribeGroups {
    response: DescribeGroupsResponse,
    waiting: usize,
}

/// Asks each group's coordinator.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &DescribeGroupsRequest,
) -> Result<Begun, ConnectionError> {
    let mut describe = DescribeGroups {
        response: DescribeGroupsResponse::default(),
        waiting: 0,
    };
    for (part, group) in request.groups.iter().enumerate() {
        let asked = request.include_authorized_operations;
        let operations = if asked {
            of_group(call, group.as_bytes())
        } else {
            NOT_ASKED
        };
        let mut described = DescribedGroup::default()
            .with_group_id(GroupId(own(group)))
            .with_authorized_operations(operations);
        if call.may_know_group(group.as_bytes()) {
            describe.waiting += 1;
            call.group(part, group_name(group), GroupRequest::Describe);
        } else {
            described.error_code = ResponseError::GroupAuthorizationFailed.code();
        }
        describe.response.groups.push(described);
    }
    if describe.waiting == 0 {
        return call.answer(&describe.response);
    }
    Ok(Begun::Waiting(Box::new(describe)))
}

impl Exchange for DescribeGroups {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Some(slot) = self.response.groups.get_mut(part) else {
            return Err(unexpected(&answer));
        };
        match answer {
            Answer::Group(GroupReply::Description(Some(found))) => fill(slot, found, call.version),
            Answer::Group(GroupReply::Description(None)) => {
                slot.group_state = text("Dead");
                if call.version >= NOT_FOUND_FROM {
                    slot.error_code = ResponseError::GroupIdNotFound.code();
                    slot.error_message =
                        Some(text(format!("Group {} not found.", &*slot.group_id.0)));
                }
            }
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

fn fill(slot: &mut DescribedGroup, found: Description, version: i16) {
    slot.group_state = text(found.state.name());
    slot.protocol_type = found.protocol_type;
    slot.protocol_data = found.protocol;
    let members = found.members.into_iter().map(|member| {
        let mut described = DescribedGroupMember::default()
            .with_member_id(member.member)
            .with_client_id(member.client_id)
            .with_client_host(member.client_host)
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment);
        if version >= INSTANCE_FROM {
            described.group_instance_id = member.instance;
        }
        described
    });
    slot.members = members.collect();
}
