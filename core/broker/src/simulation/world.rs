//! The world of one seed: disk, clock, shard, clients, and the scheduler that lets things happen in a random order.

use crate::api::*;
use crate::server::{Input, Parcel, read};
use crate::shard::{Now, Shard};
use crate::simulation::facts::Facts;
use crate::simulation::life::{Life, Witnessed};
use crate::simulation::narrow::Theme;
use crate::simulation::peer::{Peer, Role};
use crate::simulation::placed;
use omnilog_ledger::sim::{SimClock, SimFiles};
use omnilog_ledger::{Env, FakeJournal, Journal, JournalOptions, LocalJournal, Lsn, ShardId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A world.
pub(super) struct World {
    pub(super) random: ChaCha8Rng,
    pub(super) files: SimFiles,
    pub(super) env: Env,
    pub(super) clock: Arc<SimClock>,
    pub(super) options: JournalOptions,
    pub(super) config: Arc<BrokerConfig>,
    pub(super) witnessed: Witnessed,
    /// Frames up to here may have been acknowledged.
    pub(super) safe: Lsn,
    pub(super) clean: bool,
    /// The checkpoint that was damaged last.
    pub(super) damaged: PathBuf,
    /// The disk has begun to fail in this life.
    pub(super) harmed: bool,
    pub(super) facts: Facts,
    /// The followed log is kept for ever; else its links may meet gaps.
    pub(super) keeps_log: bool,
    /// The compacted log has a raw view without end; else one with a window, or none, now and then.
    pub(super) keeps_raw: bool,
    pub(super) peers: Vec<Peer>,
    next_client: u64,
    pub(super) life: Option<Life>,
    /// The disk fills now and then.
    pub(super) tight: bool,
    /// Links are seldom read for.
    lazy_links: bool,
    /// The clock is set between lives, forth and back, and by how much it went back.
    pub(super) jumps: bool,
    pub(super) back_ms: u64,
    /// What is written in this life is long on its way to the disk.
    lazy_syncs: bool,
    /// The power fails now, before anything more is synced.
    pub(super) struck: bool,
    /// What this life is about, if about one thing.
    pub(super) theme: Option<Theme>,
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
            checkpoint_page_bytes: [64, 1 << 10, 256 << 10][random.random_range(0..3)],
        };
        let tight = random.random_bool(0.3);
        if tight {
            options.file_bytes = 32 << 10;
            options.low_bytes = [0, 100 << 10][random.random_range(0..2)];
            options.reserve_bytes = options.file_bytes * [0, 0, 2, 3][random.random_range(0..4)];
        }
        let mut config = BrokerConfig {
            tail_bytes_max: [1 << 10, 16 << 10, 1 << 20][random.random_range(0..3)],
            mailbox_bytes_max: [1 << 10, 1 << 20][random.random_range(0..2)],
            checkpoint_bytes: [8 << 10, 64 << 10][random.random_range(0..2)],
            checkpoint_ms: 5000,
            retention_bytes_default: 4000,
            retention_ms_default: [7 * 24 * 60 * 60 * 1000, 20_000][random.random_range(0..2)],
            unclustered_files_max: [1, 4, 32][random.random_range(0..3)],
            window_bytes_default: [2000, 20_000][random.random_range(0..2)],
            hold_links: if random.random_bool(0.5) {
                vec![Name::from_static(b"*")]
            } else {
                Vec::new()
            },
            shared_by_key: random.random_bool(0.5),
            delayed_messages_max: [6, 5_000_000][random.random_range(0..2)],
            transactional_id_expiration_ms: [60_000, 1 << 40][random.random_range(0..2)],
            durability: if random.random_bool(0.2) {
                Durability::Written
            } else {
                Durability::Synced
            },
            ..BrokerConfig::default()
        };
        let keeps_log = random.random_bool(0.3);
        let keeps_raw = random.random_bool(0.5);
        let lazy_links = random.random_bool(0.3);
        let jumps = random.random_bool(0.3);
        if random.random_bool(0.5) {
            placed::map(&mut config);
        }
        Self {
            random,
            files,
            env,
            clock,
            options,
            config: Arc::new(config),
            witnessed: Witnessed::default(),
            safe: 0,
            clean: false,
            damaged: PathBuf::new(),
            harmed: false,
            facts: Facts::default(),
            keeps_log,
            keeps_raw,
            peers: Vec::new(),
            next_client: 1,
            life: None,
            tight,
            lazy_links,
            jumps,
            back_ms: 0,
            lazy_syncs: false,
            struck: false,
            theme: None,
        }
    }

    /// Runs a seed twice: what is replayed at each start is compared with what was live as of the same frame, and which
    /// frame that is, the first run tells. Looking at every frame would cost more than all the rest.
    pub(super) fn run_seed(seed: u64) {
        let first = Self::new(seed).run(Vec::new());
        let second = Self::new(seed).run(first.clone());
        assert_eq!(first, second, "the same seed went another way");
    }

    /// Several lives, then everything is read and drained. Returns the frame that each start found last.
    fn run(mut self, wanted: Vec<Lsn>) -> Vec<Lsn> {
        self.witnessed.wanted = wanted;
        self.start();
        self.set_up();
        let lives = self.random.random_range(1..5);
        for _ in 0..lives {
            self.choose_theme();
            self.struck = false;
            self.lazy_syncs = self.chance(25);
            let steps = self.random.random_range(10..1500);
            for _ in 0..steps {
                self.something();
                if self.failed() || self.struck {
                    break;
                }
            }
            self.end_life();
            self.start();
        }
        self.finish();
        if self.config.durability == Durability::Written {
            // What was only written may be lost with the power, but what is left is what once was.
            self.life = None;
            self.files.lose_power();
            self.safe = 0;
            self.start();
        }
        self.witnessed.found
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
            reads: Vec::new(),
            checkpoint: None,
            compaction: None,
        });
        self.set_up();
        for _ in 0..self.random.random_range(10..1000) {
            self.something();
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

    pub(super) fn now(&self) -> Now {
        Now {
            unix_ms: self.env.clock.now_ms(),
            monotonic_ms: u64::try_from(self.env.clock.monotonic().as_millis()).unwrap(),
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
        if self.chance(1) {
            self.check_read_tables();
        }
        match self.random.random_range(0..100) {
            0..30 => match self.theme {
                Some(theme) => self.act_on(theme),
                None => {
                    let at = self.random.random_range(0..self.peers.len());
                    self.act(at);
                }
            },
            30..60 => {
                let count = if self.chance(80) { 2 } else { 10 };
                self.step(count);
            }
            60..75 if self.lazy_syncs && !self.chance(10) => {}
            60..75 => self.sync(),
            75..85 => {
                let at = self.random.random_range(0..self.peers.len());
                self.listen(at);
            }
            85..90 => {
                let links = !self.lazy_links || self.chance(5);
                self.work(links);
            }
            90..92 => {
                let at = self.random.random_range(0..self.peers.len());
                self.leave(at);
                if self.peers[at].role == Role::Mqtt(1) && self.chance(50) {
                    // It comes back when it next wants to do something: until then its session may end.
                    let client = self.peers[at].client;
                    self.peers[at].joined(client);
                } else {
                    self.join(at);
                }
                if self.chance(1) {
                    self.harm();
                }
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
        let mut rounds = 0;
        while quiet < 15 {
            rounds += 1;
            assert!(rounds < 5000, "it never comes to rest");
            let before = (
                self.facts.deliveries,
                self.life.as_ref().map(|life| life.shard.head),
            );
            let waiting = self.life.as_ref().map_or(0, |life| life.inputs.len());
            self.step(waiting);
            self.sync();
            self.work(true);
            self.clock.advance(Duration::from_millis(100));
            self.step(0);
            for at in 0..self.peers.len() {
                self.listen(at);
            }
            let life = self.life.as_ref();
            let idle = life.is_some_and(|life| {
                life.inputs.is_empty() && life.link_jobs.is_empty() && life.reads.is_empty()
            });
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
            Role::Transactor,
            Role::Transactor,
        ];
        for role in roles {
            self.peers.push(Peer::new(role));
            let at = self.peers.len() - 1;
            self.join(at);
        }
        self.set_up_topics(0);
        self.set_up_tables(0);
        self.set_up_queues(2);
        self.set_up_ends(2);
        self.set_up_delays(3);
        self.set_up_links(3);
        self.calm();
        self.set_up_session(5);
        self.calm();
    }
}
