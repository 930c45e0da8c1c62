//! What the broker delivers: PUBLISH to PUBACK, or to PUBREC, PUBREL and PUBCOMP (MQTT 5 section 4.3).
//!
//! At QoS 2 the packet id is journaled before PUBLISH leaves, and PUBREC before PUBREL does, so that no crash makes the
//! client take a message twice. What is resumed goes out first, in its old order and under its old packet ids, as far as
//! the client's receive maximum of this connection allows.

use super::alias::{OutgoingAlias, OutgoingAliases};
use super::in_flight::{Exchanges, Stage};
use super::subscriptions::Delivered;
use super::{Awaited, End, Open};
use crate::codec::{Ack, OutgoingPublish, PacketType, ReasonCode, Violation};
use crate::mapping;
use omnilog_broker::{
    Command, ConsumerKey, Delivery, EntryId, InFlight, OutgoingStage, Provenance, QueueId,
    SessionStep, Settle, Settlement,
};
use omnilog_wire::Outbox;
use std::collections::VecDeque;

/// The state of what is delivered to the client.
pub(super) struct Outgoing {
    exchanges: Exchanges,
    aliases: OutgoingAliases,
    /// Resumed exchanges that wait for the receive maximum.
    resumed: VecDeque<omnilog_broker::Outgoing>,
    /// New deliveries at QoS 1 and 2 that wait for it, each with its QoS.
    waiting: VecDeque<(u8, Box<Delivery>)>,
    /// Exchanges that were begun on this connection and that the client has not finished: they count towards its
    /// receive maximum, at QoS 2 up to PUBCOMP.
    unfinished: usize,
    /// Entries the client is done with, on their way into one command.
    settled: Vec<(QueueId, EntryId)>,
}

impl Outgoing {
    pub(super) fn new(resumed: Vec<omnilog_broker::Outgoing>, aliases_max: u16) -> Self {
        Self {
            exchanges: Exchanges::default(),
            aliases: OutgoingAliases::new(aliases_max),
            resumed: resumed.into(),
            waiting: VecDeque::new(),
            unfinished: 0,
            settled: Vec::new(),
        }
    }

    /// The QoS 1 deliveries that the client has not acknowledged, oldest first.
    pub(super) fn in_flight(&self) -> Vec<InFlight> {
        let mut all = self.exchanges.unacknowledged();
        for resumed in &self.resumed {
            if let OutgoingStage::Publish {
                queue,
                entry,
                qos: 1,
                ..
            } = resumed.stage
            {
                all.push(InFlight {
                    packet_id: resumed.packet_id,
                    queue,
                    entry,
                    qos: 1,
                });
            }
        }
        all
    }

    /// A packet id that neither an exchange nor a resumed one uses.
    fn free_id(&mut self) -> Option<u16> {
        loop {
            let id = self.exchanges.free_id()?;
            if !self.resumed.iter().any(|resumed| resumed.packet_id == id) {
                return Some(id);
            }
        }
    }
}

/// How a PUBLISH goes out.
#[derive(Debug, Clone, Copy)]
struct Sending {
    qos: u8,
    packet_id: u16,
    /// It was sent before: it has DUP, and does not expire any more [3.3.1-1, 4.3.3-7].
    again: bool,
}

impl Sending {
    fn first(qos: u8, packet_id: u16) -> Self {
        Self {
            qos,
            packet_id,
            again: false,
        }
    }
}

impl Open {
    /// Sends what waits for the client's receive maximum: resumed exchanges first, then new deliveries.
    pub(super) fn send_waiting(&mut self, now_ms: i64, out: &mut Outbox) {
        let most = usize::from(self.peer.receive_max);
        while let Some(next) = self.outgoing.resumed.front() {
            let publishes = matches!(next.stage, OutgoingStage::Publish { .. });
            if publishes && self.outgoing.unfinished >= most {
                return;
            }
            let Some(resumed) = self.outgoing.resumed.pop_front() else {
                return;
            };
            self.resend_one(resumed, now_ms, out);
        }
        while self.outgoing.unfinished < most {
            let Some((qos, delivery)) = self.outgoing.waiting.pop_front() else {
                return;
            };
            self.begin(qos, delivery, now_ms, out);
        }
    }

    fn resend_one(&mut self, resumed: omnilog_broker::Outgoing, now_ms: i64, out: &mut Outbox) {
        let packet_id = resumed.packet_id;
        match resumed.stage {
            OutgoingStage::Release => {
                let nothing = (QueueId::default(), EntryId::default());
                let exchanges = &mut self.outgoing.exchanges;
                exchanges.insert(packet_id, nothing, 2, Stage::Released);
                self.outgoing.unfinished += 1;
                self.put_ack(PacketType::PubRel, packet_id, ReasonCode::Success, out);
            }
            OutgoingStage::Publish {
                queue,
                entry,
                qos,
                retained,
                message: Some(message),
            } => {
                let delivery = Delivery {
                    consumer: ConsumerKey::default(),
                    queue,
                    entry,
                    unsettled: true,
                    redelivered: true,
                    returned_count: 0,
                    qos,
                    retained,
                    by_root: false,
                    delivery_count: None,
                    message,
                    acquired_count: None,
                };
                let exchanges = &mut self.outgoing.exchanges;
                exchanges.insert(packet_id, (queue, entry), qos, Stage::Published);
                self.outgoing.unfinished += 1;
                let sending = Sending {
                    qos,
                    packet_id,
                    again: true,
                };
                if !self.put_publish(&delivery, sending, now_ms, out) {
                    self.finish_unsent(packet_id, out);
                }
            }
            OutgoingStage::Publish { qos: 2, .. } => {
                self.step(SessionStep::Completed { packet_id }, out);
            }
            // Nothing to send, and nothing that the broker remembers of it.
            OutgoingStage::Publish { .. } => {}
        }
    }

    /// A message for the client.
    pub(super) fn deliver(&mut self, delivery: Box<Delivery>, now_ms: i64, out: &mut Outbox) {
        match self.qos_of(&delivery) {
            0 => {
                let sending = Sending::first(0, 0);
                self.put_publish(&delivery, sending, now_ms, out);
                if delivery.unsettled {
                    self.outgoing.settled.push((delivery.queue, delivery.entry));
                }
            }
            qos => {
                self.outgoing.waiting.push_back((qos, delivery));
                self.send_waiting(now_ms, out);
            }
        }
    }

    /// The QoS a delivery goes out with: the publisher's, at most what was granted [3.8.4-8].
    fn qos_of(&mut self, delivery: &Delivery) -> u8 {
        let Some(envelope) = delivery.message.envelope().filter(|_| delivery.unsettled) else {
            return 0;
        };
        let topic = mapping::topic_of(&envelope.address);
        let matched = self.subscribing.table.matched(Delivered {
            topic: &topic,
            shared: delivery.queue != self.queue,
            own: mapping::is_published_by(envelope, &self.client_id),
            retained: delivery.retained,
        });
        let mut published = envelope.qos;
        if matched.queue && envelope.provenance != Provenance::Mqtt {
            // What another consumer would have to acknowledge, so must this one.
            published = published.max(1);
        }
        published.min(matched.qos.unwrap_or(delivery.qos))
    }

    /// Begins the exchange of a new delivery at QoS 1 or 2.
    fn begin(&mut self, qos: u8, delivery: Box<Delivery>, now_ms: i64, out: &mut Outbox) {
        let entry = (delivery.queue, delivery.entry);
        let Some(packet_id) = self.outgoing.free_id() else {
            // The receive maximum is at most the number of packet ids, so that there is one.
            tracing::error!(client_id = ?self.client_id, "no free packet id");
            return;
        };
        if qos == 1 {
            let sending = Sending::first(1, packet_id);
            if self.put_publish(&delivery, sending, now_ms, out) {
                let exchanges = &mut self.outgoing.exchanges;
                exchanges.insert(packet_id, entry, 1, Stage::Published);
                self.outgoing.unfinished += 1;
            } else {
                self.outgoing.settled.push(entry);
            }
            return;
        }
        out.command(
            Awaited::Assigned(packet_id).encode(),
            Command::Step(
                self.session,
                SessionStep::Assign {
                    packet_id,
                    queue: delivery.queue,
                    entry: delivery.entry,
                },
            ),
        );
        let exchanges = &mut self.outgoing.exchanges;
        exchanges.insert(packet_id, entry, 2, Stage::Assigning(delivery));
        self.outgoing.unfinished += 1;
    }

    /// The packet id of a QoS 2 delivery is journaled: PUBLISH may leave.
    pub(super) fn on_assigned(
        &mut self,
        packet_id: u16,
        known: bool,
        now_ms: i64,
        out: &mut Outbox,
    ) {
        let Some(exchange) = self.outgoing.exchanges.get_mut(packet_id) else {
            return;
        };
        let Stage::Assigning(delivery) = std::mem::replace(&mut exchange.stage, Stage::Published)
        else {
            return;
        };
        if !known {
            // The entry has gone meanwhile: expired, purged.
            self.outgoing.exchanges.remove(packet_id);
            self.finished(now_ms, out);
            return;
        }
        let sending = Sending::first(2, packet_id);
        if !self.put_publish(&delivery, sending, now_ms, out) {
            self.finish_unsent(packet_id, out);
            self.send_waiting(now_ms, out);
        }
    }

    /// The exchange's PUBLISH can't be sent: it counts as delivered [3.1.2-25].
    fn finish_unsent(&mut self, packet_id: u16, out: &mut Outbox) {
        let Some(exchange) = self.outgoing.exchanges.remove(packet_id) else {
            return;
        };
        self.outgoing.unfinished = self.outgoing.unfinished.saturating_sub(1);
        if exchange.qos == 1 {
            self.outgoing.settled.push((exchange.queue, exchange.entry));
        } else {
            self.step(SessionStep::Completed { packet_id }, out);
        }
    }

    fn step(&self, step: SessionStep, out: &mut Outbox) {
        out.command(0, Command::Step(self.session, step));
    }

    /// Appends PUBLISH. `false`: the message has expired, or the client does not take a packet of its size.
    fn put_publish(
        &mut self,
        delivery: &Delivery,
        sending: Sending,
        now_ms: i64,
        out: &mut Outbox,
    ) -> bool {
        let version = self.peer.version;
        let Some(view) = mapping::view(&delivery.message, version) else {
            tracing::error!(queue = %delivery.queue, entry = %delivery.entry, "unreadable record");
            return false;
        };
        let message_expiry = match view.expiry_s(now_ms) {
            Some(0) if !sending.again => return false,
            expiry => expiry,
        };
        let own = delivery
            .message
            .envelope()
            .is_some_and(|envelope| mapping::is_published_by(envelope, &self.client_id));
        let matched = self.subscribing.table.matched(Delivered {
            topic: &view.topic,
            shared: delivery.queue != self.queue,
            own,
            retained: delivery.retained,
        });
        let as_published = matched.retain_as_published || self.peer.bridge;
        let mut publish = OutgoingPublish {
            dup: sending.again,
            qos: sending.qos,
            retain: delivery.retained || (as_published && view.retain),
            topic: &view.topic,
            packet_id: sending.packet_id,
            topic_alias: None,
            message_expiry,
            subscription_identifiers: &matched.identifiers,
            forward: &view.forward,
            payload_length: view.payload.len(),
        };
        if !crate::codec::forwardable(&publish, version)
            || publish.length(version) > self.peer.packet_bytes_max
        {
            return false;
        }
        match self.outgoing.aliases.look_up(&view.topic) {
            OutgoingAlias::None => {}
            OutgoingAlias::Known(alias) => {
                publish.topic = &[];
                publish.topic_alias = Some(alias);
                if publish.length(version) > self.peer.packet_bytes_max {
                    // A topic of one or two bytes is shorter than its alias.
                    publish.topic = &view.topic;
                    publish.topic_alias = None;
                }
            }
            OutgoingAlias::Set(alias) => {
                publish.topic_alias = Some(alias);
                if publish.length(version) > self.peer.packet_bytes_max {
                    publish.topic_alias = None;
                } else {
                    self.outgoing.aliases.set(&view.topic, alias);
                }
            }
        }
        publish.put_head(version, out.buffer());
        out.put_part(&delivery.message.stored.batch, view.payload);
        true
    }

    pub(super) fn on_puback(&mut self, ack: Ack, now_ms: i64, out: &mut Outbox) -> Result<(), End> {
        let Some(exchange) = self.outgoing.exchanges.get_mut(ack.packet_id) else {
            return Ok(());
        };
        if exchange.qos != 1 {
            return Err(Violation::protocol("PUBACK for a QoS 2 publish").into());
        }
        // An error code, too, means that the client is done with it [4.8.2-6].
        let entry = (exchange.queue, exchange.entry);
        self.outgoing.exchanges.remove(ack.packet_id);
        self.outgoing.settled.push(entry);
        self.finished(now_ms, out);
        Ok(())
    }

    pub(super) fn on_pubrec(&mut self, ack: Ack, now_ms: i64, out: &mut Outbox) -> Result<(), End> {
        let packet_id = ack.packet_id;
        let Some(exchange) = self.outgoing.exchanges.get_mut(packet_id) else {
            if !ack.reason.is_error() {
                let reason = ReasonCode::PacketIdentifierNotFound;
                self.put_ack(PacketType::PubRel, packet_id, reason, out);
            }
            return Ok(());
        };
        if exchange.qos != 2 {
            return Err(Violation::protocol("PUBREC for a QoS 1 publish").into());
        }
        match exchange.stage {
            Stage::Assigning(_) => Err(Violation::protocol("PUBREC before its PUBLISH").into()),
            Stage::Published if ack.reason.is_error() => {
                // The flow ends here [4.3.3-4].
                self.outgoing.exchanges.remove(packet_id);
                self.step(SessionStep::Completed { packet_id }, out);
                self.finished(now_ms, out);
                Ok(())
            }
            Stage::Published => {
                exchange.stage = Stage::Receiving;
                out.command(
                    Awaited::Received(packet_id).encode(),
                    Command::Step(self.session, SessionStep::Received { packet_id }),
                );
                Ok(())
            }
            // PUBREL is on its way.
            Stage::Receiving => Ok(()),
            Stage::Released => {
                self.put_ack(PacketType::PubRel, packet_id, ReasonCode::Success, out);
                Ok(())
            }
        }
    }

    /// PUBREC is journaled: PUBREL may leave.
    pub(super) fn on_received(&mut self, packet_id: u16, out: &mut Outbox) {
        if let Some(exchange) = self.outgoing.exchanges.get_mut(packet_id)
            && matches!(exchange.stage, Stage::Receiving)
        {
            exchange.stage = Stage::Released;
            self.put_ack(PacketType::PubRel, packet_id, ReasonCode::Success, out);
        }
    }

    pub(super) fn on_pubcomp(
        &mut self,
        ack: Ack,
        now_ms: i64,
        out: &mut Outbox,
    ) -> Result<(), End> {
        let packet_id = ack.packet_id;
        let Some(exchange) = self.outgoing.exchanges.get_mut(packet_id) else {
            return Ok(());
        };
        match exchange.stage {
            Stage::Released => {
                self.outgoing.exchanges.remove(packet_id);
                self.step(SessionStep::Completed { packet_id }, out);
                self.finished(now_ms, out);
                Ok(())
            }
            Stage::Assigning(_) | Stage::Published | Stage::Receiving => {
                Err(Violation::protocol("PUBCOMP before PUBREL").into())
            }
        }
    }

    /// The client has finished with a PUBLISH, which makes room for another.
    fn finished(&mut self, now_ms: i64, out: &mut Outbox) {
        self.outgoing.unfinished = self.outgoing.unfinished.saturating_sub(1);
        self.send_waiting(now_ms, out);
    }

    /// Tells the broker which entries the client is done with.
    pub(super) fn flush_settled(&mut self, out: &mut Outbox) {
        if self.outgoing.settled.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.outgoing.settled);
        out.command(
            0,
            Command::Settle(Settle {
                entries,
                settlement: Settlement::Ack,
            }),
        );
    }
}
