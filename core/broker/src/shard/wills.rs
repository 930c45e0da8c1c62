//! Wills: what a session has published for it when its client is lost (MQTT 3.1.2.5).

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::shard::space::WILL_RETRY_MS;

impl Shard {
    pub(crate) fn forget_will(&mut self, id: SessionId) {
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        if session.will.is_some() {
            let durable = session.durable();
            self.record_if(durable, &Decision::WillGone { session: id });
        }
    }

    /// Publishes a will, in the frame that takes it from the session.
    pub(crate) fn fire_will(&mut self, id: SessionId) {
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        let Some(will) = session.will.clone() else {
            return;
        };
        let (durable, namespace) = (session.durable(), session.namespace);
        let keep = self.may_grow().is_err();
        self.record_if(durable, &Decision::WillGone { session: id });
        let mut publish = will.publish;
        publish.dedupe = None;
        // Message expiry counts from the publication (MQTT 3.1.3.2.4).
        if let Some(expiry_ms) = will.message_expiry_ms {
            let expires_at_ms = self.later(expiry_ms);
            for record in &mut publish.records {
                record.envelope.expires_at_ms = Some(expires_at_ms);
            }
        }
        if keep {
            self.keep_will(namespace, publish);
        } else if let Err(refusal) = self.try_publish(ClientId(0), namespace, publish) {
            tracing::warn!(session = id.0, %refusal, "a will can't be published");
        }
    }

    /// Without space for a will, it stays with its session, which therefore does not end either, and is tried again.
    pub(crate) fn delay_will(&mut self, id: SessionId) -> bool {
        let sessions = &self.state.sessions;
        let waits = sessions
            .get(&id)
            .is_some_and(|session| session.will.is_some());
        let delayed = waits && self.may_grow().is_err();
        if delayed {
            self.session_timers
                .insert((self.now.unix_ms + WILL_RETRY_MS, id));
        }
        delayed
    }

    pub(crate) fn fire_will_if_due(&mut self, id: SessionId) {
        let due = self
            .state
            .sessions
            .get(&id)
            .is_some_and(|session| session.will_at_ms.is_some_and(|at| at <= self.now.unix_ms));
        if due && !self.delay_will(id) {
            self.fire_will(id);
        }
    }
}
