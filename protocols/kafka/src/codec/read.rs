//! A bounds-checked cursor over one frame; every byte string it returns is a slice of the frame.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::CodecError;

/// Reads Kafka's primitive types from a frame, front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the frame's first byte.
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What was not read yet, as a slice of the frame.
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), CodecError> {
        if count > self.remaining() {
            return Err(CodecError::Truncated);
        }
        self.at += count;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let rest = self.frame.get(self.at..).ok_or(CodecError::Truncated)?;
        let bytes = rest.first_chunk::<N>().ok_or(CodecError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    /// INT8.
    pub fn int8(&mut self) -> Result<i8, CodecError> {
        self.array().map(i8::from_be_bytes)
    }

    /// INT16.
    pub fn int16(&mut self) -> Result<i16, CodecError> {
        self.array().map(i16::from_be_bytes)
    }

    /// INT32.
    pub fn int32(&mut self) -> Result<i32, CodecError> {
        self.array().map(i32::from_be_bytes)
    }

    /// INT64.
    pub fn int64(&mut self) -> Result<i64, CodecError> {
        self.array().map(i64::from_be_bytes)
    }

    /// UUID.
    pub fn uuid(&mut self) -> Result<Uuid, CodecError> {
        self.array().map(Uuid::from_bytes)
    }

    /// UNSIGNED_VARINT of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, CodecError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| CodecError::VarintTooLong);
            }
        }
        Err(CodecError::VarintTooLong)
    }

    /// The count before an array; `None` is the null array.
    pub fn array_count(&mut self, flexible: bool) -> Result<Option<usize>, CodecError> {
        if flexible {
            return Ok(self.unsigned_varint()?.checked_sub(1).map(|n| n as usize));
        }
        nullable_length(i64::from(self.int32()?))
    }

    /// The length before a string; `None` is the null string.
    pub fn string_length(&mut self, flexible: bool) -> Result<Option<usize>, CodecError> {
        if flexible {
            return Ok(self.unsigned_varint()?.checked_sub(1).map(|n| n as usize));
        }
        nullable_length(i64::from(self.int16()?))
    }

    /// The length before a byte string; `None` is the null byte string. The same shape as an
    /// array's count.
    pub fn bytes_length(&mut self, flexible: bool) -> Result<Option<usize>, CodecError> {
        self.array_count(flexible)
    }

    /// NULLABLE_STRING or its compact form.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<StrBytes>, CodecError> {
        let Some(length) = self.string_length(flexible)? else {
            return Ok(None);
        };
        let bytes = self.slice(length)?;
        StrBytes::from_utf8(bytes)
            .map(Some)
            .map_err(|_| CodecError::Utf8)
    }

    /// STRING or its compact form.
    pub fn string(&mut self, flexible: bool) -> Result<StrBytes, CodecError> {
        self.nullable_string(flexible)?
            .ok_or(CodecError::NegativeLength(-1))
    }

    /// NULLABLE_BYTES, RECORDS or their compact forms.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, CodecError> {
        let Some(length) = self.bytes_length(flexible)? else {
            return Ok(None);
        };
        self.slice(length).map(Some)
    }

    /// Passes over a structure's tagged fields, none of which is known (KIP-482).
    pub fn skip_tagged_fields(&mut self) -> Result<(), CodecError> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            self.skip(size as usize)?;
        }
        Ok(())
    }

    fn slice(&mut self, length: usize) -> Result<Bytes, CodecError> {
        let from = self.at;
        self.skip(length)?;
        Ok(self.frame.slice(from..self.at))
    }
}

fn nullable_length(length: i64) -> Result<Option<usize>, CodecError> {
    match length {
        -1 => Ok(None),
        n => usize::try_from(n)
            .map(Some)
            .map_err(|_| CodecError::NegativeLength(n)),
    }
}
