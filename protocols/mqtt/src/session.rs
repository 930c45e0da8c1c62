//! One connection: a synchronous state machine from CONNECT to the end.
//!
//! [`opening`] brings it up, [`incoming`] takes what the client publishes, [`outgoing`] sends what the broker delivers,
//! [`subscribing`] changes what that is, [`closing`] ends it. The broker's answers are told apart by [`Awaited`].

mod alias;
mod awaited;
mod closing;
mod delayed;
mod in_flight;
mod incoming;
mod opening;
mod outgoing;
mod subscribing;
mod subscriptions;
#[cfg(test)]
mod tests;

use crate::codec::{self, FixedHeader, Packet, PacketType, ReasonCode, Version, Violation};
use crate::protocol::{Namespaces, Shared};
use awaited::Awaited;
use bytes::{Bytes, BytesMut};
use incoming::Incoming;
use omnilog_auth::{Denied, Principal};
use omnilog_broker::{Event, Name, QueueId, Refusal, Reply, SessionId};
use omnilog_wire::{ClosedBy, ConnectionError, ConnectionInfo, Outbox, Session, SignalSender};
use opening::Opening;
use outgoing::Outgoing;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subscribing::Subscribing;

/// What comes back to a connection from elsewhere than its client and the broker.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A slow password check is done.
    Authenticated(Result<Principal, Denied>),
}

/// One MQTT connection.
pub(crate) struct MqttSession {
    shared: Arc<Shared>,
    info: Arc<ConnectionInfo>,
    namespaces: Namespaces,
    signals: SignalSender<Signal>,
    phase: Phase,
    started: Instant,
    /// When the client last sent anything.
    last_heard: Instant,
    /// Publishers are blocked: a PUBLISH is not read for now.
    blocked: bool,
    /// What the wall clock said at a moment of the other one: all that one wake brings happens at one time.
    wall: (Instant, i64),
}

/// How far the connection has come.
enum Phase {
    /// CONNECT is due.
    Waiting,
    /// CONNECT came; the password is being checked.
    Authenticating(Box<Opening>),
    /// The broker opens the session.
    Opening(Box<Opening>),
    /// CONNACK was sent.
    Open(Box<Open>),
    /// Nothing more is done for this client.
    Closed,
}

/// An open session's connection.
struct Open {
    peer: PeerLimits,
    client_id: Bytes,
    principal: Principal,
    namespace: Name,
    session: SessionId,
    queue: QueueId,
    /// The session ends with the connection, so that DISCONNECT may not prolong it.
    ends_at_close: bool,
    /// One and a half times the keep alive.
    silence_max: Option<Duration>,
    incoming: Incoming,
    outgoing: Outgoing,
    subscribing: Subscribing,
}

/// What the client told of itself in CONNECT.
#[derive(Debug, Clone, Copy)]
struct PeerLimits {
    version: Version,
    /// A bridge: its subscriptions don't echo and keep RETAIN.
    bridge: bool,
    /// The largest packet it takes, bytes.
    packet_bytes_max: usize,
    /// The most unacknowledged deliveries it takes.
    receive_max: u16,
    /// It wants reason strings.
    request_problem: bool,
}

/// Why an open session's connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The peer broke the protocol.
    Violation(Violation),
    /// DISCONNECT: with or without the will, with a new session expiry perhaps.
    Left {
        publish_will: bool,
        expiry_s: Option<u32>,
    },
    /// The broker refused what can't be refused in the protocol's terms.
    Refused(ReasonCode, Refusal),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl MqttSession {
    pub(crate) fn new(
        shared: Arc<Shared>,
        info: Arc<ConnectionInfo>,
        namespaces: Namespaces,
        signals: SignalSender<Signal>,
        now: Instant,
    ) -> Self {
        let wall = (now, (shared.clock)());
        Self {
            shared,
            info,
            namespaces,
            signals,
            phase: Phase::Waiting,
            started: now,
            last_heard: now,
            blocked: false,
            wall,
        }
    }

    /// Unix milliseconds.
    fn unix_ms(&mut self, now: Instant) -> i64 {
        if self.wall.0 != now {
            self.wall = (now, (self.shared.clock)());
        }
        self.wall.1
    }

    /// The largest packet that is taken in this phase.
    fn packet_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Open(_) => self.shared.config.packet_bytes_max,
            _ => self.shared.config.connect_bytes_max,
        }
    }

    /// Takes one packet off the input and serves it; `false` when there is no whole one, or none may be served now.
    fn next_packet(
        &mut self,
        now_ms: i64,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<bool, ConnectionError> {
        if out.reading_paused() || out.closing().is_some() {
            return Ok(false);
        }
        let header = match FixedHeader::parse(input, self.packet_bytes_max()) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(false),
            Err(violation) => return self.end(End::Violation(violation), out).map(|()| false),
        };
        if matches!(self.phase, Phase::Waiting) && header.packet != PacketType::Connect {
            return Err(ConnectionError::violation("first packet is not CONNECT"));
        }
        if self.blocked && header.packet == PacketType::Publish {
            out.pause_reading(true);
            return Ok(false);
        }
        if input.len() < header.length + header.remaining {
            return Ok(false);
        }
        let mut packet = input.split_to(header.length + header.remaining).freeze();
        let body = packet.split_off(header.length);
        match &mut self.phase {
            Phase::Waiting => self.on_connect(header, &body, out).map(|()| true),
            Phase::Open(open) => match open.serve(&self.shared, header, &body, now_ms, out) {
                Ok(()) => Ok(true),
                Err(end) => self.end(end, out).map(|()| false),
            },
            // Reading is paused in these.
            Phase::Authenticating(_) | Phase::Opening(_) | Phase::Closed => Ok(false),
        }
    }

    fn on_reply(
        &mut self,
        awaited: Option<Awaited>,
        result: Result<Reply, Refusal>,
        now_ms: i64,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        if awaited == Some(Awaited::Session) {
            return self.on_opened(result, out);
        }
        let Phase::Open(open) = &mut self.phase else {
            return Ok(());
        };
        match open.on_reply(awaited, result, now_ms, out) {
            Ok(()) => Ok(()),
            Err(end) => self.end(end, out),
        }
    }
}

impl Open {
    /// Serves one packet.
    fn serve(
        &mut self,
        shared: &Shared,
        header: FixedHeader,
        body: &Bytes,
        now_ms: i64,
        out: &mut Outbox,
    ) -> Result<(), End> {
        let packet = codec::decode(self.peer.version, header, body)?;
        if !matches!(packet, Packet::Publish(_)) {
            // What was published before takes effect before.
            self.flush_publishes(out);
        }
        match packet {
            Packet::Publish(publish) => self.on_publish(shared, publish, now_ms, out)?,
            Packet::PubRel(ack) => self.on_pubrel(ack, out),
            Packet::PubAck(ack) => self.on_puback(ack, now_ms, out)?,
            Packet::PubRec(ack) => self.on_pubrec(ack, now_ms, out)?,
            Packet::PubComp(ack) => self.on_pubcomp(ack, now_ms, out)?,
            Packet::Subscribe(subscribe) => self.on_subscribe(shared, &subscribe, out)?,
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(shared, &unsubscribe, out)?,
            Packet::PingReq => codec::put_ping_response(out.buffer()),
            Packet::Disconnect(disconnect) => return Err(self.on_disconnect(&disconnect)),
            Packet::Auth(_) => {
                return Err(Violation::protocol("AUTH without extended authentication").into());
            }
        }
        Ok(())
    }

    fn on_reply(
        &mut self,
        awaited: Option<Awaited>,
        result: Result<Reply, Refusal>,
        now_ms: i64,
        out: &mut Outbox,
    ) -> Result<(), End> {
        match (awaited, result) {
            (Some(Awaited::Publish(number)), Ok(Reply::Published(published))) => {
                self.on_published(number, Ok(published), out)
            }
            (Some(Awaited::Publish(number)), Err(refusal)) => {
                self.on_published(number, Err(refusal), out)
            }
            (Some(Awaited::Subscribe(number)), Ok(Reply::Subscribed(results))) => {
                self.on_subscribed(number, &Ok(results), out);
                Ok(())
            }
            (Some(Awaited::Subscribe(number)), Err(refusal)) => {
                self.on_subscribed(number, &Err(refusal), out);
                Ok(())
            }
            (Some(Awaited::Unsubscribe(number)), Ok(Reply::Unsubscribed(found))) => {
                self.on_unsubscribed(number, &Ok(found), out);
                Ok(())
            }
            (Some(Awaited::Unsubscribe(number)), Err(refusal)) => {
                self.on_unsubscribed(number, &Err(refusal), out);
                Ok(())
            }
            (Some(Awaited::Assigned(packet_id)), Ok(Reply::Step(known))) => {
                self.on_assigned(packet_id, known, now_ms, out);
                Ok(())
            }
            (Some(Awaited::Received(packet_id)), Ok(Reply::Step(_))) => {
                self.on_received(packet_id, out);
                Ok(())
            }
            (Some(Awaited::Released(packet_id)), Ok(Reply::Step(known))) => {
                self.on_released(packet_id, known, out);
                Ok(())
            }
            (
                Some(Awaited::Assigned(_) | Awaited::Received(_) | Awaited::Released(_)),
                Err(refusal),
            ) => Err(End::Refused(crate::rescue::reason_of(&refusal), refusal)),
            (Some(Awaited::Session) | None, Ok(_)) => Ok(()),
            (Some(Awaited::Session) | None, Err(refusal)) => {
                // Nobody waits for it: a QoS 0 publish, a settlement of something gone.
                tracing::debug!(client_id = ?self.client_id, %refusal, "refused");
                Ok(())
            }
            (Some(awaited), Ok(reply)) => {
                tracing::error!(?awaited, ?reply, "a reply of the wrong kind");
                Ok(())
            }
        }
    }
}

impl Session for MqttSession {
    type Signal = Signal;

    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        self.last_heard = now;
        let now_ms = self.unix_ms(now);
        while self.next_packet(now_ms, input, out)? {}
        if let Phase::Open(open) = &mut self.phase {
            open.flush_publishes(out);
            open.flush_settled(out);
        }
        Ok(())
    }

    fn on_event(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        match event {
            Event::Reply {
                correlation,
                result,
            } => {
                let now_ms = self.unix_ms(now);
                let was_open = matches!(self.phase, Phase::Open(_));
                self.on_reply(Awaited::decode(correlation), *result, now_ms, out)?;
                if !was_open {
                    self.last_heard = now;
                }
                if let Phase::Open(open) = &mut self.phase {
                    open.flush_settled(out);
                }
                Ok(())
            }
            Event::Delivery(delivery) => {
                let now_ms = self.unix_ms(now);
                if let Phase::Open(open) = &mut self.phase {
                    open.deliver(delivery, now_ms, out);
                    open.flush_settled(out);
                }
                Ok(())
            }
            Event::SessionTakenOver(session) => self.on_taken_over(session, out),
            Event::SessionEnded(session) => self.on_session_ended(session, out),
            Event::ShardLost => self.on_shard_lost(out),
            Event::Blocked(_) => {
                self.blocked = true;
                Ok(())
            }
            Event::Unblocked => {
                self.blocked = false;
                self.last_heard = now;
                if matches!(self.phase, Phase::Open(_)) {
                    out.pause_reading(false);
                }
                Ok(())
            }
            // A session has no consumers of its own.
            Event::ConsumerCancelled(_) => Ok(()),
        }
    }

    fn on_signal(
        &mut self,
        _now: Instant,
        signal: Signal,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        match signal {
            Signal::Authenticated(outcome) => self.on_authenticated(outcome, out),
        }
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConnectionError> {
        if self.deadline().is_none_or(|at| at > now) {
            return Ok(());
        }
        self.on_silence(out)
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting | Phase::Authenticating(_) | Phase::Opening(_) => {
                Some(self.started + self.shared.config.connect_timeout)
            }
            // While we read nothing, silence is not the client's fault.
            Phase::Open(_) if self.blocked => None,
            Phase::Open(open) => open.silence_max.map(|silence| self.last_heard + silence),
            Phase::Closed => None,
        }
    }

    fn on_closed(&mut self, _now: Instant, _cause: ClosedBy, out: &mut Outbox) {
        if let Phase::Open(open) = &mut self.phase {
            open.close_session(true, None, out);
        }
        self.phase = Phase::Closed;
    }

    fn on_shutdown(&mut self, _now: Instant, out: &mut Outbox) {
        self.shut_down(out);
    }
}
