//! One connection: requests come in, are begun in their order, and are answered in their order.
//!
//! Every request gets a slot in a queue. Produce and Fetch are begun as they arrive, even when
//! others before them wait for their answers, unless the broker has not been asked for those yet;
//! anything else waits until it is at the front, so
//! that it sees what the requests before it did. A response is written when its slot is done and
//! at the front.

mod gate;
mod slots;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use omnilog_auth::{Denied, Operation, Origin, Principal, Resource};
use omnilog_broker::{ClientInfo, Event, Name, NamespaceId, TopicInfo};
use omnilog_wire::{
    Address, Authenticator, Close, ClosedBy, ConnectionError, Outbox, Session, SignalSender,
};

use crate::api::{self, Answer, Begun, Call, Progress};
use crate::codec::{self, Api, CodecError, RequestHeader};
use crate::config::KafkaConfig;
use crate::group::GroupReply;
use crate::group::task::GroupHandle;
use crate::rescue;
use crate::topic_ids::TopicIds;
use gate::Gate;
use slots::{Slot, Slots, Stage};

/// Requests of one connection that may wait for their answers; reading pauses beyond.
const SLOTS_MAX: usize = 256;

/// Bytes of requests that were read and not begun; reading pauses beyond.
const HELD_BYTES_MAX: usize = 4 << 20;

/// Bits of a correlation number that count a request's parts.
const PART_BITS: u32 = 20;

/// The correlation number of a part of a slot's request. The element limit of a request keeps the
/// number of parts far below what the bits hold.
pub(crate) fn correlation(slot: u64, part: usize) -> u64 {
    slot << PART_BITS | part as u64
}

/// What a connection hears beside the broker's events.
#[derive(Debug)]
pub enum Signal {
    /// A group coordinator's answer.
    Group {
        /// The number that came with the request.
        request: u64,
        /// The answer.
        reply: GroupReply,
    },
    /// What became of a password.
    Authenticated(Result<Principal, Denied>),
}

/// What one connection knows of the server.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Arc<KafkaConfig>,
    /// Where this connection's client finds this server.
    pub(crate) advertised: Address,
    pub(crate) leader_epoch: i32,
    pub(crate) namespace: NamespaceId,
    pub(crate) namespace_name: Name,
    pub(crate) groups: GroupHandle,
    pub(crate) topic_ids: Arc<TopicIds>,
    pub(crate) signals: SignalSender<Signal>,
    pub(crate) authenticator: Authenticator,
    pub(crate) origin: Origin,
    /// The client's address as Kafka writes it, `/127.0.0.1`.
    pub(crate) client_host: StrBytes,
    pub(crate) peer: String,
    /// Who the client is, once that is known.
    pub(crate) principal: Option<Principal>,
}

impl Context {
    /// Remembers a topic's name by its id.
    pub(crate) fn learn(&self, topic: &TopicInfo) {
        self.topic_ids.learn(self.namespace, topic);
    }

    pub(crate) fn allows(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let rules = self.authenticator.authority().rules();
        self.principal
            .as_ref()
            .is_some_and(|who| rules.allows(who, operation, resource))
    }
}

/// One connection's protocol logic.
pub(crate) struct KafkaSession {
    context: Context,
    gate: Gate,
    slots: Slots,
    /// The broker knows this connection.
    connected: bool,
    /// The client id that the requests so far gave: a copy of its own, shared by all of them.
    client_id: StrBytes,
    /// The server stops: what is being written is still answered, then the connection closes.
    stopping: bool,
    /// The time of the call that is being handled.
    now: Instant,
    /// When the connection is closed for want of requests.
    idle_at: Instant,
}

impl KafkaSession {
    pub(crate) fn new(context: Context, now: Instant) -> Self {
        Self {
            now,
            idle_at: now + context.config.idle_max,
            context,
            gate: Gate::new(),
            slots: Slots::new(),
            connected: false,
            client_id: StrBytes::new(),
            stopping: false,
        }
    }

    fn frame_bytes_max(&self) -> usize {
        let config = &self.context.config;
        if self.gate.is_open(&self.context) {
            config.request_bytes_max
        } else {
            config.request_bytes_max_unauthenticated
        }
    }

    /// Gives a request its slot.
    fn take(&mut self, frame: &Bytes) -> Result<(), ConnectionError> {
        let header = RequestHeader::peek(frame).map_err(rescue::codec)?;
        let RequestHeader {
            key,
            version,
            correlation_id,
        } = header;
        let Some(api) = Api::from_key(key) else {
            return Err(rescue::codec(CodecError::UnknownApi(key)));
        };
        if !api.versions().contains(version) {
            if api != Api::ApiVersions {
                let error = CodecError::UnsupportedVersion { key, version };
                return Err(rescue::codec(error));
            }
            // The layout of an unknown version is unknown, its header's too (KIP-511).
            let reply = api::unsupported_api_versions(correlation_id)?;
            self.slots.push(Slot::done(api, Some(reply)));
            return Ok(());
        }
        let (client_id, body) = header.split_body(api, frame).map_err(rescue::codec)?;
        let given = client_id.unwrap_or_default();
        if given != self.client_id {
            self.client_id = StrBytes::from_string(given.as_str().to_owned());
        }
        let client_id = self.client_id.clone();
        self.slots
            .push(Slot::waiting(api, version, correlation_id, client_id, body));
        Ok(())
    }

    /// Begins what may begin, and writes what is done.
    fn advance(&mut self, out: &mut Outbox) -> Result<(), ConnectionError> {
        loop {
            self.slots.write_done(out);
            if self.stopping {
                break;
            }
            let Some(number) = self.slots.next_to_begin() else {
                break;
            };
            self.begin(number, out)?;
        }
        let full = self.slots.len() >= SLOTS_MAX || self.slots.held_bytes() >= HELD_BYTES_MAX;
        out.pause_reading(full || self.gate.is_busy() || self.stopping);
        if self.stopping && !self.slots.has_writes() {
            out.close(Close::Flushed);
        }
        Ok(())
    }

    fn begin(&mut self, number: u64, out: &mut Outbox) -> Result<(), ConnectionError> {
        let Some((request, body)) = self.slots.begin(number) else {
            return Ok(());
        };
        let is_sasl = matches!(request.api, Api::SaslHandshake | Api::SaslAuthenticate);
        if !is_sasl && request.api != Api::ApiVersions {
            self.gate.pass(&mut self.context)?;
            self.connect(out);
        }
        codec::check(request.api, request.version, &body).map_err(rescue::codec)?;
        if is_sasl {
            if let Some(reply) = self
                .gate
                .sasl(&mut self.context, &request, &body, self.now)?
            {
                self.slots.set(number, Stage::Done(Some(reply)));
            }
            return Ok(());
        }
        let mut call = Call {
            context: &self.context,
            api: request.api,
            version: request.version,
            correlation_id: request.correlation_id,
            client_id: &request.client_id,
            slot: number,
            out,
        };
        let stage = match api::begin(&mut call, &body)? {
            Begun::Done(reply) => Stage::Done(reply),
            Begun::Waiting(exchange) => Stage::UnderWay(exchange),
        };
        self.slots.set(number, stage);
        Ok(())
    }

    fn connect(&mut self, out: &mut Outbox) {
        if self.connected {
            return;
        }
        self.connected = true;
        let principal = self.context.principal.as_ref().map_or("", Principal::name);
        let info = ClientInfo {
            principal: Name::copy_from_slice(principal.as_bytes()),
            protocol: "kafka".to_owned(),
            peer: self.context.peer.clone(),
        };
        out.connect(self.context.namespace, info);
    }

    /// Hands an answer to the request that asked.
    fn answer(
        &mut self,
        number: u64,
        answer: Answer,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let slot = number >> PART_BITS;
        let part = (number & ((1 << PART_BITS) - 1)) as usize;
        let Some((request, exchange)) = self.slots.under_way(slot) else {
            return Ok(());
        };
        let mut call = Call {
            context: &self.context,
            api: request.api,
            version: request.version,
            correlation_id: request.correlation_id,
            client_id: &request.client_id,
            slot,
            out,
        };
        let held_back = exchange.holds_back();
        match exchange.hear(&mut call, part, answer)? {
            Progress::Done(reply) => {
                self.slots.set(slot, Stage::Done(reply));
                self.advance(out)
            }
            Progress::Waiting if held_back => self.advance(out),
            Progress::Waiting => Ok(()),
        }
    }
}

impl Session for KafkaSession {
    type Signal = Signal;

    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        self.now = now;
        self.idle_at = now + self.context.config.idle_max;
        loop {
            let frame = codec::next_frame(input, self.frame_bytes_max()).map_err(rescue::codec)?;
            let Some(frame) = frame else { return Ok(()) };
            self.take(&frame)?;
            self.advance(out)?;
            if out.reading_paused() {
                return Ok(());
            }
        }
    }

    fn on_event(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        self.now = now;
        match event {
            Event::Reply {
                correlation,
                result,
            } => self.answer(correlation, Answer::Broker(*result), out),
            Event::ShardLost => Err(ConnectionError::refused("the shard is not served here")),
            // Kafka's clients consume by Fetch and are held back by their replies: nothing of
            // queues and sessions is theirs.
            Event::Delivery(_)
            | Event::ConsumerCancelled(_)
            | Event::SessionTakenOver(_)
            | Event::SessionEnded(_)
            | Event::Blocked(_)
            | Event::Unblocked => Ok(()),
        }
    }

    fn on_signal(
        &mut self,
        now: Instant,
        signal: Signal,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        self.now = now;
        match signal {
            Signal::Group { request, reply } => {
                // A member's wait for its group is no idleness.
                self.idle_at = now + self.context.config.idle_max;
                self.answer(request, Answer::Group(reply), out)
            }
            Signal::Authenticated(result) => {
                let told = self.gate.authenticated(&mut self.context, result, now)?;
                if let Some((slot, reply)) = told {
                    self.slots.set(slot, Stage::Done(Some(reply)));
                }
                self.advance(out)
            }
        }
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConnectionError> {
        self.now = now;
        if let Some((slot, reply)) = self.gate.take_due(now) {
            self.slots.set(slot, Stage::Done(Some(reply)));
            self.advance(out)?;
        }
        if now >= self.idle_at {
            if self.slots.is_empty() {
                out.close(Close::Flushed);
            } else {
                self.idle_at = now + self.context.config.idle_max;
            }
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        Some(
            self.gate
                .deadline()
                .map_or(self.idle_at, |at| at.min(self.idle_at)),
        )
    }

    fn on_closed(&mut self, _now: Instant, _cause: ClosedBy, _out: &mut Outbox) {}

    fn on_shutdown(&mut self, _now: Instant, out: &mut Outbox) {
        // Clients take a closed connection for a broker that goes away, and find the next one.
        // What is being written is answered first: a producer without idempotence would write it
        // again. Those who only wait for news need no answer.
        self.stopping = true;
        if self.advance(out).is_err() {
            out.close(Close::Flushed);
        }
    }
}
