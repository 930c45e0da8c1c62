//! MQTT 5's properties (section 2.2.2): validated once against the packet they came in, kept as the bytes they were.

use super::read::Reader;
use super::write::{put_binary, put_varint, varint_length};
use super::{ReasonCode, Violation};
use bytes::{BufMut, Bytes, BytesMut};

/// One property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// 0x01: the payload is UTF-8.
    PayloadFormat(bool),
    /// 0x02: seconds.
    MessageExpiry(u32),
    /// 0x03
    ContentType(Bytes),
    /// 0x08
    ResponseTopic(Bytes),
    /// 0x09
    CorrelationData(Bytes),
    /// 0x0B: 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// 0x11: seconds; `u32::MAX` for ever.
    SessionExpiry(u32),
    /// 0x12
    AssignedClientId(Bytes),
    /// 0x13: seconds.
    ServerKeepAlive(u16),
    /// 0x15
    AuthenticationMethod(Bytes),
    /// 0x16
    AuthenticationData(Bytes),
    /// 0x17
    RequestProblemInformation(bool),
    /// 0x18: seconds.
    WillDelay(u32),
    /// 0x19
    RequestResponseInformation(bool),
    /// 0x1A
    ResponseInformation(Bytes),
    /// 0x1C
    ServerReference(Bytes),
    /// 0x1F
    ReasonString(Bytes),
    /// 0x21: not 0.
    ReceiveMaximum(u16),
    /// 0x22
    TopicAliasMaximum(u16),
    /// 0x23
    TopicAlias(u16),
    /// 0x24
    MaximumQos(u8),
    /// 0x25
    RetainAvailable(bool),
    /// 0x26
    User(Bytes, Bytes),
    /// 0x27: not 0.
    MaximumPacketSize(u32),
    /// 0x28
    WildcardAvailable(bool),
    /// 0x29
    SubscriptionIdentifiersAvailable(bool),
    /// 0x2A
    SharedAvailable(bool),
}

/// Sets of property identifiers, one bit each, for the packets that clients send.
pub(super) mod allowed {
    const fn set(identifiers: &[u8]) -> u64 {
        let mut bits = 0;
        let mut index = 0;
        while index < identifiers.len() {
            bits |= 1 << identifiers[index];
            index += 1;
        }
        bits
    }

    pub(in crate::codec) const CONNECT: u64 =
        set(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]);
    pub(in crate::codec) const WILL: u64 = set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]);
    pub(in crate::codec) const PUBLISH: u64 =
        set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]);
    pub(in crate::codec) const ACK: u64 = set(&[0x1F, 0x26]);
    pub(in crate::codec) const SUBSCRIBE: u64 = set(&[0x0B, 0x26]);
    pub(in crate::codec) const UNSUBSCRIBE: u64 = set(&[0x26]);
    // Server Reference (0x1C) is the server's alone.
    pub(in crate::codec) const DISCONNECT: u64 = set(&[0x11, 0x1F, 0x26]);
    pub(in crate::codec) const AUTH: u64 = set(&[0x15, 0x16, 0x1F, 0x26]);
    /// User properties may repeat; everything else once. (Subscription identifiers repeat only from server to client.)
    pub(super) const REPEATABLE: u64 = set(&[0x26]);
}

/// A property block without its length, known to be well-formed and fit for its packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    block: Bytes,
}

impl Properties {
    /// Reads a length and that many bytes of properties, telling each to `each` with its range within the block.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        allowed: u64,
        mut each: impl FnMut(Property, std::ops::Range<usize>) -> Result<(), Violation>,
    ) -> Result<Self, Violation> {
        let length = reader.varint()? as usize;
        if length == 0 {
            return Ok(Self::default());
        }
        let block = reader.take(length)?;
        let mut within = Reader::new(&block);
        let mut seen = 0_u64;
        while !within.is_empty() {
            let start = within.position();
            let (identifier, property) = read_one(&mut within)?;
            let bit = 1_u64 << identifier;
            if allowed & bit == 0 {
                return Err(Violation::malformed("property is not of this packet"));
            }
            if seen & bit & !allowed::REPEATABLE != 0 {
                return Err(Violation::protocol("property given twice"));
            }
            seen |= bit;
            each(property, start..within.position())?;
        }
        Ok(Self { block })
    }

    /// A block that was validated before, as it is kept with a message.
    pub fn from_validated(block: Bytes) -> Self {
        Self { block }
    }

    /// The block's bytes.
    pub fn block(&self) -> &Bytes {
        &self.block
    }

    /// The properties in order. Ends early should the block not be well-formed after all.
    pub fn iter(&self) -> impl Iterator<Item = Property> + '_ {
        let mut reader = Reader::new(&self.block);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            read_one(&mut reader).ok().map(|(_, property)| property)
        })
    }

    /// The user properties in order.
    pub fn user(&self) -> impl Iterator<Item = (Bytes, Bytes)> + '_ {
        self.iter().filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        })
    }
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool, Violation> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::protocol("property's value is neither 0 nor 1")),
    }
}

/// Reads one property. The identifier, a varint by type, is below 0x80 for all that exist.
fn read_one(reader: &mut Reader<'_>) -> Result<(u8, Property), Violation> {
    let identifier = reader.u8()?;
    let property = match identifier {
        0x01 => Property::PayloadFormat(read_bool(reader)?),
        0x02 => Property::MessageExpiry(reader.u32()?),
        0x03 => Property::ContentType(reader.string()?),
        0x08 => Property::ResponseTopic(reader.string()?),
        0x09 => Property::CorrelationData(reader.binary()?),
        0x0B => match reader.varint()? {
            0 => return Err(Violation::protocol("subscription identifier 0")),
            identifier => Property::SubscriptionIdentifier(identifier),
        },
        0x11 => Property::SessionExpiry(reader.u32()?),
        0x12 => Property::AssignedClientId(reader.string()?),
        0x13 => Property::ServerKeepAlive(reader.u16()?),
        0x15 => Property::AuthenticationMethod(reader.string()?),
        0x16 => Property::AuthenticationData(reader.binary()?),
        0x17 => Property::RequestProblemInformation(read_bool(reader)?),
        0x18 => Property::WillDelay(reader.u32()?),
        0x19 => Property::RequestResponseInformation(read_bool(reader)?),
        0x1A => Property::ResponseInformation(reader.string()?),
        0x1C => Property::ServerReference(reader.string()?),
        0x1F => Property::ReasonString(reader.string()?),
        0x21 => match reader.u16()? {
            0 => return Err(Violation::protocol("receive maximum 0")),
            maximum => Property::ReceiveMaximum(maximum),
        },
        0x22 => Property::TopicAliasMaximum(reader.u16()?),
        0x23 => match reader.u16()? {
            0 => {
                return Err(Violation::new(
                    ReasonCode::TopicAliasInvalid,
                    "topic alias 0",
                ));
            }
            alias => Property::TopicAlias(alias),
        },
        0x24 => match reader.u8()? {
            qos @ (0 | 1) => Property::MaximumQos(qos),
            _ => return Err(Violation::protocol("maximum QoS is neither 0 nor 1")),
        },
        0x25 => Property::RetainAvailable(read_bool(reader)?),
        0x26 => Property::User(reader.string()?, reader.string()?),
        0x27 => match reader.u32()? {
            0 => return Err(Violation::protocol("maximum packet size 0")),
            maximum => Property::MaximumPacketSize(maximum),
        },
        0x28 => Property::WildcardAvailable(read_bool(reader)?),
        0x29 => Property::SubscriptionIdentifiersAvailable(read_bool(reader)?),
        0x2A => Property::SharedAvailable(read_bool(reader)?),
        _ => return Err(Violation::malformed("unknown property")),
    };
    Ok((identifier, property))
}

impl Property {
    /// Bytes on the wire.
    pub fn length(&self) -> usize {
        match self {
            Self::PayloadFormat(_)
            | Self::RequestProblemInformation(_)
            | Self::RequestResponseInformation(_)
            | Self::MaximumQos(_)
            | Self::RetainAvailable(_)
            | Self::WildcardAvailable(_)
            | Self::SubscriptionIdentifiersAvailable(_)
            | Self::SharedAvailable(_) => 2,
            Self::ServerKeepAlive(_)
            | Self::ReceiveMaximum(_)
            | Self::TopicAliasMaximum(_)
            | Self::TopicAlias(_) => 3,
            Self::MessageExpiry(_)
            | Self::SessionExpiry(_)
            | Self::WillDelay(_)
            | Self::MaximumPacketSize(_) => 5,
            Self::SubscriptionIdentifier(identifier) => 1 + varint_length(*identifier as usize),
            Self::ContentType(bytes)
            | Self::ResponseTopic(bytes)
            | Self::CorrelationData(bytes)
            | Self::AssignedClientId(bytes)
            | Self::AuthenticationMethod(bytes)
            | Self::AuthenticationData(bytes)
            | Self::ResponseInformation(bytes)
            | Self::ServerReference(bytes)
            | Self::ReasonString(bytes) => 3 + bytes.len(),
            Self::User(name, value) => 5 + name.len() + value.len(),
        }
    }

    /// Appends it.
    pub fn put(&self, into: &mut BytesMut) {
        let mut flag = |identifier: u8, value: bool| into.put_slice(&[identifier, value.into()]);
        match self {
            Self::PayloadFormat(value) => flag(0x01, *value),
            Self::RequestProblemInformation(value) => flag(0x17, *value),
            Self::RequestResponseInformation(value) => flag(0x19, *value),
            Self::RetainAvailable(value) => flag(0x25, *value),
            Self::WildcardAvailable(value) => flag(0x28, *value),
            Self::SubscriptionIdentifiersAvailable(value) => flag(0x29, *value),
            Self::SharedAvailable(value) => flag(0x2A, *value),
            Self::MaximumQos(value) => into.put_slice(&[0x24, *value]),
            Self::MessageExpiry(value) => put_u32(into, 0x02, *value),
            Self::SessionExpiry(value) => put_u32(into, 0x11, *value),
            Self::WillDelay(value) => put_u32(into, 0x18, *value),
            Self::MaximumPacketSize(value) => put_u32(into, 0x27, *value),
            Self::ServerKeepAlive(value) => put_u16(into, 0x13, *value),
            Self::ReceiveMaximum(value) => put_u16(into, 0x21, *value),
            Self::TopicAliasMaximum(value) => put_u16(into, 0x22, *value),
            Self::TopicAlias(value) => put_u16(into, 0x23, *value),
            Self::SubscriptionIdentifier(value) => {
                into.put_u8(0x0B);
                put_varint(into, *value as usize);
            }
            Self::ContentType(bytes) => put_bytes(into, 0x03, bytes),
            Self::ResponseTopic(bytes) => put_bytes(into, 0x08, bytes),
            Self::CorrelationData(bytes) => put_bytes(into, 0x09, bytes),
            Self::AssignedClientId(bytes) => put_bytes(into, 0x12, bytes),
            Self::AuthenticationMethod(bytes) => put_bytes(into, 0x15, bytes),
            Self::AuthenticationData(bytes) => put_bytes(into, 0x16, bytes),
            Self::ResponseInformation(bytes) => put_bytes(into, 0x1A, bytes),
            Self::ServerReference(bytes) => put_bytes(into, 0x1C, bytes),
            Self::ReasonString(bytes) => put_bytes(into, 0x1F, bytes),
            Self::User(name, value) => {
                put_bytes(into, 0x26, name);
                put_binary(into, value);
            }
        }
    }
}

fn put_u16(into: &mut BytesMut, identifier: u8, value: u16) {
    into.put_u8(identifier);
    into.put_u16(value);
}

fn put_u32(into: &mut BytesMut, identifier: u8, value: u32) {
    into.put_u8(identifier);
    into.put_u32(value);
}

fn put_bytes(into: &mut BytesMut, identifier: u8, bytes: &[u8]) {
    into.put_u8(identifier);
    put_binary(into, bytes);
}

/// Bytes that a block of these takes, its length included.
pub(super) fn block_length(properties: &[Property]) -> usize {
    let length: usize = properties.iter().map(Property::length).sum();
    varint_length(length) + length
}

/// Appends a block of these, its length first.
pub(super) fn put_block(into: &mut BytesMut, properties: &[Property]) {
    put_varint(into, properties.iter().map(Property::length).sum());
    for property in properties {
        property.put(into);
    }
}
