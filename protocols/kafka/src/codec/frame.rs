//! Cuts a byte stream into frames: a 4-byte big-endian length, then that many bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::CodecError;

/// Bytes of the length prefix.
const PREFIX_BYTES: usize = 4;

/// Splits what arrives on a connection into request frames.
///
/// The buffer grows with the bytes that really arrived, never with the length that a client
/// announces, and is given back when the connection is idle.
#[derive(Debug)]
pub struct FrameSplitter {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl FrameSplitter {
    /// A splitter that refuses frames longer than `frame_bytes_max`.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            frame_bytes_max,
        }
    }

    /// Sets the limit of the frames still to come: it is raised once a client is authenticated.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Takes bytes from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their frame.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame without its length prefix; `None` until it is complete.
    ///
    /// # Errors
    /// A negative or too long frame is reported as soon as its prefix is there; the stream cannot
    /// be followed after it.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, CodecError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*prefix);
        let size = usize::try_from(announced).map_err(|_| CodecError::NegativeFrame(announced))?;
        if size > self.frame_bytes_max {
            return Err(CodecError::FrameTooLarge {
                size,
                limit: self.frame_bytes_max,
            });
        }
        if self.buffer.len() < PREFIX_BYTES + size {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn frames_come_out_whole_whatever_the_cuts() {
        let stream: Vec<u8> = [b"first".as_slice(), b"", b"the third"]
            .iter()
            .flat_map(|b| frame(b))
            .collect();
        for cut in 1..stream.len() {
            let mut splitter = FrameSplitter::new(100);
            let mut frames = Vec::new();
            for piece in stream.chunks(cut) {
                splitter.push(piece);
                while let Some(frame) = splitter.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(
                frames,
                [&b"first"[..], b"", b"the third"],
                "pieces of {cut}"
            );
            assert_eq!(splitter.buffered_bytes(), 0);
        }
    }

    #[test]
    fn the_limit_is_told_from_the_prefix_alone_and_costs_no_memory() {
        let mut splitter = FrameSplitter::new(1000);
        splitter.push(&1001i32.to_be_bytes());
        let expected = CodecError::FrameTooLarge {
            size: 1001,
            limit: 1000,
        };
        assert_eq!(splitter.next_frame(), Err(expected));

        let mut splitter = FrameSplitter::new(100 << 20);
        splitter.push(&(90i32 << 20).to_be_bytes());
        assert_eq!(splitter.next_frame(), Ok(None));
        assert!(
            splitter.buffer.capacity() < 4096,
            "nothing is reserved for bytes not sent"
        );
    }

    #[test]
    fn negative_lengths_are_refused() {
        let mut splitter = FrameSplitter::new(1000);
        splitter.push(&(-1i32).to_be_bytes());
        assert_eq!(splitter.next_frame(), Err(CodecError::NegativeFrame(-1)));
    }
}
