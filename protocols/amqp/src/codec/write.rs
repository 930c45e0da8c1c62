//! Writing frames: every method that a server sends, and content.

use crate::codec::table::{encode_table, framed, put_short};
use crate::codec::{FRAME_END, FRAME_OVERHEAD_BYTES, MethodId};
use bytes::{BufMut, Bytes, BytesMut};
use omnilog_broker::Table;
use omnilog_wire::Outbox;

/// Writes one method's frame, argument by argument.
#[derive(Debug)]
pub struct Writer<'a> {
    into: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Writes a method's frame; `arguments` writes what follows the method's number.
    pub fn method(
        into: &'a mut BytesMut,
        channel: u16,
        id: MethodId,
        arguments: impl FnOnce(&mut Writer<'_>),
    ) {
        into.put_u8(1);
        into.put_u16(channel);
        framed(into, |into| {
            into.put_u16(id.0);
            into.put_u16(id.1);
            arguments(&mut Writer { into });
        });
        into.put_u8(FRAME_END);
    }

    /// An octet.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.into.put_u8(value);
        self
    }

    /// A short.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.into.put_u16(value);
        self
    }

    /// A long.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.into.put_u32(value);
        self
    }

    /// A longlong.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.into.put_u64(value);
        self
    }

    /// A single bit in its octet.
    pub fn bit(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// A shortstr.
    pub fn short(&mut self, value: &[u8]) -> &mut Self {
        put_short(self.into, value);
        self
    }

    /// A longstr.
    pub fn long(&mut self, value: &[u8]) -> &mut Self {
        framed(self.into, |into| into.put_slice(value));
        self
    }

    /// A table.
    pub fn table(&mut self, value: &Table) -> &mut Self {
        encode_table(value, self.into);
        self
    }

    /// A heartbeat frame.
    pub fn heartbeat(into: &mut BytesMut) {
        into.put_slice(&[8, 0, 0, 0, 0, 0, 0, FRAME_END]);
    }
}

/// What follows a content-bearing method.
#[derive(Debug, Clone)]
pub struct Content {
    /// Property flags and list, verbatim; empty for none.
    pub properties: Bytes,
    /// The body.
    pub body: Bytes,
}

impl Content {
    /// Writes header and body frames; large bodies are not copied.
    pub fn put(&self, out: &mut Outbox, channel: u16, frame_max: usize) {
        let buffer = out.buffer();
        buffer.put_u8(2);
        buffer.put_u16(channel);
        framed(buffer, |into| {
            into.put_u16(60);
            into.put_u16(0);
            into.put_u64(self.body.len() as u64);
            if self.properties.is_empty() {
                into.put_u16(0);
            } else {
                into.put_slice(&self.properties);
            }
        });
        buffer.put_u8(FRAME_END);
        let piece_max = frame_max.saturating_sub(FRAME_OVERHEAD_BYTES).max(1);
        let mut rest = self.body.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(piece_max));
            let buffer = out.buffer();
            buffer.put_u8(3);
            buffer.put_u16(channel);
            buffer.put_u32(u32::try_from(piece.len()).unwrap_or(u32::MAX));
            out.put_bytes(piece);
            out.buffer().put_u8(FRAME_END);
        }
    }
}
