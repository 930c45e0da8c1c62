//! What a command and a delivery cost the sequencer: decisions, applying, encoding, dispatch. The journal takes frames
//! and forgets them; nothing is written and nobody waits.
//!
//! A bench's items are its deliveries (each with its share of the publish, and its acknowledgement).
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use bytes::Bytes;
use divan::counter::ItemsCount;
use omnilog_broker::bench::ByHand;
use omnilog_broker::*;
use omnilog_ledger::format::Entry;
use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{
    CheckpointStore, Class, Completion, FileInfo, Frame, Journal, JournalError, JournalOptions,
    LocalJournal, LogRange, Lsn, Place, Pushed, Section, SectionReader, ShardId, Space,
};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn main() {
    divan::main();
}

/// Bytes of decisions and sections that were pushed.
static JOURNAL_BYTES: AtomicU64 = AtomicU64::new(0);

/// A journal that takes frames and forgets them.
struct Forgetful {
    next: Lsn,
    group: Option<(Lsn, usize)>,
    news: Vec<Completion>,
    checkpoints: Arc<dyn CheckpointStore>,
}

#[derive(Debug)]
struct NothingKept;

impl SectionReader for NothingKept {
    fn by_sequence(&self, _: ShardId, _: u64) -> std::io::Result<Option<Section>> {
        Ok(None)
    }
    fn by_offset(&self, _: LogRange<'_>, _: u64, _: bool) -> std::io::Result<Vec<Section>> {
        Ok(Vec::new())
    }
    fn by_time(&self, _: LogRange<'_>, _: i64) -> std::io::Result<Option<Section>> {
        Ok(None)
    }
    fn walk(&self, _: LogRange<'_>, _: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()> {
        Ok(())
    }
}

impl Journal for Forgetful {
    fn push(&mut self, frame: &Frame<'_>, _: Class) -> Result<Pushed, JournalError> {
        let lsn = self.next;
        self.next += 1;
        let sections = frame.sections.iter();
        let bytes = frame.decision.len()
            + sections
                .map(|section| 48 + section.envelope.len() + section.batch.len())
                .sum::<usize>();
        JOURNAL_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        let group = self.group.get_or_insert((lsn, 0));
        group.1 += bytes;
        let place = Place {
            file: 1,
            position: 0,
            length: 0,
        };
        Ok(Pushed {
            lsn,
            places: frame.sections.iter().map(|_| place).collect(),
        })
    }
    fn group_bytes(&self) -> usize {
        self.group.map_or(0, |(_, bytes)| bytes)
    }
    fn submit(&mut self) -> Result<(), JournalError> {
        if let Some((first_lsn, _)) = self.group.take() {
            let last_lsn = self.next - 1;
            self.news.push(Completion::Synced {
                first_lsn,
                last_lsn,
            });
        }
        Ok(())
    }
    fn sync(&mut self) {}
    fn poll(&mut self) -> Option<Completion> {
        self.news.pop()
    }
    fn epoch(&self) -> u32 {
        1
    }
    fn frame_bytes_max(&self) -> usize {
        64 << 20
    }
    fn reader(&self) -> Arc<dyn SectionReader> {
        Arc::new(NothingKept)
    }
    fn files(&self) -> Vec<FileInfo> {
        Vec::new()
    }
    fn delete_file(&mut self, _: u32) -> Result<bool, JournalError> {
        Ok(false)
    }
    fn space(&self) -> Space {
        Space::Plenty
    }
    fn look_at_space(&mut self) -> Space {
        Space::Plenty
    }
    fn checkpoints(&self) -> Arc<dyn CheckpointStore> {
        self.checkpoints.clone()
    }
    fn close(&mut self, _: bool) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A shard, a publisher, and what is needed to go round.
struct Bench {
    hand: ByHand,
    publisher: ClientId,
    consumers: Vec<ClientId>,
    publish: Publish,
    events: Vec<Event>,
}

fn open() -> ByHand {
    let (env, _) = SimFiles::new(1, u64::MAX).env(1);
    let options = JournalOptions {
        low_bytes: 0,
        reserve_bytes: 0,
        ..JournalOptions::default()
    };
    let (journal, recovery) =
        LocalJournal::open(&env, Path::new("/data"), options, Arc::new(|| {})).unwrap();
    let forgetful = Forgetful {
        next: 1,
        group: None,
        news: Vec::new(),
        checkpoints: journal.checkpoints(),
    };
    let config = BrokerConfig {
        // No checkpoint while it is measured, and mailboxes that hold a round.
        checkpoint_bytes: u64::MAX,
        checkpoint_ms: u64::MAX / 2,
        mailbox_bytes_max: u64::MAX / 2,
        tail_bytes_max: 1 << 20,
        ..BrokerConfig::default()
    };
    ByHand::open(config, Box::new(forgetful), &recovery).unwrap()
}

fn name(text: &str) -> Name {
    Name::from(text.as_bytes().to_vec())
}

/// A message of 128 bytes for an exchange.
fn message(exchange: &str, key: &str, count: usize) -> Publish {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut records = Vec::new();
    for _ in 0..count {
        let headers: [Header<'_>; 0] = [];
        let appended = builder
            .append(&NewRecord {
                timestamp: 1_700_000_000_000,
                key: None,
                value: Some(Pieces::One(&[b'.'; 128])),
                headers,
            })
            .unwrap();
        records.push(PublishRecord {
            envelope: Envelope {
                address: Address::Amqp {
                    exchange: name(exchange),
                    routing_key: name(key),
                },
                provenance: if exchange.is_empty() {
                    Provenance::AmqpDefault
                } else {
                    Provenance::AmqpExchange
                },
                publisher: name("guest"),
                properties: Bytes::new(),
                qos: 1,
                retain: false,
                expires_at_ms: None,
                priority: 0,
                property_headers: 0,
                range: (appended.body_position, appended.body_bytes),
            },
            more_routing_keys: Vec::new(),
            headers: Vec::new(),
            retain: None,
        });
    }
    Publish {
        batch: builder.finish().unwrap().to_bytes(),
        records,
        wait: Wait::Durable,
        dedupe: None,
    }
}

impl Bench {
    /// A fanout exchange with this many durable queues, consumed over at most ten connections; `group`: under a credit
    /// limit that each connection's consumers share.
    fn fanout(queues: usize, group: bool) -> Self {
        let mut hand = open();
        let publisher = hand.connect();
        let exchange = DeclareExchange {
            name: name("fan"),
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Vec::new(),
        };
        hand.send(publisher, 1, Command::DeclareExchange(exchange));
        let consumers: Vec<ClientId> = (0..queues.min(10)).map(|_| hand.connect()).collect();
        for number in 0..queues {
            let queue = name(&format!("queue-{number}"));
            let client = consumers[number % consumers.len()];
            declare(&mut hand, publisher, &queue);
            let binding = Binding {
                source: name("fan"),
                destination: Destination::Queue(queue.clone()),
                routing_key: Bytes::new(),
                arguments: Vec::new(),
            };
            hand.send(publisher, 1, Command::Bind(binding));
            let group = group.then_some(CreditGroup(1));
            hand.send(client, 1, consume(queue, number as u64 + 1, 1000, group));
        }
        if group {
            for client in &consumers {
                hand.send(*client, 1, Command::SetCredit(CreditGroup(1), 20_000));
            }
        }
        Self::ready(hand, publisher, consumers, message("fan", "", 1))
    }

    /// One durable queue with this many consumers on ten connections, and a batch of messages for it.
    fn competing(consumers: usize, messages: usize) -> Self {
        let mut hand = open();
        let publisher = hand.connect();
        let clients: Vec<ClientId> = (0..consumers.min(10)).map(|_| hand.connect()).collect();
        declare(&mut hand, publisher, &name("queue"));
        for number in 0..consumers {
            let client = clients[number % clients.len()];
            let command = consume(name("queue"), number as u64 + 1, 1000, None);
            hand.send(client, 1, command);
        }
        Self::ready(hand, publisher, clients, message("", "queue", messages))
    }

    fn ready(
        hand: ByHand,
        publisher: ClientId,
        consumers: Vec<ClientId>,
        publish: Publish,
    ) -> Self {
        let mut bench = Self {
            hand,
            publisher,
            consumers,
            publish,
            events: Vec::new(),
        };
        bench.hand.step();
        bench.hand.step();
        bench.hand.take(publisher, &mut bench.events);
        for client in bench.consumers.clone() {
            bench.hand.take(client, &mut bench.events);
        }
        for event in bench.events.drain(..) {
            let Event::Reply { result, .. } = event else {
                continue;
            };
            result.unwrap();
        }
        bench
    }

    /// Publish, deliver, acknowledge each delivery by itself. Returns how many there were.
    fn round(&mut self) -> usize {
        self.hand
            .send(self.publisher, 2, Command::Publish(self.publish.clone()));
        self.hand.step();
        let mut delivered = 0;
        for at in 0..self.consumers.len() {
            let client = self.consumers[at];
            self.hand.take(client, &mut self.events);
            delivered += self.events.len();
            for event in self.events.drain(..) {
                let Event::Delivery(delivery) = event else {
                    panic!("{event:?}")
                };
                let settle = Settle {
                    entries: vec![(delivery.queue, delivery.entry)],
                    settlement: Settlement::Ack,
                };
                self.hand.send(client, 0, Command::Settle(settle));
            }
        }
        self.hand.take(self.publisher, &mut self.events);
        self.events.clear();
        self.hand.wait_ms(200);
        self.hand.step();
        delivered
    }

    fn run(mut self, bencher: divan::Bencher<'_, '_>, per_round: usize) {
        for _ in 0..3 {
            assert_eq!(self.round(), per_round);
        }
        let before = JOURNAL_BYTES.load(Ordering::Relaxed);
        self.round();
        let bytes = JOURNAL_BYTES.load(Ordering::Relaxed) - before;
        eprintln!("\n{} journal bytes per delivery", bytes / per_round as u64);
        bencher
            .counter(ItemsCount::new(per_round))
            .bench_local(|| self.round());
    }
}

fn declare(hand: &mut ByHand, client: ClientId, queue: &Name) {
    let declare = DeclareQueue {
        name: queue.clone(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Vec::new(),
    };
    hand.send(client, 1, Command::DeclareQueue(declare));
}

fn consume(queue: Name, key: u64, credit: u32, credit_group: Option<CreditGroup>) -> Command {
    Command::Consume(Consume {
        queue,
        consumer: ConsumerKey(key),
        no_ack: false,
        exclusive: false,
        credit,
        credit_group,
        priority: 0,
        arguments: Vec::new(),
    })
}

/// One publish to many durable queues, each consumed, each delivery acknowledged.
#[divan::bench(args = [1, 100, 10_000])]
fn fanout(bencher: divan::Bencher<'_, '_>, queues: usize) {
    Bench::fanout(queues, false).run(bencher, queues);
}

/// The same under a credit limit for all consumers of a connection.
#[divan::bench(args = [1, 100, 10_000], max_time = 5)]
fn fanout_with_group_credit(bencher: divan::Bencher<'_, '_>, queues: usize) {
    Bench::fanout(queues, true).run(bencher, queues);
}

/// A batch of 100 messages to one queue that many consumers compete for.
#[divan::bench(args = [1, 100, 10_000])]
fn competing_consumers(bencher: divan::Bencher<'_, '_>, consumers: usize) {
    Bench::competing(consumers, 100).run(bencher, 100);
}
