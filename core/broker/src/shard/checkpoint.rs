//! Checkpoints: the state as of a frame, written beside the journal while the shard goes on.

use crate::api::QueueId;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::saved::Saved;
use omnilog_ledger::{CheckpointStore, Lsn};
use parking_lot::Mutex;
use std::sync::Arc;

/// Where a checkpoint's writer leaves how it went.
type Outcome = Arc<Mutex<Option<Result<(), String>>>>;

/// How a checkpoint stands.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The frame of the last one, and when it was begun.
    last_lsn: Lsn,
    last_ms: u64,
    last_bytes: u64,
    /// One that is being written; its writer leaves the outcome here.
    writing: Option<Outcome>,
    /// One that waits for a writer.
    job: Option<CheckpointJob>,
    /// One is wanted soon: it lets the journal give space back.
    pub(crate) wanted: bool,
}

/// A checkpoint to be written, on a thread of its own.
#[derive(Debug)]
pub(crate) struct CheckpointJob {
    lsn: Lsn,
    entries: Saved,
    store: Arc<dyn CheckpointStore>,
    outcome: Outcome,
}

impl CheckpointJob {
    /// Writes it. Blocks; `pause` is called between steps.
    pub(crate) fn run(mut self, pause: &mut dyn FnMut()) {
        // Here, and not on the sequencer's thread.
        self.entries.sort();
        let written = self.store.write(self.lsn, &mut self.entries.pairs(), pause);
        *self.outcome.lock() = Some(written.map_err(|error| error.to_string()));
    }
}

impl Shard {
    /// A checkpoint that may be written: all that is in it is durable.
    pub(crate) fn take_checkpoint_job(&mut self) -> Option<CheckpointJob> {
        let durable = self.durable;
        self.checkpoint.job.take_if(|job| job.lsn <= durable)
    }

    /// Is everything that was decided in a checkpoint, or about to be?
    pub(crate) fn all_checkpointed(&self) -> bool {
        self.head <= self.checkpoint.last_lsn
    }

    pub(crate) fn checkpoint_if_due(&mut self) {
        if let Some(outcome) = &self.checkpoint.writing {
            let outcome = outcome.lock().take();
            match outcome {
                None => return,
                Some(Ok(())) => {}
                // The journal is whole, so nothing is lost: the next one is tried in its time.
                Some(Err(error)) => tracing::error!(error, "a checkpoint can't be written"),
            }
            self.checkpoint.writing = None;
        }
        let now = self.now.monotonic_ms;
        let elapsed = now.saturating_sub(self.checkpoint.last_ms);
        // Where a held frame's batches will lie isn't known yet, and a checkpoint ahead of it would never say.
        if elapsed < 1000 || self.held.any() {
            return;
        }
        if std::mem::take(&mut self.checkpoint.wanted) {
            if self.head <= self.checkpoint.last_lsn {
                self.write_nothing();
            }
            self.begin_checkpoint();
            return;
        }
        if self.head <= self.checkpoint.last_lsn {
            return;
        }
        let bytes = self
            .bytes_written
            .saturating_sub(self.checkpoint.last_bytes);
        if bytes >= self.config.checkpoint_bytes || elapsed >= self.config.checkpoint_ms {
            self.begin_checkpoint();
        }
    }

    /// Writes a frame that changes nothing: a checkpoint needs one of its own.
    pub(crate) fn write_nothing(&mut self) {
        self.record(&Decision::Removed {
            queue: QueueId(0),
            runs: Vec::new(),
        });
        self.finish_frame();
    }

    /// Takes the state as of now. It is written when everything in it is durable: a checkpoint ahead of the journal
    /// would be damage.
    fn begin_checkpoint(&mut self) {
        self.flush_acked(true);
        self.urgent = true;
        self.submit();
        let entries = match self.state.save() {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "a checkpoint can't be encoded");
                return;
            }
        };
        self.state.forget_sets();
        let outcome = Arc::new(Mutex::new(None));
        self.checkpoint.last_lsn = self.head;
        self.checkpoint.last_ms = self.now.monotonic_ms;
        self.checkpoint.last_bytes = self.bytes_written;
        self.checkpoint.writing = Some(outcome.clone());
        self.checkpoint.job = Some(CheckpointJob {
            lsn: self.head,
            entries,
            store: self.journal.checkpoints(),
            outcome,
        });
    }
}
