//! One connection: from the protocol header to the end, and every frame to its channel.
//!
//! [`handshake`] brings it up, [`frames`] hands frames on, [`replies`] takes the broker's answers, [`closing`] ends it,
//! [`heartbeat`] watches it. What channels share of it is the [`Core`].

mod awaited;
mod closing;
mod core;
mod frames;
mod handshake;
mod heartbeat;
mod published;
mod replies;
#[cfg(test)]
mod tests;

pub(crate) use self::core::Core;
pub(crate) use awaited::Awaited;

use crate::channel::Channel;
use crate::protocol::{Namespaces, Shared};
use crate::rescue::Fault;
use bytes::BytesMut;
use handshake::Handshake;
use heartbeat::Heartbeat;
use omnilog_auth::{Denied, Principal};
use omnilog_broker::Event;
use omnilog_wire::{ClosedBy, ConnectionError, ConnectionInfo, Outbox, Session, SignalSender};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// What comes back to a connection from elsewhere than its client and the broker.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A slow password check is done.
    Authenticated(Result<Principal, Denied>),
}

/// One AMQP connection.
pub(crate) struct AmqpSession {
    shared: Arc<Shared>,
    info: Arc<ConnectionInfo>,
    namespaces: Namespaces,
    signals: SignalSender<Signal>,
    phase: Phase,
    /// When the phase must be over, where that is limited.
    due: Option<Instant>,
    heartbeat: Heartbeat,
    frame_max: usize,
    channels_max: u16,
}

/// How far the connection has come.
enum Phase {
    /// Until `connection.open`.
    Opening(Box<Handshake>),
    /// `connection.open-ok` was sent.
    Open(Box<Open>),
    /// The client's `connection.close` waits until what it held is given back.
    Leaving(Box<Open>),
    /// We sent `connection.close`: all but close and close-ok is discarded.
    Closing,
    /// Nothing more is done for this client.
    Closed,
}

/// An open connection.
pub(crate) struct Open {
    core: Core,
    channels: HashMap<u16, Channel>,
}

impl AmqpSession {
    pub(crate) fn new(
        shared: Arc<Shared>,
        info: Arc<ConnectionInfo>,
        namespaces: Namespaces,
        signals: SignalSender<Signal>,
        now: Instant,
    ) -> Self {
        Self {
            due: Some(now + shared.config.handshake_timeout),
            channels_max: shared.config.channels_max,
            frame_max: crate::codec::FRAME_MIN_BYTES as usize,
            shared,
            info,
            namespaces,
            signals,
            phase: Phase::Opening(Box::default()),
            heartbeat: Heartbeat::new(now),
        }
    }

    /// Remembers that something was written, which stands for a heartbeat.
    fn note_sent(&mut self, now: Instant, before: usize, out: &Outbox) {
        if out.backlog_bytes() > before {
            self.heartbeat.sent(now);
        }
    }
}

impl Session for AmqpSession {
    type Signal = Signal;

    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let before = out.backlog_bytes();
        self.heartbeat.heard(now);
        while self.next(now, input, out)? {}
        if let Phase::Open(open) = &mut self.phase {
            open.core.flush(out);
        }
        self.note_sent(now, before, out);
        Ok(())
    }

    fn on_event(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let before = out.backlog_bytes();
        let result = self.take_event(now, event, out);
        if let Phase::Open(open) = &mut self.phase {
            open.core.flush(out);
        }
        self.note_sent(now, before, out);
        result
    }

    fn on_signal(
        &mut self,
        now: Instant,
        signal: Signal,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        match signal {
            Signal::Authenticated(outcome) => self.on_authenticated(now, outcome, out),
        }
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConnectionError> {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            return self.on_due(now, out);
        }
        self.heartbeat.beat(now, out)
    }

    fn deadline(&self) -> Option<Instant> {
        match (self.due, self.heartbeat.due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn on_closed(&mut self, _now: Instant, _cause: ClosedBy, out: &mut Outbox) {
        // What it held goes back by the loss of the client.
        if let Phase::Open(open) = &mut self.phase {
            open.core.flush(out);
        }
        self.phase = Phase::Closed;
    }

    fn on_shutdown(&mut self, now: Instant, out: &mut Outbox) {
        match self.phase {
            Phase::Open(_) | Phase::Leaving(_) => {
                let fault = Fault::new(
                    crate::rescue::Code::ConnectionForced,
                    crate::codec::MethodId::NONE,
                    "broker forced connection closure with reason 'shutdown'",
                );
                self.close(now, &fault, out);
            }
            Phase::Opening(_) => {
                self.phase = Phase::Closed;
                out.close(omnilog_wire::Close::Flushed);
            }
            Phase::Closing | Phase::Closed => {}
        }
    }
}
