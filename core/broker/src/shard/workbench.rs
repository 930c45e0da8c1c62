//! A shard with its clients, its disk and its clock, for tests of what it decides: time passes by hand.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::api::*;
use crate::server::{Input, Mailbox, read, read_message};
use crate::shard::{Now, Shard};
use omnilog_ledger::sim::{SimClock, SimFiles};
use omnilog_ledger::{Env, Journal, JournalOptions, LocalJournal, SectionReader, ShardId, Syncer};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A shard and its clients.
pub(crate) struct Bench {
    pub(crate) files: SimFiles,
    pub(crate) env: Env,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) tail_bytes_max: u64,
    pub(crate) shard: Shard,
    pub(crate) syncer: Syncer,
    pub(crate) reader: Arc<dyn SectionReader>,
    pub(crate) mailboxes: BTreeMap<u64, Arc<Mailbox>>,
    pub(crate) heard: Vec<(u64, Event)>,
    pub(crate) next: u64,
}

pub(crate) fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

pub(crate) fn int(key: &'static str, value: i64) -> (Name, Value) {
    (name(key), Value::Int(value))
}

pub(crate) fn text(key: &'static str, value: &'static str) -> (Name, Value) {
    (name(key), Value::Bytes(name(value)))
}

pub(crate) fn retry(kind: &'static str) -> Table {
    vec![
        text("x-delayed-retry-type", kind),
        int("x-delayed-retry-min", 1000),
        int("x-delayed-retry-max", 2500),
    ]
}

/// The same, and dead letters go to `dead` after so many failures.
pub(crate) fn limited(kind: &'static str, limit: i64) -> Table {
    let mut arguments = retry(kind);
    arguments.extend([
        int("x-delivery-limit", limit),
        text("x-dead-letter-exchange", ""),
        text("x-dead-letter-routing-key", "dead"),
    ]);
    arguments
}

pub(crate) fn open(env: &Env, tail_bytes_max: u64) -> (Shard, Syncer, Arc<dyn SectionReader>) {
    let options = JournalOptions {
        file_bytes: 64 << 10,
        low_bytes: 0,
        reserve_bytes: 0,
        bytes_max: 0,
        ..JournalOptions::default()
    };
    let opened = LocalJournal::open(env, Path::new("/data"), options, Arc::new(|| {}));
    let (journal, recovery) = opened.unwrap();
    let (syncer, reader) = (journal.syncer(), journal.reader());
    let config = BrokerConfig {
        tail_bytes_max,
        checkpoint_ms: 500,
        ..BrokerConfig::default()
    };
    let now = Now {
        unix_ms: env.clock.now_ms(),
        monotonic_ms: 0,
    };
    let opened = Shard::open(
        ShardId(0),
        Arc::new(config),
        Box::new(journal),
        &recovery,
        Box::new(|| 4),
        now,
    );
    (opened.unwrap().0, syncer, reader)
}

/// A consumer of a queue, under this key.
pub(crate) fn consume_of(queue: Name, key: u64, credit: u32) -> Consume {
    Consume {
        queue,
        consumer: ConsumerKey(key),
        no_ack: false,
        exclusive: false,
        credit,
        credit_group: None,
        priority: 0,
        arguments: Vec::new(),
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_tail(1 << 20)
    }

    pub(crate) fn with_tail(tail_bytes_max: u64) -> Self {
        let files = SimFiles::new(7, u64::MAX);
        let (env, clock) = files.env(7);
        let (shard, syncer, reader) = open(&env, tail_bytes_max);
        let mut bench = Self {
            files,
            env,
            clock,
            tail_bytes_max,
            shard,
            syncer,
            reader,
            mailboxes: BTreeMap::new(),
            heard: Vec::new(),
            next: 1,
        };
        bench.connect(1);
        bench
    }

    pub(crate) fn connect(&mut self, client: u64) {
        let mailbox = Arc::new(Mailbox::new(self.shard.taken()));
        self.mailboxes.insert(client, mailbox.clone());
        self.step(vec![Input::Connect {
            client: ClientId(client),
            namespace: NamespaceId(0),
            info: ClientInfo {
                principal: name("tester"),
                protocol: "test".to_owned(),
                peer: "here".to_owned(),
            },
            mailbox,
        }]);
    }

    pub(crate) fn disconnect(&mut self, client: u64) {
        self.step(vec![Input::Disconnect(ClientId(client))]);
        self.mailboxes.remove(&client);
    }

    /// Power is lost, and the server starts again.
    pub(crate) fn crash(&mut self) {
        self.files.lose_power();
        (self.shard, self.syncer, self.reader) = open(&self.env, self.tail_bytes_max);
        self.mailboxes.clear();
        self.connect(1);
    }

    pub(crate) fn step(&mut self, mut inputs: Vec<Input>) {
        for _ in 0..3 {
            let now = Now {
                unix_ms: self.env.clock.now_ms(),
                monotonic_ms: u64::try_from(self.env.clock.monotonic().as_millis()).unwrap(),
            };
            self.shard.step(now, &mut inputs);
            assert_eq!(self.shard.failure(), None);
            while self.syncer.step() {}
            for mut job in self.shard.take_exhumations() {
                job.message = read_message(&job.record, &*self.reader);
                inputs.push(Input::Exhumed(Box::new(job)));
            }
            if let Some(job) = self.shard.take_checkpoint_job() {
                job.run(&mut || {});
            }
        }
        for (client, mailbox) in &self.mailboxes {
            let mut parcels = VecDeque::new();
            mailbox.try_take(&mut parcels);
            let events = parcels
                .into_iter()
                .map(|parcel| read(parcel, &*self.reader));
            self.heard.extend(events.map(|event| (*client, event)));
        }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.step(Vec::new());
        self.step(Vec::new());
    }

    /// Sends a command; the number under which its answer comes.
    pub(crate) fn send(&mut self, client: u64, command: Command) -> u64 {
        self.next += 1;
        let correlation = self.next;
        self.step(vec![Input::Command {
            client: ClientId(client),
            correlation,
            command,
            cost: None,
        }]);
        correlation
    }

    /// The answer to a command, if it has come.
    pub(crate) fn answer(&mut self, asked: u64) -> Option<Result<Reply, Refusal>> {
        let is = |(_, event): &(u64, Event)| matches!(event, Event::Reply { correlation, .. } if *correlation == asked);
        let at = self.heard.iter().position(is)?;
        match self.heard.remove(at).1 {
            Event::Reply { result, .. } => Some(*result),
            _ => unreachable!(),
        }
    }

    pub(crate) fn ask(&mut self, client: u64, command: Command) -> Reply {
        let asked = self.send(client, command);
        self.answer(asked).expect("a reply").unwrap()
    }

    pub(crate) fn declare(&mut self, queue: &'static str, durable: bool, arguments: Table) {
        let declare = DeclareQueue {
            name: name(queue),
            durable,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        self.ask(1, Command::DeclareQueue(declare));
    }

    /// A topic of so many partitions, and a queue of its name, which gets a link to each.
    pub(crate) fn declare_linked(&mut self, topic: &'static str, partitions: u32) {
        let create = CreateTopic {
            name: name(topic),
            partitions: Some(partitions),
            settings: LogSettings::default(),
            validate_only: false,
            path_template: None,
        };
        self.ask(1, Command::CreateTopic(create));
        self.declare(topic, true, Vec::new());
    }

    /// A Kafka client writes these in one batch.
    pub(crate) fn append(&mut self, topic: &'static str, partition: i32, values: &[&str]) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let none: [Header<'_>; 0] = [];
        for value in values {
            let record = NewRecord {
                timestamp: self.env.clock.now_ms(),
                key: None,
                value: Some(Pieces::One(value.as_bytes())),
                headers: none,
            };
            builder.append(&record).unwrap();
        }
        let append = Append {
            topic: TopicRef::Name(name(topic)),
            partition,
            batch: builder.finish().unwrap().to_bytes(),
            wait: Wait::Durable,
            keyless: false,
            transactional_id: None,
        };
        self.ask(1, Command::Append(append));
    }

    pub(crate) fn publish(&mut self, queue: &'static str, key: &'static str, values: &[&str]) {
        for value in values {
            let publish = self.message(queue, key, value);
            self.ask(1, Command::Publish(publish));
        }
    }

    /// A message to a queue, or with this key to the exchange `x`.
    pub(crate) fn message(&self, queue: &'static str, key: &'static str, value: &str) -> Publish {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let none: [Header<'_>; 0] = [];
        let appended = builder
            .append(&NewRecord {
                timestamp: self.env.clock.now_ms(),
                key: None,
                value: Some(Pieces::One(value.as_bytes())),
                headers: none,
            })
            .unwrap();
        let (exchange, routing_key, provenance) = if key.is_empty() {
            ("", queue, Provenance::AmqpDefault)
        } else {
            ("x", key, Provenance::AmqpExchange)
        };
        let address = Address::Amqp {
            exchange: name(exchange),
            routing_key: name(routing_key),
        };
        let envelope = Envelope::new(address, provenance, appended.range());
        Publish {
            batch: builder.finish().unwrap().to_bytes(),
            records: vec![PublishRecord::of(envelope)],
            wait: Wait::Durable,
            dedupe: None,
        }
    }

    pub(crate) fn consume(&mut self, client: u64, queue: &'static str, credit: u32) {
        let consume = consume_of(name(queue), 1, credit);
        self.ask(client, Command::Consume(consume));
    }

    /// What a client was delivered since.
    pub(crate) fn delivered(&mut self, client: u64) -> Vec<Delivery> {
        self.step(Vec::new());
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for (to, event) in self.heard.drain(..) {
            match event {
                Event::Delivery(delivery) if to == client => found.push(*delivery),
                other => left.push((to, other)),
            }
        }
        self.heard = left;
        found
    }

    pub(crate) fn values(&mut self, client: u64) -> Vec<String> {
        let found = self.delivered(client);
        found.iter().map(value).collect()
    }

    pub(crate) fn get(&mut self, queue: &'static str) -> Option<Delivery> {
        match self.ask(1, Command::Get(name(queue), false)) {
            Reply::Got(got) => got.map(|(delivery, _)| *delivery),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn settle(&mut self, client: u64, delivery: &Delivery, settlement: Settlement) {
        let settle = Settle {
            entries: vec![(delivery.queue, delivery.entry)],
            settlement,
        };
        self.ask(client, Command::Settle(settle));
    }

    /// Takes the first message, and gives it back so.
    pub(crate) fn give_back(&mut self, queue: &'static str, settlement: Settlement) -> Delivery {
        let delivery = self.get(queue).expect("a message");
        self.settle(1, &delivery, settlement);
        delivery
    }

    pub(crate) fn figures(&mut self, queue: &'static str) -> QueueFigures {
        let listing = Listing {
            what: Listed::Queues,
            after: name(queue),
            only: true,
            limit: 1,
        };
        match self.ask(1, Command::List(listing)) {
            Reply::Listed(page) => page.queues[0].clone(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn value(delivery: &Delivery) -> String {
    let body = delivery.message.record_bytes().unwrap();
    let base = omnilog_record::RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = omnilog_record::Record::parse(body, &base).unwrap();
    String::from_utf8_lossy(record.value.unwrap()).into_owned()
}
