//! What the client publishes: PUBLISH to PUBACK, or to PUBREC, PUBREL and PUBCOMP (MQTT 5 section 4.3).
//!
//! Acknowledgements leave in the order of their publishes, whatever order they become ready in [4.6.0-2, 4.6.0-3].
//! PUBACK and PUBREC wait until the broker says the message is durable, PUBCOMP until the removal of the packet id is.

use super::alias::IncomingAliases;
use super::{Awaited, End, Open, delayed};
use crate::MqttConfig;
use crate::codec::{self, Ack, PacketType, Publish, ReasonCode, Violation};
use crate::gather::{self, Gather};
use crate::protocol::Shared;
use crate::rescue;
use bytes::Bytes;
use omnilog_auth::{Operation, Resource};
use omnilog_broker::{Command, Dedupe, Published, Refusal, Routed, SessionStep};
use omnilog_wire::Outbox;
use smallvec::SmallVec;
use std::collections::{HashSet, VecDeque};

/// First levels below which clients may not publish.
const RESERVED: [&[u8]; 6] = [
    b"$SYS",
    b"$CONTROL",
    b"$share",
    b"$queue",
    b"$stream",
    delayed::PREFIX,
];

/// The state of what the client publishes.
pub(super) struct Incoming {
    aliases: IncomingAliases,
    /// Publishes of one read and one first level on their way into one command.
    gather: Gather,
    slots: Slots,
    /// Publishes that are not acknowledged yet, in order.
    batches: VecDeque<Batch>,
    next_batch: u64,
    /// QoS 2 packet ids between PUBLISH and PUBCOMP.
    unreleased: HashSet<u16, foldhash::fast::RandomState>,
    /// QoS 1 and 2 exchanges that count towards our receive maximum.
    unacknowledged: usize,
    unacknowledged_max: usize,
}

type Slots = SmallVec<[Slot; 4]>;

/// A publish that wants an acknowledgement.
#[derive(Debug, Clone, Copy)]
struct Slot {
    packet_id: u16,
    qos: u8,
    /// Its place in the batch.
    index: usize,
}

struct Batch {
    number: u64,
    slots: Slots,
    outcome: Outcome,
}

enum Outcome {
    Waiting,
    /// The broker's word.
    Known(Result<Published, Refusal>),
    /// Ours: it never went to the broker.
    Ours(ReasonCode),
}

impl Incoming {
    pub(super) fn new(config: &MqttConfig, unreleased: Vec<u16>) -> Self {
        Self {
            aliases: IncomingAliases::new(config.topic_alias_max),
            gather: Gather::default(),
            slots: Slots::new(),
            batches: VecDeque::new(),
            next_batch: 0,
            unacknowledged: 0,
            unacknowledged_max: config.receive_max.into(),
            unreleased: unreleased.into_iter().collect(),
        }
    }

    /// A QoS 2 exchange is over.
    fn release(&mut self, packet_id: u16) {
        if self.unreleased.remove(&packet_id) {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
        }
    }
}

/// Is this topic the server's own? A bridge's state is not: Mosquitto's bridges publish theirs below `$SYS`, and have
/// their will there.
pub(super) fn is_reserved(topic: &[u8]) -> bool {
    let is_bridge_state = || {
        topic
            .strip_prefix(b"$SYS/broker/connection/")
            .and_then(|rest| rest.strip_suffix(b"/state"))
            .is_some_and(|name| !name.is_empty() && !name.contains(&b'/'))
    };
    topic.first() == Some(&b'$')
        && RESERVED.contains(&gather::first_level(topic))
        && !is_bridge_state()
}

/// Is the topic within the configured limits?
pub(super) fn check_topic(config: &MqttConfig, topic: &[u8]) -> Result<(), Violation> {
    if topic.len() > config.topic_bytes_max {
        return Err(Violation::new(
            ReasonCode::TopicNameInvalid,
            "topic name is too long",
        ));
    }
    if codec::level_count(topic) > config.topic_levels_max {
        return Err(Violation::new(
            ReasonCode::TopicNameInvalid,
            "topic name has too many levels",
        ));
    }
    Ok(())
}

impl Open {
    pub(super) fn on_publish(
        &mut self,
        shared: &Shared,
        publish: Publish,
        now_ms: i64,
        out: &mut Outbox,
    ) -> Result<(), End> {
        let alias = publish.properties.topic_alias;
        let topic = self.incoming.aliases.resolve(publish.topic, alias)?;
        check_topic(&shared.config, &topic)?;
        self.count(publish.qos, publish.packet_id)?;

        let packet_id = publish.packet_id;
        let mut topic = topic;
        let mut delay_ms = None;
        if gather::first_level(&topic) == delayed::PREFIX {
            let Some((ms, to)) = delayed::parse(&topic, now_ms) else {
                let reason = ReasonCode::TopicNameInvalid;
                self.flush_publishes(out);
                return self.refuse_publish(publish.qos, packet_id, reason, out);
            };
            (topic, delay_ms) = (to, Some(ms));
        }
        let clash = publish.qos == 1 && self.incoming.unreleased.contains(&packet_id);
        if clash || !self.may_publish(shared, &topic) {
            let reason = if clash {
                ReasonCode::PacketIdentifierInUse
            } else {
                ReasonCode::NotAuthorized
            };
            self.flush_publishes(out);
            return self.refuse_publish(publish.qos, packet_id, reason, out);
        }
        let record = gather::Incoming {
            topic: &topic,
            payload: &publish.payload,
            forward: &publish.properties.forward,
            qos: publish.qos,
            retain: publish.retain,
            expires_at_ms: publish
                .properties
                .message_expiry
                .map(|seconds| now_ms + i64::from(seconds) * 1000),
            delay_ms,
        };
        if publish.qos == 2 || !self.incoming.gather.takes(&record) {
            self.flush_publishes(out);
        }
        let index = self.incoming.gather.push(&record, &self.client_id, now_ms);
        if publish.qos > 0 {
            self.incoming.slots.push(Slot {
                packet_id,
                qos: publish.qos,
                index,
            });
        }
        if publish.qos == 2 {
            let dedupe = Dedupe {
                session: self.session,
                packet_id,
            };
            self.flush(Some(dedupe), out);
        }
        Ok(())
    }

    /// Counts an exchange towards the receive maximum [3.3.4-9].
    fn count(&mut self, qos: u8, packet_id: u16) -> Result<(), Violation> {
        let incoming = &mut self.incoming;
        let new = match qos {
            0 => false,
            1 => true,
            _ => incoming.unreleased.insert(packet_id),
        };
        if !new {
            return Ok(());
        }
        incoming.unacknowledged += 1;
        if self.peer.version.is_v5() && incoming.unacknowledged > incoming.unacknowledged_max {
            return Err(Violation::new(
                ReasonCode::ReceiveMaximumExceeded,
                "more unacknowledged publishes than the receive maximum",
            ));
        }
        Ok(())
    }

    fn may_publish(&self, shared: &Shared, topic: &[u8]) -> bool {
        let resource = Resource::Name(&self.namespace, gather::first_level(topic));
        !is_reserved(topic)
            && shared.authenticator.authority().rules().allows(
                &self.principal,
                Operation::Write,
                resource,
            )
    }

    /// A publish that does not go to the broker. Its acknowledgement waits for its turn all the same.
    fn refuse_publish(
        &mut self,
        qos: u8,
        packet_id: u16,
        reason: ReasonCode,
        out: &mut Outbox,
    ) -> Result<(), End> {
        if qos == 0 {
            return Ok(());
        }
        let slot = Slot {
            packet_id,
            qos,
            index: 0,
        };
        self.incoming.batches.push_back(Batch {
            number: 0,
            slots: SmallVec::from_slice(&[slot]),
            outcome: Outcome::Ours(reason),
        });
        self.acknowledge(out)
    }

    /// Hands the gathered publishes to the broker.
    pub(super) fn flush_publishes(&mut self, out: &mut Outbox) {
        self.flush(None, out);
    }

    fn flush(&mut self, dedupe: Option<Dedupe>, out: &mut Outbox) {
        let incoming = &mut self.incoming;
        let Some(mut publish) = incoming.gather.take() else {
            return;
        };
        publish.dedupe = dedupe;
        let mut correlation = 0;
        if !incoming.slots.is_empty() {
            incoming.next_batch += 1;
            let number = incoming.next_batch;
            correlation = Awaited::Publish(number).encode();
            incoming.batches.push_back(Batch {
                number,
                slots: std::mem::take(&mut incoming.slots),
                outcome: Outcome::Waiting,
            });
        }
        out.command(correlation, Command::Publish(publish));
    }

    pub(super) fn on_published(
        &mut self,
        number: u64,
        result: Result<Published, Refusal>,
        out: &mut Outbox,
    ) -> Result<(), End> {
        let batches = &mut self.incoming.batches;
        if let Some(batch) = batches.iter_mut().find(|batch| batch.number == number) {
            batch.outcome = Outcome::Known(result);
        }
        self.acknowledge(out)
    }

    /// Acknowledges the oldest publishes, as far as their outcome is known.
    fn acknowledge(&mut self, out: &mut Outbox) -> Result<(), End> {
        while let Some(batch) = self.incoming.batches.front() {
            if matches!(batch.outcome, Outcome::Waiting) {
                break;
            }
            let Some(batch) = self.incoming.batches.pop_front() else {
                break;
            };
            for slot in &batch.slots {
                self.acknowledge_one(slot, &batch.outcome, out)?;
            }
        }
        Ok(())
    }

    fn acknowledge_one(
        &mut self,
        slot: &Slot,
        outcome: &Outcome,
        out: &mut Outbox,
    ) -> Result<(), End> {
        let is_v5 = self.peer.version.is_v5();
        let reason = match outcome {
            Outcome::Waiting => return Ok(()),
            Outcome::Ours(reason) => *reason,
            Outcome::Known(Ok(published)) => match published.outcomes.get(slot.index) {
                None | Some(Routed::Taken) => ReasonCode::Success,
                Some(Routed::NoTaker) => ReasonCode::NoMatchingSubscribers,
                Some(Routed::Rejected) => ReasonCode::QuotaExceeded,
            },
            Outcome::Known(Err(refusal)) => {
                if !is_v5 && !rescue::may_drop_publish(refusal) {
                    return Err(End::Refused(rescue::reason_of(refusal), refusal.clone()));
                }
                rescue::publish_reason(refusal)
            }
        };
        let rejected = matches!(outcome, Outcome::Known(Ok(_))) && reason.is_error();
        if rejected && slot.qos == 2 {
            // The exchange ends here, so the broker must not keep the packet id.
            let packet_id = slot.packet_id;
            let step = SessionStep::Released { packet_id };
            out.command(0, Command::Step(self.session, step));
        }
        if slot.qos == 1 {
            self.incoming.unacknowledged = self.incoming.unacknowledged.saturating_sub(1);
        } else if reason.is_error() && (is_v5 || rejected) {
            self.incoming.release(slot.packet_id);
        }
        if rejected && !is_v5 {
            // A queue said no, and MQTT 3 has no word for it: not acknowledged, the client sends it again.
            return Ok(());
        }
        let packet = if slot.qos == 1 {
            PacketType::PubAck
        } else {
            PacketType::PubRec
        };
        self.put_ack(packet, slot.packet_id, reason, out);
        Ok(())
    }

    pub(super) fn put_ack(
        &self,
        packet: PacketType,
        packet_id: u16,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        let ack = Ack { packet_id, reason };
        let text = match reason {
            ReasonCode::NotAuthorized => Some("not authorized"),
            ReasonCode::QuotaExceeded => Some("a queue or the disk is full"),
            _ => None,
        };
        let wanted = self.peer.request_problem && self.peer.packet_bytes_max >= 64;
        ack.put(
            self.peer.version,
            packet,
            text.filter(|_| wanted),
            out.buffer(),
        );
    }

    /// PUBREL: the packet id is freed, and PUBCOMP follows once that is durable.
    pub(super) fn on_pubrel(&mut self, ack: Ack, out: &mut Outbox) {
        let packet_id = ack.packet_id;
        out.command(
            Awaited::Released(packet_id).encode(),
            Command::Step(self.session, SessionStep::Released { packet_id }),
        );
    }

    pub(super) fn on_released(&mut self, packet_id: u16, known: bool, out: &mut Outbox) {
        self.incoming.release(packet_id);
        let reason = if known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.put_ack(PacketType::PubComp, packet_id, reason, out);
    }
}

/// A name that outlives its packet.
pub(super) fn owned(name: &Bytes) -> Bytes {
    Bytes::copy_from_slice(name)
}
