//! PUBLISH (MQTT 5 section 3.3), both ways.

use super::property::allowed;
use super::read::Reader;
use super::write::{put_binary, put_header, put_varint};
use super::{FixedHeader, PacketType, Properties, Property, ReasonCode, Version, Violation};
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

/// A PUBLISH packet from a client. Topic, properties and payload are slices of the packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// It may have been sent before.
    pub dup: bool,
    /// 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// The topic name; empty only together with a topic alias.
    pub topic: Bytes,
    /// The packet id; 0 at QoS 0, else never.
    pub packet_id: u16,
    /// Its properties.
    pub properties: PublishProperties,
    /// The payload.
    pub payload: Bytes,
}

/// What of a PUBLISH's properties concerns a server, and the block for forwarding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishProperties {
    /// The alias for the topic; not 0.
    pub topic_alias: Option<u16>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// Everything that is forwarded unaltered: all but the alias and the expiry, in order.
    pub forward: Properties,
}

impl Publish {
    pub(super) fn decode(
        version: Version,
        header: FixedHeader,
        body: &Bytes,
    ) -> Result<Self, Violation> {
        let dup = header.flags & 0x08 != 0;
        let qos = (header.flags >> 1) & 0x03;
        if qos == 3 {
            return Err(Violation::malformed("QoS 3"));
        }
        if qos == 0 && dup {
            return Err(Violation::malformed("DUP with QoS 0"));
        }
        let mut reader = Reader::new(body);
        let topic = reader.string()?;
        let packet_id = if qos == 0 { 0 } else { reader.u16()? };
        if qos != 0 && packet_id == 0 {
            return Err(Violation::protocol("packet identifier 0"));
        }
        let properties = if version.is_v5() {
            PublishProperties::read(&mut reader)?
        } else {
            PublishProperties::default()
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(Violation::protocol("empty topic without a topic alias"));
        }
        if !topic.is_empty() && !super::is_topic_name(&topic) {
            return Err(Violation::new(
                ReasonCode::TopicNameInvalid,
                "wildcard in a topic name",
            ));
        }
        Ok(Self {
            dup,
            qos,
            retain: header.flags & 0x01 != 0,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }
}

impl PublishProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Violation> {
        let mut topic_alias = None;
        let mut message_expiry = None;
        let mut cut = Vec::new();
        let block = Properties::read(reader, allowed::PUBLISH, |property, range| {
            match property {
                Property::TopicAlias(alias) => {
                    topic_alias = Some(alias);
                    cut.push(range);
                }
                Property::MessageExpiry(seconds) => {
                    message_expiry = Some(seconds);
                    cut.push(range);
                }
                Property::SubscriptionIdentifier(_) => {
                    return Err(Violation::protocol("subscription identifier from a client"));
                }
                Property::ResponseTopic(topic) => check_response_topic(&topic)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self {
            topic_alias,
            message_expiry,
            forward: without(block, &cut),
        })
    }
}

/// A response topic is a topic name [3.3.2-14].
pub(super) fn check_response_topic(topic: &[u8]) -> Result<(), Violation> {
    if super::is_topic_name(topic) {
        Ok(())
    } else {
        Err(Violation::protocol(
            "response topic is empty or holds a wildcard",
        ))
    }
}

/// The block without these ranges; copied only where something is left between them.
pub(super) fn without(block: Properties, cut: &[Range<usize>]) -> Properties {
    let bytes = block.block();
    let cut_length: usize = cut.iter().map(Range::len).sum();
    if cut_length == 0 {
        return block;
    }
    if cut_length == bytes.len() {
        return Properties::default();
    }
    let mut kept = BytesMut::with_capacity(bytes.len() - cut_length);
    let mut at = 0;
    for range in cut {
        kept.put_slice(&bytes[at..range.start]);
        at = range.end;
    }
    kept.put_slice(&bytes[at..]);
    Properties::from_validated(kept.freeze())
}

/// A PUBLISH packet to a client.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingPublish<'a> {
    /// Sent before under the same packet id.
    pub dup: bool,
    /// 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// The topic; empty where the alias is known to the client.
    pub topic: &'a [u8],
    /// The packet id; ignored at QoS 0.
    pub packet_id: u16,
    /// MQTT 5: the alias.
    pub topic_alias: Option<u16>,
    /// MQTT 5: the seconds that are left.
    pub message_expiry: Option<u32>,
    /// MQTT 5: identifiers of the subscriptions that match.
    pub subscription_identifiers: &'a [u32],
    /// MQTT 5: a validated block of forwarded properties.
    pub forward: &'a [u8],
    /// Bytes of the payload, which the caller appends.
    pub payload_length: usize,
}

impl OutgoingPublish<'_> {
    fn properties_length(&self) -> usize {
        let identifiers: usize = self
            .subscription_identifiers
            .iter()
            .map(|&identifier| 1 + super::varint_length(identifier as usize))
            .sum();
        3 * usize::from(self.topic_alias.is_some())
            + 5 * usize::from(self.message_expiry.is_some())
            + identifiers
            + self.forward.len()
    }

    fn remaining(&self, version: Version) -> usize {
        let mut remaining = 2 + self.topic.len() + self.payload_length;
        if self.qos > 0 {
            remaining += 2;
        }
        if version.is_v5() {
            let properties = self.properties_length();
            remaining += super::varint_length(properties) + properties;
        }
        remaining
    }

    /// Bytes of the whole packet on the wire.
    pub fn length(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + super::varint_length(remaining) + remaining
    }

    /// Appends everything but the payload.
    pub fn put_head(&self, version: Version, into: &mut BytesMut) {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        put_header(into, PacketType::Publish, flags, self.remaining(version));
        put_binary(into, self.topic);
        if self.qos > 0 {
            into.put_u16(self.packet_id);
        }
        if !version.is_v5() {
            return;
        }
        put_varint(into, self.properties_length());
        if let Some(alias) = self.topic_alias {
            Property::TopicAlias(alias).put(into);
        }
        if let Some(seconds) = self.message_expiry {
            Property::MessageExpiry(seconds).put(into);
        }
        for &identifier in self.subscription_identifiers {
            Property::SubscriptionIdentifier(identifier).put(into);
        }
        into.put_slice(self.forward);
    }
}

/// Can a message with this topic and these properties be put into a packet at all (28 bits of remaining length)?
pub fn forwardable(publish: &OutgoingPublish<'_>, version: Version) -> bool {
    publish.topic.len() <= usize::from(u16::MAX) && publish.remaining(version) <= 0x0FFF_FFFF
}
