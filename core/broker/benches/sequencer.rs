//! What a command and a delivery cost the sequencer: decisions, applying, encoding, dispatch. The journal takes frames
//! and forgets them; nothing is written and nobody waits.
//!
//! A bench's items are its deliveries (each with its share of the publish, and its acknowledgement). Its times are those
//! of the sequencer and of who stands for the connections; what of them the sequencer's steps take is told beside, in
//! time of a core.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

mod by_hand;
mod cpu;

use by_hand::{JOURNAL_BYTES, message, name, open};
use bytes::Bytes;
use divan::counter::ItemsCount;
use omnilog_broker::bench::ByHand;
use omnilog_broker::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

// The server's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// A shard, a publisher, and what is needed to go round.
struct Bench {
    hand: ByHand,
    publisher: ClientId,
    consumers: Vec<ClientId>,
    publish: Publish,
    events: Vec<Event>,
    /// What the steps of each round took.
    steps: Vec<Duration>,
    asking: Duration,
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
        Self::ready(hand, publisher, consumers, to("fan", "", 1))
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
        Self::ready(hand, publisher, clients, to("", "queue", messages))
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
            steps: Vec::new(),
            asking: cpu::overhead(),
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
        let mut delivered = 0;
        self.steps.push(Duration::ZERO);
        // A step gives so many at the most.
        loop {
            self.step();
            let given = self.acknowledge();
            delivered += given;
            if given == 0 {
                break;
            }
        }
        self.hand.take(self.publisher, &mut self.events);
        self.events.clear();
        self.hand.wait_ms(200);
        self.step();
        delivered
    }

    fn step(&mut self) {
        let began = cpu::now();
        self.hand.step();
        if let Some(round) = self.steps.last_mut() {
            *round += (cpu::now() - began).saturating_sub(self.asking);
        }
    }

    /// Takes what was delivered, and sends an acknowledgement for each. Returns how many there were.
    fn acknowledge(&mut self) -> usize {
        let mut given = 0;
        for at in 0..self.consumers.len() {
            let client = self.consumers[at];
            self.hand.take(client, &mut self.events);
            given += self.events.len();
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
        given
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
        self.steps.sort_unstable();
        let us = |at: usize| self.steps[at].as_secs_f64() * 1e6 / per_round as f64;
        let (fastest, median) = (us(0), us(self.steps.len() / 2));
        eprintln!("steps take {median:.2} us of a core per delivery, {fastest:.2} at best");
    }
}

/// Messages for an exchange, or for a queue by its name.
fn to(exchange: &str, key: &str, count: usize) -> Publish {
    let provenance = if exchange.is_empty() {
        Provenance::AmqpDefault
    } else {
        Provenance::AmqpExchange
    };
    let address = Address::Amqp {
        exchange: name(exchange),
        routing_key: name(key),
    };
    message(&address, provenance, 1, count)
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
