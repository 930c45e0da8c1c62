//! Zeros to fill files with, in pieces.

use crate::env::PAGE;

/// The size of a piece.
const PIECE: usize = 1 << 20;

/// A piece of zeros, in memory aligned to a page.
#[derive(Debug)]
pub(crate) struct Zeros(Vec<u8>);

impl Zeros {
    pub(crate) fn new() -> Self {
        Self(vec![0; PIECE + PAGE])
    }

    /// The next piece where so many bytes are left to fill.
    pub(crate) fn piece(&self, left: u64) -> &[u8] {
        let start = self.0.as_ptr().align_offset(PAGE).min(PAGE);
        let bytes = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        self.0.get(start..start + bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{PIECE, Zeros};
    use crate::env::PAGE;

    #[test]
    fn pieces_are_aligned_and_no_longer_than_what_is_left() {
        let zeros = Zeros::new();
        for (left, bytes) in [(0, 0), (100, 100), (PIECE as u64, PIECE), (u64::MAX, PIECE)] {
            let piece = zeros.piece(left);
            assert_eq!((piece.len(), piece.as_ptr().align_offset(PAGE)), (bytes, 0));
            assert!(piece.iter().all(|byte| *byte == 0));
        }
    }
}
