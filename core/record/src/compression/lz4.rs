//! LZ4 frames, read block by block straight into the output.
//!
//! The frame is read here and only its blocks by the library: its own frame reader takes a frame that ends early for a
//! whole one, and sizes its buffers by the frame's header. What is written is what Kafka's Java client can read:
//! independent blocks of 64 KiB, without checksums of the content.

use crate::BatchError;
use lz4_flex::block::{self, DecompressError};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::hash::Hasher;
use std::io::Write;
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;
/// How far back a linked block may refer.
const WINDOW_BYTES: usize = 64 * 1024;
/// A run of 255 length bytes stands for as many bytes each: beyond this ratio no block expands.
const RATIO_MAX: usize = 256;
const DAMAGED: BatchError = BatchError::Compressed("lz4");

const FLAG_INDEPENDENT: u8 = 1 << 5;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_DICTIONARY: u8 = 1;

struct Frame {
    flags: u8,
    block_bytes_max: usize,
}

pub(super) fn decompress(section: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::new();
    let mut remaining = section;
    let mut frames = 0;
    while !remaining.is_empty() {
        let magic = take_u32(&mut remaining)?;
        if SKIPPABLE.contains(&magic) {
            let length = take_u32(&mut remaining)? as usize;
            take(&mut remaining, length)?;
        } else if magic == MAGIC {
            expand_frame(&mut remaining, limit, &mut output)?;
            frames += 1;
        } else {
            return Err(DAMAGED);
        }
    }
    if frames == 0 {
        Err(DAMAGED)
    } else {
        Ok(output)
    }
}

/// Reads a frame after its magic, up to its end mark and checksum.
fn expand_frame(input: &mut &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    let frame = take_descriptor(input)?;
    let start = output.len();
    loop {
        let word = take_u32(input)?;
        if word == 0 {
            break;
        }
        let is_plain = word & 0x8000_0000 != 0;
        let length = (word & 0x7fff_ffff) as usize;
        if length > frame.block_bytes_max {
            return Err(DAMAGED);
        }
        let block = take(input, length)?;
        if frame.flags & FLAG_BLOCK_CHECKSUM != 0 && take_u32(input)? != xxh32(block) {
            return Err(DAMAGED);
        }
        if is_plain {
            if block.len() > limit.saturating_sub(output.len()) {
                return Err(BatchError::ExpandedTooLarge { limit });
            }
            output.extend_from_slice(block);
        } else {
            expand_block(block, &frame, start, limit, output)?;
        }
    }
    if frame.flags & FLAG_CONTENT_CHECKSUM != 0 && take_u32(input)? != xxh32(&output[start..]) {
        return Err(DAMAGED);
    }
    Ok(())
}

fn take_descriptor(input: &mut &[u8]) -> Result<Frame, BatchError> {
    let whole = *input;
    let flags = take(input, 1)?[0];
    let block_size = take(input, 1)?[0];
    if flags >> 6 != 1 || flags & FLAG_DICTIONARY != 0 {
        return Err(DAMAGED);
    }
    if flags & FLAG_CONTENT_SIZE != 0 {
        // Only a statement: the blocks tell how much there is.
        take(input, 8)?;
    }
    let descriptor = &whole[..whole.len() - input.len()];
    if take(input, 1)?[0] != (xxh32(descriptor) >> 8) as u8 {
        return Err(DAMAGED);
    }
    let block_bytes_max = match block_size >> 4 & 0b111 {
        id @ 4..=7 => 1 << (8 + 2 * id),
        _ => return Err(DAMAGED),
    };
    Ok(Frame {
        flags,
        block_bytes_max,
    })
}

fn expand_block(
    block: &[u8],
    frame: &Frame,
    frame_start: usize,
    limit: usize,
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let start = output.len();
    let possible = frame
        .block_bytes_max
        .min(block.len().saturating_mul(RATIO_MAX));
    let room = possible.min(limit.saturating_sub(start));
    output.resize(start + room, 0);
    let (before, target) = output.split_at_mut(start);
    let expanded = if frame.flags & FLAG_INDEPENDENT != 0 {
        block::decompress_into(block, target)
    } else {
        let window = frame_start.max(start.saturating_sub(WINDOW_BYTES));
        block::decompress_into_with_dict(block, target, &before[window..])
    };
    match expanded {
        Ok(written) => {
            output.truncate(start + written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if room < possible => {
            Err(BatchError::ExpandedTooLarge { limit })
        }
        Err(_) => Err(DAMAGED),
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], BatchError> {
    let (taken, rest) = input.split_at_checked(length).ok_or(DAMAGED)?;
    *input = rest;
    Ok(taken)
}

fn take_u32(input: &mut &[u8]) -> Result<u32, BatchError> {
    let (word, rest) = input.split_first_chunk::<4>().ok_or(DAMAGED)?;
    *input = rest;
    Ok(u32::from_le_bytes(*word))
}

fn xxh32(bytes: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(bytes);
    hasher.finish() as u32
}

pub(super) fn compress(section: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    let frame = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, output);
    encoder.write_all(section).map_err(|_| DAMAGED)?;
    encoder.finish().map(drop).map_err(|_| DAMAGED)
}
