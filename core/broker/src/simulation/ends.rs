//! Entries that end before they are consumed: queues with limits and times, and where their dead letters go.

use crate::api::*;
use crate::shard::Shard;
use crate::simulation::messages;
use crate::simulation::peer::Ask;
use crate::simulation::retries::{self, IN_TURN, LATER, TIMELY};
use crate::simulation::world::World;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// Where dead letters lie.
const DEAD: &str = "dead";
/// Queues whose entries end, each in its own way.
pub(super) const SHORT: &str = "short";
pub(super) const SLIM: &str = "slim";
pub(super) const STRICT: &str = "strict";
const FULL: &str = "full";
pub(super) const BRIEF: &str = "brief";
pub(super) const TRIED: &str = "tried";
pub(super) const ENDING: [&str; 9] = [
    SHORT, SLIM, STRICT, FULL, BRIEF, TRIED, LATER, TIMELY, IN_TURN,
];
const RETURNING: [&str; 4] = [TRIED, LATER, TIMELY, IN_TURN];
/// Each is the other's dead letters' queue.
const ROUND: [&str; 2] = ["round-a", "round-b"];

/// One takes what the other refuses.
const BESIDE: [&str; 2] = [SHORT, STRICT];

const SHORT_MAX: u64 = 4;
const SLIM_BYTES_MAX: u64 = 500;
const STRICT_MAX: u64 = 3;
const FULL_BYTES_MAX: u64 = 600;
const BRIEF_TTL_MS: i64 = 1500;
pub(super) const TRIES_MAX: u32 = 2;

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

fn arguments(queue: &str) -> Table {
    let int = |key: &'static str, value: u64| (name(key), Value::Int(value.try_into().unwrap()));
    let text = |key: &'static str, value: &'static str| (name(key), Value::Bytes(name(value)));
    let letters = text("x-dead-letter-exchange", "letters");
    let overflow = |how| text("x-overflow", how);
    match queue {
        SHORT => vec![int("x-max-length", SHORT_MAX), letters],
        SLIM => vec![int("x-max-length-bytes", SLIM_BYTES_MAX), letters],
        STRICT => vec![
            int("x-max-length", STRICT_MAX),
            overflow("reject-publish-dlx"),
            letters,
        ],
        FULL => vec![
            int("x-max-length-bytes", FULL_BYTES_MAX),
            overflow("reject-publish"),
            letters,
        ],
        BRIEF => vec![
            int("x-message-ttl", BRIEF_TTL_MS.unsigned_abs()),
            int("x-max-priority", 2),
            letters,
        ],
        TRIED => vec![int("x-delivery-limit", TRIES_MAX.into()), letters],
        "round-a" => vec![
            int("x-max-length", 2),
            text("x-dead-letter-exchange", ""),
            text("x-dead-letter-routing-key", ROUND[1]),
        ],
        "round-b" => vec![
            int("x-message-ttl", 400),
            text("x-dead-letter-exchange", ""),
            text("x-dead-letter-routing-key", ROUND[0]),
        ],
        _ => retries::arguments(queue),
    }
}

/// What is known of entries that end.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The queues, by incarnation.
    queues: BTreeMap<QueueId, &'static str>,
    /// Dead letters that were seen: of which queue and message, and which entry they are.
    letters: BTreeMap<(&'static str, u64), EntryId>,
    /// Dead letters that somebody has settled, and those of them of which that was acknowledged.
    taking: BTreeSet<EntryId>,
    taken: BTreeSet<EntryId>,
    /// What was consumed, for sure: no dead letter.
    consumed: BTreeSet<(&'static str, EntryId)>,
    /// Refused by a queue, without a dead letter.
    refused: BTreeSet<u64>,
    /// When a message was sent, and when it was published.
    sent_ms: BTreeMap<u64, i64>,
    published_ms: BTreeMap<u64, i64>,
    /// When an entry of a queue with a time was delivered last.
    delivered_ms: BTreeMap<EntryId, i64>,
}

impl Ends {
    /// These are published now.
    pub(super) fn decided(&mut self, ids: &[u64], now_ms: i64) {
        self.published_ms.extend(ids.iter().map(|id| (*id, now_ms)));
    }

    /// A settlement was sent.
    pub(super) fn taking(&mut self, queue: QueueId, entry: EntryId) {
        if self.queues.get(&queue) == Some(&DEAD) {
            self.taking.insert(entry);
        }
    }

    /// A settlement was acknowledged.
    pub(super) fn taken(&mut self, queue: QueueId, entry: EntryId) {
        if self.queues.get(&queue) == Some(&DEAD) {
            self.taken.insert(entry);
        }
    }

    /// At the end, after everything was drained: a dead letter that was seen stayed until somebody took it.
    pub(super) fn check_letters(&self) {
        for ((from, id), entry) in &self.letters {
            assert!(
                self.taking.contains(entry),
                "{DEAD}: {entry}, {id} of {from}, was seen and is lost"
            );
        }
    }
}

impl World {
    pub(super) fn set_up_ends(&mut self, at: usize) {
        for exchange in ["letters", "ending", "beside"] {
            self.declare_exchange(at, exchange);
        }
        for queue in ENDING.into_iter().chain(ROUND).chain([DEAD]) {
            let declare = Command::DeclareQueue(DeclareQueue {
                name: name(queue),
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: arguments(queue),
            });
            let ask = match queue {
                DEAD | "round-a" | "round-b" => Ask::Ending(queue),
                _ => Ask::Follow(queue),
            };
            self.ask(at, ask, declare);
        }
        for queue in BESIDE {
            self.bind_ending(at, "beside", queue, "key");
        }
        let source = |queue| if queue == DEAD { "letters" } else { "ending" };
        for queue in [DEAD, SHORT, SLIM, BRIEF, TRIED, LATER, TIMELY, IN_TURN] {
            self.bind_ending(at, source(queue), queue, "key");
        }
    }

    fn bind_ending(
        &mut self,
        at: usize,
        source: &'static str,
        queue: &'static str,
        key: &'static str,
    ) {
        let bind = Binding {
            source: name(source),
            destination: Destination::Queue(name(queue)),
            routing_key: name(key),
            arguments: Vec::new(),
        };
        self.ask(at, Ask::Whatever, Command::Bind(bind));
    }

    /// A queue without a promise to whoever publishes to it is there.
    pub(super) fn ending(&mut self, queue: &'static str, id: QueueId) {
        self.facts.ends.queues.insert(id, queue);
    }

    /// A client does something with queues whose entries end.
    pub(super) fn act_on_ends(&mut self, at: usize) {
        let queues = [SHORT, SLIM, STRICT, FULL, BRIEF, DEAD, ROUND[0], ROUND[1]];
        let mut queue = queues[self.random.random_range(0..queues.len())];
        if self.chance(50) {
            queue = RETURNING[self.random.random_range(0..RETURNING.len())];
        }
        match self.random.random_range(0..10) {
            0..6 => self.publish_ending(at),
            6..9 => {
                let credit = self.random.random_range(1..5);
                self.consume(at, queue, credit, false);
            }
            _ => self.ask(at, Ask::Got, Command::Get(name(queue), false)),
        }
    }

    fn publish_ending(&mut self, at: usize) {
        let (exchange, key, takers): (_, _, &[&'static str]) = match self.random.random_range(0..8)
        {
            0..3 => (
                "ending",
                ["key", "k1", "k2"][self.random.random_range(0..3)],
                &[SHORT, SLIM, BRIEF, TRIED, LATER, TIMELY, IN_TURN],
            ),
            3 => ("", STRICT, &[STRICT]),
            4 => ("", FULL, &[FULL]),
            5 => ("", BRIEF, &[BRIEF]),
            6 => ("beside", "key", &BESIDE),
            _ => ("", ROUND[0], &[]),
        };
        // Two of the large ones don't fit into a frame of the smallest files.
        let large = exchange == "beside" && self.chance(40);
        let count = match large {
            true => 1,
            false => self.random.random_range(1..4),
        };
        let publisher = self.peers[at].publisher(1);
        let ids = self.facts.number(publisher, count);
        let address = Address::Amqp {
            exchange: name(exchange),
            routing_key: name(key),
        };
        let (padding, now) = (self.padding(), self.unix_ms());
        let padding = if large { 5000 + padding } else { padding };
        let mut publish = messages::publish(&ids, padding, now, &address, &name("amqp"), 1);
        for (record, id) in publish.records.iter_mut().zip(&ids) {
            record.envelope.priority = self.random.random_range(0..4);
            self.facts.ends.sent_ms.insert(*id, now);
        }
        self.ask(at, Ask::Ends(ids, takers), Command::Publish(publish));
    }

    /// What was published to queues that may refuse it has its answer.
    pub(super) fn published_ending(
        &mut self,
        ids: &[u64],
        takers: &[&'static str],
        published: &Published,
    ) {
        for (index, id) in ids.iter().enumerate() {
            let outcome = published.outcomes.get(index).copied();
            let outcome = outcome.unwrap_or(Routed::Taken);
            for queue in takers {
                match (*queue, outcome) {
                    (FULL, Routed::Rejected) => {
                        self.facts.ends.refused.insert(*id);
                    }
                    // Refused, it is a dead letter.
                    (STRICT | SHORT, Routed::Rejected) | (_, Routed::Taken) => {
                        self.facts.expect(queue, &[*id]);
                    }
                    (queue, outcome) => panic!("{queue}: {id} is {outcome:?}"),
                }
            }
        }
    }

    /// May an entry be settled for good by being refused? Else it must be among the dead letters.
    pub(super) fn dies_of_refusal(&self, queue: QueueId) -> bool {
        let name = self.facts.followed.get(&queue);
        name.is_none_or(|name| !ENDING.contains(name))
    }

    /// An entry was consumed, and that is durable.
    pub(super) fn consumed(&mut self, queue: QueueId, entry: EntryId) {
        if let Some(name) = self.facts.followed.get(&queue) {
            self.facts.ends.consumed.insert((name, entry));
        }
    }

    /// A delivery has been read.
    pub(super) fn check_ending(&mut self, delivery: &Delivery, id: Option<u64>) {
        let Some(id) = id else { return };
        let of = |known: &BTreeMap<QueueId, &'static str>| known.get(&delivery.queue).copied();
        if let Some(queue) = of(&self.facts.followed).filter(|queue| ENDING.contains(queue)) {
            let letter = self.facts.ends.letters.get(&(queue, id));
            assert_eq!(letter, None, "{queue}: {id} is delivered and a dead letter");
            assert!(
                !self.facts.ends.refused.contains(&id),
                "{queue}: {id} was refused, and is delivered"
            );
            let ends = &self.facts.ends;
            let until = ends.published_ms.get(&id).map(|at| at + BRIEF_TTL_MS);
            let at = ends.delivered_ms.get(&delivery.entry);
            assert!(
                queue != BRIEF || at.is_none_or(|at| until.is_none_or(|until| *at < until)),
                "{queue}: {id} lives until {until:?}, and was delivered at {at:?}"
            );
            assert!(
                queue != TRIED || delivery.returned_count <= TRIES_MAX,
                "{queue}: {id} came back {} times",
                delivery.returned_count
            );
        }
        let Some(queue) = of(&self.facts.ends.queues) else {
            return;
        };
        let deaths = delivery.message.deaths();
        if queue == DEAD {
            let deaths = deaths.expect("a dead letter has a history");
            assert!(
                !self.facts.ends.taken.contains(&delivery.entry),
                "{queue}: {} ({id}) is delivered after its settlement was acknowledged",
                delivery.entry
            );
            self.buried(delivery.entry, id, deaths);
        } else if let Some(deaths) = deaths {
            let by_hand = |death: &Death| death.reason == DeathReason::Rejected;
            let round = deaths.deaths.iter().any(|death| death.queue == queue);
            assert!(
                !round || deaths.deaths.iter().any(by_hand),
                "{queue}: {id} goes round for ever: {deaths:?}"
            );
        }
    }

    /// A dead letter is seen.
    fn buried(&mut self, entry: EntryId, id: u64, deaths: &Deaths) {
        let Some(death) = deaths.deaths.first() else {
            panic!("{id} died nowhere");
        };
        let from = ENDING.into_iter().find(|queue| death.queue == *queue);
        let from = from.expect("a queue that has dead letters");
        assert_eq!(
            (deaths.deaths.len(), death.count),
            (1, 1),
            "{from}: {id} died once"
        );
        assert_eq!(deaths.first.queue, death.queue);
        let fits = match death.reason {
            DeathReason::Rejected => true,
            DeathReason::Expired => [BRIEF, TIMELY].contains(&from),
            DeathReason::MaxLen => [SHORT, SLIM, STRICT, TIMELY].contains(&from),
            DeathReason::DeliveryLimit => [TRIED, LATER, TIMELY].contains(&from),
        };
        assert!(fits, "{from}: {id} died of {:?}", death.reason);
        if death.reason == DeathReason::Expired {
            let sent = self.facts.ends.sent_ms[&id];
            assert!(
                death.time_ms >= sent + BRIEF_TTL_MS,
                "{from}: {id} was sent at {sent} and expired at {}",
                death.time_ms
            );
        }
        let other = self.facts.ends.letters.insert((from, id), entry);
        assert!(
            other.is_none_or(|other| other == entry),
            "{from}: {id} is twice among the dead letters: {other:?} and {entry}"
        );
        if let Some(entry) = self.facts.entry_of(from, id) {
            assert!(
                !self.facts.ends.consumed.contains(&(from, entry)),
                "{from}: {id} was consumed, and is a dead letter"
            );
        }
        self.facts.ended(from, id);
    }

    /// A step was taken: limits hold, nothing late was delivered, and what is counted is there.
    pub(super) fn check_ends(&mut self, delivered: &[(QueueId, EntryId)]) {
        // Once it has stopped, nothing is dropped any more.
        let runs = |shard: &&Shard| shard.failure().is_none() && !shard.stopped;
        if self.shard().filter(runs).is_none() {
            return;
        }
        let now = self.unix_ms();
        for (id, entry) in delivered {
            if self.facts.followed.get(id) == Some(&BRIEF) {
                self.facts.ends.delivered_ms.insert(*entry, now);
            }
            let Some(shard) = self.shard() else { return };
            let queue = shard.state.queues.get(id);
            let deadline = queue.and_then(|queue| queue.deadline(entry.0));
            assert!(
                deadline.is_none_or(|at| at == 0 || at > now),
                "{id}: {entry} is delivered at {now}, and expired at {deadline:?}"
            );
        }
        let Some(shard) = self.shard() else { return };
        for (id, name) in &self.facts.followed {
            let Some(queue) = shard.state.queues.get(id) else {
                continue;
            };
            let reading = shard.exhuming.contains_key(id);
            let released = queue
                .ready
                .iter()
                .take_while(|entry| *entry <= shard.released);
            let released = released.count() as u64;
            // Nobody ever had these: they are not there by having come back.
            let fresh = queue.delivered_below.max(queue.suspect_below);
            let fresh = queue.ready.iter().filter(|entry| *entry >= fresh).count() as u64;
            match *name {
                SHORT => assert!(
                    reading || released <= SHORT_MAX,
                    "{name}: {released} entries"
                ),
                STRICT => assert!(fresh <= STRICT_MAX, "{name}: {fresh} entries"),
                _ => {}
            }
            let Some(sizes) = &queue.sizes else { continue };
            let ready =
                |(entry, _): &(u64, u64)| queue.ready.contains(*entry) || queue.defers(*entry);
            let sum: u64 = sizes.all().filter(ready).map(|(_, bytes)| bytes).sum();
            assert_eq!(sizes.ready, sum, "{name}: bytes are miscounted");
            let known = |entry| queue.holds(entry) || queue.acked.contains(entry);
            assert!(
                sizes.all().all(|(entry, _)| known(entry)),
                "{name}: what is gone is still counted"
            );
            let unreleased = queue.ready.len() > released;
            match *name {
                SLIM => assert!(
                    reading || unreleased || sum <= SLIM_BYTES_MAX,
                    "{name}: {sum} bytes"
                ),
                FULL => assert!(fresh == 0 || queue.ready.len() > fresh || sum <= FULL_BYTES_MAX),
                _ => {}
            }
        }
    }

    /// A client that gives much back has come.
    pub(super) fn greet_amqp(&mut self, at: usize) {
        if !self.peers[at].draining && self.chance(70) {
            let queue = RETURNING[self.random.random_range(0..RETURNING.len())];
            let credit = self.random.random_range(1..5);
            self.consume(at, queue, credit, false);
        }
    }

    /// Does what comes back to this queue matter most?
    pub(super) fn returns_often(&self, queue: QueueId) -> bool {
        let name = self.facts.followed.get(&queue);
        name.is_some_and(|name| RETURNING.contains(name))
    }

    /// A step was taken: what came back is where it must be.
    pub(super) fn check_returns(&mut self, delivered: &[(QueueId, EntryId)]) {
        let now = self.unix_ms();
        if let Some(life) = &self.life
            && life.shard.failure().is_none()
            && !life.shard.stopped
        {
            self.facts.retries.after(&life.shard.state, delivered, now);
            self.facts.heads.after(&life.shard.state);
        }
    }

    /// Takes all that is left, dead letters last.
    pub(super) fn drain_ends(&mut self, at: usize) {
        for queue in ENDING {
            self.consume(at, queue, 0, false);
        }
        self.calm();
        self.consume(at, DEAD, 0, false);
        self.calm();
        let Some(shard) = self.shard() else { return };
        for queue in shard.state.queues.values() {
            let known = self.facts.followed.get(&queue.id);
            if known.is_some_and(|name| ENDING.contains(name)) {
                assert_eq!(queue.ready.len(), 0, "{known:?} is drained");
                assert_eq!(queue.deadlines, None, "{known:?}: times of what is gone");
                assert!(queue.retries.is_none(), "{known:?}: tries of what is gone");
            }
        }
    }
}
