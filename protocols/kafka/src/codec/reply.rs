//! A finished response frame, length prefix included.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::Api;
use super::header::response_header_is_flexible;

/// A response as slices to be written one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    first: Bytes,
    rest: Vec<Bytes>,
}

/// A response that its codec could not write: a defect of ours, since responses are ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode the response of {api:?} v{version}: {reason}")]
pub struct EncodeError {
    api: Api,
    version: i16,
    reason: String,
}

impl Reply {
    pub(super) fn new(first: Bytes, rest: Vec<Bytes>) -> Self {
        Self { first, rest }
    }

    /// Encodes a message of `kafka-protocol`.
    ///
    /// # Errors
    /// When the message holds what its version cannot say.
    pub fn encode<M: Encodable>(
        api: Api,
        version: i16,
        correlation_id: i32,
        message: &M,
    ) -> Result<Self, EncodeError> {
        let error = |reason: String| EncodeError {
            api,
            version,
            reason,
        };
        let mut buffer = BytesMut::with_capacity(256);
        buffer.put_i32(0);
        buffer.put_i32(correlation_id);
        if response_header_is_flexible(api, version) {
            buffer.put_u8(0);
        }
        message
            .encode(&mut buffer, version)
            .map_err(|e| error(e.to_string()))?;
        let length =
            i32::try_from(buffer.len() - 4).map_err(|_| error("above 2 GiB".to_owned()))?;
        if let Some(prefix) = buffer.first_chunk_mut::<4>() {
            *prefix = length.to_be_bytes();
        }
        Ok(Self::new(buffer.freeze(), Vec::new()))
    }

    /// The slices in the order of the wire.
    pub fn into_slices(self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.first).chain(self.rest)
    }

    /// Bytes of the whole frame.
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Never: a frame has at least a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame in one piece, for tests and logs.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.len());
        whole.put_slice(&self.first);
        for slice in &self.rest {
            whole.put_slice(slice);
        }
        whole.freeze()
    }
}
