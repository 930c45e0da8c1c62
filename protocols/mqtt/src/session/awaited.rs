//! What the broker's answers answer: kind and number packed into the correlation number.

/// An answer that is awaited. Correlation 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Of opening the session.
    Session,
    /// Of a batch of publishes, by its running number.
    Publish(u64),
    /// Of a SUBSCRIBE, by its running number.
    Subscribe(u64),
    /// Of an UNSUBSCRIBE, by its running number.
    Unsubscribe(u64),
    /// Of journaling an outgoing packet id.
    Assigned(u16),
    /// Of journaling a PUBREC.
    Received(u16),
    /// Of journaling a PUBREL.
    Released(u16),
}

const KIND_SHIFT: u32 = 56;

impl Awaited {
    pub(super) fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Session => (1, 0),
            Self::Publish(number) => (2, number),
            Self::Subscribe(number) => (3, number),
            Self::Unsubscribe(number) => (4, number),
            Self::Assigned(packet_id) => (5, packet_id.into()),
            Self::Received(packet_id) => (6, packet_id.into()),
            Self::Released(packet_id) => (7, packet_id.into()),
        };
        (kind << KIND_SHIFT) | number
    }

    pub(super) fn decode(correlation: u64) -> Option<Self> {
        let number = correlation & ((1 << KIND_SHIFT) - 1);
        let packet_id = || u16::try_from(number).ok();
        Some(match correlation >> KIND_SHIFT {
            1 => Self::Session,
            2 => Self::Publish(number),
            3 => Self::Subscribe(number),
            4 => Self::Unsubscribe(number),
            5 => Self::Assigned(packet_id()?),
            6 => Self::Received(packet_id()?),
            7 => Self::Released(packet_id()?),
            _ => return None,
        })
    }
}
