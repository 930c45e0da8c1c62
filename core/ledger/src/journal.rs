//! What a sequencer sees of a journal.

use crate::checkpoint::CheckpointStore;
use crate::cluster::Clusters;
use crate::frame::{Frame, Lsn, Place, ShardId};
use crate::reader::SectionReader;
use std::sync::Arc;
use thiserror::Error;

/// What may use the last of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Publishes: refused below the low mark.
    Normal,
    /// Acknowledgements, deletions, checkpoints: served from the reserve.
    Reserve,
    /// What leads to space being given back: may use what is left of the reserve, but for what a start needs.
    Upkeep,
}

/// How much of the disk is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Enough.
    Plenty,
    /// Below the low mark: publishers must wait.
    Low,
    /// Only the reserve is left.
    Reserve,
}

/// A frame's number and where its sections lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The frame's number.
    pub lsn: Lsn,
    /// One for each section.
    pub places: Vec<Place>,
}

/// News of a group. Groups may complete in any order.
#[derive(Debug)]
pub enum Completion {
    /// The operating system has it.
    Written {
        /// The group's first frame.
        first_lsn: Lsn,
        /// The group's last frame.
        last_lsn: Lsn,
    },
    /// It is on stable storage.
    Synced {
        /// The group's first frame.
        first_lsn: Lsn,
        /// The group's last frame.
        last_lsn: Lsn,
    },
    /// The journal can't go on. Nothing is retried.
    Failed(Arc<std::io::Error>),
}

/// Why a frame was not taken.
#[derive(Debug, Error)]
pub enum JournalError {
    /// No space can be claimed. Nothing was written; the journal goes on.
    #[error("no space can be claimed for the journal")]
    Full,
    /// The frame is larger than a frame may be.
    #[error("a frame of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A write or sync failed before: restart, and let recovery decide what was kept.
    #[error("the journal failed before and takes nothing any more")]
    Poisoned,
    /// A file operation failed; the journal is poisoned from now on.
    #[error("journal: {0}")]
    Io(#[from] std::io::Error),
}

/// A journal file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its number.
    pub id: u32,
    /// It is complete and has its footer.
    pub sealed: bool,
    /// Bytes in use.
    pub bytes: u64,
    /// Its first frame; 0 if it has none.
    pub first_lsn: Lsn,
    /// Its last frame.
    pub last_lsn: Lsn,
    /// The sequences of each shard in it: first and last.
    pub sequences: Vec<(ShardId, u64, u64)>,
}

/// An ordered sequence of frames, appended in groups.
pub trait Journal: Send {
    /// Encodes a frame into the group under construction.
    fn push(&mut self, frame: &Frame<'_>, class: Class) -> Result<Pushed, JournalError>;
    /// Bytes of the group under construction.
    fn group_bytes(&self) -> usize;
    /// Somebody waits for what has been pushed: from the next [`Journal::submit`] on it is to be synced.
    fn sync(&mut self);
    /// Hands the group on. News of it come from [`Journal::poll`]. It is synced before long; at once only with what
    /// [`Journal::sync`] asks for.
    fn submit(&mut self) -> Result<(), JournalError>;
    /// News, if there are any.
    fn poll(&mut self) -> Option<Completion>;
    /// Grows at each start.
    fn epoch(&self) -> u32;
    /// The largest frame it takes, in bytes.
    fn frame_bytes_max(&self) -> usize;
    /// Reads sections back; for reader threads.
    fn reader(&self) -> Arc<dyn SectionReader>;
    /// Its files, oldest first.
    fn files(&self) -> Vec<FileInfo>;
    /// Gives a sealed file's space back. Refused (`false`) for one that a checkpoint still needs.
    fn delete_file(&mut self, id: u32) -> Result<bool, JournalError>;
    /// Its clustered files, where it has any.
    fn clusters(&self) -> Option<Arc<Clusters>> {
        None
    }
    /// Gives the space of a file back that clustered ones have replaced. Returns whether there was one.
    fn reclaim(&mut self) -> Result<bool, JournalError> {
        Ok(false)
    }
    /// Bytes that fit before the next file is begun, which takes a while.
    fn room(&self) -> u64 {
        u64::MAX
    }
    /// How much of the disk is left, as of the last look.
    fn space(&self) -> Space;
    /// Looks how much of the disk is left.
    fn look_at_space(&mut self) -> Space;
    /// Where checkpoints are kept.
    fn checkpoints(&self) -> Arc<dyn CheckpointStore>;
    /// A stop: everything is on stable storage when it returns, and marked so, if it was a `clean` one.
    fn close(&mut self, clean: bool) -> Result<(), JournalError>;
}
