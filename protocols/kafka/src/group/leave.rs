//! LeaveGroup, of one member or several (KIP-345).

use super::coordinator::Step;
use super::state::Group;
use super::{GroupError, GroupReply, Leaver};

impl<T: Clone> Group<T> {
    /// Takes members out at once.
    pub(super) fn leave(&mut self, step: &mut Step<'_, T>, ticket: T, leavers: Vec<Leaver>) {
        let results = leavers
            .into_iter()
            .map(|leaver| {
                let result = self.leave_one(step, &leaver);
                (leaver, result)
            })
            .collect();
        step.reply(ticket, GroupReply::Leave(results));
    }

    fn leave_one(&mut self, step: &mut Step<'_, T>, leaver: &Leaver) -> Result<(), GroupError> {
        if self.pending.remove(&leaver.member).is_some() {
            self.complete_join_if_all_are_here(step);
            return Ok(());
        }
        let id = match &leaver.instance {
            // An operator may remove a static member without knowing its member id.
            Some(instance) if leaver.member.is_empty() => self
                .instances
                .get(instance)
                .cloned()
                .ok_or(GroupError::UnknownMember)?,
            instance => {
                self.validate(&leaver.member, instance.as_ref())?;
                leaver.member.clone()
            }
        };
        self.remove_member(step, &id);
        Ok(())
    }
}
