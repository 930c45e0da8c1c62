//! Driving the shard: on a thread of its own, or, while that sleeps, in the place of the thread by whoever brings the
//! input.
//!
//! A step in place saves two changes of threads for a message that comes alone, which is most of what it costs. It is
//! for an idle server only: as soon as more comes in than one step in place takes, the thread is woken and goes on.

use crate::api::NamespaceId;
use crate::server::background::give_way;
use crate::server::intake::Road;
use crate::server::{ColdReads, Input, Intake, read_message};
use crate::shard::{Now, Shard};
use omnilog_ledger::Env;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Inputs taken in one step.
const INPUTS_MAX: usize = 4096;
/// Inputs of a step in the thread's place.
const FEW: usize = 64;
/// A step in place is not to begin a new journal file: it leaves the thread this much to fill the old one.
const ROOM_MIN: u64 = 4 << 20;
/// A checkpoint's writer rests this long between its steps of 1 MiB, so that the journal's syncs need not wait.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(32);
/// Compaction reads and writes so much at a time, and rests in between: 32 MiB a second at the most.
const COMPACTION_STEP: u64 = 1 << 20;
const COMPACTION_PAUSE: Duration = Duration::from_millis(32);

/// How the sequencer ended: not yet, cleanly, or why it could not go on.
pub(crate) type Ended = Option<Result<(), String>>;

/// The shard, and what drives it.
#[derive(Debug)]
pub(crate) struct Sequencer {
    intake: Intake,
    env: Env,
    /// Nothing before the shard is open.
    driven: Mutex<Option<Driven>>,
    ended: watch::Sender<Ended>,
    /// The thread that compacts, or did last; it ends soon after this says so.
    compaction: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Driven {
    shard: Shard,
    cold: ColdReads,
    inputs: Vec<Input>,
}

impl Sequencer {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            intake: Intake::default(),
            env,
            driven: Mutex::new(None),
            ended: watch::channel(None).0,
            compaction: Mutex::new(None),
            stopping: Arc::default(),
        }
    }

    /// Gives it its shard.
    pub(crate) fn open(&self, shard: Shard, cold: ColdReads) {
        *self.driven.lock() = Some(Driven {
            shard,
            cold,
            inputs: Vec::new(),
        });
    }

    /// Hears how it ended.
    pub(crate) fn ended(&self) -> watch::Receiver<Ended> {
        self.ended.subscribe()
    }

    /// Adds an input and wakes the thread.
    pub(crate) fn put(&self, road: impl Into<Road>, input: Input) {
        self.intake.put(road, input);
    }

    /// Adds an input, which waits until [`Sequencer::drive`].
    pub(crate) fn add(&self, road: impl Into<Road>, input: Input) {
        self.intake.add(road, input);
    }

    /// Leaves what has been added to the thread: whoever calls this is not to take a step in its place.
    pub(crate) fn wake(&self) {
        self.intake.wake();
    }

    /// There is something to do that is no input.
    pub(crate) fn nudge(&self) {
        self.intake.poke();
        self.intake.wake();
    }

    /// The journal has news.
    pub(crate) fn poke(self: &Arc<Self>) {
        self.intake.poke();
        self.drive();
    }

    /// Sees to it that what has been added is decided: here and now if the thread sleeps and it is little, else by
    /// the thread.
    pub(crate) fn drive(self: &Arc<Self>) {
        if !self.intake.idle() {
            return;
        }
        let Some(mut driven) = self.driven.try_lock() else {
            self.intake.wake();
            return;
        };
        let Some(driven) = driven.as_mut() else {
            return;
        };
        if driven.shard.journal_room() < ROOM_MIN || self.ended.borrow().is_some() {
            self.intake.wake();
            return;
        }
        if self.intake.begin(FEW, &mut driven.inputs) {
            let due = self.step(driven);
            self.intake.end(due);
        }
    }

    /// Drives it until it ends.
    pub(crate) fn run(self: &Arc<Self>) {
        let mut due = Duration::ZERO;
        while self.ended.borrow().is_none() {
            self.intake.wait(due);
            let mut driven = self.driven.lock();
            let Some(driven) = driven.as_mut() else {
                return;
            };
            self.intake.take(INPUTS_MAX, &mut driven.inputs);
            due = self.step(driven);
        }
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.compaction.lock().take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
        // The journal's waker leads back here: this ends the circle, and closes the journal.
        self.driven.lock().take();
    }

    /// One step. Returns how long the next may wait if nothing comes in.
    fn step(self: &Arc<Self>, driven: &mut Driven) -> Duration {
        let Driven {
            shard,
            cold,
            inputs,
        } = driven;
        if self.ended.borrow().is_some() {
            inputs.clear();
            return Duration::ZERO;
        }
        let stop = inputs.iter().any(|input| matches!(input, Input::Stop));
        let began = self.env.clock.monotonic();
        let due_ms = shard.step(now(&self.env), inputs);
        shard.spent(self.env.clock.monotonic().saturating_sub(began));
        for job in shard.take_link_jobs() {
            let back = self.clone();
            cold.submit(Box::new(move |reader| {
                let began = back.env.clock.monotonic();
                let mut pulled = job.run(reader);
                let spent = back.env.clock.monotonic().saturating_sub(began);
                pulled.spent_ns = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
                back.put(NamespaceId(0), Input::Pulled(Box::new(pulled)));
            }));
        }
        for job in shard.take_window_jobs() {
            let back = self.clone();
            cold.submit(Box::new(move |reader| {
                back.put(NamespaceId(0), Input::Windowed(Box::new(job.run(reader))));
            }));
        }
        for mut job in shard.take_exhumations() {
            let back = self.clone();
            cold.submit(Box::new(move |reader| {
                job.message = read_message(&job.record, reader);
                back.put(NamespaceId(0), Input::Exhumed(Box::new(job)));
            }));
        }
        if let Some(job) = shard.take_checkpoint_job() {
            let body = move || {
                give_way();
                job.run(&mut || std::thread::sleep(CHECKPOINT_PAUSE));
            };
            let thread = std::thread::Builder::new().name("checkpoint".to_owned());
            if let Err(error) = thread.spawn(body) {
                tracing::error!(%error, "no thread for a checkpoint");
            }
        }
        if let Some(mut job) = shard.take_compaction_job() {
            let stopping = self.stopping.clone();
            let body = move || {
                give_way();
                // One that is not finished has changed nothing.
                while !stopping.load(Ordering::Relaxed) && job.step(COMPACTION_STEP) {
                    std::thread::sleep(COMPACTION_PAUSE);
                }
            };
            let thread = std::thread::Builder::new().name("compaction".to_owned());
            match thread.spawn(body) {
                Ok(thread) => *self.compaction.lock() = Some(thread),
                Err(error) => tracing::error!(%error, "no thread for a compaction"),
            }
        }
        if let Some(why) = shard.failure() {
            self.ended.send_replace(Some(Err(why.to_owned())));
            return Duration::ZERO;
        }
        if stop {
            self.ended.send_replace(Some(Ok(())));
            return Duration::ZERO;
        }
        Duration::from_millis(due_ms)
    }
}

/// What time it is.
pub(crate) fn now(env: &Env) -> Now {
    Now {
        unix_ms: env.clock.now_ms(),
        monotonic_ms: u64::try_from(env.clock.monotonic().as_millis()).unwrap_or(u64::MAX),
    }
}
