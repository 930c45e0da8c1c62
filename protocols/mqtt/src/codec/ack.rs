//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 sections 3.4 to 3.7), both ways.

use super::property::{allowed, block_length, put_block};
use super::read::Reader;
use super::write::put_header;
use super::{PacketType, Properties, Property, ReasonCode, Version, Violation};
use bytes::{BufMut, Bytes, BytesMut};

/// One of the four packets that answer a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The packet id, not 0.
    pub packet_id: u16,
    /// The outcome; [`ReasonCode::Success`] in MQTT 3.
    pub reason: ReasonCode,
}

impl Ack {
    /// Success.
    pub fn success(packet_id: u16) -> Self {
        Self {
            packet_id,
            reason: ReasonCode::Success,
        }
    }

    pub(super) fn decode(
        version: Version,
        packet: PacketType,
        body: &Bytes,
    ) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.u16()?;
        if packet_id == 0 {
            return Err(Violation::protocol("packet identifier 0"));
        }
        let mut ack = Self::success(packet_id);
        if version.is_v5() && !reader.is_empty() {
            let code = reader.u8()?;
            ack.reason = ReasonCode::from_u8(code)
                .filter(|&reason| allowed_reason(packet, reason))
                .ok_or(Violation::protocol("reason code is not of this packet"))?;
            if !reader.is_empty() {
                Properties::read(&mut reader, allowed::ACK, |_, _| Ok(()))?;
            }
        }
        if !reader.is_empty() {
            return Err(Violation::malformed("bytes after the acknowledgement"));
        }
        Ok(ack)
    }

    /// Appends it as this packet. The reason string goes along in MQTT 5, and only with another code than success.
    pub fn put(
        self,
        version: Version,
        packet: PacketType,
        reason_string: Option<&'static str>,
        into: &mut BytesMut,
    ) {
        let flags = if packet == PacketType::PubRel {
            0b0010
        } else {
            0
        };
        if !version.is_v5() || self.reason == ReasonCode::Success {
            put_header(into, packet, flags, 2);
            into.put_u16(self.packet_id);
            return;
        }
        let Some(text) = reason_string else {
            put_header(into, packet, flags, 3);
            into.put_u16(self.packet_id);
            into.put_u8(self.reason as u8);
            return;
        };
        let properties = [Property::ReasonString(Bytes::from_static(text.as_bytes()))];
        put_header(into, packet, flags, 3 + block_length(&properties));
        into.put_u16(self.packet_id);
        into.put_u8(self.reason as u8);
        put_block(into, &properties);
    }
}

fn allowed_reason(packet: PacketType, reason: ReasonCode) -> bool {
    match packet {
        PacketType::PubAck | PacketType::PubRec => matches!(
            reason,
            ReasonCode::Success
                | ReasonCode::NoMatchingSubscribers
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicNameInvalid
                | ReasonCode::PacketIdentifierInUse
                | ReasonCode::QuotaExceeded
                | ReasonCode::PayloadFormatInvalid
        ),
        _ => matches!(
            reason,
            ReasonCode::Success | ReasonCode::PacketIdentifierNotFound
        ),
    }
}
