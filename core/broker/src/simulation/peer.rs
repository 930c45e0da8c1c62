//! A client: its connection, what it has asked and what it holds.

use crate::api::*;
use crate::server::{Input, Mailbox, Parcel};
use crate::simulation::delays::DELAYED;
use crate::simulation::facts::SESSION;
use crate::simulation::world::World;
use omnilog_ledger::Lsn;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Kafka,
    Amqp,
    /// A Kafka client with a transactional id.
    Transactor,
    /// With its client id's number; 0 is the steady session's.
    Mqtt(u8),
}

/// What a reply is awaited for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// Nothing is learned from it.
    Whatever,
    /// Topic, partition, messages; of an idempotent producer.
    Append(Name, i32, Vec<u64>, bool),
    Producer,
    /// The partition read, from where.
    Fetch(Name, i32, i64),
    Commit(usize),
    Offsets,
    /// Messages and the followed queue that must take them.
    Publish(Vec<u64>, Option<&'static str>),
    Transact(Vec<u64>, &'static str),
    /// At QoS 2, under this packet id.
    PublishOnce(u16, u64),
    Retain(Name, usize),
    Settle(Vec<(QueueId, EntryId)>),
    /// They were consumed.
    Consumed(Vec<(QueueId, EntryId)>),
    /// They come back to their queues.
    Return(Vec<(QueueId, EntryId)>),
    Follow(&'static str),
    /// A queue in which entries end, with no promise for what is published to it.
    Ending(&'static str),
    /// Messages and the queues that take them, or refuse them by their limits.
    Ends(Vec<u64>, &'static [&'static str]),
    /// Messages and how long each waits, and the queue that they come to then.
    Later(Vec<(u64, i64)>, &'static str),
    /// To a path that may be kept anywhere.
    Placed(Vec<u64>),
    FetchPlaced(Name, i32),
    Got,
    Session,
    /// Which transactional id.
    TakeOver(usize),
    /// Something of a transaction of which nothing is learned but that it was refused.
    InTransaction,
    /// Transaction, topic, partition, messages.
    AppendIn(u64, &'static str, i32, Vec<u64>),
    PositionIn(u64),
    /// Was it to be committed?
    EndOf(u64, bool),
    FetchCommitted(Name, i32, i64),
    /// The raw view with these copies, from where; as committed.
    FetchRaw(u64, i64, bool),
    Assign(u16),
    Received(u16),
    Released(u16),
    /// Keys of a table, and their values' numbers.
    Put(Vec<(u8, Option<u64>)>),
}

/// A question and the newest frame before it was decided.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) what: Ask,
    pub(super) decided_after: Lsn,
    /// Its effect is a frame, so that the reply must wait for one more.
    writes: bool,
}

/// A delivery not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) queue: QueueId,
    pub(super) entry: EntryId,
    pub(super) id: Option<u64>,
    pub(super) qos: u8,
    /// MQTT: its packet id, and whether it was assigned and received.
    pub(super) packet_id: u16,
    pub(super) stage: u8,
}

/// A client.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) role: Role,
    pub(super) client: ClientId,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) inbox: VecDeque<Parcel>,
    pub(super) pending: BTreeMap<u64, Asked>,
    next: u64,
    /// The newest question that wrote and was answered.
    answered: u64,
    pub(super) held: Vec<Held>,
    /// It settles everything at once.
    pub(super) draining: bool,
    /// Kafka: its producer id, its next sequence, and the batch it must send until it has an answer.
    pub(super) producer: Option<i64>,
    pub(super) sequence: i32,
    pub(super) unanswered: Option<(Vec<u64>, usize)>,
    /// Its consumers.
    pub(super) consumers: u64,
    /// MQTT: its session, packet ids, and the QoS 2 message it must send until it has an answer.
    pub(super) session: Option<SessionId>,
    pub(super) opening: bool,
    pub(super) next_packet: u16,
    pub(super) once: Option<(u16, u64, bool)>,
    /// Its transaction.
    pub(super) transacting: crate::simulation::transactions::Transacting,
}

impl Peer {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            client: ClientId(0),
            mailbox: Arc::default(),
            inbox: VecDeque::new(),
            pending: BTreeMap::new(),
            next: 1,
            answered: 0,
            held: Vec::new(),
            draining: false,
            producer: None,
            sequence: 0,
            unanswered: None,
            consumers: 0,
            session: None,
            opening: false,
            next_packet: 1,
            once: None,
            transacting: Default::default(),
        }
    }

    /// A new connection: what was not answered never will be.
    pub(super) fn joined(&mut self, client: ClientId) {
        self.client = client;
        self.mailbox = Arc::default();
        self.inbox.clear();
        self.pending.clear();
        self.held.clear();
        self.consumers = 0;
        self.session = None;
        self.opening = false;
    }

    /// A number for the order of what it publishes in one way.
    pub(super) fn publisher(&self, way: u64) -> u64 {
        self.client.0 * 8 + way
    }

    /// No reply overtakes what it read or wrote.
    pub(super) fn check_not_early(&self, parcel: &Parcel, synced: Lsn) {
        let Parcel::Event(Event::Reply {
            correlation,
            result,
        }) = parcel
        else {
            return;
        };
        if result.is_err() {
            return;
        }
        if let Some(asked) = self.pending.get(correlation) {
            let needs = asked.decided_after + Lsn::from(asked.writes);
            assert!(
                synced >= needs,
                "the reply to {:?} needs frame {needs}, and only {synced} is durable",
                asked.what
            );
        }
    }
}

impl World {
    /// Sends a command; the reply is awaited.
    pub(super) fn ask(&mut self, at: usize, what: Ask, command: Command) {
        let writes = matches!(
            what,
            Ask::Append(_, _, _, false)
                | Ask::Commit(_)
                | Ask::TakeOver(_)
                | Ask::AppendIn(..)
                | Ask::Put(_)
                | Ask::PositionIn(_)
                | Ask::EndOf(..)
                | Ask::Publish(_, Some(_))
                | Ask::Transact(..)
                | Ask::Later(_, DELAYED | SESSION)
                | Ask::Placed(_)
        );
        // What is refused because too many wait writes nothing.
        let writes = writes && !(self.few_wait() && matches!(what, Ask::Later(..)));
        let peer = &mut self.peers[at];
        let correlation = peer.next;
        peer.next += 1;
        let asked = Asked {
            what,
            decided_after: 0,
            writes,
        };
        peer.pending.insert(correlation, asked);
        let client = peer.client;
        self.input(Input::Command {
            client,
            correlation,
            command,
            cost: None,
        });
    }

    /// Sends a command without waiting for a reply.
    pub(super) fn tell(&mut self, at: usize, command: Command) {
        let client = self.peers[at].client;
        self.input(Input::Command {
            client,
            correlation: 0,
            command,
            cost: None,
        });
    }

    /// A connection has been made.
    pub(super) fn greet(&mut self, at: usize) {
        match self.peers[at].role {
            Role::Kafka => self.greet_kafka(at),
            Role::Amqp => self.greet_amqp(at),
            Role::Transactor => self.transactor_joined(at),
            Role::Mqtt(_) => self.open_session(at),
        }
    }

    /// A client does something.
    pub(super) fn act(&mut self, at: usize) {
        match self.peers[at].role {
            Role::Kafka => self.act_kafka(at),
            Role::Amqp => self.act_amqp(at),
            Role::Transactor => self.act_transactor(at),
            Role::Mqtt(_) => self.act_mqtt(at),
        }
    }

    /// A client hears something.
    pub(super) fn hear(&mut self, at: usize, event: Event) {
        match event {
            Event::Reply {
                correlation,
                result,
            } => {
                let peer = &mut self.peers[at];
                let Some(asked) = peer.pending.remove(&correlation) else {
                    return;
                };
                if asked.writes {
                    assert!(
                        peer.answered < correlation,
                        "{:?} is answered after what was asked later",
                        asked.what
                    );
                    peer.answered = correlation;
                }
                self.answered(at, asked.what, *result);
            }
            Event::Delivery(delivery) => self.delivered(at, &delivery),
            Event::SessionTakenOver(session) => self.taken_over(at, session),
            _ => {}
        }
    }

    fn answered(&mut self, at: usize, what: Ask, result: Result<Reply, Refusal>) {
        match (what, result) {
            (Ask::Append(topic, partition, ids, once), result) => {
                self.appended(at, &topic, partition, &ids, once, result);
            }
            (Ask::Put(records), result) => self.was_put(&records, result),
            (Ask::Producer, Ok(Reply::Producer(id, _))) => {
                self.peers[at].producer = Some(id);
                self.peers[at].sequence = 0;
            }
            (Ask::Fetch(topic, partition, from), Ok(Reply::Fetched(parts))) => {
                self.fetched(&topic, partition, from, parts);
            }
            (
                what @ (Ask::TakeOver(_)
                | Ask::InTransaction
                | Ask::AppendIn(..)
                | Ask::PositionIn(_)
                | Ask::EndOf(..)),
                result,
            ) => self.transactor_answered(at, what, result),
            (Ask::FetchCommitted(topic, partition, from), Ok(Reply::Fetched(parts))) => {
                self.fetched_committed(&topic, partition, from, parts);
            }
            (Ask::FetchRaw(key, from, committed), Ok(Reply::Fetched(parts))) => {
                self.fetched_raw(key, from, committed, parts);
            }
            (Ask::Commit(index), Ok(_)) => {
                let before = self.facts.committed;
                self.facts.committed = Some(before.map_or(index, |before| before.max(index)));
            }
            (Ask::Offsets, Ok(Reply::GroupOffsets(offsets))) => self.check_offsets(&offsets),
            (Ask::Publish(ids, Some(queue)), Ok(Reply::Published(published))) => {
                assert!(
                    published.outcomes.is_empty(),
                    "{queue} is there and does not take {ids:?}: {published:?}"
                );
                self.facts.expect_together(queue, &ids);
            }
            (Ask::Publish(_, None), Ok(Reply::Published(_))) => {}
            (Ask::Transact(ids, queue), Ok(Reply::Published(published))) => {
                assert!(
                    published
                        .outcomes
                        .iter()
                        .all(|outcome| *outcome == Routed::Taken)
                );
                self.facts.expect_together(queue, &ids);
            }
            (what @ (Ask::Publish(_, Some(_)) | Ask::Transact(..)), Err(refusal)) => {
                if self.tight && refusal == Refusal::DiskFull {
                    return;
                }
                panic!("{what:?} is refused: {refusal}");
            }
            (Ask::PublishOnce(packet, id), result) => self.published_once(at, packet, id, &result),
            (Ask::Retain(topic, index), Ok(_)) => {
                if let Some((_, acknowledged)) = self.facts.retained.get_mut(&topic) {
                    *acknowledged = Some(acknowledged.map_or(index, |before| before.max(index)));
                }
            }
            (Ask::Settle(entries), Ok(_)) => {
                for (queue, entry) in entries {
                    self.facts.settled(queue, entry);
                }
            }
            (Ask::Consumed(entries), Ok(_)) => {
                for (queue, entry) in entries {
                    self.facts.settled(queue, entry);
                    self.consumed(queue, entry);
                }
            }
            (Ask::Return(entries), Ok(_)) => self.facts.returned(&entries),
            (Ask::Follow(name), Ok(Reply::Queue(info))) => {
                self.facts.followed.insert(info.queue, name);
            }
            (Ask::Ending(name), Ok(Reply::Queue(info))) => self.ending(name, info.queue),
            (Ask::Ends(ids, takers), Ok(Reply::Published(published))) => {
                self.published_ending(&ids, takers, &published);
            }
            (Ask::Ends(..), Err(refusal)) if refusal != Refusal::DiskFull || !self.tight => {
                panic!("refused: {refusal}");
            }
            (Ask::Later(waits, queue), result) => self.put_off_answered(&waits, queue, result),
            (Ask::Placed(ids), result) => self.placed(&ids, result),
            (Ask::FetchPlaced(topic, partition), Ok(Reply::Fetched(parts))) => {
                self.fetched_placed(&topic, partition, parts);
            }
            (Ask::Got, Ok(Reply::Got(Some((delivery, _))))) => self.delivered(at, &delivery),
            (Ask::Session, result) => self.session_opened(at, result),
            (Ask::Assign(packet), Ok(Reply::Step(true))) => self.assigned(at, packet),
            (Ask::Assign(packet), Ok(Reply::Step(false))) => {
                // It is another's by now.
                self.peers[at]
                    .held
                    .retain(|held| held.packet_id != packet || held.stage != 1);
            }
            (Ask::Received(packet), Ok(_)) => self.received(at, packet),
            (Ask::Released(packet), Ok(_)) => self.released(at, packet),
            _ => {}
        }
    }

    fn delivered(&mut self, at: usize, delivery: &Delivery) {
        let id = crate::simulation::messages::delivered(&delivery.message);
        if let Some(id) = id {
            self.facts.transactions.check_visible(id);
            self.check_path(delivery, id);
        }
        let mqtt = matches!(self.peers[at].role, Role::Mqtt(_));
        if mqtt && (delivery.qos == 0 || delivery.retained) {
            if delivery.unsettled {
                self.tell(
                    at,
                    Command::Settle(Settle {
                        entries: vec![(delivery.queue, delivery.entry)],
                        settlement: Settlement::Ack,
                    }),
                );
            }
            return;
        }
        // What it reads late may have been taken from it meanwhile.
        let client = self.peers[at].client;
        let leased = self.shard().is_some_and(|shard| {
            let queue = shard.state.queues.get(&delivery.queue);
            let lease = queue.and_then(|queue| queue.leases.get(&delivery.entry));
            lease.is_some_and(|lease| lease.client == client)
        });
        if let Some(session) = self.peers[at].session
            && leased
        {
            // What a session had begun is free again when the session is gone.
            let state = self.life.as_ref().map(|life| &life.shard.state);
            self.facts
                .begun
                .retain(|_, by| state.is_some_and(|state| state.sessions.get(by).is_some()));
            self.facts
                .check_begun(delivery.queue, delivery.entry, session);
        }
        self.check_rank(at, delivery);
        self.check_ending(delivery, id);
        self.facts.check_returns(delivery);
        let redelivered = (!mqtt).then_some(delivery.redelivered);
        self.facts
            .delivered(delivery.queue, delivery.entry, id, redelivered);
        let held = Held {
            queue: delivery.queue,
            entry: delivery.entry,
            id,
            qos: delivery.qos,
            packet_id: 0,
            stage: 0,
        };
        self.peers[at].held.push(held);
        if self.peers[at].draining {
            if mqtt {
                self.take_next(at);
            } else {
                self.settle(at, 1, Settlement::Ack, false);
            }
        } else if !mqtt && self.returns_often(delivery.queue) && self.chance(60) {
            self.give_back_last(at);
        }
    }
}
