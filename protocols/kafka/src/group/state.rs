//! A group's state and the questions asked of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::member::Member;
use super::{GroupError, Joined};

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No members; positions may still be stored.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// The leader is to give the assignment.
    CompletingRebalance,
    /// Every member may have its share.
    Stable,
}

impl State {
    /// The state as Kafka spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// How a rebalance waits for its members.
#[derive(Debug, Clone, Copy)]
pub(super) enum JoinPhase {
    /// The first members of an empty group: wait for more, whoever is there already.
    Initial {
        /// When to look whether more came.
        at: Instant,
        /// How much longer than that it may be put off.
        remaining: Duration,
    },
    /// Wait until all members have joined again, at most until then.
    Rejoin {
        /// When those that did not are dropped.
        at: Instant,
    },
}

impl JoinPhase {
    pub(super) fn at(self) -> Instant {
        match self {
            Self::Initial { at, .. } | Self::Rejoin { at } => at,
        }
    }
}

/// One group.
#[derive(Debug)]
pub(super) struct Group<T> {
    pub(super) name: Bytes,
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<StrBytes>,
    pub(super) protocol: Option<StrBytes>,
    pub(super) leader: Option<StrBytes>,
    pub(super) members: BTreeMap<StrBytes, Member<T>>,
    /// Static identities and the member that has each.
    pub(super) instances: BTreeMap<StrBytes, StrBytes>,
    /// Member ids that were given out and have not come back (KIP-394), and when they lapse.
    pub(super) pending: BTreeMap<StrBytes, Instant>,
    pub(super) join_phase: Option<JoinPhase>,
    /// A member came while the first rebalance waited.
    pub(super) member_added: bool,
    /// When members that have not asked for their assignment are dropped.
    pub(super) sync_deadline: Option<Instant>,
    /// When the group, being empty, is forgotten.
    pub(super) forget_at: Instant,
    /// The journal holds something of this group.
    pub(super) is_stored: bool,
    pub(super) members_seen: u64,
    /// The next moment at which anything can happen by itself; never later than the truth.
    pub(super) wake_at: Instant,
}

impl<T> Group<T> {
    pub(super) fn new(name: Bytes, forget_at: Instant) -> Self {
        Self {
            name,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            join_phase: None,
            member_added: false,
            sync_deadline: None,
            forget_at,
            is_stored: false,
            members_seen: 0,
            wake_at: forget_at,
        }
    }

    /// Is there a member of this id, and is it still the one with its static identity?
    pub(super) fn validate(
        &self,
        member: &StrBytes,
        instance: Option<&StrBytes>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != member => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    pub(super) fn is_leader(&self, member: &StrBytes) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// Could a member with these protocols take part?
    pub(super) fn supports(
        &self,
        protocol_type: &StrBytes,
        protocols: &[(StrBytes, Bytes)],
    ) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    /// The protocol with most votes: each member votes for the first of its protocols that all
    /// support. A tie goes to the one that the eldest member prefers.
    pub(super) fn vote(&self) -> Option<StrBytes> {
        let eldest = self
            .members
            .values()
            .min_by_key(|member| member.seniority)?;
        let candidates: Vec<&StrBytes> = eldest
            .protocols
            .iter()
            .map(|(name, _)| name)
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let votes = |candidate: &StrBytes| {
            let voters = self.members.values().filter(|member| {
                let choice = member
                    .protocols
                    .iter()
                    .find(|(name, _)| candidates.contains(&name));
                choice.is_some_and(|(name, _)| name == candidate)
            });
            voters.count()
        };
        let mut best: Option<(&StrBytes, usize)> = None;
        for candidate in &candidates {
            let count = votes(candidate);
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((candidate, count));
            }
        }
        best.map(|(name, _)| name.clone())
    }

    /// What a member learns of the present generation; the leader learns of all members.
    pub(super) fn joined(&self, member: &StrBytes) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if self.is_leader(member) {
            let all = self.members.iter();
            all.map(|(id, m)| (id.clone(), m.instance.clone(), m.metadata(&protocol)))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member: member.clone(),
            members,
        }
    }

    /// Wakes no later than this.
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake_at = self.wake_at.min(at);
    }

    /// The earliest moment at which something can happen by itself.
    pub(super) fn next_deadline(&self) -> Instant {
        let sessions = self.members.values().map(|member| member.expires_at);
        let pending = self.pending.values().copied();
        let phase = self.join_phase.map(JoinPhase::at);
        let empty = (self.state == State::Empty).then_some(self.forget_at);
        let all = sessions
            .chain(pending)
            .chain(phase)
            .chain(self.sync_deadline)
            .chain(empty);
        all.min().unwrap_or(self.forget_at)
    }
}
