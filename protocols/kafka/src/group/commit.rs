//! OffsetCommit: who may store positions for a group.

use omnilog_broker::{GroupOffset, Transactor};

use super::coordinator::{Effect, Purpose, Step};
use super::state::{Group, State};
use super::{Caller, GroupError, GroupReply};

impl<T: Clone> Group<T> {
    /// Passes positions on to the journal, if the caller may store them.
    pub(super) fn commit(
        &mut self,
        step: &mut Step<'_, T>,
        ticket: T,
        caller: &Caller,
        offsets: Vec<GroupOffset>,
        transactor: Option<Transactor>,
    ) {
        let checked = match transactor {
            Some(_) => self.check_commit_in_transaction(caller),
            None => self.check_commit(caller),
        };
        if let Err(error) = checked {
            step.reply(ticket, GroupReply::Commit(Err(error)));
            return;
        }
        if self.state == State::Empty {
            self.forget_at = step.now + step.config.offsets_retention;
        } else {
            self.keep_alive(&caller.member, step.now);
        }
        self.is_stored = true;
        let group = self.name.clone();
        step.effects.push(Effect::Commit {
            ticket,
            group,
            offsets,
            transactor,
        });
    }

    fn check_commit(&self, caller: &Caller) -> Result<(), GroupError> {
        // Without members the group is a mere store of positions: admin tools and consumers that
        // choose their partitions themselves use it so.
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        self.validate(&caller.member, caller.instance.as_ref())?;
        if caller.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            State::PreparingRebalance | State::Stable => Ok(()),
        }
    }

    /// Producers of before KIP-447 don't say for which member they commit: the transactional id alone fences them. A
    /// rebalance is no hindrance, since partitions change hands only after it.
    fn check_commit_in_transaction(&self, caller: &Caller) -> Result<(), GroupError> {
        if caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none() {
            return Ok(());
        }
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        self.validate(&caller.member, caller.instance.as_ref())?;
        if caller.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(())
    }

    /// Forgets the group with its positions, if nobody is in it.
    pub(super) fn delete(&mut self, step: &mut Step<'_, T>, ticket: T) {
        if self.state != State::Empty || !self.pending.is_empty() {
            step.reply(ticket, GroupReply::Deleted(Err(GroupError::NotEmpty)));
            return;
        }
        let purpose = Purpose::Delete(ticket);
        step.effects.push(Effect::Store {
            purpose,
            group: self.name.clone(),
            state: None,
        });
    }
}
