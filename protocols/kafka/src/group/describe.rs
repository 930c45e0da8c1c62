//! DescribeGroups.

use bytes::Bytes;

use super::coordinator::Step;
use super::state::{Group, State};
use super::{DescribedMember, Description, GroupReply};

impl<T: Clone> Group<T> {
    /// Answers with state and members. Metadata and shares are told while the group is stable.
    pub(super) fn describe(&self, step: &mut Step<'_, T>, ticket: T) {
        let stable = self.state == State::Stable;
        let protocol = if stable {
            self.protocol.clone().unwrap_or_default()
        } else {
            Default::default()
        };
        let members = self
            .members
            .iter()
            .map(|(id, member)| DescribedMember {
                member: id.clone(),
                instance: member.instance.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if stable {
                    member.metadata(&protocol)
                } else {
                    Bytes::new()
                },
                assignment: if stable {
                    member.assignment.clone()
                } else {
                    Bytes::new()
                },
            })
            .collect();
        let description = Description {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            members,
        };
        let told = self.is_worth_telling().then_some(description);
        step.reply(ticket, GroupReply::Description(told));
    }
}
