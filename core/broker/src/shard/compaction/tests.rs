//! A shard over a simulated disk: what compaction gives back, and what it must leave.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use crate::api::*;
use crate::server::{Input, Mailbox, read, read_message};
use crate::shard::{Now, Shard};
use bytes::Bytes;
use omnilog_ledger::sim::{SimClock, SimFiles};
use omnilog_ledger::{Env, Journal, JournalOptions, LocalJournal, SectionReader, ShardId, Syncer};
use omnilog_record::{
    BatchBuilder, BatchOptions, Compression, Header, NewRecord, Pieces, RecordBatch,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod delayed;
mod raw;
mod space;
mod tables;
mod transactions;

const FILE: u64 = 64 << 10;

/// A shard, one client, and all that runs beside it.
struct Bench {
    files: SimFiles,
    env: Env,
    clock: Arc<SimClock>,
    shard: Shard,
    syncer: Syncer,
    reader: Arc<dyn SectionReader>,
    mailbox: Arc<Mailbox>,
    heard: Vec<Event>,
    next: u64,
}

fn open(env: &Env) -> (Shard, Syncer, Arc<dyn SectionReader>) {
    let options = JournalOptions {
        file_bytes: FILE,
        low_bytes: 0,
        reserve_bytes: 0,
        bytes_max: 0,
        ..JournalOptions::default()
    };
    let dir = Path::new("/data");
    let opened = LocalJournal::open(env, dir, options, Arc::new(|| {}));
    let (journal, recovery) = opened.unwrap();
    let (syncer, reader) = (journal.syncer(), journal.reader());
    let config = BrokerConfig {
        tail_bytes_max: 1,
        retention_ms_default: -1,
        checkpoint_ms: 2000,
        ..BrokerConfig::default()
    };
    let now = Now {
        unix_ms: env.clock.now_ms(),
        monotonic_ms: 0,
    };
    let random = Box::new(|| 4);
    let opened = Shard::open(
        ShardId(0),
        Arc::new(config),
        Box::new(journal),
        &recovery,
        random,
        now,
    );
    (opened.unwrap().0, syncer, reader)
}

impl Bench {
    fn new() -> Self {
        let files = SimFiles::new(7, u64::MAX);
        let (env, clock) = files.env(7);
        let (shard, syncer, reader) = open(&env);
        let mut bench = Self {
            files,
            env,
            clock,
            shard,
            syncer,
            reader,
            mailbox: Arc::new(Mailbox::default()),
            heard: Vec::new(),
            next: 1,
        };
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        self.mailbox = Arc::new(Mailbox::default());
        let connect = Input::Connect {
            client: ClientId(1),
            namespace: NamespaceId(0),
            info: ClientInfo {
                principal: Name::from_static(b"tester"),
                protocol: "test".to_owned(),
                peer: "here".to_owned(),
            },
            mailbox: self.mailbox.clone(),
        };
        self.step(vec![connect]);
    }

    /// Power is lost, and the server starts again.
    fn crash(&mut self) {
        self.files.lose_power();
        (self.shard, self.syncer, self.reader) = open(&self.env);
        self.connect();
    }

    fn step(&mut self, mut inputs: Vec<Input>) {
        let now = Now {
            unix_ms: self.env.clock.now_ms(),
            monotonic_ms: u64::try_from(self.env.clock.monotonic().as_millis()).unwrap(),
        };
        self.shard.step(now, &mut inputs);
        assert_eq!(self.shard.failure(), None);
        while self.syncer.step() {}
        self.shard.step(now, &mut inputs);
        let mut parcels = std::collections::VecDeque::new();
        if self.mailbox.try_take(&mut parcels) {
            for parcel in parcels {
                self.heard.push(read(parcel, &*self.reader));
            }
            let drained = vec![Input::Drained(ClientId(1))];
            if self.mailbox.drained() {
                self.step(drained);
            }
        }
    }

    fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.next += 1;
        let asked = self.next;
        self.step(vec![Input::Command {
            client: ClientId(1),
            correlation: asked,
            command,
            cost: None,
        }]);
        for _ in 0..10 {
            let found = self.heard.iter().position(
                |event| matches!(event, Event::Reply { correlation, .. } if *correlation == asked),
            );
            if let Some(at) = found {
                let Event::Reply { result, .. } = self.heard.swap_remove(at) else {
                    unreachable!()
                };
                return *result;
            }
            self.step(Vec::new());
        }
        panic!("no reply")
    }

    /// Time passes, and all that a server does beside is done.
    fn rest(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.clock.advance(Duration::from_millis(1500));
            self.step(Vec::new());
            if let Some(job) = self.shard.take_checkpoint_job() {
                job.run(&mut || {});
            }
            for job in self.shard.take_link_jobs() {
                let pulled = job.run(&*self.reader);
                self.step(vec![Input::Pulled(Box::new(pulled))]);
            }
            for job in self.shard.take_window_jobs() {
                let seen = job.run(&*self.reader);
                self.step(vec![Input::Windowed(Box::new(seen))]);
            }
            if let Some(mut job) = self.shard.take_compaction_job() {
                while job.step(16 << 10) {}
            }
            for mut job in self.shard.take_exhumations() {
                job.message = read_message(&job.record, &*self.reader);
                self.step(vec![Input::Exhumed(Box::new(job))]);
            }
            self.step(Vec::new());
        }
    }

    /// Other records fill the journal's last file, so that all before may be compacted, and time passes.
    fn fill(&mut self, rounds: usize) {
        for _ in 0..8 {
            let filler = [("k", Some(&*"x".repeat(20_000)))];
            self.append("other", keyed(&filler, BatchOptions::default()));
        }
        self.rest(rounds);
    }

    fn create(&mut self, topic: &'static str, settings: LogSettings) {
        let create = CreateTopic {
            name: Name::from_static(topic.as_bytes()),
            partitions: Some(1),
            settings,
            validate_only: false,
            path_template: None,
        };
        self.ask(Command::CreateTopic(create)).unwrap();
    }

    fn declare(&mut self, queue: &'static str) {
        let declare = DeclareQueue {
            name: Name::from_static(queue.as_bytes()),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Vec::new(),
        };
        self.ask(Command::DeclareQueue(declare)).unwrap();
    }

    fn append(&mut self, topic: &'static str, batch: Bytes) -> i64 {
        let append = Append {
            topic: TopicRef::Name(Name::from_static(topic.as_bytes())),
            partition: 0,
            batch,
            wait: Wait::Durable,
            keyless: false,
            transactional_id: None,
        };
        match self.ask(Command::Append(append)) {
            Ok(Reply::Appended(appended)) => appended.base_offset,
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self, topic: &'static str, offset: i64) -> Result<Fetched, Refusal> {
        let fetch = Fetch {
            partitions: vec![FetchPartition {
                topic: TopicRef::Name(Name::from_static(topic.as_bytes())),
                partition: 0,
                offset,
                bytes_max: 1 << 20,
                current_leader_epoch: -1,
            }],
            wait_ms_max: 0,
            bytes_min: 1,
            bytes_max: 1 << 20,
            committed: false,
        };
        match self.ask(Command::Fetch(fetch)) {
            Ok(Reply::Fetched(mut parts)) => parts.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Reads a log from an offset to its end, as a Kafka client does: offset, key, value.
    fn read_log(&mut self, topic: &'static str, from: i64) -> Vec<(i64, Bytes, Option<Bytes>)> {
        let mut at = from;
        let mut records = Vec::new();
        loop {
            let fetched = self.fetch(topic, at).unwrap();
            if at == fetched.high_watermark {
                return records;
            }
            let before = at;
            for batch in fetched.batches {
                let batch = RecordBatch::parse(batch).unwrap();
                batch.verify_crc().unwrap();
                let header = *batch.header();
                for record in batch.records(1 << 20).unwrap().iter_owned() {
                    let record = record.unwrap();
                    if record.offset >= at {
                        let key = record.key.unwrap_or_default();
                        records.push((record.offset, key, record.value));
                    }
                }
                at = header.base_offset + i64::from(header.last_offset_delta) + 1;
            }
            assert!(at > before, "a fetch at {before} leads nowhere");
        }
    }

    fn on_disk(&self, dir: &str) -> u64 {
        let paths = self.env.files.list(Path::new(dir)).unwrap();
        let size = |path: &std::path::PathBuf| self.env.files.open_read(path).unwrap().len();
        paths.iter().map(|path| size(path).unwrap()).sum()
    }

    fn publish(&mut self, queue: &'static str, value: &[u8]) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: self.env.clock.now_ms(),
            key: None,
            value: Some(Pieces::One(value)),
            headers,
        };
        let mut records = Vec::new();
        for _ in 0..4 {
            let appended = builder.append(&record).unwrap();
            records.push(PublishRecord::of(Envelope::new(
                Address::Amqp {
                    exchange: Name::new(),
                    routing_key: Name::from_static(queue.as_bytes()),
                },
                Provenance::AmqpDefault,
                appended.range(),
            )));
        }
        let publish = Publish {
            batch: builder.finish().unwrap().to_bytes(),
            records,
            wait: Wait::Durable,
            dedupe: None,
        };
        self.ask(Command::Publish(publish)).unwrap();
    }

    fn get(&mut self, queue: &'static str) -> Option<Box<Delivery>> {
        let get = Command::Get(Name::from_static(queue.as_bytes()), false);
        match self.ask(get) {
            Ok(Reply::Got(got)) => got.map(|(delivery, _)| delivery),
            other => panic!("{other:?}"),
        }
    }
}

/// A Kafka client's batch with these keys and values.
fn keyed(records: &[(&str, Option<&str>)], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (key, value) in records {
        let headers: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: 1_700_000_000_000,
            key: Some(key.as_bytes()),
            value: value.map(|value| Pieces::One(value.as_bytes())),
            headers,
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap().to_bytes()
}

fn compacted(others: &[(&str, &str)]) -> LogSettings {
    LogSettings {
        cleanup: Some(CleanupPolicy::Compact),
        others: others
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..LogSettings::default()
    }
}
