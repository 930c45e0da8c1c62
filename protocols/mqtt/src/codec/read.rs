//! A cursor over a packet's body: integers, varints, strings and binary data, each bounds-checked.

use super::Violation;
use bytes::Bytes;

/// Reads from `body`, handing out slices of it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a Bytes) -> Self {
        Self { body, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.body.len()
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn advance(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let end = self.at + count;
        let taken = self
            .body
            .get(self.at..end)
            .ok_or(Violation::malformed("packet ends within a field"))?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        self.advance(1).map(|taken| taken[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        self.advance(2)
            .map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        self.advance(4)
            .map(|taken| u32::from_be_bytes([taken[0], taken[1], taken[2], taken[3]]))
    }

    /// A variable byte integer of at most four bytes, in its shortest form [1.5.5-1].
    pub(super) fn varint(&mut self) -> Result<u32, Violation> {
        let mut value = 0_u32;
        for index in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 {
                    return Err(Violation::malformed("over-long variable byte integer"));
                }
                return Ok(value);
            }
        }
        Err(Violation::malformed(
            "variable byte integer of more than four bytes",
        ))
    }

    /// The next `count` bytes as a slice of the body.
    pub(super) fn take(&mut self, count: usize) -> Result<Bytes, Violation> {
        let start = self.at;
        self.advance(count)?;
        Ok(self.body.slice(start..start + count))
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        let rest = self.body.slice(self.at..);
        self.at = self.body.len();
        rest
    }

    /// Binary data: a two-byte length and the bytes (MQTT 5 section 1.5.6).
    pub(super) fn binary(&mut self) -> Result<Bytes, Violation> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    /// A UTF-8 string without U+0000; surrogates are no UTF-8 [1.5.4-1, 1.5.4-2]. A byte order mark is kept [1.5.4-3].
    pub(super) fn string(&mut self) -> Result<Bytes, Violation> {
        let text = self.binary()?;
        if std::str::from_utf8(&text).is_err() {
            return Err(Violation::malformed("string is not UTF-8"));
        }
        if text.contains(&0) {
            return Err(Violation::malformed("string holds U+0000"));
        }
        Ok(text)
    }
}
