//! MQTT's wire format, versions 3.1, 3.1.1 and 5 in one.
//!
//! A packet goes through two gates. [`FixedHeader::parse`] looks at its first two to five bytes: type, flags and size
//! are refused there, before anything is buffered. [`decode`] then takes the whole body as one `Bytes` and hands out
//! topic, payload and properties as slices of it. One file below for each family of packets; decoders for what clients
//! send, encoders for what a server sends.

mod ack;
mod connack;
mod connect;
mod disconnect;
mod frame;
mod property;
mod publish;
mod read;
mod reason;
mod subscribe;
mod topic;
mod write;

#[cfg(test)]
mod tests;

pub use ack::Ack;
pub use connack::ConnAck;
pub use connect::{Connect, ConnectError, LastWill};
pub use disconnect::{Auth, Disconnect};
pub use frame::{FixedHeader, PacketType};
pub use property::{Properties, Property};
pub use publish::{OutgoingPublish, Publish, PublishProperties, forwardable};
pub use reason::{ConnectReturn, ReasonCode};
pub use subscribe::{Filter, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe};
pub use topic::{
    FilterError, SharedFilter, filter_matches, is_topic_name, level_count, split_shared,
    valid_filter,
};
pub use write::{put_ping_response, varint_length};

use bytes::Bytes;
use thiserror::Error;

/// The protocol's versions, by their level in CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 3.1 (`MQIsdp`, level 3).
    V31 = 3,
    /// 3.1.1 (`MQTT`, level 4).
    V311 = 4,
    /// 5.0 (`MQTT`, level 5).
    V5 = 5,
}

impl Version {
    /// Does this version have properties and reason codes?
    pub fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// The peer broke the protocol: what MQTT 5 calls it, and what exactly was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what} ({reason:?})")]
pub struct Violation {
    /// The reason code that a version 5 client is told.
    pub reason: ReasonCode,
    /// What was wrong, for the log and the reason string.
    pub what: &'static str,
}

impl Violation {
    /// Bytes that can't be parsed (0x81).
    pub const fn malformed(what: &'static str) -> Self {
        Self {
            reason: ReasonCode::MalformedPacket,
            what,
        }
    }

    /// Parsed, but not allowed here (0x82).
    pub const fn protocol(what: &'static str) -> Self {
        Self {
            reason: ReasonCode::ProtocolError,
            what,
        }
    }

    /// Any other reason.
    pub const fn new(reason: ReasonCode, what: &'static str) -> Self {
        Self { reason, what }
    }
}

/// What a client may send after CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// PUBLISH
    Publish(Publish),
    /// PUBACK
    PubAck(Ack),
    /// PUBREC
    PubRec(Ack),
    /// PUBREL
    PubRel(Ack),
    /// PUBCOMP
    PubComp(Ack),
    /// SUBSCRIBE
    Subscribe(Subscribe),
    /// UNSUBSCRIBE
    Unsubscribe(Unsubscribe),
    /// PINGREQ
    PingReq,
    /// DISCONNECT
    Disconnect(Disconnect),
    /// AUTH
    Auth(Auth),
}

/// Decodes a packet that is not CONNECT from its header and its whole body.
///
/// # Errors
/// [`Violation`] with the reason code that the specification asks for. CONNECT and the packets that only a server
/// sends are protocol errors.
pub fn decode(version: Version, header: FixedHeader, body: &Bytes) -> Result<Packet, Violation> {
    if version.is_v5() && !header.minimal {
        return Err(Violation::malformed("over-long remaining length"));
    }
    match header.packet {
        PacketType::Publish => Publish::decode(version, header, body).map(Packet::Publish),
        PacketType::PubAck => Ack::decode(version, header.packet, body).map(Packet::PubAck),
        PacketType::PubRec => Ack::decode(version, header.packet, body).map(Packet::PubRec),
        PacketType::PubRel => Ack::decode(version, header.packet, body).map(Packet::PubRel),
        PacketType::PubComp => Ack::decode(version, header.packet, body).map(Packet::PubComp),
        PacketType::Subscribe => Subscribe::decode(version, body).map(Packet::Subscribe),
        PacketType::Unsubscribe => Unsubscribe::decode(version, body).map(Packet::Unsubscribe),
        PacketType::PingReq if body.is_empty() => Ok(Packet::PingReq),
        PacketType::PingReq => Err(Violation::malformed("PINGREQ with a body")),
        PacketType::Disconnect => Disconnect::decode(version, body).map(Packet::Disconnect),
        PacketType::Auth if version.is_v5() => Auth::decode(body).map(Packet::Auth),
        PacketType::Auth => Err(Violation::malformed("packet type 15")),
        PacketType::Connect => Err(Violation::protocol("a second CONNECT")),
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            Err(Violation::protocol("a packet that only a server sends"))
        }
    }
}
