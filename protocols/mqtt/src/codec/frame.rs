//! The fixed header: packet type, flags, remaining length (MQTT 5 section 2.1, MQTT 3.1.1 section 2.2).

use super::{ReasonCode, Violation};

/// The types of control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT
    Connect = 1,
    /// CONNACK
    ConnAck = 2,
    /// PUBLISH
    Publish = 3,
    /// PUBACK
    PubAck = 4,
    /// PUBREC
    PubRec = 5,
    /// PUBREL
    PubRel = 6,
    /// PUBCOMP
    PubComp = 7,
    /// SUBSCRIBE
    Subscribe = 8,
    /// SUBACK
    SubAck = 9,
    /// UNSUBSCRIBE
    Unsubscribe = 10,
    /// UNSUBACK
    UnsubAck = 11,
    /// PINGREQ
    PingReq = 12,
    /// PINGRESP
    PingResp = 13,
    /// DISCONNECT
    Disconnect = 14,
    /// AUTH (MQTT 5 only)
    Auth = 15,
}

impl PacketType {
    fn from_nibble(nibble: u8) -> Option<Self> {
        Some(match nibble {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The flags that this type must carry; `None` for PUBLISH, whose flags mean something [2.1.3-1].
    fn fixed_flags(self) -> Option<u8> {
        match self {
            Self::Publish => None,
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => Some(0b0010),
            _ => Some(0),
        }
    }
}

/// A packet's fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// What it is.
    pub packet: PacketType,
    /// The lower four bits of the first byte. Checked already, but for PUBLISH.
    pub flags: u8,
    /// Bytes that follow the header.
    pub remaining: usize,
    /// Bytes of the header itself.
    pub length: usize,
    /// The remaining length was written in as few bytes as possible, as MQTT 5 asks [1.5.5-1].
    pub minimal: bool,
}

impl FixedHeader {
    /// Reads the header at the start of `bytes`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Type 0 and wrong flags at the first byte; a remaining length of more than four bytes; a packet of more than
    /// `limit` bytes in all ([`ReasonCode::PacketTooLarge`]), before its body has arrived.
    pub fn parse(bytes: &[u8], limit: usize) -> Result<Option<Self>, Violation> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some(packet) = PacketType::from_nibble(first >> 4) else {
            return Err(Violation::malformed("packet type 0"));
        };
        let flags = first & 0x0F;
        if packet.fixed_flags().is_some_and(|fixed| fixed != flags) {
            return Err(Violation::malformed("reserved flags of the fixed header"));
        }
        let mut remaining = 0_usize;
        for (index, &byte) in rest.iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                let length = index + 2;
                if remaining + length > limit {
                    return Err(Violation::new(
                        ReasonCode::PacketTooLarge,
                        "packet larger than the maximum packet size",
                    ));
                }
                return Ok(Some(Self {
                    packet,
                    flags,
                    remaining,
                    length,
                    minimal: byte != 0 || index == 0,
                }));
            }
        }
        if rest.len() >= 4 {
            return Err(Violation::malformed(
                "remaining length of more than four bytes",
            ));
        }
        Ok(None)
    }
}
