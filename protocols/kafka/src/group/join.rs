//! JoinGroup: new members, members that come back, and processes that take over a static identity.

use std::time::Instant;

use kafka_protocol::protocol::StrBytes;

use super::coordinator::Step;
use super::member::{Member, milliseconds};
use super::state::{Group, State};
use super::{GroupError, GroupReply, Join, JoinRefused};

impl<T: Clone> Group<T> {
    /// Takes a JoinGroup; its answer may come much later.
    pub(super) fn join(&mut self, step: &mut Step<'_, T>, ticket: T, join: &Join) {
        if let Err(refused) = self.try_join(step, &ticket, join) {
            step.reply(ticket, GroupReply::Join(Err(refused)));
        }
    }

    fn try_join(
        &mut self,
        step: &mut Step<'_, T>,
        ticket: &T,
        join: &Join,
    ) -> Result<(), JoinRefused> {
        let refuse = |error| JoinRefused {
            error,
            member: join.member.clone(),
        };
        let session = milliseconds(join.session_timeout_ms);
        if session < step.config.session_timeout_min || session > step.config.session_timeout_max {
            return Err(refuse(GroupError::InvalidSessionTimeout));
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return Err(refuse(GroupError::InconsistentProtocol));
        }
        if join.member.is_empty() {
            self.join_new(step, ticket, join)
        } else if self.pending.remove(&join.member).is_some() {
            self.add_member(step, ticket, join.member.clone(), join);
            Ok(())
        } else {
            self.validate(&join.member, join.instance.as_ref())
                .map_err(refuse)?;
            self.rejoin(step, ticket, join);
            Ok(())
        }
    }

    fn join_new(
        &mut self,
        step: &mut Step<'_, T>,
        ticket: &T,
        join: &Join,
    ) -> Result<(), JoinRefused> {
        let is_takeover = join
            .instance
            .as_ref()
            .is_some_and(|instance| self.instances.contains_key(instance));
        if !is_takeover && self.members.len() + self.pending.len() >= step.config.members_max {
            let member = join.member.clone();
            return Err(JoinRefused {
                error: GroupError::GroupFull,
                member,
            });
        }
        let stem = join.instance.as_ref().unwrap_or(&join.client_id);
        let member = StrBytes::from_string(format!("{}-{}", &**stem, (step.new_uuid)()));
        if is_takeover {
            self.take_over_instance(step, ticket, &member, join);
        } else if join.known_member_required && join.instance.is_none() {
            let lapses_at = step.now + milliseconds(join.session_timeout_ms);
            self.pending.insert(member.clone(), lapses_at);
            self.wake_by(lapses_at);
            return Err(JoinRefused {
                error: GroupError::MemberIdRequired,
                member,
            });
        } else {
            self.add_member(step, ticket, member, join);
        }
        Ok(())
    }

    fn add_member(&mut self, step: &mut Step<'_, T>, ticket: &T, id: StrBytes, join: &Join) {
        self.members_seen += 1;
        let mut member = Member::new(join, self.members_seen, step.now);
        member.awaiting_join = Some(ticket.clone());
        self.wake_by(member.expires_at);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.members.insert(id, member);
        if self.state == State::PreparingRebalance {
            self.member_added = true;
        }
        self.prepare_rebalance(step);
    }

    /// A member that the group knows joins again: because a rebalance runs, because what it
    /// supports has changed, because its assignment has, or because it missed an answer.
    fn rejoin(&mut self, step: &mut Step<'_, T>, ticket: &T, join: &Join) {
        let is_leader = self.is_leader(&join.member);
        let is_same = self
            .members
            .get(&join.member)
            .is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            // The answer to its join was lost: it gets it again.
            State::CompletingRebalance if is_same => self.answer_rejoin(step, ticket, &join.member),
            // A follower that missed its sync. (The leader joins to ask for a rebalance.)
            State::Stable if is_same && !is_leader => {
                self.answer_rejoin(step, ticket, &join.member);
            }
            _ => {
                self.update_and_await(step, ticket, &join.member, join);
                self.prepare_rebalance(step);
            }
        }
    }

    fn answer_rejoin(&mut self, step: &mut Step<'_, T>, ticket: &T, id: &StrBytes) {
        self.keep_alive(id, step.now);
        let joined = self.joined(id);
        step.reply(ticket.clone(), GroupReply::Join(Ok(joined)));
    }

    fn update_and_await(&mut self, step: &mut Step<'_, T>, ticket: &T, id: &StrBytes, join: &Join) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.update(join);
        let earlier = member.awaiting_join.replace(ticket.clone());
        if let Some(earlier) = earlier {
            // The client gave that connection up and asks again.
            let refused = JoinRefused {
                error: GroupError::UnknownMember,
                member: id.clone(),
            };
            step.reply(earlier, GroupReply::Join(Err(refused)));
        }
    }

    /// A new process has the static identity of a member: it takes the member's place, and the
    /// old process is fenced (KIP-345).
    fn take_over_instance(
        &mut self,
        step: &mut Step<'_, T>,
        ticket: &T,
        id: &StrBytes,
        join: &Join,
    ) {
        let Some(instance) = &join.instance else {
            return;
        };
        let Some(old_id) = self.instances.insert(instance.clone(), id.clone()) else {
            return;
        };
        let Some(mut member) = self.members.remove(&old_id) else {
            return;
        };
        if let Some(old) = member.awaiting_join.take() {
            let refused = JoinRefused {
                error: GroupError::FencedInstance,
                member: old_id.clone(),
            };
            step.reply(old, GroupReply::Join(Err(refused)));
        }
        if let Some(old) = member.awaiting_sync.take() {
            step.reply(old, GroupReply::Sync(Err(GroupError::FencedInstance)));
        }
        let had_led = self.is_leader(&old_id);
        member.update(join);
        member.keep_alive(step.now);
        self.wake_by(member.expires_at);
        if had_led {
            self.leader = Some(id.clone());
        }
        self.members.insert(id.clone(), member);

        if self.state == State::Stable && self.vote() == self.protocol {
            // The assignment stands. One that leads without knowing the option to skip its part is
            // not told that it leads: it would assign anew.
            let mut joined = self.joined(id);
            if had_led && join.can_skip_assignment {
                joined.skip_assignment = true;
            } else {
                joined.members = Vec::new();
                if had_led {
                    joined.leader = old_id;
                }
            }
            self.store_upkeep(step);
            step.reply(ticket.clone(), GroupReply::Join(Ok(joined)));
            return;
        }
        if let Some(member) = self.members.get_mut(id) {
            member.awaiting_join = Some(ticket.clone());
        }
        self.prepare_rebalance(step);
    }

    pub(super) fn keep_alive(&mut self, id: &StrBytes, now: Instant) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.keep_alive(now);
        let at = member.expires_at;
        self.wake_by(at);
    }
}
