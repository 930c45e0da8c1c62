//! Stopping: signals from the system, draining connections, and how long that may take.

use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The server's connections and the word that ends them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// Fires when no more connections are accepted and those there are should close.
    pub(crate) token: CancellationToken,
    /// Everything that must end before the broker stops.
    pub(crate) tasks: TaskTracker,
}

/// The system's words to the process.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next word.
    pub(crate) async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.terminate.recv() => Word::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Word::Stop("SIGINT"),
            _ = self.hangup.recv() => Word::Reload,
        }
    }
}

impl Shutdown {
    /// Runs `task` so that stopping waits for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends all connections; says whether all of them ended in time.
    pub(crate) async fn drain(&self, within: std::time::Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(within, self.tasks.wait())
            .await
            .is_ok()
    }
}
