//! Request headers (versions 1 and 2) and the choice of the response header's version.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::read::Reader;
use super::{Api, CodecError};

/// What precedes a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The api key as sent: it may be one that is not served.
    pub key: i16,
    /// The version of the api.
    pub version: i16,
    /// Chosen by the client, returned in the reply.
    pub correlation_id: i32,
}

impl RequestHeader {
    /// Reads the eight bytes that every request of every version starts with.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] when the frame is shorter.
    pub fn peek(frame: &Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(frame);
        Ok(Self {
            key: reader.int16()?,
            version: reader.int16()?,
            correlation_id: reader.int32()?,
        })
    }

    /// Reads what follows the first eight bytes in a header of a served version; returns the
    /// client id and the body.
    ///
    /// The client id stays a classic nullable string in header version 2 (KIP-482).
    ///
    /// # Errors
    /// When the frame ends inside the header, or its strings or tags are malformed.
    pub fn split_body(
        &self,
        api: Api,
        frame: &Bytes,
    ) -> Result<(Option<StrBytes>, Bytes), CodecError> {
        let mut reader = Reader::new(frame);
        reader.skip(8)?;
        let client_id = reader.nullable_string(false)?;
        if api.is_flexible(self.version) {
            reader.skip_tagged_fields()?;
        }
        Ok((client_id, reader.rest()))
    }
}

/// Does the response header carry tagged fields?
///
/// An ApiVersions response never does, whatever its version (KIP-511): a client reads it before
/// it knows which versions the two sides share.
pub fn response_header_is_flexible(api: Api, version: i16) -> bool {
    api != Api::ApiVersions && api.is_flexible(version)
}
