//! Checks a request body against its schema before anything is decoded from it.
//!
//! Decoders reserve memory for as many elements as an array's count claims. The walk visits every
//! count, length and tag first and allocates nothing: what passes it is as long as it says, and
//! holds no more elements than [`ELEMENTS_MAX`], so decoding costs memory in proportion.

use bytes::Bytes;

use super::read::Reader;
use super::schema::{Field, Shape, body};
use super::{Api, CodecError};

/// Array elements and tagged fields that one request may hold.
///
/// A decoded element takes about 100 bytes, so this bounds a request's decoded form to about
/// 25 MiB. A fetch of 200,000 partitions still passes.
pub const ELEMENTS_MAX: usize = 250_000;

/// Walks the body of a request of a served version to its end.
///
/// Bytes after the last field are ignored, as Apache Kafka does.
///
/// # Errors
/// When a field reaches beyond the body, a length is negative, a tag's content has another size
/// than announced, or there are more than [`ELEMENTS_MAX`] elements.
pub fn check(api: Api, version: i16, request_body: &Bytes) -> Result<(), CodecError> {
    let mut walk = Walk {
        reader: Reader::new(request_body),
        version,
        flexible: api.is_flexible(version),
        elements_left: ELEMENTS_MAX,
    };
    walk.structure(body(api))
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Result<(), CodecError> {
        for field in fields {
            if field.tag.is_none() && field.exists_in(self.version) {
                self.value(field.shape)?;
            }
        }
        if self.flexible {
            self.tagged_fields(fields)?;
        }
        Ok(())
    }

    fn value(&mut self, shape: Shape) -> Result<(), CodecError> {
        match shape {
            Shape::Fixed(size) => self.reader.skip(size),
            Shape::String => {
                let length = self.reader.string_length(self.flexible)?;
                self.reader.skip(length.unwrap_or(0))
            }
            Shape::Bytes => {
                let length = self.reader.bytes_length(self.flexible)?;
                self.reader.skip(length.unwrap_or(0))
            }
            Shape::Struct(fields) => self.structure(fields),
            Shape::Structs(fields) => self.elements(|walk| walk.structure(fields)),
            Shape::FixedArray(size) => self.elements(|walk| walk.reader.skip(size)),
            Shape::Strings => self.elements(|walk| walk.value(Shape::String)),
        }
    }

    fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let count = self.reader.array_count(self.flexible)?.unwrap_or(0);
        // No element of any request is shorter than a byte: this ends a huge count at once.
        if count > self.reader.remaining() {
            return Err(CodecError::Truncated);
        }
        self.take_elements(count)?;
        for _ in 0..count {
            element(self)?;
        }
        Ok(())
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), CodecError> {
        let count = self.reader.unsigned_varint()? as usize;
        self.take_elements(count)?;
        for _ in 0..count {
            let tag = self.reader.unsigned_varint()?;
            let size = self.reader.unsigned_varint()? as usize;
            let end = self.reader.position() + size;
            let known = fields
                .iter()
                .find(|f| f.tag == Some(tag) && f.exists_in(self.version));
            let Some(field) = known else {
                self.reader.skip(size)?;
                continue;
            };
            // Decoders read a known tag by its type and not by its size: the two must agree.
            self.value(field.shape)?;
            if self.reader.position() != end {
                return Err(CodecError::TagSize(tag));
            }
        }
        Ok(())
    }

    fn take_elements(&mut self, count: usize) -> Result<(), CodecError> {
        self.elements_left = self
            .elements_left
            .checked_sub(count)
            .ok_or(CodecError::TooManyElements(ELEMENTS_MAX))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
