//! What happens when things break: crashes, stops, slow and failing disks, hostile peers.

use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    Vec::new()
}
