//! The end of a connection: the client's DISCONNECT, ours, and what the broker is told.

use super::{End, MqttSession, Open, Phase};
use crate::codec::{Disconnect, ReasonCode, Violation};
use crate::rescue::ConnectRefusal;
use bytes::Bytes;
use omnilog_broker::{CloseSession, Command, SessionExpiry, SessionId};
use omnilog_wire::{Close, ConnectionError, Outbox};

/// Session expiry seconds as the broker has them.
pub(super) fn expiry_of(seconds: u32, seconds_max: Option<u32>) -> SessionExpiry {
    match (seconds, seconds_max) {
        (0, _) => SessionExpiry::AtClose,
        (u32::MAX, None) => SessionExpiry::Never,
        (seconds, maximum) => {
            let seconds = maximum.map_or(seconds, |maximum| seconds.min(maximum));
            SessionExpiry::AfterMs(u64::from(seconds) * 1000)
        }
    }
}

impl Open {
    pub(super) fn on_disconnect(&self, disconnect: &Disconnect) -> End {
        if self.ends_at_close
            && disconnect
                .session_expiry
                .is_some_and(|seconds| seconds != 0)
        {
            return Violation::protocol("DISCONNECT prolongs a session that ends with CONNECT's 0")
                .into();
        }
        End::Left {
            publish_will: disconnect.reason != ReasonCode::Success,
            expiry_s: disconnect.session_expiry,
        }
    }

    /// Tells the broker that the connection is over.
    pub(super) fn close_session(
        &mut self,
        publish_will: bool,
        expiry: Option<SessionExpiry>,
        out: &mut Outbox,
    ) {
        self.flush_publishes(out);
        self.flush_settled(out);
        out.command(
            0,
            Command::CloseSession(CloseSession {
                session: self.session,
                expiry,
                publish_will,
                in_flight: self.outgoing.in_flight(),
            }),
        );
    }

    /// DISCONNECT, for those who understand it.
    fn put_disconnect(&self, reason: ReasonCode, text: &'static str, out: &mut Outbox) {
        if !self.peer.version.is_v5() {
            return;
        }
        let disconnect = Disconnect {
            reason,
            session_expiry: None,
            // Left out where the packet would be larger than the client takes [3.14.2-3].
            reason_string: (text.len() + 16 <= self.peer.packet_bytes_max)
                .then(|| Bytes::from_static(text.as_bytes())),
        };
        disconnect.put(out.buffer());
    }
}

impl MqttSession {
    /// Ends the connection in the protocol's terms.
    pub(super) fn end(&mut self, end: End, out: &mut Outbox) -> Result<(), ConnectionError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Open(mut open) = phase else {
            // Before CONNECT was parsed nothing is said.
            return match end {
                End::Violation(violation) => Err(ConnectionError::violation(violation.what)),
                End::Left { .. } => Ok(()),
                End::Refused(_, refusal) => Err(ConnectionError::refused(refusal.to_string())),
            };
        };
        match end {
            End::Violation(violation) => {
                open.put_disconnect(violation.reason, violation.what, out);
                open.close_session(true, None, out);
                Err(ConnectionError::violation(violation.what))
            }
            End::Left {
                publish_will,
                expiry_s,
            } => {
                let maximum = self.shared.config.session_expiry_s_max;
                let expiry = expiry_s.map(|seconds| expiry_of(seconds, maximum));
                open.close_session(publish_will, expiry, out);
                out.close(Close::Linger);
                Ok(())
            }
            End::Refused(reason, refusal) => {
                open.put_disconnect(reason, "refused by the broker", out);
                open.close_session(true, None, out);
                Err(ConnectionError::refused(refusal.to_string()))
            }
        }
    }

    /// Says good-bye with this reason and closes; the will is published.
    fn part(&mut self, reason: ReasonCode, text: &'static str, out: &mut Outbox) {
        if let Phase::Open(open) = &mut self.phase {
            open.put_disconnect(reason, text, out);
            open.close_session(true, None, out);
        }
        self.phase = Phase::Closed;
        out.close(Close::Linger);
    }

    pub(super) fn on_taken_over(
        &mut self,
        session: SessionId,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        if matches!(&self.phase, Phase::Open(open) if open.session == session) {
            self.part(
                ReasonCode::SessionTakenOver,
                "another connection uses this client id",
                out,
            );
        }
        Ok(())
    }

    pub(super) fn on_session_ended(
        &mut self,
        session: SessionId,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        if let Phase::Open(open) = &mut self.phase
            && open.session == session
        {
            // There is no session left to close.
            open.put_disconnect(
                ReasonCode::AdministrativeAction,
                "the session was ended",
                out,
            );
            self.phase = Phase::Closed;
            out.close(Close::Linger);
        }
        Ok(())
    }

    pub(super) fn on_shard_lost(&mut self, out: &mut Outbox) -> Result<(), ConnectionError> {
        if let Phase::Open(open) = &mut self.phase {
            open.put_disconnect(
                ReasonCode::ServerShuttingDown,
                "not served here any more",
                out,
            );
        }
        self.phase = Phase::Closed;
        out.close(Close::Linger);
        Ok(())
    }

    /// The client's CONNECT, our CONNACK, or a sign of life is overdue.
    pub(super) fn on_silence(&mut self, out: &mut Outbox) -> Result<(), ConnectionError> {
        match &self.phase {
            Phase::Open(_) => {
                self.part(
                    ReasonCode::KeepAliveTimeout,
                    "nothing came within 1.5 times the keep alive",
                    out,
                );
                Ok(())
            }
            Phase::Waiting => Err(ConnectionError::Silent("CONNECT")),
            Phase::Authenticating(_) | Phase::Opening(_) => {
                self.refuse(&ConnectRefusal::Overdue, out)
            }
            Phase::Closed => Ok(()),
        }
    }

    pub(super) fn shut_down(&mut self, out: &mut Outbox) {
        self.part(
            ReasonCode::ServerShuttingDown,
            "the server is shutting down",
            out,
        );
    }
}
