//! zstd. A frame is expanded straight into its output, so the window that its header claims is never allocated.

use super::first_room;
use crate::BatchError;
use std::cell::RefCell;
use zstd::zstd_safe::{self, CCtx, DCtx};

const LEVEL_DEFAULT: i32 = 3;
const LEVEL_MIN: i32 = -(1 << 17);
const LEVEL_MAX: i32 = 22;
const DAMAGED: BatchError = BatchError::Compressed("zstd");
/// `ZSTD_error_dstSize_tooSmall`, as the library returns it: negated.
const OUTPUT_TOO_SMALL: usize = 0_usize.wrapping_sub(70);

thread_local! {
    /// Contexts take 100 KiB and more: one of each per thread, made on first use.
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static ENCODER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn decompress(section: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    // The stated content size spares attempts where it is within the cap; what it claims beyond is refused unread.
    let mut room = match zstd_safe::get_frame_content_size(section).map_err(|_| DAMAGED)? {
        Some(size) if size > limit as u64 => return Err(BatchError::ExpandedTooLarge { limit }),
        Some(size) => (size as usize).min(first_room(section, limit).saturating_mul(8)),
        None => first_room(section, limit),
    }
    .min(limit);
    DECODER.with_borrow_mut(|decoder| {
        let decoder = decoder.get_or_insert_with(DCtx::create);
        loop {
            let mut output = Vec::with_capacity(room);
            match decoder.decompress(&mut output, section) {
                Ok(_) if output.len() > limit => {
                    return Err(BatchError::ExpandedTooLarge { limit });
                }
                Ok(_) => return Ok(output),
                Err(OUTPUT_TOO_SMALL) if room < limit => {
                    room = room.saturating_mul(4).max(64).min(limit);
                }
                Err(OUTPUT_TOO_SMALL) => return Err(BatchError::ExpandedTooLarge { limit }),
                Err(_) => return Err(DAMAGED),
            }
        }
    })
}

pub(super) fn compress(
    section: &[u8],
    level: Option<i32>,
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let level = level.unwrap_or(LEVEL_DEFAULT).clamp(LEVEL_MIN, LEVEL_MAX);
    let mut compressed = Vec::with_capacity(zstd_safe::compress_bound(section.len()));
    ENCODER
        .with_borrow_mut(|encoder| {
            let encoder = encoder.get_or_insert_with(CCtx::create);
            encoder.compress(&mut compressed, section, level)
        })
        .map_err(|_| DAMAGED)?;
    output.extend_from_slice(&compressed);
    Ok(())
}
