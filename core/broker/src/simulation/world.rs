//! The world of one seed: disk, clock, shard, clients, and the scheduler that lets things happen in a random order.

use crate::api::*;
use crate::link::LinkJob;
use crate::server::{Input, Parcel, read, read_message};
use crate::shard::{Now, Shard};
use crate::simulation::facts::Facts;
use crate::simulation::modes::delivered_entry;
use crate::simulation::peer::{Peer, Role};
use crate::simulation::view::{View, difference, view};
use crate::state::State;
use omnilog_ledger::sim::{SimClock, SimFiles};
use omnilog_ledger::{
    Env, FakeJournal, Journal, JournalOptions, LocalJournal, Lsn, Preparer, SectionReader, ShardId,
    Syncer,
};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The views as of frames that are not durable yet, and of the newest that is.
type Views = Arc<Mutex<BTreeMap<Lsn, View>>>;

/// A world.
pub(super) struct World {
    pub(super) random: ChaCha8Rng,
    files: SimFiles,
    env: Env,
    clock: Arc<SimClock>,
    options: JournalOptions,
    config: Arc<BrokerConfig>,
    views: Views,
    synced: Lsn,
    clean: bool,
    pub(super) facts: Facts,
    /// The followed log is kept for ever; else its links may meet gaps.
    pub(super) keeps_log: bool,
    pub(super) peers: Vec<Peer>,
    next_client: u64,
    life: Option<Life>,
    /// The disk fills now and then.
    pub(super) tight: bool,
}

/// From a start to the stop or crash after it.
struct Life {
    shard: Shard,
    /// `None`: the journal syncs by itself.
    syncer: Option<Syncer>,
    preparer: Option<Preparer>,
    reader: Arc<dyn SectionReader>,
    inputs: VecDeque<Input>,
    link_jobs: Vec<LinkJob>,
    window_jobs: Vec<crate::shard::WindowJob>,
    checkpoint: Option<crate::shard::CheckpointJob>,
    compaction: Option<Box<crate::shard::CompactionJob>>,
}

/// Whatever is held has its record.
fn check_records(state: &State, reader: &dyn SectionReader) {
    let there = |what: &str, sequence: u64| {
        let sequence = state
            .original(sequence)
            .map_or(sequence, |(original, _)| original);
        let section = reader
            .by_sequence(ShardId(0), sequence)
            .expect("files that can be read");
        assert!(
            section.is_some(),
            "{what} holds {sequence}, and its record is gone"
        );
    };
    for queue in state.queues.values().filter(|queue| queue.durable()) {
        let name = String::from_utf8_lossy(&queue.declared.name);
        for (first, last) in queue.held().iter_runs() {
            for sequence in first..=last {
                there(&name, sequence);
            }
        }
    }
    for names in &state.namespaces {
        for (topic, sequence) in names.retained.all() {
            there(&String::from_utf8_lossy(&topic), sequence);
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let files = SimFiles::new(seed, u64::MAX);
        let (env, clock) = files.env(seed);
        let mut options = JournalOptions {
            file_bytes: [32 << 10, 48 << 10, 128 << 10][random.random_range(0..3)],
            low_bytes: 0,
            reserve_bytes: 0,
            bytes_max: 0,
        };
        let tight = random.random_bool(0.3);
        if tight {
            options.file_bytes = 32 << 10;
            options.low_bytes = [0, 100 << 10][random.random_range(0..2)];
            options.reserve_bytes = options.file_bytes * [0, 0, 2, 3][random.random_range(0..4)];
        }
        let config = BrokerConfig {
            tail_bytes_max: [1 << 10, 16 << 10, 1 << 20][random.random_range(0..3)],
            mailbox_bytes_max: [1 << 10, 1 << 20][random.random_range(0..2)],
            checkpoint_bytes: [8 << 10, 64 << 10][random.random_range(0..2)],
            checkpoint_ms: 5000,
            retention_bytes_default: 4000,
            retention_ms_default: [7 * 24 * 60 * 60 * 1000, 20_000][random.random_range(0..2)],
            unclustered_files_max: [1, 4, 32][random.random_range(0..3)],
            window_bytes_default: [2000, 20_000][random.random_range(0..2)],
            shared_by_key: random.random_bool(0.5),
            ..BrokerConfig::default()
        };
        let keeps_log = random.random_bool(0.3);
        Self {
            random,
            files,
            env,
            clock,
            options,
            config: Arc::new(config),
            views: Views::default(),
            synced: 0,
            clean: false,
            facts: Facts::default(),
            keeps_log,
            peers: Vec::new(),
            next_client: 1,
            life: None,
            tight,
        }
    }

    /// Several lives, then everything is read and drained.
    pub(super) fn run(mut self) {
        self.start();
        self.set_up();
        let lives = self.random.random_range(1..5);
        for _ in 0..lives {
            let steps = self.random.random_range(10..1500);
            for _ in 0..steps {
                self.something();
            }
            self.end_life();
            self.start();
        }
        self.finish();
    }

    /// One life over a journal that is slow, completes out of order and loses replies.
    pub(super) fn run_slow(mut self) {
        let dir = Path::new("/empty");
        let opened = LocalJournal::open(&self.env, dir, self.options.clone(), Arc::new(|| {}));
        let (_, empty) = opened.expect("a journal that opens");
        let journal = FakeJournal::new(&self.env, Duration::from_millis(250)).expect("a journal");
        let reader = journal.reader();
        let random = self.env.random.clone();
        let (shard, _) = Shard::open(
            ShardId(0),
            self.config.clone(),
            Box::new(journal),
            &empty,
            Box::new(move || random.next_u64()),
            self.now(),
        )
        .expect("a shard that opens");
        self.life = Some(Life {
            shard,
            syncer: None,
            preparer: None,
            reader,
            inputs: VecDeque::new(),
            link_jobs: Vec::new(),
            window_jobs: Vec::new(),
            checkpoint: None,
            compaction: None,
        });
        self.set_up();
        for _ in 0..self.random.random_range(10..1000) {
            self.something();
        }
        for at in 0..self.peers.len() {
            self.leave(at);
        }
        self.finish();
    }

    /// The shard, while it lives.
    pub(super) fn shard(&self) -> Option<&Shard> {
        self.life.as_ref().map(|life| &life.shard)
    }

    pub(super) fn chance(&mut self, of_100: u32) -> bool {
        self.random.random_range(0..100) < of_100
    }

    pub(super) fn unix_ms(&self) -> i64 {
        self.env.clock.now_ms()
    }

    fn now(&self) -> Now {
        Now {
            unix_ms: self.env.clock.now_ms(),
            monotonic_ms: u64::try_from(self.env.clock.monotonic().as_millis()).unwrap(),
        }
    }

    /// Opens the journal, compares what is replayed with what was, and starts the shard.
    fn start(&mut self) {
        let dir = Path::new("/broker");
        let open = || LocalJournal::open(&self.env, dir, self.options.clone(), Arc::new(|| {}));
        let mut opened = open();
        let again = opened.is_err() && self.tight;
        if again {
            // Without space for a file there is no start, and nothing is lost by trying.
            self.files.set_capacity(u64::MAX);
            opened = open();
            // The start that failed has sealed the last file.
            self.clean = false;
        }
        let (mut journal, recovery) = opened.expect("a journal that opens");
        let last = recovery.last_lsn();
        assert!(
            last >= self.synced,
            "frames up to {} were durable and {last} is the last",
            self.synced
        );
        // A start that failed for want of space may have closed the file that said so.
        assert!(
            recovery.clean() == (self.clean && last > 0) || again && !recovery.clean(),
            "a clean stop is known as one"
        );
        let names = &self.config.namespaces;
        let replay = || {
            let (state, _) =
                State::recover(names, &journal, &recovery, ShardId(0)).expect("a state");
            view(&state)
        };
        let replayed = replay();
        assert_eq!(replayed, replay(), "replaying twice differs");
        let (state, _) = State::recover(names, &journal, &recovery, ShardId(0)).expect("a state");
        check_records(&state, &*journal.reader());
        if last > 0 {
            let views = self.views.lock();
            let live = views.get(&last).expect("a view of the last frame");
            assert!(
                *live == replayed,
                "the replayed state differs from the live one as of frame {last}:{}",
                difference(live, &replayed)
            );
        }
        let syncer = journal.syncer();
        let preparer = self.chance(50).then(|| journal.preparer());
        let reader = journal.reader();
        let random = self.env.random.clone();
        let (mut shard, _) = Shard::open(
            ShardId(0),
            self.config.clone(),
            Box::new(journal),
            &recovery,
            Box::new(move || random.next_u64()),
            self.now(),
        )
        .expect("a shard that opens");
        drop(recovery);
        self.views.lock().insert(shard.head, view(&shard.state));
        let views = self.views.clone();
        shard.witness = Some(Box::new(move |lsn, state| {
            views.lock().insert(lsn, view(state));
        }));
        self.life = Some(Life {
            shard,
            syncer: Some(syncer),
            preparer,
            reader,
            inputs: VecDeque::new(),
            link_jobs: Vec::new(),
            window_jobs: Vec::new(),
            checkpoint: None,
            compaction: None,
        });
        self.clean = false;
        for at in 0..self.peers.len() {
            self.join(at);
        }
    }

    /// A peer's connection is made (again).
    pub(super) fn join(&mut self, at: usize) {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        self.peers[at].joined(client);
        let mailbox = self.peers[at].mailbox.clone();
        self.input(Input::Connect {
            client,
            namespace: NamespaceId(0),
            info: ClientInfo {
                principal: Name::from_static(b"tester"),
                protocol: "test".to_owned(),
                peer: "here".to_owned(),
            },
            mailbox,
        });
        self.greet(at);
    }

    /// A peer's connection is lost.
    pub(super) fn leave(&mut self, at: usize) {
        self.input(Input::Disconnect(self.peers[at].client));
    }

    pub(super) fn input(&mut self, input: Input) {
        if let Some(life) = &mut self.life {
            life.inputs.push_back(input);
        }
    }

    /// The power fails, the process is killed, or it stops.
    fn end_life(&mut self) {
        let dice = self.random.random_range(0..10);
        if dice < 2 {
            let count = self.life.as_ref().map_or(0, |life| life.inputs.len());
            self.step(count);
            self.input(Input::Stop);
            self.step(1);
            // Without space even a stop can't be noted.
            self.clean = self
                .life
                .as_ref()
                .is_some_and(|life| !life.shard.holds_frames());
        }
        self.life = None;
        if dice < 4 {
            self.files.kill_process();
        } else {
            self.files.lose_power();
        }
        self.clock
            .advance(Duration::from_millis(self.random.random_range(0..20_000)));
    }

    /// Something happens.
    fn something(&mut self) {
        if self.tight {
            match self.random.random_range(0..800) {
                0..4 => {
                    let left = [0, 4 << 10, 40 << 10, 200 << 10];
                    self.files
                        .leave_free(left[self.random.random_range(0..left.len())]);
                }
                4 => self.files.set_capacity(u64::MAX),
                _ => {}
            }
        }
        match self.random.random_range(0..100) {
            0..30 => {
                let at = self.random.random_range(0..self.peers.len());
                self.act(at);
            }
            30..60 => {
                let count = if self.chance(80) { 2 } else { 10 };
                self.step(count);
            }
            60..75 => self.sync(),
            75..85 => {
                let at = self.random.random_range(0..self.peers.len());
                self.listen(at);
            }
            85..90 => self.work(),
            90..92 => {
                let at = self.random.random_range(0..self.peers.len());
                self.leave(at);
                self.join(at);
            }
            92..99 => {
                let ms = self.random.random_range(0..1000);
                self.clock.advance(Duration::from_millis(ms));
            }
            _ => {
                let ms = self.random.random_range(0..10_000);
                self.clock.advance(Duration::from_millis(ms));
            }
        }
    }

    fn sync(&mut self) {
        if let Some(syncer) = self.life.as_ref().and_then(|life| life.syncer.as_ref()) {
            syncer.step();
            self.synced = syncer.synced();
        }
    }

    /// Work that a server does on threads of their own.
    fn work(&mut self) {
        let Some(life) = &mut self.life else { return };
        if !life.link_jobs.is_empty() {
            let job = life.link_jobs.remove(0);
            let pulled = job.run(&*life.reader);
            life.inputs.push_back(Input::Pulled(Box::new(pulled)));
        }
        if let Some(job) = life.window_jobs.pop() {
            let seen = job.run(&*life.reader);
            life.inputs.push_back(Input::Windowed(Box::new(seen)));
        }
        if let Some(job) = life.checkpoint.take() {
            job.run(&mut || {});
        }
        if let Some(job) = &mut life.compaction
            && !job.step([512, 8 << 10, 1 << 20][self.random.random_range(0..3)])
        {
            life.compaction = None;
        }
        if let Some(preparer) = &mut life.preparer {
            let prepared = preparer.step();
            assert!(
                prepared.is_ok() || self.tight,
                "the next file can't be prepared: {prepared:?}"
            );
        }
    }

    /// The sequencer takes a step over some of the inputs.
    fn step(&mut self, count: usize) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        let count = count.min(life.inputs.len());
        let mut inputs: Vec<Input> = life.inputs.drain(..count).collect();
        let before = life.shard.head;
        for input in &inputs {
            if let Input::Command {
                client,
                correlation,
                ..
            } = input
                && let Some(peer) = self.peers.iter_mut().find(|peer| peer.client == *client)
                && let Some(asked) = peer.pending.get_mut(correlation)
            {
                asked.decided_after = before;
            }
        }
        life.shard.step(now, &mut inputs);
        life.link_jobs.extend(life.shard.take_link_jobs());
        life.window_jobs.extend(life.shard.take_window_jobs());
        for mut job in life.shard.take_exhumations() {
            job.message = read_message(&job.record, &*life.reader);
            life.inputs.push_back(Input::Exhumed(Box::new(job)));
        }
        if let Some(job) = life.shard.take_checkpoint_job() {
            life.checkpoint = Some(job);
        }
        if let Some(job) = life.shard.take_compaction_job() {
            life.compaction = Some(job);
        }
        assert_eq!(life.shard.failure(), None);
        self.synced = life.syncer.as_ref().map_or(Lsn::MAX, Syncer::synced);
        let synced = self.synced;
        self.views.lock().retain(|lsn, _| *lsn >= synced);
        let mut keyed = Vec::new();
        for peer in &mut self.peers {
            let mut parcels = Vec::new();
            if peer.mailbox.try_take(&mut parcels) {
                keyed.extend(parcels.iter().filter_map(delivered_entry));
                for parcel in &parcels {
                    peer.check_not_early(parcel, synced);
                }
                peer.inbox.extend(parcels);
            }
        }
        self.check_modes(keyed);
    }

    /// A peer reads what has come.
    fn listen(&mut self, at: usize) {
        let parcels: Vec<Parcel> = self.peers[at].inbox.drain(..).collect();
        for parcel in parcels {
            let Some(life) = &self.life else { return };
            let event = read(parcel, &*life.reader);
            self.hear(at, event);
        }
        let peer = &self.peers[at];
        if peer.mailbox.drained() {
            let client = peer.client;
            self.input(Input::Drained(client));
        }
    }

    /// Everything that can happen without a client's doing happens.
    pub(super) fn calm(&mut self) {
        let mut quiet = 0;
        while quiet < 15 {
            let before = (
                self.facts.deliveries,
                self.life.as_ref().map(|life| life.shard.head),
            );
            let waiting = self.life.as_ref().map_or(0, |life| life.inputs.len());
            self.step(waiting);
            self.sync();
            self.work();
            self.clock.advance(Duration::from_millis(100));
            self.step(0);
            for at in 0..self.peers.len() {
                self.listen(at);
            }
            let life = self.life.as_ref();
            let idle = life.is_some_and(|life| life.inputs.is_empty() && life.link_jobs.is_empty());
            let after = (self.facts.deliveries, life.map(|life| life.shard.head));
            quiet = if idle && before == after {
                quiet + 1
            } else {
                0
            };
        }
    }

    fn set_up(&mut self) {
        let roles = [
            Role::Kafka,
            Role::Kafka,
            Role::Amqp,
            Role::Amqp,
            Role::Amqp,
            Role::Mqtt(0),
            Role::Mqtt(1),
            Role::Mqtt(2),
            Role::Mqtt(1),
        ];
        for role in roles {
            self.peers.push(Peer::new(role));
            let at = self.peers.len() - 1;
            self.join(at);
        }
        self.set_up_topics(0);
        self.set_up_queues(2);
        self.calm();
        self.set_up_session(5);
        self.calm();
    }

    /// Reads every log and drains every queue, and checks that nothing is missing.
    fn finish(&mut self) {
        // Sessions let go of what they hold by the restart; the other clients go.
        self.files.set_capacity(u64::MAX);
        self.peers.truncate(0);
        for role in [Role::Kafka, Role::Amqp, Role::Mqtt(0)] {
            self.peers.push(Peer::new(role));
            self.peers.last_mut().unwrap().draining = true;
            let at = self.peers.len() - 1;
            self.join(at);
        }
        self.calm();
        self.read_all(0);
        self.drain_queues(1);
        self.calm();
        let life = self.life.as_ref().unwrap();
        assert!(
            life.shard.may_publish().is_ok(),
            "there is space, and publishers wait"
        );
        self.check_retained();
        self.facts.check_logs();
        if std::env::var_os("OMNILOG_SIM_TELL").is_some() {
            let life = self.life.as_ref().unwrap();
            for queue in life.shard.state.queues.values() {
                eprintln!(
                    "{:?} {} ready {:?} leases {:?} acked {:?} consumers {:?}",
                    queue.declared.name,
                    queue.id,
                    queue.ready.iter_runs().collect::<Vec<_>>(),
                    queue.leases,
                    queue.acked.iter_runs().collect::<Vec<_>>(),
                    queue.consumers
                );
            }
            eprintln!("{:?}", life.shard);
        }
        self.facts.check_queues();
        if std::env::var_os("OMNILOG_SIM_TELL").is_some() {
            eprintln!(
                "{} acknowledged, {} delivered, frame {}, files {:?}, clustered {:?}, checkpoints {:?}",
                self.facts.acknowledged,
                self.facts.deliveries,
                self.synced,
                self.env.files.list(Path::new("/broker/journal")),
                self.env.files.list(Path::new("/broker/clusters")),
                self.env.files.list(Path::new("/broker/checkpoints")),
            );
        }
    }

    /// Where a log that may be gone begins by now.
    pub(super) fn present_start(&self, topic: &Name, partition: i32) -> i64 {
        let state = &self.life.as_ref().unwrap().shard.state;
        let found = state.topic(NamespaceId(0), &TopicRef::Name(topic.clone()));
        let key = found.and_then(|topic| topic.partitions.get(usize::try_from(partition).ok()?));
        let partition = key.and_then(|key| state.partitions.get(key));
        partition.map_or(i64::MAX, |partition| partition.log_start)
    }

    /// Where a log begins.
    pub(super) fn log_start(&self, topic: &'static str, partition: usize) -> i64 {
        let state = &self.life.as_ref().unwrap().shard.state;
        let name = Name::from_static(topic.as_bytes());
        let topic = state.topic(NamespaceId(0), &TopicRef::Name(name)).unwrap();
        state.partitions[&topic.partitions[partition]].log_start
    }

    /// The retained messages are those asked for last, or asked for after the last acknowledged.
    fn check_retained(&mut self) {
        let Some(life) = &self.life else { return };
        let names = life.shard.state.namespace(NamespaceId(0)).unwrap();
        let there: BTreeMap<Name, u64> = names.retained.all().into_iter().collect();
        for (topic, (asked, acknowledged)) in &self.facts.retained {
            let found = there.get(topic).map(|sequence| {
                let section = life.reader.by_sequence(ShardId(0), *sequence).unwrap();
                let section = section.expect("a retained message has its record");
                crate::simulation::messages::fetched(&section.batch)[0].1
            });
            let from = acknowledged.map_or(0, |at| at);
            let allowed =
                (acknowledged.is_none() && found.is_none()) || asked[from..].contains(&found);
            assert!(
                allowed,
                "retained {topic:?} is {found:?}, asked for {asked:?}, acknowledged {acknowledged:?}"
            );
        }
    }
}
