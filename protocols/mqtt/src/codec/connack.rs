//! CONNACK (MQTT 5 section 3.2).

use super::property::{block_length, put_block};
use super::write::put_header;
use super::{ConnectReturn, PacketType, Property, ReasonCode};
use bytes::{BufMut, BytesMut};

/// A CONNACK packet, in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnAck {
    /// MQTT 3.1 and 3.1.1.
    V3 {
        /// There was a session. Always false in MQTT 3.1, which has no such flag.
        session_present: bool,
        /// The outcome.
        code: ConnectReturn,
    },
    /// MQTT 5.
    V5 {
        /// There was a session.
        session_present: bool,
        /// The outcome.
        reason: ReasonCode,
        /// What the server tells of itself.
        properties: Vec<Property>,
    },
}

impl ConnAck {
    /// Bytes on the wire.
    pub fn length(&self) -> usize {
        let remaining = self.remaining();
        1 + super::varint_length(remaining) + remaining
    }

    fn remaining(&self) -> usize {
        match self {
            Self::V3 { .. } => 2,
            Self::V5 { properties, .. } => 2 + block_length(properties),
        }
    }

    /// Appends it.
    pub fn put(&self, into: &mut BytesMut) {
        put_header(into, PacketType::ConnAck, 0, self.remaining());
        match self {
            Self::V3 {
                session_present,
                code,
            } => into.put_slice(&[(*session_present).into(), *code as u8]),
            Self::V5 {
                session_present,
                reason,
                properties,
            } => {
                into.put_slice(&[(*session_present).into(), *reason as u8]);
                put_block(into, properties);
            }
        }
    }
}
