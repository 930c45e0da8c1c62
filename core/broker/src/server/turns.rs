//! Turns of connections that catch up.
//!
//! The runtime serves connections in the order in which they became ready. When thousands come back at once to what
//! waited for them, each has a lot to do, and a message between two others would wait for all of them. So a connection
//! with a backlog takes a turn before it does anything, and there are fewer turns than threads: the others are served in
//! between, and those that catch up get through as much together.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns that there are.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Turns {
    /// So many at a time.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Shared {
            free: Arc::new(Semaphore::new(at_once.max(1))),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// One less than the threads that serve connections.
    pub(crate) fn beside(connection_threads: usize) -> Self {
        Self::new(connection_threads.saturating_sub(1))
    }
}

/// A wait for a turn, counted.
struct Wait {
    permit: Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>,
    turns: Turns,
}

impl Wait {
    fn new(turns: &Turns) -> Self {
        let free = turns.0.free.clone();
        turns.0.waiting.fetch_add(1, Ordering::Relaxed);
        Self {
            permit: Box::pin(async move { free.acquire_owned().await.ok() }),
            turns: turns.clone(),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.turns.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a connection may work now. The default one always may.
#[derive(Default)]
pub struct Pace {
    /// The turns, and whether the shard says that this connection catches up.
    turns: Option<(Turns, Arc<AtomicBool>)>,
    held: Option<OwnedSemaphorePermit>,
    /// The turn was used.
    used: bool,
    waiting: Option<Wait>,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace")
            .field("held", &self.held.is_some())
            .field("waiting", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

impl Pace {
    /// Of a connection that takes turns while the flag says that it catches up.
    #[must_use]
    pub fn new(turns: Turns, catches_up: Arc<AtomicBool>) -> Self {
        Self {
            turns: Some((turns, catches_up)),
            ..Self::default()
        }
    }

    /// Ready when this connection may work: at once, unless it catches up and others do, too. Then it has a turn, which
    /// [`Pace::rest`] gives back: call that whenever there is nothing more to do at the moment.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((turns, catches_up)) = &self.turns else {
            return Poll::Ready(());
        };
        if self.held.is_some() {
            return Poll::Ready(());
        }
        if !catches_up.load(Ordering::Relaxed) {
            self.waiting = None;
            return Poll::Ready(());
        }
        if self.waiting.is_none()
            && let Ok(permit) = turns.0.free.clone().try_acquire_owned()
        {
            self.held = Some(permit);
            return Poll::Ready(());
        }
        let wait = self.waiting.get_or_insert_with(|| Wait::new(turns));
        // Turns never end for good: without one it goes on all the same.
        self.held = ready!(wait.permit.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(())
    }

    /// Notes that the turn is used.
    pub fn work(&mut self) {
        self.used = true;
    }

    /// Gives a turn back that was used, if another connection waits for one.
    pub fn pass(&mut self) {
        if let Some((turns, _)) = &self.turns
            && self.used
            && turns.0.waiting.load(Ordering::Relaxed) > 0
        {
            self.rest();
        }
    }

    /// Gives the turn back.
    pub fn rest(&mut self) {
        self.held = None;
        self.used = false;
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, Turns};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Waker};

    fn may_work(pace: &mut Pace) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        pace.poll_turn(&mut cx).is_ready()
    }

    fn pace(turns: &Turns, catches_up: bool) -> (Pace, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(catches_up));
        (Pace::new(turns.clone(), flag.clone()), flag)
    }

    #[test]
    fn those_that_catch_up_take_turns_in_order_and_others_do_not_wait() {
        let turns = Turns::new(1);
        let (mut first, _) = pace(&turns, true);
        let (mut second, _) = pace(&turns, true);
        let (mut third, _) = pace(&turns, true);
        let (mut live, _) = pace(&turns, false);
        assert!(may_work(&mut first) && may_work(&mut first));
        assert!(!may_work(&mut second) && !may_work(&mut third));
        assert!(may_work(&mut live) && may_work(&mut Pace::default()));

        first.pass();
        assert!(may_work(&mut first), "it has done nothing yet");
        first.work();
        first.pass();
        assert!(!may_work(&mut first), "others wait: it is their turn");
        assert!(!may_work(&mut third) && may_work(&mut second));
        second.rest();
        assert!(!may_work(&mut first) && may_work(&mut third));
        third.rest();
        assert!(may_work(&mut first));
        first.work();
        first.pass();
        assert!(
            !may_work(&mut third) && may_work(&mut first),
            "nobody waited"
        );
    }

    #[test]
    fn who_has_caught_up_or_is_gone_waits_for_no_turn() {
        let turns = Turns::new(1);
        let (mut first, _) = pace(&turns, true);
        let (mut second, catches_up) = pace(&turns, true);
        let (mut third, _) = pace(&turns, true);
        assert!(may_work(&mut first) && !may_work(&mut second));
        catches_up.store(false, Ordering::Relaxed);
        assert!(may_work(&mut second));
        assert!(!may_work(&mut third));
        drop(first);
        assert!(may_work(&mut third));
    }
}
