//! Splitting the stream into frames (section 4.2.3): type, channel, size, payload, 0xCE.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// What opens a connection: `AMQP`, 0, and version 0-9-1.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// The octet that ends a frame.
pub const FRAME_END: u8 = 0xCE;

/// What a frame takes beside its payload.
pub const FRAME_OVERHEAD_BYTES: usize = 8;

/// The smallest frame-max, and what holds until a larger one is negotiated.
pub const FRAME_MIN_BYTES: u32 = 4096;

const HEADER_BYTES: usize = 7;

/// The types of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A method.
    Method,
    /// A content header.
    Header,
    /// Part of a content body.
    Body,
    /// A heartbeat.
    Heartbeat,
}

/// A frame: its payload is a slice of the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: FrameKind,
    /// Its channel.
    pub channel: u16,
    /// What lies between header and end.
    pub payload: Bytes,
}

/// Why a frame can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A type that is none.
    #[error("unknown frame type {0}")]
    Kind(u8),
    /// Larger than negotiated.
    #[error("frame payload of {size} bytes is larger than the maximum of {limit}")]
    TooLarge {
        /// The payload's size.
        size: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// The last octet is not 0xCE.
    #[error("frame ends in {0:#04x} instead of 0xce")]
    End(u8),
}

/// Takes the first whole frame off `input`; `None` while there is none. `frame_max` counts the whole frame; as
/// RabbitMQ does, the 8 bytes around the payload are forgiven.
///
/// # Errors
/// The bytes are no frame; the stream can't be followed any further.
pub fn split_frame(input: &mut BytesMut, frame_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return match input.first() {
            Some(&kind) => kind_of(kind).map(|_| None),
            None => Ok(None),
        };
    };
    let [kind, channel_high, channel_low, size @ ..] = *header;
    let kind = kind_of(kind)?;
    let size = u32::from_be_bytes(size) as usize;
    if size > frame_max {
        return Err(FrameError::TooLarge {
            size,
            limit: frame_max,
        });
    }
    let Some(&end) = rest.get(size) else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(FrameError::End(end));
    }
    let mut frame = input.split_to(HEADER_BYTES + size + 1).freeze();
    frame.truncate(HEADER_BYTES + size);
    Ok(Some(Frame {
        kind,
        channel: u16::from_be_bytes([channel_high, channel_low]),
        payload: frame.split_off(HEADER_BYTES),
    }))
}

fn kind_of(kind: u8) -> Result<FrameKind, FrameError> {
    match kind {
        1 => Ok(FrameKind::Method),
        2 => Ok(FrameKind::Header),
        3 => Ok(FrameKind::Body),
        8 => Ok(FrameKind::Heartbeat),
        other => Err(FrameError::Kind(other)),
    }
}
