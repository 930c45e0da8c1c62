//! Turns of connections that catch up.
//!
//! The runtime serves connections in the order in which they became ready. When thousands come back at once to what
//! waited for them, each has a lot to do, and a message between two others would wait for all of them. So a connection
//! with a backlog takes a turn before it does anything, and there are fewer turns than threads, if there is more than
//! one: the others are served in between, and those that catch up get through as much together.
//!
//! So do newcomers, among themselves: thousands that connect at once are welcomed one after the other.
//!
//! Where other programs, clients among them, want the same cores, the others would wait for those, too. So turns rest
//! for a part of the time that they take, while there is other work; how large a part depends on how late a rest ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The shortest rest.
const REST_US_MIN: u64 = 1000;
/// A rest that ends later than this shows that threads wait for cores. The runtime's clock counts in milliseconds.
const LATE_MAX: Duration = Duration::from_micros(2500);
/// Rest owed for eight microseconds of work: at the least and at the most.
const SHARE_MIN: u64 = 1;
const SHARE_MAX: u64 = 16;
/// So many rests are due after others have worked.
const RESTS_AFTER_WORK: u64 = 16;

/// The turns that there are.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    /// The newcomers' turn.
    newcomer: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// A connection that does not catch up has worked.
    others_work: AtomicBool,
    /// Rests that are still due if nobody else works.
    rests_due: AtomicU64,
    /// Microseconds of rest that the turns owe.
    owed_us: AtomicU64,
    /// Rest owed for eight microseconds of work.
    share: AtomicU64,
}

impl Turns {
    /// So many at a time.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Shared {
            free: Arc::new(Semaphore::new(at_once.max(1))),
            newcomer: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            others_work: AtomicBool::new(false),
            rests_due: AtomicU64::new(0),
            owed_us: AtomicU64::new(0),
            share: AtomicU64::new(8),
        }))
    }

    /// One less than the threads that serve connections.
    pub(crate) fn beside(connection_threads: usize) -> Self {
        Self::new(connection_threads.saturating_sub(1))
    }

    /// Waits until it is this newcomer's turn.
    pub(crate) async fn newcomer(&self) -> Welcome {
        let permit = self.0.newcomer.clone().acquire_owned().await.ok();
        Welcome(permit.map(|permit| Turn::new(permit, self)))
    }
}

impl Shared {
    /// How long the turns rest now that one of them worked for so long.
    fn rest_after(&self, worked: Duration) -> Option<Duration> {
        if self.others_work.swap(false, Ordering::Relaxed) {
            self.rests_due.store(RESTS_AFTER_WORK, Ordering::Relaxed);
        }
        let due = self.rests_due.load(Ordering::Relaxed);
        if due == 0 {
            return None;
        }
        let worked_us = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
        let more = worked_us.saturating_mul(self.share.load(Ordering::Relaxed)) / 8;
        let owed = self.owed_us.fetch_add(more, Ordering::Relaxed) + more;
        if owed < REST_US_MIN {
            return None;
        }
        self.owed_us.store(0, Ordering::Relaxed);
        self.rests_due.store(due - 1, Ordering::Relaxed);
        Some(Duration::from_micros(owed.min(16 * REST_US_MIN)))
    }

    /// A rest ended so much later than it was to.
    fn rested(&self, late: Duration) {
        let share = self.share.load(Ordering::Relaxed);
        let next = if late > LATE_MAX {
            (share * 2).min(SHARE_MAX)
        } else {
            (share - share.div_ceil(8)).max(SHARE_MIN)
        };
        self.share.store(next, Ordering::Relaxed);
    }
}

/// A turn that somebody has.
struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    began: Instant,
}

impl Turn {
    fn new(permit: OwnedSemaphorePermit, turns: &Turns) -> Self {
        Self {
            permit: Some(permit),
            shared: turns.0.clone(),
            began: Instant::now(),
        }
    }
}

impl Drop for Turn {
    /// Gives it back, after a rest if one is due.
    fn drop(&mut self) {
        let permit = self.permit.take();
        let Some(rest) = self.shared.rest_after(self.began.elapsed()) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let shared = self.shared.clone();
        runtime.spawn(async move {
            let until = Instant::now() + rest;
            tokio::time::sleep_until(until).await;
            shared.rested(until.elapsed());
            drop(permit);
        });
    }
}

/// A newcomer's turn.
pub struct Welcome(Option<Turn>);

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Welcome")
    }
}

impl Welcome {
    /// Serves the newcomer. The turn is over as soon as it waits for anything, its client among others.
    pub async fn serve<F: Future>(mut self, mut newcomer: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            let served = newcomer.as_mut().poll(cx);
            self.0 = None;
            served
        })
        .await
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
    held: Option<Turn>,
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
            self.held = Some(Turn::new(permit, turns));
            return Poll::Ready(());
        }
        let wait = self.waiting.get_or_insert_with(|| Wait::new(turns));
        // Turns never end for good: without one it goes on all the same.
        let permit = ready!(wait.permit.as_mut().poll(cx));
        self.held = permit.map(|permit| Turn::new(permit, turns));
        self.waiting = None;
        Poll::Ready(())
    }

    /// Notes that the connection works: its turn is used, or, if it has none, those who have one rest for it.
    pub fn work(&mut self) {
        self.used = true;
        if let Some((turns, _)) = &self.turns
            && self.held.is_none()
            && !turns.0.others_work.load(Ordering::Relaxed)
        {
            turns.0.others_work.store(true, Ordering::Relaxed);
        }
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
    use super::{LATE_MAX, Pace, RESTS_AFTER_WORK, Turns};
    use std::future::{Future, pending, poll_fn};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Waker};
    use std::time::Duration;
    use tokio::time::Instant;

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
    fn turns_rest_while_others_work_and_as_long_as_rests_end_late() {
        let turns = Turns::new(1);
        let shared = &turns.0;
        let millisecond = Duration::from_millis(1);
        assert_eq!(shared.rest_after(millisecond), None, "nobody else works");

        let (mut live, _) = pace(&turns, false);
        assert!(may_work(&mut live));
        live.work();
        assert_eq!(shared.rest_after(millisecond / 2), None, "it adds up");
        assert_eq!(shared.rest_after(millisecond / 2), Some(millisecond));
        shared.rested(LATE_MAX * 2);
        assert_eq!(shared.rest_after(millisecond), Some(millisecond * 2));
        for _ in 0..32 {
            shared.rested(Duration::ZERO);
        }
        assert_eq!(shared.rest_after(millisecond * 7), None, "an eighth now");
        assert_eq!(shared.rest_after(millisecond), Some(millisecond));
        for _ in 0..RESTS_AFTER_WORK {
            shared.rest_after(millisecond * 8);
        }
        assert_eq!(shared.rest_after(millisecond * 8), None, "others are done");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_waits_for_its_rest() {
        let turns = Turns::new(1);
        let (mut first, _) = pace(&turns, true);
        let (mut second, _) = pace(&turns, true);
        let (mut live, _) = pace(&turns, false);
        live.work();
        assert!(may_work(&mut first) && !may_work(&mut second));
        tokio::time::advance(Duration::from_millis(3)).await;
        first.work();
        first.pass();
        let before = Instant::now();
        poll_fn(|cx| second.poll_turn(cx)).await;
        assert!(before.elapsed() >= Duration::from_millis(3));
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_are_served_one_after_the_other_and_none_waits_for_a_silent_one() {
        let turns = Turns::new(1);
        let (mut behind, _) = pace(&turns, true);
        assert!(may_work(&mut behind), "its like are not newcomers");
        let first = turns.newcomer().await;
        let mut second = pin!(turns.newcomer());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut cx).is_pending());

        let mut silent = pin!(pending::<()>());
        let mut served = pin!(first.serve(silent.as_mut()));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(served.as_mut().poll(&mut cx).is_pending());
        let second = second.await;
        assert_eq!(second.serve(pin!(async { 7 })).await, 7);
        turns.newcomer().await;
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_rest_while_others_work() {
        let turns = Turns::new(1);
        let (mut live, _) = pace(&turns, false);
        live.work();
        let first = turns.newcomer().await;
        tokio::time::advance(Duration::from_millis(3)).await;
        first.serve(pin!(async {})).await;
        let before = Instant::now();
        turns.newcomer().await;
        assert!(before.elapsed() >= Duration::from_millis(3));
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
