//! SyncGroup: the leader hands in the assignment, everyone gets a share.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::coordinator::{Purpose, Step};
use super::state::{Group, State};
use super::{GroupError, GroupReply, Sync, Synced};

impl<T: Clone> Group<T> {
    /// Takes a SyncGroup; a follower's answer waits for the leader's.
    pub(super) fn sync(&mut self, step: &mut Step<'_, T>, ticket: T, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            step.reply(ticket, GroupReply::Sync(Err(error)));
            return;
        }
        let id = sync.caller.member.clone();
        self.keep_alive(&id, step.now);
        if self.state == State::Stable {
            let synced = self.synced(&id);
            step.reply(ticket, GroupReply::Sync(Ok(synced)));
            return;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.synced = true;
        if let Some(earlier) = member.awaiting_sync.replace(ticket) {
            step.reply(
                earlier,
                GroupReply::Sync(Err(GroupError::RebalanceInProgress)),
            );
        }
        if self.is_leader(&id) {
            self.assign(sync.assignments);
            self.store(step, Purpose::Assignment(self.generation));
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        let caller = &sync.caller;
        self.validate(&caller.member, caller.instance.as_ref())?;
        if caller.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |told: &Option<StrBytes>, known: &Option<StrBytes>| told.is_some() && told != known;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Notes everyone's share; one that the leader left out gets an empty one.
    fn assign(&mut self, assignments: Vec<(StrBytes, Bytes)>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
    }

    /// The journal took the assignment of a generation, or did not.
    pub(super) fn assignment_stored(
        &mut self,
        step: &mut Step<'_, T>,
        generation: i32,
        taken: bool,
    ) {
        if self.state != State::CompletingRebalance || self.generation != generation {
            return; // another rebalance has begun meanwhile, and has answered everyone
        }
        if !taken {
            self.refuse_syncs(step, GroupError::NotStored);
            self.prepare_rebalance(step);
            return;
        }
        self.state = State::Stable;
        let waiting: Vec<StrBytes> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_sync.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.keep_alive(&id, step.now);
            let synced = self.synced(&id);
            let ticket = self
                .members
                .get_mut(&id)
                .and_then(|member| member.awaiting_sync.take());
            if let Some(ticket) = ticket {
                step.reply(ticket, GroupReply::Sync(Ok(synced)));
            }
        }
    }

    fn synced(&mut self, id: &StrBytes) -> Synced {
        let assignment = self.members.get_mut(id).map(|member| {
            member.synced = true;
            member.assignment.clone()
        });
        if self.members.values().all(|member| member.synced) {
            self.sync_deadline = None;
        }
        Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: assignment.unwrap_or_default(),
        }
    }
}
