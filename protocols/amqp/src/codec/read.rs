//! Reading the elementary domains (section 4.2.5) off a frame's payload.

use crate::codec::table;
use bytes::{Buf, Bytes};
use omnilog_broker::Table;
use thiserror::Error;

/// The bytes are not what their place asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Takes domains off the front of some bytes; strings are slices of them.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Over these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Is nothing left?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub fn rest(self) -> Bytes {
        self.bytes
    }

    /// How much is left.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    fn need(&self, count: usize) -> Result<(), Malformed> {
        if self.bytes.len() < count {
            return Err(Malformed("ends too early"));
        }
        Ok(())
    }

    /// An octet.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    /// A short.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.need(2)?;
        Ok(self.bytes.get_u16())
    }

    /// A long.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.need(4)?;
        Ok(self.bytes.get_u32())
    }

    /// A longlong.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.need(8)?;
        Ok(self.bytes.get_u64())
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        self.need(count)?;
        Ok(self.bytes.split_to(count))
    }

    /// A shortstr of any bytes.
    pub fn short_bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A shortstr that must be UTF-8, as a method's must.
    pub fn short_text(&mut self) -> Result<Bytes, Malformed> {
        let text = self.short_bytes()?;
        if std::str::from_utf8(&text).is_err() {
            return Err(Malformed("short string is no UTF-8"));
        }
        Ok(text)
    }

    /// A longstr.
    pub fn long_bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// A field table.
    pub fn table(&mut self) -> Result<Table, Malformed> {
        table::decode_table(self.long_bytes()?)
    }
}
