//! Heartbeat: a sign of life, answered with the news that a rebalance runs.

use super::coordinator::Step;
use super::state::{Group, State};
use super::{Caller, GroupError, GroupReply};

impl<T: Clone> Group<T> {
    /// Takes a heartbeat.
    pub(super) fn heartbeat(&mut self, step: &mut Step<'_, T>, ticket: T, caller: &Caller) {
        let result = self.check_heartbeat(caller);
        if matches!(result, Ok(()) | Err(GroupError::RebalanceInProgress)) {
            self.keep_alive(&caller.member, step.now);
        }
        step.reply(ticket, GroupReply::Heartbeat(result));
    }

    fn check_heartbeat(&self, caller: &Caller) -> Result<(), GroupError> {
        self.validate(&caller.member, caller.instance.as_ref())?;
        if caller.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }
}
