//! Tests of the codec: packets as bytes, what must be refused, and other implementations as oracles.

mod differential;
mod refused;
mod vectors;

use super::*;

/// Decodes one packet that is not CONNECT.
pub(crate) fn decode_bytes(version: Version, bytes: &[u8]) -> Result<Packet, Violation> {
    let header = FixedHeader::parse(bytes, usize::MAX)?.expect("a whole header");
    assert_eq!(
        bytes.len(),
        header.length + header.remaining,
        "a whole packet"
    );
    decode(
        version,
        header,
        &Bytes::copy_from_slice(&bytes[header.length..]),
    )
}

/// Decodes a CONNECT.
pub(crate) fn decode_connect(bytes: &[u8]) -> Result<Connect, ConnectError> {
    let header = FixedHeader::parse(bytes, usize::MAX)
        .expect("a valid header")
        .expect("a whole header");
    Connect::decode(header, &Bytes::copy_from_slice(&bytes[header.length..]))
}

/// Bytes of hex digits; blanks are for people.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("hex") as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
