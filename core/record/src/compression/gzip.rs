//! gzip, as Java's `GZIPOutputStream` writes it; several members in a row are read as one.

use super::first_room;
use crate::BatchError;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

const LEVEL_DEFAULT: i32 = 6;
const DAMAGED: BatchError = BatchError::Compressed("gzip");

pub(super) fn decompress(section: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::with_capacity(first_room(section, limit));
    // `read_to_end` grows with what was really expanded; one byte beyond the cap tells that it was passed.
    let expanded = MultiGzDecoder::new(section)
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut output)
        .map_err(|_| DAMAGED)?;
    if expanded > limit {
        return Err(BatchError::ExpandedTooLarge { limit });
    }
    Ok(output)
}

pub(super) fn compress(
    section: &[u8],
    level: Option<i32>,
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let level = level.unwrap_or(LEVEL_DEFAULT).clamp(1, 9) as u32;
    let mut encoder = GzEncoder::new(output, flate2::Compression::new(level));
    encoder
        .write_all(section)
        .and_then(|()| encoder.try_finish())
        .map_err(|_| DAMAGED)
}
