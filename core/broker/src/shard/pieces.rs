//! What concerns many entries is decided in several frames: a frame is bounded, and how much a client has or a queue
//! holds is not.

use crate::api::*;
use crate::shard::Shard;
use crate::shard::dispatch::Located;

/// Batches in a frame before another is begun.
const SECTIONS: usize = 1024;

/// Entries that come back, or runs of them that go, in one event.
pub(super) const PIECE: usize = 512;

impl Shard {
    fn frame_bytes(&self) -> usize {
        let sections = self.sections.iter();
        let bytes: usize = sections
            .map(|section| section.envelope.len() + section.batch.len())
            .sum();
        bytes + self.decision.len()
    }

    /// Is nothing in the frame under construction?
    pub(super) fn is_frame_empty(&self) -> bool {
        self.sections.is_empty() && self.decision.is_empty()
    }

    /// Would a copy of a message of this size fit into the frame under construction?
    pub(super) fn fits_frame(&self, bytes: usize) -> bool {
        let beside = 4096.min(self.journal.frame_bytes_max() / 16);
        self.frame_bytes() + bytes + beside <= self.journal.frame_bytes_max()
    }

    /// Is it better to begin another frame before this entry may become a dead letter? Never where all must be in one.
    /// It is asked while the entry is in its queue still: a frame's end is a state that may be replayed.
    pub(super) fn is_crowded(&self, id: QueueId, entry: u64) -> bool {
        if self.in_one_frame || self.is_frame_empty() {
            return false;
        }
        let limit = self.journal.frame_bytes_max() / 2;
        self.sections.len() > SECTIONS || self.frame_bytes() + self.entry_bytes(id, entry) > limit
    }

    /// What a dead letter of this entry adds to a frame, if its record is at hand.
    pub(super) fn entry_bytes(&self, id: QueueId, entry: u64) -> usize {
        let of = |message: &Message| {
            let range = message.envelope().map(|envelope| envelope.range);
            range.map_or(0, |(_, bytes)| bytes as usize + 1024)
        };
        let Some(queue) = self.state.queues.get(&id) else {
            return 0;
        };
        let leased = queue.leases.get(&EntryId(entry));
        let leased = leased.and_then(|lease| lease.memory.as_deref());
        match leased.or_else(|| queue.memory.get(&entry)) {
            Some(kept) => of(&kept.message),
            None => match self.locate(entry) {
                Located::Here(message) => of(&message),
                Located::Cold(_) => 0,
            },
        }
    }
}
