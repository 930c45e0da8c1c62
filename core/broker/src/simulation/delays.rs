//! Messages that wait: never published before their time, in the order of it, once whatever happens, routed as of then.

use crate::api::*;
use crate::simulation::facts::SESSION;
use crate::simulation::messages;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Queues behind exchanges that delay: one that stays, and one that comes and goes.
pub(super) const DELAYED: &str = "delayed";
pub(super) const FLEETING: &str = "fleeting";
/// Their exchanges.
const LATER: &str = "later";
pub(super) const PASSING: &str = "passing-by";

/// The longest wait, but for those that wait for days: they outlive files, checkpoints and lives.
const DELAY_MS_MAX: i64 = 8000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const DAYS_MAX: i64 = 4;
/// Publishers' numbers of messages whose order nothing tells but their time.
const UNORDERED: u64 = 1 << 40;

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

/// What is known of messages that wait.
#[derive(Debug, Default)]
pub(super) struct Delays {
    count: u64,
    /// When each is due, since it was decided.
    due_ms: BTreeMap<u64, i64>,
    /// Those that go to the exchange that comes and goes, by time, until they are excused.
    fleeting: BTreeSet<(i64, u64)>,
    /// When an entry appeared in its queue.
    appeared_ms: BTreeMap<(QueueId, EntryId), i64>,
    /// Entries below this have been looked at.
    looked_below: u64,
    /// The clock went back: what is due later may have come before.
    pub(super) went_back: bool,
}

impl Delays {
    /// A message that is to wait is decided.
    pub(super) fn decided(&mut self, waits: &[(u64, i64)], queue: &'static str, now_ms: i64) {
        for (id, ms) in waits.iter().filter(|(_, ms)| *ms > 0) {
            self.due_ms.insert(*id, now_ms + ms);
            if queue == FLEETING {
                self.fleeting.insert((now_ms + ms, *id));
            }
        }
    }

    /// An entry is seen for what it is.
    pub(super) fn check(&self, name: &str, queue: QueueId, entry: EntryId, id: u64) {
        let (Some(due), Some(appeared)) =
            (self.due_ms.get(&id), self.appeared_ms.get(&(queue, entry)))
        else {
            return;
        };
        assert!(
            appeared >= due,
            "{name}: {id} is due at {due} and was published at {appeared}"
        );
    }

    /// What was published later came in the order of its time.
    pub(super) fn check_order(&self, name: &str, entries: &BTreeMap<EntryId, u64>) {
        let mut before = None;
        for (entry, id) in entries {
            let Some(due) = self.due_ms.get(id) else {
                continue;
            };
            let this = Some((*due, *id));
            assert!(
                self.went_back || before < this,
                "{name}: {id} at {entry}, due at {due}, comes after {before:?}"
            );
            before = this;
        }
    }
}

impl World {
    pub(super) fn set_up_delays(&mut self, at: usize) {
        for (exchange, queue) in [(LATER, DELAYED), (PASSING, FLEETING)] {
            let declare = Command::DeclareQueue(DeclareQueue {
                name: name(queue),
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: Vec::new(),
            });
            self.ask(at, Ask::Follow(queue), declare);
            self.declare_delaying(at, exchange, queue);
        }
    }

    fn declare_delaying(&mut self, at: usize, exchange: &'static str, queue: &'static str) {
        let declare = DeclareExchange {
            name: name(exchange),
            kind: ExchangeKind::Delayed,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: vec![(name("x-delayed-type"), Value::Bytes(name("direct")))],
        };
        self.ask(at, Ask::Whatever, Command::DeclareExchange(declare));
        let bind = Binding {
            source: name(exchange),
            destination: Destination::Queue(name(queue)),
            routing_key: name("key"),
            arguments: Vec::new(),
        };
        self.ask(at, Ask::Whatever, Command::Bind(bind));
    }

    /// An AMQP client does something about messages that wait.
    pub(super) fn act_on_delays(&mut self, at: usize) {
        match self.random.random_range(0..16) {
            0..6 => self.publish_later(at, LATER, DELAYED),
            6..10 => self.publish_later(at, PASSING, FLEETING),
            10..12 => self.declare_delaying(at, PASSING, FLEETING),
            12 => self.ask(
                at,
                Ask::Whatever,
                Command::DeleteExchange(name(PASSING), false),
            ),
            _ => {
                let queue = [DELAYED, FLEETING][self.random.random_range(0..2)];
                let credit = self.random.random_range(1..6);
                self.consume(at, queue, credit, false);
            }
        }
    }

    fn publish_later(&mut self, at: usize, exchange: &'static str, queue: &'static str) {
        let address = Address::Amqp {
            exchange: name(exchange),
            routing_key: name("key"),
        };
        let count = self.random.random_range(1..4);
        self.put_off(at, count, &address, queue);
    }

    /// An MQTT client publishes something that is to wait.
    pub(super) fn publish_delayed(&mut self, at: usize) {
        let address = Address::Mqtt {
            topic: name("s/late"),
        };
        self.put_off(at, 1, &address, SESSION);
    }

    fn put_off(&mut self, at: usize, count: usize, address: &Address, queue: &'static str) {
        let ids: Vec<u64> = (0..count)
            .flat_map(|_| {
                self.facts.delays.count += 1;
                let publisher = UNORDERED + self.facts.delays.count;
                self.facts.number(publisher, 1)
            })
            .collect();
        let (padding, now) = (self.padding(), self.unix_ms());
        let mut publish = messages::publish(&ids, padding, now, address, &name("later"), 1);
        let all = self.chance(60);
        // Where only a few may wait, those would take the place of all others.
        let of_100 = if self.few_wait() { 1 } else { 15 };
        let together = self.chance(30);
        let mut waits: Vec<(u64, i64)> = Vec::new();
        for (record, id) in publish.records.iter_mut().zip(&ids) {
            let ms = match self.random.random_range(0..4) {
                0 if !all => 0,
                _ if together && !waits.is_empty() => waits[0].1,
                _ if self.chance(of_100) => self.random.random_range(DAY_MS..DAYS_MAX * DAY_MS),
                1 => self.random.random_range(1..300),
                _ => self.random.random_range(1..DELAY_MS_MAX),
            };
            // It has these properties only when it is published.
            let then = self.chance(50);
            let properties = then.then(|| std::mem::take(&mut record.envelope.properties));
            if ms > 0 {
                record.delay = Some(Box::new(Delay { ms, properties }));
            } else if let Some(properties) = properties {
                record.envelope.properties = properties;
            }
            waits.push((*id, ms));
        }
        self.ask(at, Ask::Later(waits, queue), Command::Publish(publish));
    }

    /// What is to be published later was written, or refused.
    pub(super) fn put_off_answered(
        &mut self,
        waits: &[(u64, i64)],
        queue: &'static str,
        result: Result<Reply, Refusal>,
    ) {
        let published = match result {
            Ok(Reply::Published(published)) => published,
            Err(Refusal::DiskFull) if self.tight => return,
            Err(Refusal::NotFound(..)) if queue == FLEETING => return,
            other => panic!("{queue}: {waits:?} is refused: {other:?}"),
        };
        for (index, (id, ms)) in waits.iter().enumerate() {
            let outcome = published.outcomes.get(index).copied();
            match outcome.unwrap_or(Routed::Taken) {
                Routed::Taken => self.facts.expect(queue, &[*id]),
                Routed::NoTaker if queue == FLEETING && *ms == 0 => {}
                Routed::Rejected if self.tight && *ms == 0 => {}
                Routed::Rejected if self.few_wait() && *ms > 0 => {}
                outcome => panic!("{queue}: {id} is {outcome:?}"),
            }
        }
    }

    /// When the last of what waits is due, as far as is known by the model or by the server.
    fn last_due_ms(&self) -> Option<i64> {
        let delayed = &self.life.as_ref().unwrap().shard.state.delayed;
        let held = delayed.parts().into_iter();
        let held = held.flat_map(|part| delayed.part(part).map(|(_, at_ms, _)| at_ms));
        let known = self.facts.delays.due_ms.values().copied();
        held.chain(known).max()
    }

    /// Days pass, in two parts, until nothing is to be published later any more.
    pub(super) fn outlast_delays(&mut self) {
        for parts in [2, 1] {
            let now = self.unix_ms();
            let left = self.last_due_ms().map_or(0, |last| (last - now).max(0));
            let left = left.unsigned_abs() / parts;
            self.clock.advance(Duration::from_millis(left));
            self.calm();
        }
        let waiting = self.life.as_ref().unwrap().shard.state.delayed.len();
        assert_eq!(waiting, 0, "all that waits is due");
    }

    /// May no more wait than a few?
    pub(super) fn few_wait(&self) -> bool {
        self.config.delayed_messages_max < 100
    }

    /// A step was taken: what has appeared in queues, and what can't get there any more.
    pub(super) fn check_delays(&mut self) {
        let now = self.unix_ms();
        let Some(life) = &self.life else { return };
        let state = &life.shard.state;
        let waiting = u64::try_from(state.delayed.len()).unwrap();
        assert!(
            waiting <= self.config.delayed_messages_max,
            "{waiting} messages wait"
        );
        let delays = &mut self.facts.delays;
        let below = delays.looked_below.min(state.next_sequence);
        delays.looked_below = state.next_sequence;
        if below < state.next_sequence {
            for (id, queue) in &self.facts.followed {
                if ![DELAYED, FLEETING, SESSION].contains(queue) {
                    continue;
                }
                let Some(queue) = state.queues.get(id) else {
                    continue;
                };
                let held = queue.held();
                let runs = held.iter_runs().filter(|(_, last)| *last >= below);
                for sequence in runs.flat_map(|(first, last)| first.max(below)..=last) {
                    let entry = (*id, EntryId(sequence));
                    delays.appeared_ms.insert(entry, now);
                }
            }
        }
        let there = state.namespace(NamespaceId(0)).is_some_and(|names| {
            let exchange = names.exchanges.get(PASSING.as_bytes());
            let queue = Destination::Queue(name(FLEETING));
            exchange.is_some_and(|exchange| !exchange.bindings_to(&queue).is_empty())
        });
        while !there
            && let Some((due, id)) = self.facts.delays.fleeting.first().copied()
            && due <= now
        {
            self.facts.delays.fleeting.pop_first();
            self.facts.excuse_one(FLEETING, id);
        }
    }
}
