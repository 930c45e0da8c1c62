//! A rebalance from its first join to the new generation.

use kafka_protocol::protocol::StrBytes;

use super::coordinator::{Effect, Purpose, Step};
use super::state::{Group, JoinPhase, State};
use super::{GroupError, GroupReply, JoinRefused, snapshot};

impl<T: Clone> Group<T> {
    /// Starts a rebalance unless one runs, and completes it if all members have joined already.
    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_, T>) {
        match self.state {
            State::PreparingRebalance => {}
            State::Empty => {
                let delay = step.config.initial_rebalance_delay;
                let at = step.now + delay;
                let remaining = self.rebalance_timeout().saturating_sub(delay);
                self.state = State::PreparingRebalance;
                self.member_added = false;
                self.join_phase = Some(JoinPhase::Initial { at, remaining });
                self.wake_by(at);
                if delay.is_zero() {
                    self.complete_join(step);
                }
                return;
            }
            State::CompletingRebalance | State::Stable => {
                self.refuse_syncs(step, GroupError::RebalanceInProgress);
                self.sync_deadline = None;
                self.state = State::PreparingRebalance;
                let at = step.now + self.rebalance_timeout();
                self.join_phase = Some(JoinPhase::Rejoin { at });
                self.wake_by(at);
            }
        }
        self.complete_join_if_all_are_here(step);
    }

    /// Completes a rebalance that waits for nobody any more. The first one of an empty group
    /// always waits for its delay.
    pub(super) fn complete_join_if_all_are_here(&mut self, step: &mut Step<'_, T>) {
        let rejoining = matches!(self.join_phase, Some(JoinPhase::Rejoin { .. }));
        let all_here = self
            .members
            .values()
            .all(|member| member.awaiting_join.is_some());
        if rejoining && all_here && self.pending.is_empty() {
            self.complete_join(step);
        }
    }

    /// The wait for members is over: drops those that did not come, and begins the generation.
    pub(super) fn complete_join(&mut self, step: &mut Step<'_, T>) {
        let absent: Vec<StrBytes> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.members.remove(&id);
            self.forget_leader(&id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members, and none has come back: wait on, until their sessions end.
            let at = step.now + self.rebalance_timeout();
            self.join_phase = Some(JoinPhase::Rejoin { at });
            self.wake_by(at);
            return;
        }
        self.join_phase = None;
        self.generation = self.generation.wrapping_add(1).max(0);
        if self.members.is_empty() {
            self.become_empty(step);
            return;
        }
        self.protocol = self.vote();
        self.state = State::CompletingRebalance;
        let sync_by = step.now + self.rebalance_timeout();
        self.sync_deadline = Some(sync_by);
        self.wake_by(sync_by);
        let ids: Vec<StrBytes> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.is_new = false;
            member.synced = false;
            member.keep_alive(step.now);
            let (ticket, expires_at) = (member.awaiting_join.take(), member.expires_at);
            self.wake_by(expires_at);
            if let Some(ticket) = ticket {
                step.reply(ticket, GroupReply::Join(Ok(joined)));
            }
        }
    }

    /// The group has no members any more; its positions stay.
    pub(super) fn become_empty(&mut self, step: &mut Step<'_, T>) {
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        self.join_phase = None;
        self.sync_deadline = None;
        self.forget_at = step.now + step.config.offsets_retention;
        self.wake_by(self.forget_at);
        self.store_upkeep(step);
    }

    /// Takes a member out, answers what it waited for, and rebalances the others.
    pub(super) fn remove_member(&mut self, step: &mut Step<'_, T>, id: &StrBytes) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = &member.instance
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        if let Some(ticket) = member.awaiting_join {
            let refused = JoinRefused {
                error: GroupError::UnknownMember,
                member: id.clone(),
            };
            step.reply(ticket, GroupReply::Join(Err(refused)));
        }
        if let Some(ticket) = member.awaiting_sync {
            step.reply(ticket, GroupReply::Sync(Err(GroupError::UnknownMember)));
        }
        self.forget_leader(id);
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.complete_join_if_all_are_here(step),
            State::CompletingRebalance | State::Stable => self.prepare_rebalance(step),
        }
    }

    /// Answers every waiting SyncGroup with an error and takes back all shares.
    pub(super) fn refuse_syncs(&mut self, step: &mut Step<'_, T>, error: GroupError) {
        for member in self.members.values_mut() {
            member.assignment = bytes::Bytes::new();
            member.synced = false;
            if let Some(ticket) = member.awaiting_sync.take() {
                member.keep_alive(step.now);
                step.effects
                    .push(Effect::Reply(ticket, GroupReply::Sync(Err(error))));
            }
        }
    }

    /// Journals the group as it is, for the next start.
    pub(super) fn store_upkeep(&mut self, step: &mut Step<'_, T>) {
        self.store(step, Purpose::Upkeep);
    }

    pub(super) fn store(&mut self, step: &mut Step<'_, T>, purpose: Purpose<T>) {
        self.is_stored = true;
        let state = Some(snapshot::save(self));
        step.effects.push(Effect::Store {
            purpose,
            group: self.name.clone(),
            state,
        });
    }

    fn rebalance_timeout(&self) -> std::time::Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    /// Makes sure that the leader is one of those that have joined; `false` if nobody has.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &StrBytes| {
            self.members
                .get(id)
                .is_some_and(|member| member.awaiting_join.is_some())
        };
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_some());
        let Some((id, _)) = joined.min_by_key(|(_, member)| member.seniority) else {
            return false;
        };
        self.leader = Some(id.clone());
        true
    }

    fn forget_leader(&mut self, id: &StrBytes) {
        if self.is_leader(id) {
            let eldest = self
                .members
                .iter()
                .min_by_key(|(_, member)| member.seniority);
            self.leader = eldest.map(|(id, _)| id.clone());
        }
    }
}
