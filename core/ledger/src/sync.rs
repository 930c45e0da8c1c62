//! The second stage: bringing written groups to stable storage. One sync covers all that was written before it began.
//!
//! A sync costs about as much whatever it covers. Clients with a window answer a sync's release with their next
//! messages: if the next sync began at once, it would find half of them, and the one after it the other half. So it
//! waits until about as much has been written as was under way when the one before ended, and at most as long as that one
//! took. A client that waits for each of its messages is not held up: its next message is all there is to wait for.

use crate::env::File;
use crate::frame::Lsn;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Called when there is news to poll.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What nobody waits for is synced this much later.
const UNWANTED_DELAY: Duration = Duration::from_millis(20);

/// The longest that a sync waits for company.
const COMPANY_DELAY_MAX: Duration = Duration::from_millis(1);

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
    /// Bytes written since the last sync began.
    waiting_bytes: u64,
    /// The thread waits for something to be written.
    idle: bool,
    /// As many as are worth the next sync, until then.
    company: Option<(u64, Instant)>,
}

impl SyncState {
    /// Until when the next sync waits for company, if it does.
    fn awaits_company(&self) -> Option<Instant> {
        self.company
            .filter(|(bytes, _)| self.waiting_bytes < *bytes && !self.stopping)
            .map(|(_, until)| until)
    }
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
        let (files, target, bytes) = {
            let mut state = self.state.0.lock();
            if state.failed.is_some() || state.files.is_empty() {
                return false;
            }
            let bytes = std::mem::take(&mut state.waiting_bytes);
            (std::mem::take(&mut state.files), state.written, bytes)
        };
        let began = Instant::now();
        // Never retried: after a failed sync the kernel may have dropped the pages and call the next one a success.
        let result = files.iter().try_for_each(|file| file.sync_data());
        let now = Instant::now();
        let mut state = self.state.0.lock();
        // Three quarters: the same messages take more or less room as they are gathered.
        let company = (bytes + state.waiting_bytes) / 4 * 3;
        state.company = Some((company, now + (now - began).min(COMPANY_DELAY_MAX)));
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
                        state.idle = true;
                        self.state.1.wait(&mut state);
                        state.idle = false;
                        continue;
                    }
                    let asked = state.wanted > state.synced || state.stopping;
                    if !asked {
                        let changed = &self.state.1;
                        if changed.wait_for(&mut state, UNWANTED_DELAY).timed_out() {
                            break;
                        }
                        continue;
                    }
                    match state.awaits_company() {
                        Some(until) if Instant::now() < until => {
                            self.state.1.wait_until(&mut state, until);
                        }
                        _ => break,
                    }
                }
            }
            self.step();
        }
    }

    /// So much has been written to this file. Nobody is woken for it before [`Syncer::announce`].
    pub(crate) fn written(&self, file: &Arc<dyn File>, last_lsn: Lsn, bytes: u64) {
        let mut state = self.state.0.lock();
        state.written = state.written.max(last_lsn);
        state.waiting_bytes += bytes;
        if !state.files.iter().any(|known| Arc::ptr_eq(known, file)) {
            state.files.push(file.clone());
        }
    }

    /// What has been written is to be synced: at once if somebody waits for it (`wanted`), else before long.
    pub(crate) fn announce(&self, wanted: bool) {
        let mut state = self.state.0.lock();
        let due = if !wanted {
            state.idle && !state.files.is_empty()
        } else if state.wanted < state.written {
            // Asked before, it waits for company at the most, and wakes by itself if that does not come.
            let asked = state.wanted > state.synced;
            state.wanted = state.written;
            !asked || state.awaits_company().is_none()
        } else {
            false
        };
        drop(state);
        if due {
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
