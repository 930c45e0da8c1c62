//! Sessions as bytes in and bytes out, against a broker that the test plays: no sockets, no clock but the test's.
//! The numbers in the tests' comments are statements of the MQTT 5 specification.

mod closing;
mod hostile;
mod incoming;
mod opening;
mod outgoing;
mod subscribing;

use super::*;
use crate::MqttConfig;
use crate::codec::Property;
use crate::gather;
use omnilog_auth::{Authority, Credentials, User};
use omnilog_broker::{
    Command, Delivery, EntryId, Message, NamespaceId, OpenSession, Outgoing as Resumed,
    SESSION_CONSUMER, SessionOpened, StoredBatch, Subscription,
};
use omnilog_wire::{Action, Authenticator, Close, Connection, SignalReceiver};
use std::sync::atomic::{AtomicI64, Ordering};

/// A connection, its client and its broker.
struct Pair {
    session: MqttSession,
    out: Outbox,
    input: BytesMut,
    signals: SignalReceiver<Signal>,
    clock_ms: Arc<AtomicI64>,
    now: Instant,
    commands: Vec<(u64, Command)>,
    connects: Vec<NamespaceId>,
    /// What ended it.
    ended: Option<ConnectionError>,
}

const QUEUE: QueueId = QueueId(7);
const SESSION: SessionId = SessionId(3);

impl Pair {
    fn new(config: MqttConfig) -> Self {
        let mut credentials = Credentials::new();
        credentials.add("user", User::plain("pass")).unwrap();
        let clock_ms = Arc::new(AtomicI64::new(1_000_000));
        let clock = clock_ms.clone();
        let shared = Arc::new(Shared {
            config,
            authenticator: Authenticator::new(Authority::new(credentials), 1),
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        });
        let (stream, _) = tokio::io::duplex(1);
        let (sender, signals) = omnilog_wire::signals();
        let now = Instant::now();
        let namespaces: Namespaces = Arc::new(|name| match name {
            b"" => Some(NamespaceId(0)),
            b"tenant" => Some(NamespaceId(1)),
            _ => None,
        });
        let info = Connection::over_pipe(stream).info;
        Self {
            session: MqttSession::new(shared, info, namespaces, sender, now),
            out: Outbox::new(),
            input: BytesMut::new(),
            signals,
            clock_ms,
            now,
            commands: Vec::new(),
            connects: Vec::new(),
            ended: None,
        }
    }

    /// An open session of this version.
    fn open(version: u8) -> Self {
        Self::open_with(MqttConfig::default(), &connect(version, "c", 0x02, &[]))
    }

    fn open_with(config: MqttConfig, connect: &[u8]) -> Self {
        let mut pair = Self::new(config);
        pair.send(connect);
        pair.opened(opened());
        assert!(pair.bytes().starts_with(&[0x20]));
        pair
    }

    /// The client sends bytes.
    fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.feed();
    }

    fn feed(&mut self) {
        let result = self
            .session
            .on_bytes(self.now, &mut self.input, &mut self.out);
        self.after(result);
    }

    fn event(&mut self, event: Event) {
        let paused = self.out.reading_paused();
        let result = self.session.on_event(self.now, event, &mut self.out);
        self.after(result);
        if paused && !self.out.reading_paused() && self.ended.is_none() {
            self.feed();
        }
    }

    fn after(&mut self, result: Result<(), ConnectionError>) {
        for action in self.out.drain_actions() {
            match action {
                Action::Connect(namespace, _) => self.connects.push(namespace),
                Action::Command(correlation, command) => self.commands.push((correlation, command)),
            }
        }
        if let Err(error) = result {
            assert!(self.ended.is_none(), "called after its end");
            self.ended = Some(error);
            self.close(ClosedBy::Error);
        }
    }

    fn close(&mut self, cause: ClosedBy) {
        self.session.on_closed(self.now, cause, &mut self.out);
        self.after(Ok(()));
    }

    /// The broker answers.
    fn reply(&mut self, correlation: u64, result: Result<Reply, Refusal>) {
        self.event(Event::reply(correlation, result));
    }

    /// The broker answers the oldest command that was not looked at.
    fn answer(&mut self, reply: Reply) -> Command {
        let (correlation, command) = self.commands.remove(0);
        self.reply(correlation, Ok(reply));
        command
    }

    fn opened(&mut self, opened: SessionOpened) -> OpenSession {
        match self.answer(Reply::Session(Box::new(opened))) {
            Command::OpenSession(open) => open,
            other => panic!("{other:?}"),
        }
    }

    /// What the client was sent since the last look.
    fn bytes(&mut self) -> Vec<u8> {
        self.out.take_bytes().to_vec()
    }

    /// The oldest command that was not looked at.
    fn command(&mut self) -> Command {
        assert!(!self.commands.is_empty(), "no command");
        self.commands.remove(0).1
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        let ms = i64::try_from(duration.as_millis()).unwrap();
        self.clock_ms.fetch_add(ms, Ordering::Relaxed);
        if self.session.deadline().is_some_and(|at| at <= self.now) {
            let result = self.session.on_deadline(self.now, &mut self.out);
            self.after(result);
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.event(Event::Delivery(Box::new(delivery)));
    }
}

fn opened() -> SessionOpened {
    SessionOpened {
        session: SESSION,
        queue: QUEUE,
        present: false,
        subscriptions: vec![],
        outgoing: vec![],
        incoming: vec![],
    }
}

/// A packet: first byte, and the remaining length put in.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7F) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn connect(version: u8, id: &str, flags: u8, properties: &[Property]) -> Vec<u8> {
    connect_with(version, id, flags, 0, properties, &[])
}

fn connect_with(
    version: u8,
    id: &str,
    flags: u8,
    keep_alive: u16,
    properties: &[Property],
    payload: &[u8],
) -> Vec<u8> {
    let name = if version == 3 { "MQIsdp" } else { "MQTT" };
    let block = block(version, properties);
    packet(
        0x10,
        &[
            &string(name),
            &[version, flags],
            &keep_alive.to_be_bytes(),
            &block,
            &string(id),
            payload,
        ],
    )
}

/// A property block with its length; nothing before version 5.
fn block(version: u8, properties: &[Property]) -> Vec<u8> {
    if version != 5 {
        return vec![];
    }
    let mut block = BytesMut::new();
    properties
        .iter()
        .for_each(|property| property.put(&mut block));
    assert!(block.len() < 128);
    [&[u8::try_from(block.len()).unwrap()], &block[..]].concat()
}

fn publish(
    version: u8,
    flags: u8,
    topic: &str,
    id: u16,
    properties: &[Property],
    payload: &[u8],
) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id: &[u8] = if flags & 0x06 == 0 { &[] } else { &id };
    packet(
        0x30 | flags,
        &[&string(topic), id, &block(version, properties), payload],
    )
}

/// PUBACK and its like.
fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()])
}

fn subscribe(version: u8, id: u16, properties: &[Property], filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters
        .iter()
        .flat_map(|(filter, options)| [&string(filter)[..], &[*options]].concat())
        .collect();
    packet(
        0x82,
        &[&id.to_be_bytes(), &block(version, properties), &filters],
    )
}

/// A delivery of a message that an MQTT client published.
fn delivery(entry: u64, topic: &'static str, qos: u8, payload: &'static [u8]) -> Delivery {
    delivery_with(entry, topic, qos, payload, false, None)
}

fn delivery_with(
    entry: u64,
    topic: &'static str,
    qos: u8,
    payload: &'static [u8],
    retain: bool,
    expires_at_ms: Option<i64>,
) -> Delivery {
    Delivery {
        consumer: SESSION_CONSUMER,
        queue: QUEUE,
        entry: EntryId(entry),
        unsettled: qos > 0,
        redelivered: false,
        returned_count: 0,
        qos,
        retained: false,
        by_root: false,
        delivery_count: None,
        acquired_count: None,
        message: message(topic, qos, payload, retain, expires_at_ms),
    }
}

fn message(
    topic: &'static str,
    qos: u8,
    payload: &'static [u8],
    retain: bool,
    expires_at_ms: Option<i64>,
) -> Message {
    let publish = gather::single(
        &gather::Incoming {
            topic: &Bytes::from_static(topic.as_bytes()),
            payload: &Bytes::from_static(payload),
            forward: &codec::Properties::default(),
            qos,
            retain,
            expires_at_ms,
            delay_ms: None,
        },
        &Bytes::from_static(b"other"),
        1,
    )
    .unwrap();
    Message {
        stored: Arc::new(StoredBatch {
            deaths: Vec::new(),
            hints: Vec::new(),
            batch: publish.batch,
            envelopes: publish
                .records
                .into_iter()
                .map(|record| record.envelope)
                .collect(),
        }),
        index: 0,
        position: None,
    }
}
