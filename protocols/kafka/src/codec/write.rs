//! Writes one reply: small fields into a buffer, record batches by reference between them.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::header::response_header_is_flexible;
use super::{Api, Reply};

/// Bytes of the length prefix of a frame.
const PREFIX_BYTES: usize = 4;

/// Below this many bytes a batch is copied: cheaper than one more slice in a gathered write.
const COPY_BYTES_MAX: usize = 512;

/// Writes a response in Kafka's primitive types, classic or compact by the version.
#[derive(Debug)]
pub struct Writer {
    buffer: BytesMut,
    /// What precedes `buffer`; the first of these starts with the frame's length prefix.
    first: Option<BytesMut>,
    slices: Vec<Bytes>,
    flexible: bool,
}

impl Writer {
    /// A writer past the response header.
    pub fn response(api: Api, version: i16, correlation_id: i32) -> Self {
        let mut buffer = BytesMut::with_capacity(256);
        buffer.put_i32(0); // the length, known at the end
        buffer.put_i32(correlation_id);
        if response_header_is_flexible(api, version) {
            buffer.put_u8(0);
        }
        let flexible = api.is_flexible(version);
        Self {
            buffer,
            first: None,
            slices: Vec::new(),
            flexible,
        }
    }

    /// INT16.
    pub fn int16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// INT32.
    pub fn int32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// INT64.
    pub fn int64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// UUID.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    /// STRING or its compact form; of at most 32 767 bytes, which names and messages are.
    pub fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    /// NULLABLE_STRING or its compact form.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        match (value, self.flexible) {
            (None, true) => self.unsigned_varint(0),
            (None, false) => self.buffer.put_i16(-1),
            (Some(text), true) => self.unsigned_varint(wire_length(text.len()) + 1),
            (Some(text), false) => {
                self.buffer
                    .put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
            }
        }
        let text = value.unwrap_or("");
        let limit = if self.flexible {
            text.len()
        } else {
            text.len().min(i16::MAX as usize)
        };
        self.buffer
            .put_slice(text.as_bytes().get(..limit).unwrap_or_default());
    }

    /// The count before an array.
    pub fn array_count(&mut self, count: usize) {
        self.length(count);
    }

    /// The null array.
    pub fn null_array(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        } else {
            self.buffer.put_i32(-1);
        }
    }

    /// RECORDS: batches one after the other, the larger ones without a copy.
    pub fn records(&mut self, batches: &[Bytes]) {
        self.length(batches.iter().map(Bytes::len).sum());
        for batch in batches {
            if batch.len() <= COPY_BYTES_MAX {
                self.buffer.put_slice(batch);
            } else {
                self.cut();
                self.slices.push(batch.clone());
            }
        }
    }

    /// The end of a structure without tagged fields; nothing in versions that have none.
    pub fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    /// The finished frame, its length prefix filled in.
    pub fn finish(mut self) -> Reply {
        self.cut();
        let mut first = self.first.unwrap_or_default();
        let bytes = first.len() + self.slices.iter().map(Bytes::len).sum::<usize>();
        let length = i32::try_from(bytes - PREFIX_BYTES).unwrap_or(i32::MAX);
        if let Some(prefix) = first.first_chunk_mut::<PREFIX_BYTES>() {
            *prefix = length.to_be_bytes();
        }
        Reply::new(first.freeze(), self.slices)
    }

    fn length(&mut self, length: usize) {
        if self.flexible {
            self.unsigned_varint(wire_length(length) + 1);
        } else {
            self.buffer
                .put_i32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Ends the current slice, so that a batch can follow by reference.
    fn cut(&mut self) {
        if self.first.is_none() {
            self.first = Some(std::mem::take(&mut self.buffer));
        } else if !self.buffer.is_empty() {
            self.slices.push(self.buffer.split().freeze());
        }
    }
}

/// A length as it travels; a reply is bounded far below what 32 bits can say.
fn wire_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX - 1)
}
