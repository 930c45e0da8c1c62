//! The journal, its sealed files, recovery, checkpoints and cold reads.
//!
//! A journal is the record store and the order of events of one disk: frames in groups, groups in preallocated files,
//! each file sealed with a footer that says where everything in it lies. [`Journal`] is what a sequencer sees of it;
//! [`LocalJournal`] is the one on a local disk, [`FakeJournal`] one with the manners of object storage for tests.
//! Everything is a step function over one [`Env`]; threads are started by whoever composes a real server.

mod checkpoint;
mod cluster;
mod env;
mod fake;
pub mod format;
mod frame;
pub mod inspect;
mod journal;
mod local;
mod open_index;
mod overlay;
mod prepare;
mod reader;
mod recovery;
mod reserve;
mod scan;
pub mod sim;
mod sync;
mod zeros;

pub use checkpoint::{Change, CheckpointStore, EachEntry, LocalCheckpoints, Pair, SavedCheckpoint};
pub use cluster::{COPIES, Clustering, Clusters, Judge, Plan, holds_copies, is_clustered};
pub use env::{Clock, Env, File, Files, Random};
pub use fake::{FakeFrame, FakeJournal};
pub use frame::{Frame, Lsn, Place, Section, ShardId};
pub use journal::{Class, Completion, FileInfo, Journal, JournalError, Pushed, Space};
pub use local::{JournalOptions, LocalJournal};
pub use prepare::Preparer;
pub use reader::{LogRange, SectionReader};
pub use recovery::{RecoveredFrame, Recovery, RecoveryError};
pub use sync::{Syncer, Waker};
