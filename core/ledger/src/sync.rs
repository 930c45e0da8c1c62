//! The second stage: bringing written groups to stable storage. One sync covers all that was written before it began.

use crate::env::File;
use crate::frame::Lsn;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Called when there is news to poll.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What nobody waits for is synced this much later.
const UNWANTED_DELAY: Duration = Duration::from_millis(20);

/// What is written and what is synced.
#[derive(Default)]
pub(crate) struct SyncState {
    /// Files with unsynced writes, oldest first.
    pub(crate) files: Vec<Arc<dyn File>>,
    pub(crate) written: Lsn,
    /// Somebody waits for frames up to this one.
    pub(crate) wanted: Lsn,
    pub(crate) synced: Lsn,
    pub(crate) failed: Option<Arc<io::Error>>,
    pub(crate) stopping: bool,
}

impl std::fmt::Debug for SyncState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncState")
            .field("written", &self.written)
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}

/// The syncing stage. A real server runs [`Syncer::run`] on a thread; a simulation calls [`Syncer::step`].
#[derive(Clone)]
pub struct Syncer {
    pub(crate) state: Arc<(Mutex<SyncState>, Condvar)>,
    pub(crate) waker: Waker,
    /// One sync at a time: an error is reported to one caller of fdatasync only, and nobody may overtake it.
    syncing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.0.lock().fmt(f)
    }
}

impl Syncer {
    pub(crate) fn new(durable: Lsn, waker: Waker) -> Self {
        let state = SyncState {
            written: durable,
            synced: durable,
            ..SyncState::default()
        };
        Self {
            state: Arc::new((Mutex::new(state), Condvar::new())),
            waker,
            syncing: Arc::default(),
        }
    }

    /// Syncs what has been written so far. Returns whether there was anything to do.
    pub fn step(&self) -> bool {
        let turn = self.syncing.lock();
        let (files, target) = {
            let mut state = self.state.0.lock();
            if state.failed.is_some() || state.files.is_empty() {
                return false;
            }
            (std::mem::take(&mut state.files), state.written)
        };
        // Never retried: after a failed sync the kernel may have dropped the pages and call the next one a success.
        let result = files.iter().try_for_each(|file| file.sync_data());
        let mut state = self.state.0.lock();
        match result {
            Ok(()) => state.synced = state.synced.max(target),
            Err(error) => state.failed = Some(Arc::new(error)),
        }
        drop(state);
        drop(turn);
        (self.waker)();
        true
    }

    /// The newest frame on stable storage.
    pub fn synced(&self) -> Lsn {
        self.state.0.lock().synced
    }

    /// Syncs until the journal closes.
    pub fn run(&self) {
        loop {
            {
                let mut state = self.state.0.lock();
                loop {
                    if state.stopping && state.files.is_empty() || state.failed.is_some() {
                        return;
                    }
                    if state.files.is_empty() {
                        self.state.1.wait(&mut state);
                        continue;
                    }
                    let asked = state.wanted > state.synced || state.stopping;
                    if asked
                        || self
                            .state
                            .1
                            .wait_for(&mut state, UNWANTED_DELAY)
                            .timed_out()
                    {
                        break;
                    }
                }
            }
            self.step();
        }
    }

    pub(crate) fn written(&self, file: &Arc<dyn File>, last_lsn: Lsn) {
        let mut state = self.state.0.lock();
        state.written = state.written.max(last_lsn);
        let idle = state.files.is_empty();
        if !state.files.iter().any(|known| Arc::ptr_eq(known, file)) {
            state.files.push(file.clone());
        }
        if idle {
            self.state.1.notify_one();
        }
    }

    /// Somebody waits for what has been written.
    pub(crate) fn want(&self) {
        let mut state = self.state.0.lock();
        if state.wanted < state.written {
            state.wanted = state.written;
            self.state.1.notify_one();
        }
    }

    pub(crate) fn failed(&self) -> Option<Arc<io::Error>> {
        self.state.0.lock().failed.clone()
    }

    pub(crate) fn fail(&self, error: io::Error) -> Arc<io::Error> {
        let error = Arc::new(error);
        self.state
            .0
            .lock()
            .failed
            .get_or_insert(error.clone())
            .clone()
    }
}
