//! What time brings about: sessions end, rebalances are completed without the absent, empty
//! groups are forgotten.

use kafka_protocol::protocol::StrBytes;

use super::coordinator::{Effect, Purpose, Step};
use super::state::{Group, JoinPhase, State};

impl<T: Clone> Group<T> {
    /// Does all that is due.
    pub(super) fn expire(&mut self, step: &mut Step<'_, T>) {
        let now = step.now;
        self.pending.retain(|_, lapses_at| *lapses_at > now);
        let expired: Vec<StrBytes> = self
            .members
            .iter()
            .filter(|(_, member)| member.is_expired(now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            tracing::info!(group = %String::from_utf8_lossy(&self.name), member = %&*id, "member's session ended");
            self.remove_member(step, &id);
        }
        for member in self.members.values_mut() {
            // It waits for an answer, so it is alive; look again in a session's time.
            if member.expires_at <= now {
                member.keep_alive(now);
            }
        }
        self.expire_join_phase(step);
        self.expire_sync(step);
        self.expire_group(step);
    }

    fn expire_join_phase(&mut self, step: &mut Step<'_, T>) {
        match self.join_phase {
            Some(JoinPhase::Initial { at, remaining }) if at <= step.now => {
                if self.member_added && !remaining.is_zero() {
                    self.member_added = false;
                    let delay = step.config.initial_rebalance_delay.min(remaining);
                    let remaining = remaining - delay;
                    let at = step.now + delay;
                    self.join_phase = Some(JoinPhase::Initial { at, remaining });
                } else {
                    self.complete_join(step);
                }
            }
            Some(JoinPhase::Rejoin { at }) if at <= step.now => self.complete_join(step),
            // A member or a pending one may have been dropped above.
            _ => self.complete_join_if_all_are_here(step),
        }
    }

    /// Members that never asked for their share within the rebalance timeout are gone.
    fn expire_sync(&mut self, step: &mut Step<'_, T>) {
        if self.sync_deadline.is_none_or(|at| at > step.now) {
            return;
        }
        self.sync_deadline = None;
        if !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        let absent: Vec<StrBytes> = self
            .members
            .iter()
            .filter(|(_, member)| !member.synced)
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.remove_member(step, &id);
        }
    }

    fn expire_group(&mut self, step: &mut Step<'_, T>) {
        if self.state != State::Empty || !self.pending.is_empty() || self.forget_at > step.now {
            return;
        }
        if self.is_stored {
            self.is_stored = false;
            let purpose = Purpose::Upkeep;
            step.effects.push(Effect::Store {
                purpose,
                group: self.name.clone(),
                state: None,
            });
        }
        self.forget_at = step.now + step.config.offsets_retention;
    }
}
