//! Cuts a byte stream into frames: a 4-byte big-endian length, then that many bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::CodecError;

/// Bytes of the length prefix.
const PREFIX_BYTES: usize = 4;

/// Room made for a frame in one step. A longer one gets more as its bytes really arrive, so that
/// a length alone costs no more than this.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// Takes the next whole frame, without its length prefix, off the front of `input`; `None` until
/// it is complete.
///
/// # Errors
/// A negative length, or one above `frame_bytes_max`, is reported as soon as the prefix is there;
/// the stream cannot be followed after it.
pub fn next_frame(
    input: &mut BytesMut,
    frame_bytes_max: usize,
) -> Result<Option<Bytes>, CodecError> {
    let Some(prefix) = input.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let announced = i32::from_be_bytes(*prefix);
    let size = usize::try_from(announced).map_err(|_| CodecError::NegativeFrame(announced))?;
    if size > frame_bytes_max {
        return Err(CodecError::FrameTooLarge {
            size,
            limit: frame_bytes_max,
        });
    }
    let missing = (PREFIX_BYTES + size).saturating_sub(input.len());
    if missing > 0 {
        if PREFIX_BYTES + size <= RESERVE_BYTES_MAX {
            input.reserve(missing);
        }
        return Ok(None);
    }
    input.advance(PREFIX_BYTES);
    Ok(Some(input.split_to(size).freeze()))
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
            let mut input = BytesMut::new();
            let mut frames = Vec::new();
            for piece in stream.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(frame) = next_frame(&mut input, 100).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(
                frames,
                [&b"first"[..], b"", b"the third"],
                "pieces of {cut}"
            );
            assert!(input.is_empty());
        }
    }

    #[test]
    fn the_limit_is_told_from_the_prefix_alone_and_costs_no_memory() {
        let mut input = BytesMut::from(&1001i32.to_be_bytes()[..]);
        let expected = CodecError::FrameTooLarge {
            size: 1001,
            limit: 1000,
        };
        assert_eq!(next_frame(&mut input, 1000), Err(expected));

        let mut input = BytesMut::from(&(90i32 << 20).to_be_bytes()[..]);
        assert_eq!(next_frame(&mut input, 100 << 20), Ok(None));
        assert!(
            input.capacity() < 4096,
            "nothing is reserved for bytes not sent"
        );
    }

    #[test]
    fn negative_lengths_are_refused() {
        let mut input = BytesMut::from(&(-1i32).to_be_bytes()[..]);
        assert_eq!(
            next_frame(&mut input, 1000),
            Err(CodecError::NegativeFrame(-1))
        );
    }
}
