//! All groups of a namespace: finds the group of a request, and wakes groups when their time
//! has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omnilog_broker::{GroupOffset, Transactor};
use uuid::Uuid;

use super::state::{Group, State};
use super::{
    GroupConfig, GroupError, GroupReply, GroupRequest, JoinRefused, Leaver, Listed, snapshot,
};

/// What the coordinator wants done. `T` is the ticket that a request came with.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect<T> {
    /// Answer a request.
    Reply(T, GroupReply),
    /// Journal a group's state (`None`: forget it and its positions), then call
    /// [`Coordinator::stored`].
    Store {
        /// What to hand to [`Coordinator::stored`].
        purpose: Purpose<T>,
        /// The group.
        group: Bytes,
        /// Its state, opaque.
        state: Option<Bytes>,
    },
    /// Journal positions, and answer with [`GroupReply::Commit`].
    Commit {
        /// Whom to answer.
        ticket: T,
        /// The group.
        group: Bytes,
        /// The positions.
        offsets: Vec<GroupOffset>,
        /// They count when this one's transaction is committed.
        transactor: Option<Transactor>,
    },
}

/// Why a group's state is journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose<T> {
    /// The leader's assignment of this generation: members get it once it is kept.
    Assignment(i32),
    /// So that a restart finds the group as it is; nobody waits.
    Upkeep,
    /// DeleteGroups.
    Delete(T),
}

/// What a step of a group may use beside the group itself.
pub(super) struct Step<'a, T> {
    pub(super) now: Instant,
    pub(super) config: &'a GroupConfig,
    pub(super) new_uuid: &'a mut (dyn FnMut() -> Uuid + Send),
    pub(super) effects: &'a mut Vec<Effect<T>>,
}

impl<T> Step<'_, T> {
    pub(super) fn reply(&mut self, ticket: T, reply: GroupReply) {
        self.effects.push(Effect::Reply(ticket, reply));
    }
}

/// The groups of a namespace.
pub struct Coordinator<T> {
    config: GroupConfig,
    new_uuid: Box<dyn FnMut() -> Uuid + Send>,
    groups: BTreeMap<Bytes, Group<T>>,
    /// When each group wants to be looked at.
    wakes: BTreeSet<(Instant, Bytes)>,
    effects: Vec<Effect<T>>,
}

impl<T: Clone> Coordinator<T> {
    /// A coordinator without groups; `new_uuid` makes member ids unique.
    pub fn new(config: GroupConfig, new_uuid: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        Self {
            config,
            new_uuid,
            groups: BTreeMap::new(),
            wakes: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Takes up a group that the journal holds. A state that can't be read leaves a group without
    /// members: its positions count all the same, and its members join again.
    pub fn restore(&mut self, now: Instant, name: &Bytes, state: Option<&Bytes>) {
        let mut group = Group::new(name.clone(), now + self.config.offsets_retention);
        group.is_stored = true;
        if let Some(state) = state
            && let Err(error) = snapshot::restore(&mut group, state, now)
        {
            tracing::warn!(group = %String::from_utf8_lossy(name), %error, "group state unreadable");
            group = Group::new(name.clone(), now + self.config.offsets_retention);
            group.is_stored = true;
        }
        group.wake_at = group.next_deadline();
        self.wakes.insert((group.wake_at, name.clone()));
        self.groups.insert(name.clone(), group);
    }

    /// A request for a group.
    pub fn request(&mut self, now: Instant, ticket: T, name: &Bytes, request: GroupRequest) {
        if name.is_empty() && !takes_empty_name(&request) {
            let reply = refused(request, GroupError::InvalidGroup);
            self.effects.push(Effect::Reply(ticket, reply));
            return;
        }
        let exists = self.groups.contains_key(name);
        if !exists && !creates_group(&request) {
            self.effects
                .push(Effect::Reply(ticket, without_group(request)));
            return;
        }
        let forget_at = now + self.config.offsets_retention;
        let mut group = self
            .groups
            .remove(name)
            .unwrap_or_else(|| Group::new(name.clone(), forget_at));
        let woke_at = group.wake_at;
        let mut step = Step {
            now,
            config: &self.config,
            new_uuid: &mut *self.new_uuid,
            effects: &mut self.effects,
        };
        match request {
            GroupRequest::Join(join) => group.join(&mut step, ticket, &join),
            GroupRequest::Sync(sync) => group.sync(&mut step, ticket, sync),
            GroupRequest::Heartbeat(caller) => group.heartbeat(&mut step, ticket, &caller),
            GroupRequest::Leave(leavers) => group.leave(&mut step, ticket, leavers),
            GroupRequest::Commit(caller, offsets) => {
                group.commit(&mut step, ticket, &caller, offsets, None);
            }
            GroupRequest::CommitInTransaction(caller, transactor, offsets) => {
                group.commit(&mut step, ticket, &caller, offsets, Some(transactor));
            }
            GroupRequest::Describe => group.describe(&mut step, ticket),
            GroupRequest::Delete => group.delete(&mut step, ticket),
        }
        self.put_back(name, group, exists.then_some(woke_at));
    }

    /// Answers with the groups there are.
    pub fn list(&mut self, ticket: T) {
        let groups = self
            .groups
            .values()
            .filter(|group| group.is_worth_telling());
        let listed = groups
            .map(|group| Listed {
                group: group.name.clone(),
                state: group.state,
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
            })
            .collect();
        self.effects
            .push(Effect::Reply(ticket, GroupReply::Groups(listed)));
    }

    /// The journal took what [`Effect::Store`] gave, or refused it.
    pub fn stored(&mut self, now: Instant, name: &Bytes, purpose: Purpose<T>, taken: bool) {
        if let Purpose::Delete(ticket) = purpose {
            let result = if taken {
                Ok(())
            } else {
                Err(GroupError::NotStored)
            };
            if taken
                && self
                    .groups
                    .get(name)
                    .is_some_and(|group| group.members.is_empty())
            {
                self.forget(name);
            }
            self.effects
                .push(Effect::Reply(ticket, GroupReply::Deleted(result)));
            return;
        }
        let Purpose::Assignment(generation) = purpose else {
            return;
        };
        let Some(mut group) = self.groups.remove(name) else {
            return;
        };
        let woke_at = group.wake_at;
        let mut step = Step {
            now,
            config: &self.config,
            new_uuid: &mut *self.new_uuid,
            effects: &mut self.effects,
        };
        group.assignment_stored(&mut step, generation, taken);
        self.put_back(name, group, Some(woke_at));
    }

    /// Does what time has brought about.
    pub fn on_time(&mut self, now: Instant) {
        while let Some((at, name)) = self.wakes.first().cloned() {
            if at > now {
                return;
            }
            let Some(mut group) = self.groups.remove(&name) else {
                self.wakes.remove(&(at, name));
                continue;
            };
            let mut step = Step {
                now,
                config: &self.config,
                new_uuid: &mut *self.new_uuid,
                effects: &mut self.effects,
            };
            group.expire(&mut step);
            // Never at once again: whatever the timeouts, time goes on between two looks.
            group.wake_at = group.next_deadline().max(now + Duration::from_millis(1));
            self.put_back(&name, group, Some(at));
        }
    }

    /// When [`Coordinator::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// What the steps so far want done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect<T>> {
        std::mem::take(&mut self.effects)
    }

    fn put_back(&mut self, name: &Bytes, group: Group<T>, woke_at: Option<Instant>) {
        if group.is_forgotten() {
            if let Some(at) = woke_at {
                self.wakes.remove(&(at, name.clone()));
            }
            return;
        }
        if woke_at != Some(group.wake_at) {
            if let Some(at) = woke_at {
                self.wakes.remove(&(at, name.clone()));
            }
            self.wakes.insert((group.wake_at, name.clone()));
        }
        self.groups.insert(name.clone(), group);
    }

    fn forget(&mut self, name: &Bytes) {
        if let Some(group) = self.groups.remove(name) {
            self.wakes.remove(&(group.wake_at, name.clone()));
        }
    }
}

impl<T> Group<T> {
    /// Is there anything of the group that a restart would find, or anybody in it?
    pub(super) fn is_worth_telling(&self) -> bool {
        self.is_stored || !self.members.is_empty() || !self.pending.is_empty()
    }

    /// Nothing is left of the group.
    pub(super) fn is_forgotten(&self) -> bool {
        self.state == State::Empty && !self.is_worth_telling()
    }
}

/// Kafka takes positions for the group without a name (KIP-289 deprecates it).
fn takes_empty_name(request: &GroupRequest) -> bool {
    matches!(
        request,
        GroupRequest::Commit(..)
            | GroupRequest::CommitInTransaction(..)
            | GroupRequest::Describe
            | GroupRequest::Delete
    )
}

/// Does a request make its group? Only a new member's join and a commit from outside do.
fn creates_group(request: &GroupRequest) -> bool {
    match request {
        GroupRequest::Join(join) => join.member.is_empty(),
        GroupRequest::Commit(caller, _) | GroupRequest::CommitInTransaction(caller, _, _) => {
            caller.generation < 0
        }
        _ => false,
    }
}

fn without_group(request: GroupRequest) -> GroupReply {
    match request {
        GroupRequest::Describe => GroupReply::Description(None),
        GroupRequest::Delete => GroupReply::Deleted(Err(GroupError::NotFound)),
        GroupRequest::Commit(..) | GroupRequest::CommitInTransaction(..) => {
            GroupReply::Commit(Err(GroupError::IllegalGeneration))
        }
        other => refused(other, GroupError::UnknownMember),
    }
}

fn refused(request: GroupRequest, error: GroupError) -> GroupReply {
    match request {
        GroupRequest::Join(join) => GroupReply::Join(Err(JoinRefused {
            error,
            member: join.member,
        })),
        GroupRequest::Sync(_) => GroupReply::Sync(Err(error)),
        GroupRequest::Heartbeat(_) => GroupReply::Heartbeat(Err(error)),
        GroupRequest::Leave(leavers) => {
            let each = leavers
                .into_iter()
                .map(|leaver: Leaver| (leaver, Err(error)));
            GroupReply::Leave(each.collect())
        }
        GroupRequest::Commit(..) | GroupRequest::CommitInTransaction(..) => {
            GroupReply::Commit(Err(error))
        }
        GroupRequest::Describe => GroupReply::Description(None),
        GroupRequest::Delete => GroupReply::Deleted(Err(error)),
    }
}
