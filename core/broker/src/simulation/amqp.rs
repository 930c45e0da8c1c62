//! AMQP clients: publishers, consumers, topology that comes and goes.

use crate::api::*;
use crate::simulation::delays::{DELAYED, FLEETING};
use crate::simulation::facts::{KEYED, LOG, PRIORITY_MAX, RANKED, SOLE, STEADY, WORK};
use crate::simulation::gaps::WINDOW;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use crate::simulation::{messages, retries};
use rand::RngExt;

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

fn declare(queue: &'static str, durable: bool, exclusive: bool, auto_delete: bool) -> Command {
    Command::DeclareQueue(DeclareQueue {
        name: name(queue),
        durable,
        exclusive,
        auto_delete,
        arguments: if durable {
            Vec::new()
        } else {
            retries::arguments(queue)
        },
    })
}

fn binding(exchange: &'static str, queue: &'static str) -> Binding {
    Binding {
        source: name(exchange),
        destination: Destination::Queue(name(queue)),
        routing_key: name("key"),
        arguments: Vec::new(),
    }
}

const CHAOS: [&str; 4] = ["chaos-0", "chaos-1", "chaos-2", "passing"];
const EXCHANGES: [&str; 4] = ["fan", "amq.topic", "amq.direct", "other"];

impl World {
    pub(super) fn set_up_queues(&mut self, at: usize) {
        for queue in [STEADY, WORK, LOG] {
            self.ask(at, Ask::Follow(queue), declare(queue, true, false, false));
        }
        self.declare_exchange(at, "keys");
        for (queue, argument, value) in [
            (RANKED, "x-max-priority", Value::Int(PRIORITY_MAX.into())),
            (KEYED, "x-key-shared", Value::Bool(true)),
            (SOLE, "x-single-active-consumer", Value::Bool(true)),
        ] {
            let declare = Command::DeclareQueue(DeclareQueue {
                name: name(queue),
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: vec![(name(argument), value)],
            });
            self.ask(at, Ask::Follow(queue), declare);
            self.ask(at, Ask::Whatever, Command::Bind(binding("keys", queue)));
        }
        self.declare_exchange(at, "fan");
        self.set_up_roundabout(at);
        self.ask(at, Ask::Whatever, Command::Bind(binding("fan", STEADY)));
    }

    /// An exchange whose messages go to another's queues if nothing fits, and one that matches headers.
    fn set_up_roundabout(&mut self, at: usize) {
        let alternate = (name("alternate-exchange"), Value::Bytes(name("fan")));
        let narrow = ("narrow", ExchangeKind::Direct, vec![alternate]);
        for (exchange, kind, arguments) in [narrow, ("heads", ExchangeKind::Headers, Vec::new())] {
            let declare = DeclareExchange {
                name: name(exchange),
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments,
            };
            self.ask(at, Ask::Whatever, Command::DeclareExchange(declare));
        }
        let mut bind = binding("narrow", WORK);
        self.ask(at, Ask::Whatever, Command::Bind(bind.clone()));
        bind.source = name("heads");
        bind.arguments = vec![
            (name("x-match"), Value::Bytes(name("all"))),
            (name("one"), Value::Int(1)),
        ];
        self.ask(at, Ask::Whatever, Command::Bind(bind));
    }

    pub(super) fn declare_exchange(&mut self, at: usize, exchange: &'static str) {
        let declare = DeclareExchange {
            name: name(exchange),
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Vec::new(),
        };
        self.ask(at, Ask::Whatever, Command::DeclareExchange(declare));
    }

    pub(super) fn act_amqp(&mut self, at: usize) {
        let chaos = CHAOS[self.random.random_range(0..CHAOS.len())];
        let exchange = EXCHANGES[self.random.random_range(0..EXCHANGES.len())];
        match self.random.random_range(0..60) {
            0..10 => {
                let (publish, ask) = self.message(at);
                self.ask(at, ask, Command::Publish(publish));
            }
            10..12 => {
                let (mut publish, _) = self.message(at);
                publish.wait = Wait::Decided;
                self.tell(at, Command::Publish(publish));
            }
            12..14 => {
                let durable = chaos != "passing";
                let auto_delete = chaos == "chaos-2";
                self.ask(
                    at,
                    Ask::Whatever,
                    declare(chaos, durable, false, auto_delete),
                );
            }
            14 => {
                let command = Command::DeleteQueue {
                    name: name(chaos),
                    if_unused: false,
                    if_empty: self.chance(20),
                };
                self.ask(at, Ask::Whatever, command);
            }
            15 => {
                let durable = self.chance(50);
                self.ask(at, Ask::Whatever, declare("", durable, true, false));
            }
            16..18 => self.ask(at, Ask::Whatever, Command::Bind(binding(exchange, chaos))),
            18 => self.ask(at, Ask::Whatever, Command::Unbind(binding(exchange, chaos))),
            19 => self.declare_exchange(at, "other"),
            20 => {
                let unused = self.chance(50);
                self.ask(
                    at,
                    Ask::Whatever,
                    Command::DeleteExchange(name("other"), unused),
                );
            }
            21..24 => {
                let queues = [STEADY, WORK, LOG, chaos, RANKED, KEYED, SOLE, WINDOW];
                let queue = queues[self.random.random_range(0..queues.len())];
                let credit = self.random.random_range(1..6);
                let no_ack = queue == chaos && self.chance(30);
                self.consume(at, queue, credit, no_ack);
            }
            24 => {
                let consumer = ConsumerKey(self.random.random_range(1..4));
                self.ask(at, Ask::Whatever, Command::Cancel(consumer));
            }
            25..32 => {
                let settlement = [
                    Settlement::Ack,
                    Settlement::Ack,
                    Settlement::Requeue,
                    Settlement::Fail,
                    Settlement::Reject,
                ][self.random.random_range(0..5)];
                let count = self.random.random_range(1..4);
                let asks = self.chance(50);
                self.settle(at, count, settlement, asks);
            }
            32..34 => {
                let queue = [STEADY, WORK, chaos, RANKED, KEYED][self.random.random_range(0..5)];
                self.ask(at, Ask::Got, Command::Get(name(queue), false));
            }
            34..36 => self.transact(at),
            36 => {
                let queue = [WORK, chaos][self.random.random_range(0..2)];
                if queue == WORK {
                    self.facts.excuse(WORK);
                }
                self.ask(at, Ask::Whatever, Command::PurgeQueue(name(queue)));
            }
            40..50 => self.act_on_ends(at),
            50..56 => self.act_on_delays(at),
            56.. => self.act_on_lifetimes(at),
            _ => {
                self.leave(at);
                self.join(at);
            }
        }
    }

    fn message(&mut self, at: usize) -> (Publish, Ask) {
        let chaos = CHAOS[self.random.random_range(0..CHAOS.len())];
        let keyed = ["k0", "k1", "k2", "k3"][self.random.random_range(0..4)];
        let (exchange, key, queue) = match self.random.random_range(0..12) {
            9 => ("narrow", "key", Some(WORK)),
            10 => ("narrow", "no", Some(STEADY)),
            11 => ("heads", "no", Some(WORK)),
            6..9 => ("keys", keyed, Some(KEYED)),
            0 => ("", STEADY, Some(STEADY)),
            1 => ("", WORK, Some(WORK)),
            2 | 3 => ("fan", "key", Some(STEADY)),
            4 => ("amq.topic", "key", None),
            _ => ("", chaos, None),
        };
        let count = self.random.random_range(1..4);
        let publisher = self.peers[at].publisher(0);
        let ids = self.facts.number(publisher, count);
        let address = Address::Amqp {
            exchange: name(exchange),
            routing_key: name(key),
        };
        let padding = self.padding();
        let mut publish =
            messages::publish(&ids, padding, self.unix_ms(), &address, &name("amqp"), 1);
        if queue == Some(KEYED) {
            for record in &mut publish.records {
                record.envelope.priority = self.random.random_range(0..PRIORITY_MAX + 2);
            }
        }
        if exchange == "heads" {
            for record in &mut publish.records {
                record.headers = vec![(name("one"), Value::Int(1)), (name("two"), Value::Int(2))];
            }
        }
        if queue.is_none() && self.chance(30) {
            let at = self.unix_ms() + self.random.random_range(0..5000);
            for record in &mut publish.records {
                record.envelope.expires_at_ms = Some(at);
            }
        }
        (publish, Ask::Publish(ids, queue))
    }

    /// A transaction: publishes and acknowledges in one.
    fn transact(&mut self, at: usize) {
        let (publish, ask) = self.message(at);
        let held: Vec<_> = self.peers[at].held.drain(..).collect();
        let mut commands = vec![Command::Publish(publish)];
        let settled: Vec<_> = held.iter().map(|held| (held.queue, held.entry)).collect();
        if let Ask::Publish(ids, _) = &ask {
            self.facts.bound(ids, &settled);
        }
        for held in &held {
            self.facts.ends.taking(held.queue, held.entry);
            if let Some(id) = held.id {
                self.facts.trying(held.queue, id);
            }
            commands.push(Command::Settle(Settle {
                entries: vec![(held.queue, held.entry)],
                settlement: Settlement::Ack,
            }));
        }
        let ask = match ask {
            // One outcome for each record.
            Ask::Publish(ids, Some(queue)) => Ask::Transact(ids, queue),
            other => other,
        };
        self.ask(at, ask, Command::Atomic(commands));
    }

    pub(super) fn consume(&mut self, at: usize, queue: &'static str, credit: u32, no_ack: bool) {
        self.peers[at].consumers += 1;
        let consumer = ConsumerKey(self.peers[at].consumers);
        let consume = Consume {
            queue: name(queue),
            consumer,
            no_ack,
            exclusive: false,
            credit,
            credit_group: None,
            priority: self.random.random_range(0..3) / 2,
            arguments: Vec::new(),
        };
        self.ask(at, Ask::Whatever, Command::Consume(consume));
    }

    /// Takes everything that is in the followed queues.
    pub(super) fn drain_queues(&mut self, at: usize) {
        for queue in [
            STEADY, WORK, LOG, RANKED, KEYED, SOLE, DELAYED, FLEETING, WINDOW,
        ] {
            self.consume(at, queue, 0, false);
        }
    }
}
