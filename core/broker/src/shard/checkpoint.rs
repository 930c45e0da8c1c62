//! Checkpoints: the state as of a frame, taken in slices and written beside the journal while the shard goes on.

use crate::api::QueueId;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::saved::Saved;
use omnilog_ledger::{CheckpointStore, Lsn};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// What one step encodes of a checkpoint, in bytes: well below a millisecond.
const SLICE_BYTES: usize = if cfg!(test) { 256 } else { 64 << 10 };

/// Queues that one step wakes ahead of a checkpoint.
const SLICE_QUEUES: usize = if cfg!(test) { 3 } else { 1024 };

/// Where a checkpoint's writer leaves how it went: why not, and what it was to write.
type Outcome = Arc<Mutex<Option<Result<(), (String, Saved)>>>>;

/// How a checkpoint stands.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The frame of the last one, and when it was begun.
    last_lsn: Lsn,
    last_ms: u64,
    last_bytes: u64,
    /// The last that was written: the next lies on it.
    below: Lsn,
    /// One that is being written; its writer leaves the outcome here.
    writing: Option<Outcome>,
    /// One that waits for a writer, and the frame that must be durable first.
    job: Option<(Lsn, CheckpointJob)>,
    /// What the one before could not write.
    unwritten: Option<Saved>,
    /// One is wanted soon: it lets the journal give space back.
    pub(crate) wanted: bool,
    /// One is about to begin.
    pub(crate) waking: bool,
    /// The whole state as of the frame of the one being taken.
    #[cfg(test)]
    expected: Vec<omnilog_ledger::Change>,
}

impl Progress {
    /// What comes after the checkpoints in this store.
    pub(crate) fn after(store: &dyn CheckpointStore) -> io::Result<Self> {
        let newest = store.whole()?;
        let below = if store.bears(newest) { newest } else { 0 };
        Ok(Self {
            below,
            ..Self::default()
        })
    }
}

/// A checkpoint to be written, on a thread of its own.
#[derive(Debug)]
pub(crate) struct CheckpointJob {
    below: Lsn,
    lsn: Lsn,
    changes: Saved,
    store: Arc<dyn CheckpointStore>,
    outcome: Outcome,
    #[cfg(test)]
    expected: Vec<omnilog_ledger::Change>,
}

impl CheckpointJob {
    /// Writes it. Blocks; `pause` is called between steps.
    pub(crate) fn run(mut self, pause: &mut dyn FnMut()) {
        // Here, and not on the sequencer's thread.
        let settled = self.changes.settle().map_err(io::Error::other);
        let written = settled.and_then(|()| {
            let bytes = self.changes.bytes() as u64;
            let changes = &mut self.changes.changes();
            self.store
                .write_changes(self.below, self.lsn, changes, bytes, pause)
        });
        #[cfg(test)]
        if written.is_ok() {
            self.check();
        }
        *self.outcome.lock() = Some(written.map_err(|error| (error.to_string(), self.changes)));
    }

    /// What is written is what was, as of that frame.
    #[cfg(test)]
    fn check(&self) {
        let mut found = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        let read = self.store.read(self.lsn, &mut each);
        assert!(read.is_ok(), "a checkpoint just written: {read:?}");
        let expected: Vec<_> = self
            .expected
            .iter()
            .filter_map(|change| Some((change.key.clone(), change.value.clone()?)))
            .collect();
        let text = |pairs: &[(Vec<u8>, Vec<u8>)], others: &[(Vec<u8>, Vec<u8>)]| {
            let mine = pairs.iter().filter(|pair| !others.contains(pair));
            mine.map(|(key, value)| format!("\n  {}: {}", key.escape_ascii(), value.escape_ascii()))
                .collect::<String>()
        };
        assert!(
            found == expected,
            "the checkpoint of frame {} is not the state as of then:\nfound{}\nexpected{}",
            self.lsn,
            text(&found, &expected),
            text(&expected, &found),
        );
    }
}

impl Shard {
    /// A checkpoint that may be written: all that is in it is durable.
    pub(crate) fn take_checkpoint_job(&mut self) -> Option<CheckpointJob> {
        let durable = self.durable;
        let (_, job) = self.checkpoint.job.take_if(|(at, _)| *at <= durable)?;
        Some(job)
    }

    /// Is everything that was decided in a checkpoint, or about to be?
    pub(crate) fn all_checkpointed(&self) -> bool {
        self.head <= self.checkpoint.last_lsn
    }

    pub(crate) fn checkpoint_if_due(&mut self) {
        if self.state.is_saving() {
            self.go_on_with_checkpoint();
            return;
        }
        if let Some(outcome) = &self.checkpoint.writing {
            let outcome = outcome.lock().take();
            match outcome {
                None => return,
                Some(Ok(())) => self.checkpoint.below = self.checkpoint.last_lsn,
                // The journal is whole, so nothing is lost: the next one is tried in its time.
                Some(Err((error, changes))) => {
                    tracing::error!(error, "a checkpoint can't be written");
                    self.checkpoint.unwritten = Some(changes);
                }
            }
            self.checkpoint.writing = None;
        }
        let now = self.now.monotonic_ms;
        let elapsed = now.saturating_sub(self.checkpoint.last_ms);
        // Where a held frame's batches will lie isn't known yet, and a checkpoint ahead of it would never say.
        if elapsed < 1000 || self.held.any() {
            return;
        }
        if self.checkpoint.waking {
            self.begin_checkpoint();
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

    /// Begins to take what has changed, as of now: once all queues that sleep have taken over what they hold.
    fn begin_checkpoint(&mut self) {
        self.checkpoint.waking = !self.state.wake_some(SLICE_QUEUES);
        if self.checkpoint.waking {
            return;
        }
        self.flush_acked(true);
        self.submit();
        self.state.begin_saving();
        self.state.forget_sets();
        self.checkpoint.last_lsn = self.head;
        self.checkpoint.last_ms = self.now.monotonic_ms;
        self.checkpoint.last_bytes = self.bytes_written;
        #[cfg(test)]
        {
            let mut expected = self.state.save();
            let _ = expected.settle();
            self.checkpoint.expected = expected.changes().collect();
        }
        self.go_on_with_checkpoint();
    }

    /// Takes some more. When all is taken, it waits until every frame is durable that was decided meanwhile: what was
    /// taken just before a change may show traces of that, and a checkpoint ahead of the journal would be damage.
    fn go_on_with_checkpoint(&mut self) {
        let Some(mut changes) = self.state.go_on_saving(SLICE_BYTES) else {
            return;
        };
        self.urgent = true;
        self.submit();
        if let Some(before) = self.checkpoint.unwritten.take() {
            changes.put_on(before);
        }
        let outcome = Arc::new(Mutex::new(None));
        self.checkpoint.writing = Some(outcome.clone());
        let job = CheckpointJob {
            below: self.checkpoint.below,
            lsn: self.checkpoint.last_lsn,
            changes,
            store: self.journal.checkpoints(),
            outcome,
            #[cfg(test)]
            expected: std::mem::take(&mut self.checkpoint.expected),
        };
        self.checkpoint.job = Some((self.head, job));
    }
}
