//! Starting and stopping a broker: its journal, its threads.

use crate::api::{BrokerConfig, NamespaceId};
use crate::server::background::give_way;
use crate::server::budget::TotalBudget;
use crate::server::catch_up::CatchUp;
use crate::server::client::Shared;
use crate::server::sequencer::{Ended, Sequencer, now};
use crate::server::{Broker, ColdReads, Input};
use crate::shard::Shard;
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

/// Threads that read cold records.
const READERS: usize = 2;
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
    sequencer: Arc<Sequencer>,
    cold: ColdReads,
    /// Ends with this.
    _catch_up: CatchUp,
    threads: Vec<JoinHandle<()>>,
    stopped: watch::Receiver<Ended>,
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
        let sequencer = Arc::new(Sequencer::new(env.clone()));
        let poked = sequencer.clone();
        let waker = Arc::new(move || poked.poke());
        let (mut journal, recovery) = LocalJournal::open(env, dir, journal, waker)?;
        let syncer = journal.syncer();
        let preparer = journal.preparer();
        let config = Arc::new(config);
        let commands_bytes_max = config.commands_bytes_max;
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
        let catch_up = CatchUp::start(config.connection_threads)?;
        let shared = Shared {
            namespaces: config.namespaces.clone(),
            sequencer: sequencer.clone(),
            cold: cold.clone(),
            clients: AtomicU64::new(0),
            leader_epoch,
            commands: TotalBudget::new(commands_bytes_max),
            compacted: shard.compacted(),
            taken: shard.taken(),
            catch_up: catch_up.handle(),
        };
        let broker = Self::new(Arc::new(shared));
        sequencer.open(shard, cold.clone());
        let mut running = Running {
            broker,
            stopped: sequencer.ended(),
            sequencer,
            cold,
            _catch_up: catch_up,
            threads: Vec::new(),
            frames_replayed: opened.frames,
            clean: opened.clean,
            stopping: Arc::default(),
        };
        running.spawn_all(syncer, preparer)?;
        Ok(running)
    }
}

impl Running {
    fn spawn_all(&mut self, syncer: Syncer, mut preparer: Preparer) -> std::io::Result<()> {
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
                preparer.attend();
                while !stopping.load(Ordering::Relaxed) {
                    match preparer.step() {
                        Ok(true) if preparer.hurries() => {}
                        Ok(true) => std::thread::sleep(PREPARE_PAUSE),
                        // Ready, or there is no space: the space marks speak of that.
                        Ok(false) | Err(_) => std::thread::park_timeout(PREPARE_LOOK),
                    }
                }
            }),
        )?;
        for _ in 0..READERS {
            let cold = self.cold.clone();
            spawn(
                "cold-read",
                Box::new(move || {
                    give_way();
                    cold.run();
                }),
            )?;
        }
        let sequencer = self.sequencer.clone();
        spawn("sequencer", Box::new(move || sequencer.run()))
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
        self.sequencer.put(NamespaceId(0), Input::Stop);
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
