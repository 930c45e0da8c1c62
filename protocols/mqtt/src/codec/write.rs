//! Putting MQTT's primitive types into an output buffer.

use super::PacketType;
use bytes::{BufMut, BytesMut};

/// How many bytes a variable byte integer takes.
pub fn varint_length(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

pub(super) fn put_varint(into: &mut BytesMut, mut value: usize) {
    debug_assert!(value <= 0x0FFF_FFFF, "a varint holds 28 bits");
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            into.put_u8(low);
            return;
        }
        into.put_u8(low | 0x80);
    }
}

/// A two-byte length and the bytes; what exceeds 65,535 bytes is cut off, which no caller lets happen.
pub(super) fn put_binary(into: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    into.put_u16(length);
    into.put_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

pub(super) fn put_header(into: &mut BytesMut, packet: PacketType, flags: u8, remaining: usize) {
    into.put_u8(((packet as u8) << 4) | flags);
    put_varint(into, remaining);
}

/// PINGRESP.
pub fn put_ping_response(into: &mut BytesMut) {
    put_header(into, PacketType::PingResp, 0, 0);
}
