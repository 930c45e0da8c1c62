//! ListGroups: all groups, by state and type if asked (KIP-518, KIP-848).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, text, unexpected};
use crate::group::GroupReply;

/// The first version with states.
const STATE_FROM: i16 = 4;
/// The first version with types.
const TYPE_FROM: i16 = 5;

/// The type of all groups here.
const CLASSIC: &str = "Classic";

struct ListGroups {
    states: Vec<StrBytes>,
    types: Vec<StrBytes>,
}

/// Asks the coordinator for all groups.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: ListGroupsRequest,
) -> Result<Begun, ConnectionError> {
    call.list_groups(0);
    let list = ListGroups {
        states: request.states_filter,
        types: request.types_filter,
    };
    Ok(Begun::Waiting(Box::new(list)))
}

impl Exchange for ListGroups {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let Answer::Group(GroupReply::Groups(groups)) = answer else {
            return Err(unexpected(&answer));
        };
        let passes = |filter: &[StrBytes], value: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let groups = groups
            .into_iter()
            .filter(|group| call.may_know_group(&group.group))
            .filter(|group| passes(&self.states, group.state.name()))
            .filter(|_| passes(&self.types, CLASSIC));
        let listed = groups.filter_map(|group| {
            let id = StrBytes::from_utf8(group.group).ok()?;
            let mut listed = ListedGroup::default()
                .with_group_id(GroupId(id))
                .with_protocol_type(group.protocol_type);
            if call.version >= STATE_FROM {
                listed.group_state = text(group.state.name());
            }
            if call.version >= TYPE_FROM {
                listed.group_type = text(CLASSIC);
            }
            Some(listed)
        });
        let response = ListGroupsResponse::default().with_groups(listed.collect());
        call.finish(&response)
    }
}
