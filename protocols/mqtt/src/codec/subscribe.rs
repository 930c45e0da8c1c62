//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (MQTT 5 sections 3.8 to 3.11).

use super::property::{allowed, block_length, put_block};
use super::read::Reader;
use super::write::put_header;
use super::{PacketType, Properties, Property, ReasonCode, Version, Violation};
use bytes::{BufMut, Bytes, BytesMut};

/// When a subscription brings retained messages (MQTT 5 section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE; what MQTT 3 does.
    #[default]
    Always = 0,
    /// Only if the subscription is new.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// One filter of a SUBSCRIBE, as the client wrote it: not validated but for being UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The text.
    pub filter: Bytes,
    /// The QoS asked for, 0 to 2.
    pub qos: u8,
    /// Not what this client publishes itself.
    pub no_local: bool,
    /// RETAIN as published.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

/// A SUBSCRIBE packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The packet id, not 0.
    pub packet_id: u16,
    /// The subscription identifier for all of its filters.
    pub identifier: Option<u32>,
    /// At least one.
    pub filters: Vec<Filter>,
}

impl Subscribe {
    pub(super) fn decode(version: Version, body: &Bytes) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = read_packet_id(&mut reader)?;
        let mut identifier = None;
        if version.is_v5() {
            Properties::read(&mut reader, allowed::SUBSCRIBE, |property, _| {
                if let Property::SubscriptionIdentifier(value) = property {
                    identifier = Some(value);
                }
                Ok(())
            })?;
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            let filter = reader.string()?;
            filters.push(read_options(version, filter, reader.u8()?)?);
        }
        if filters.is_empty() {
            return Err(Violation::protocol("SUBSCRIBE without a filter"));
        }
        Ok(Self {
            packet_id,
            identifier,
            filters,
        })
    }
}

fn read_packet_id(reader: &mut Reader<'_>) -> Result<u16, Violation> {
    match reader.u16()? {
        0 => Err(Violation::protocol("packet identifier 0")),
        packet_id => Ok(packet_id),
    }
}

fn read_options(version: Version, filter: Bytes, options: u8) -> Result<Filter, Violation> {
    let qos = options & 0x03;
    if qos == 3 {
        return Err(Violation::protocol("subscription with QoS 3"));
    }
    let reserved = if version.is_v5() { 0xC0 } else { 0xFC };
    if options & reserved != 0 {
        return Err(Violation::malformed("reserved subscription options"));
    }
    let retain_handling = match (options >> 4) & 0x03 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(Violation::protocol("retain handling 3")),
    };
    Ok(Filter {
        filter,
        qos,
        no_local: options & 0x04 != 0,
        retain_as_published: options & 0x08 != 0,
        retain_handling,
    })
}

/// An UNSUBSCRIBE packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The packet id, not 0.
    pub packet_id: u16,
    /// At least one filter, as the client wrote it.
    pub filters: Vec<Bytes>,
}

impl Unsubscribe {
    pub(super) fn decode(version: Version, body: &Bytes) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = read_packet_id(&mut reader)?;
        if version.is_v5() {
            Properties::read(&mut reader, allowed::UNSUBSCRIBE, |_, _| Ok(()))?;
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.string()?);
        }
        if filters.is_empty() {
            return Err(Violation::protocol("UNSUBSCRIBE without a filter"));
        }
        Ok(Self { packet_id, filters })
    }
}

/// A SUBACK packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The SUBSCRIBE's packet id.
    pub packet_id: u16,
    /// One for each filter, in order. Every error is 0x80 in MQTT 3.1.1.
    pub reasons: Vec<ReasonCode>,
    /// MQTT 5: for people.
    pub reason_string: Option<Bytes>,
}

impl SubAck {
    /// Appends it.
    pub fn put(&self, version: Version, into: &mut BytesMut) {
        let codes = self.reasons.iter().map(|&reason| {
            if version.is_v5() || !reason.is_error() {
                reason as u8
            } else {
                ReasonCode::UnspecifiedError as u8
            }
        });
        put_codes(
            version,
            PacketType::SubAck,
            self.packet_id,
            self.reason_string.as_ref(),
            codes,
            into,
        );
    }
}

/// An UNSUBACK packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    /// The UNSUBSCRIBE's packet id.
    pub packet_id: u16,
    /// One for each filter, in order; MQTT 3's UNSUBACK does not carry them.
    pub reasons: Vec<ReasonCode>,
}

impl UnsubAck {
    /// Appends it.
    pub fn put(&self, version: Version, into: &mut BytesMut) {
        let count = if version.is_v5() {
            self.reasons.len()
        } else {
            0
        };
        let codes = self.reasons.iter().take(count).map(|&reason| reason as u8);
        put_codes(
            version,
            PacketType::UnsubAck,
            self.packet_id,
            None,
            codes,
            into,
        );
    }
}

fn put_codes(
    version: Version,
    packet: PacketType,
    packet_id: u16,
    reason_string: Option<&Bytes>,
    codes: impl ExactSizeIterator<Item = u8>,
    into: &mut BytesMut,
) {
    let properties: Vec<Property> = reason_string
        .filter(|_| version.is_v5())
        .map(|text| Property::ReasonString(text.clone()))
        .into_iter()
        .collect();
    let properties_length = if version.is_v5() {
        block_length(&properties)
    } else {
        0
    };
    put_header(into, packet, 0, 2 + properties_length + codes.len());
    into.put_u16(packet_id);
    if version.is_v5() {
        put_block(into, &properties);
    }
    into.extend(codes);
}
