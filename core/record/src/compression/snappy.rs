//! snappy: bare blocks, and the frames of Java's snappy library, which Kafka's Java clients write.
//!
//! A Java frame begins with a 16-byte header (magic, version 1, compatible from 1) and goes on with blocks, each a
//! big-endian length and a bare snappy block. Streams in a row repeat the header.

use crate::BatchError;
use snap::raw;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
/// The Java client's block size, before compression.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy element of three bytes yields 64 at most: beyond this ratio a stated length is a lie.
const RATIO_MAX: usize = 32;
const DAMAGED: BatchError = BatchError::Compressed("snappy");

pub(super) fn decompress(section: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::new();
    if !section.starts_with(&MAGIC) {
        expand_block(section, limit, &mut output)?;
        return Ok(output);
    }
    let mut remaining = section;
    while !remaining.is_empty() {
        if remaining.starts_with(&MAGIC) {
            remaining = remaining.get(HEADER_BYTES..).ok_or(DAMAGED)?;
            continue;
        }
        let (length, rest) = remaining.split_first_chunk::<4>().ok_or(DAMAGED)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(DAMAGED)?;
        expand_block(block, limit, &mut output)?;
        remaining = rest;
    }
    Ok(output)
}

fn expand_block(block: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    let stated = raw::decompress_len(block).map_err(|_| DAMAGED)?;
    if stated > block.len().saturating_mul(RATIO_MAX) {
        return Err(DAMAGED);
    }
    let start = output.len();
    if stated > limit.saturating_sub(start) {
        return Err(BatchError::ExpandedTooLarge { limit });
    }
    output.resize(start + stated, 0);
    let written = raw::Decoder::new()
        .decompress(block, &mut output[start..])
        .map_err(|_| DAMAGED)?;
    output.truncate(start + written);
    Ok(())
}

pub(super) fn compress(section: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&1_u32.to_be_bytes());
    output.extend_from_slice(&1_u32.to_be_bytes());
    let mut encoder = raw::Encoder::new();
    for block in section.chunks(BLOCK_BYTES) {
        let start = output.len();
        let body = start + 4;
        output.resize(body + raw::max_compress_len(block.len()), 0);
        let written = encoder
            .compress(block, &mut output[body..])
            .map_err(|_| DAMAGED)?;
        output[start..body].copy_from_slice(&(written as u32).to_be_bytes());
        output.truncate(body + written);
    }
    Ok(())
}
