//! Starting and stopping a broker: its journal, its threads.

use crate::api::{BrokerConfig, NamespaceId};
use crate::server::client::Shared;
use crate::server::{Broker, ColdReads, Input, Intake};
use crate::shard::{Now, Shard};
use omnilog_ledger::{
    Env, Journal, JournalOptions, LocalJournal, Preparer, RecoveryError, ShardId, Syncer,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Inputs taken in one step.
const INPUTS_MAX: usize = 4096;
/// Threads that read cold records.
const READERS: usize = 2;
/// A checkpoint's writer rests this long between its steps, so that the journal's syncs need not wait.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(250);

/// The journal's next file is filled in pieces, this far apart.
const PREPARE_PAUSE: Duration = Duration::from_millis(10);
/// How often it is looked at whether a file must be prepared.
const PREPARE_LOOK: Duration = Duration::from_millis(200);

/// Why a broker can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The journal can't be opened.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A file operation failed, or a checkpoint or frame can't be read.
    #[error("the state can't be rebuilt: {0}")]
    Io(#[from] std::io::Error),
}

/// A running broker.
#[derive(Debug)]
pub struct Running {
    broker: Broker,
    intake: Arc<Intake>,
    cold: ColdReads,
    threads: Vec<JoinHandle<()>>,
    stopped: watch::Receiver<Option<Result<(), String>>>,
    frames_replayed: u64,
    clean: bool,
    stopping: Arc<AtomicBool>,
}

impl Broker {
    /// Opens the journal in a directory, rebuilds the state and starts the threads. Blocks until it is ready.
    pub fn start(
        env: &Env,
        dir: &Path,
        journal: JournalOptions,
        config: BrokerConfig,
    ) -> Result<Running, StartError> {
        let intake = Arc::new(Intake::default());
        let poked = intake.clone();
        let waker = Arc::new(move || poked.poke());
        let (mut journal, recovery) = LocalJournal::open(env, dir, journal, waker)?;
        let syncer = journal.syncer();
        let preparer = journal.preparer();
        let config = Arc::new(config);
        let leader_epoch = i32::try_from(journal.epoch()).unwrap_or(i32::MAX);
        let cold = ColdReads::new(journal.reader());
        let random = env.random.clone();
        let (shard, opened) = Shard::open(
            ShardId(0),
            config.clone(),
            Box::new(journal),
            &recovery,
            Box::new(move || random.next_u64()),
            now(env),
        )?;
        drop(recovery);
        let shared = Shared {
            namespaces: config.namespaces.clone(),
            intake: intake.clone(),
            cold: cold.clone(),
            clients: AtomicU64::new(0),
            leader_epoch,
        };
        let broker = Self::new(Arc::new(shared));
        let (tell, stopped) = watch::channel(None);
        let mut running = Running {
            broker,
            intake: intake.clone(),
            cold: cold.clone(),
            threads: Vec::new(),
            stopped,
            frames_replayed: opened.frames,
            clean: opened.clean,
            stopping: Arc::default(),
        };
        running.spawn_all(shard, env.clone(), syncer, preparer, tell)?;
        Ok(running)
    }
}

impl Running {
    fn spawn_all(
        &mut self,
        shard: Shard,
        env: Env,
        syncer: Syncer,
        mut preparer: Preparer,
        tell: watch::Sender<Option<Result<(), String>>>,
    ) -> std::io::Result<()> {
        let mut spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body);
            thread.map(|thread| self.threads.push(thread))
        };
        spawn("journal-sync", Box::new(move || syncer.run()))?;
        let stopping = self.stopping.clone();
        spawn(
            "journal-prepare",
            Box::new(move || {
                while !stopping.load(Ordering::Relaxed) {
                    match preparer.step() {
                        Ok(true) => std::thread::sleep(PREPARE_PAUSE),
                        // Ready, or there is no space: the space marks speak of that.
                        Ok(false) | Err(_) => std::thread::park_timeout(PREPARE_LOOK),
                    }
                }
            }),
        )?;
        for _ in 0..READERS {
            let cold = self.cold.clone();
            spawn("cold-read", Box::new(move || cold.run()))?;
        }
        let (intake, cold) = (self.intake.clone(), self.cold.clone());
        spawn(
            "sequencer",
            Box::new(move || sequence(shard, &env, &intake, &cold, &tell)),
        )
    }

    /// The broker's handle for protocols.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Frames replayed at the start, and whether the stop before it was a clean one.
    pub fn replayed(&self) -> (u64, bool) {
        (self.frames_replayed, self.clean)
    }

    /// Resolves when the sequencer has stopped: `Err` says why it could not go on.
    pub fn stopped(&self) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            match stopped.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
                Err(_) => Err("the sequencer's thread ended".to_owned()),
            }
        }
    }

    /// Stops cleanly: everything decided is on stable storage when it returns. Blocks.
    pub fn stop(mut self) -> Result<(), String> {
        self.intake.put(NamespaceId(0), Input::Stop);
        let threads = std::mem::take(&mut self.threads);
        let mut threads = threads.into_iter().rev();
        // The sequencer is the last that was started.
        if let Some(sequencer) = threads.next()
            && sequencer.join().is_err()
        {
            return Err("the sequencer's thread panicked".to_owned());
        }
        self.cold.stop();
        self.stopping.store(true, Ordering::Relaxed);
        let outcome = self.stopped.borrow().clone();
        for thread in threads {
            thread.thread().unpark();
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        outcome.unwrap_or(Ok(()))
    }
}

fn now(env: &Env) -> Now {
    Now {
        unix_ms: env.clock.now_ms(),
        monotonic_ms: u64::try_from(env.clock.monotonic().as_millis()).unwrap_or(u64::MAX),
    }
}

/// The sequencer's thread.
fn sequence(
    mut shard: Shard,
    env: &Env,
    intake: &Arc<Intake>,
    cold: &ColdReads,
    tell: &watch::Sender<Option<Result<(), String>>>,
) {
    let mut inputs = Vec::new();
    let mut wait_ms = 0;
    loop {
        intake.wait(Duration::from_millis(wait_ms), INPUTS_MAX, &mut inputs);
        let stop = inputs.iter().any(|input| matches!(input, Input::Stop));
        let began = env.clock.monotonic();
        wait_ms = shard.step(now(env), &mut inputs);
        shard.spent(env.clock.monotonic().saturating_sub(began));
        for job in shard.take_link_jobs() {
            let back = intake.clone();
            cold.submit(Box::new(move |reader| {
                back.put(NamespaceId(0), Input::Pulled(Box::new(job.run(reader))));
            }));
        }
        if let Some(job) = shard.take_checkpoint_job() {
            let body = move || job.run(&mut || std::thread::sleep(CHECKPOINT_PAUSE));
            if let Err(error) = std::thread::Builder::new()
                .name("checkpoint".to_owned())
                .spawn(body)
            {
                tracing::error!(%error, "no thread for a checkpoint");
            }
        }
        if let Some(why) = shard.failure() {
            tell.send_replace(Some(Err(why.to_owned())));
            return;
        }
        if stop {
            tell.send_replace(Some(Ok(())));
            return;
        }
    }
}
