//! Connections that catch up are served apart.
//!
//! A runtime serves connections in the order in which they became ready, and a system's scheduler threads that want a core
//! as if they were equal. When thousands come back at once to what waited for them, a message between two others would
//! wait for all of them, at both. So those with a backlog have a runtime of their own, whose threads give way to the others
//! ([`give_way`]) and never step in the sequencer's place: alone they are as fast as ever, beside others they take what is
//! left, and a tenth of a core in any case. Newcomers begin there.

use crate::server::background::give_way;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

/// The runtime of connections that catch up.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// Taken when it ends.
    runtime: Option<Runtime>,
    handle: CatchUpHandle,
}

impl CatchUp {
    /// With one thread less than serve the other connections, and one at least.
    pub(crate) fn start(connection_threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(connection_threads.saturating_sub(1).max(1))
            .enable_all()
            .thread_name("catch-up")
            .on_thread_start(give_way)
            .build()?;
        Ok(Self {
            handle: CatchUpHandle(runtime.handle().clone()),
            runtime: Some(runtime),
        })
    }

    /// What connections need of it.
    pub(crate) fn handle(&self) -> CatchUpHandle {
        self.handle.clone()
    }
}

impl Drop for CatchUp {
    /// Ends it, without waiting: its connections are over.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where those that catch up are served.
#[derive(Debug, Clone)]
pub struct CatchUpHandle(Handle);

impl CatchUpHandle {
    /// On this runtime.
    #[must_use]
    pub fn on(runtime: Handle) -> Self {
        Self(runtime)
    }

    /// Runs something there. It ends when this is dropped. `None`: the runtime is over.
    pub async fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let task = self.0.spawn(future.in_current_span());
        match AbortOnDropHandle::new(task).await {
            Ok(output) => Some(output),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => None,
            },
        }
    }
}

/// Where a connection is served now: with the others, or apart.
#[derive(Debug, Clone, Default)]
pub struct Place {
    apart: Option<CatchUpHandle>,
    /// Whether it catches up, as the shard says; without that it does.
    catches_up: Option<Arc<AtomicBool>>,
}

impl Place {
    /// Of a newcomer, which is not known to the shard yet.
    #[must_use]
    pub fn of_newcomer(apart: CatchUpHandle) -> Self {
        Self {
            apart: Some(apart),
            catches_up: None,
        }
    }

    /// Of one that is served apart while this says so.
    #[must_use]
    pub fn while_it_catches_up(apart: CatchUpHandle, catches_up: Arc<AtomicBool>) -> Self {
        Self {
            apart: Some(apart),
            catches_up: Some(catches_up),
        }
    }

    /// Runs something for it where it is served now. `None`: the server is over.
    pub async fn run<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.apart() {
            None => Some(future.await),
            Some(apart) => apart.run(future).await,
        }
    }

    /// Where it is served, if that is apart.
    pub fn apart(&self) -> Option<&CatchUpHandle> {
        let says_no = |catches_up: &Arc<AtomicBool>| !catches_up.load(Ordering::Relaxed);
        self.apart
            .as_ref()
            .filter(|_| !self.catches_up.as_ref().is_some_and(says_no))
    }
}

#[cfg(test)]
mod tests {
    use super::{CatchUp, Place};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    fn thread_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn newcomers_and_those_that_catch_up_have_threads_of_their_own() {
        let catch_up = CatchUp::start(4).unwrap();
        let here = thread_name();
        let newcomer = Place::of_newcomer(catch_up.handle());
        let name = newcomer.run(async { thread_name() }).await;
        assert_eq!(name.as_deref(), Some("catch-up"));

        let catches_up = Arc::new(AtomicBool::new(false));
        let place = Place::while_it_catches_up(catch_up.handle(), catches_up.clone());
        let name = place.run(async { thread_name() }).await;
        assert_eq!(name, Some(here));
        catches_up.store(true, Ordering::Relaxed);
        let name = place.run(async { thread_name() }).await;
        assert_eq!(name.as_deref(), Some("catch-up"));

        drop(catch_up);
        assert_eq!(place.run(async { 7 }).await, None, "the server is over");
    }
}
