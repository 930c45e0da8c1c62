//! Connections as bytes in and bytes out, against a broker that the test plays: no sockets, no clock but the test's.
//! The client's frames are another codec's, so that the two check each other.

mod closing;
mod consuming;
mod opening;
mod publishing;
mod topology;

use super::*;
use crate::AmqpConfig;
use crate::codec::PROTOCOL_HEADER;
use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::Bytes;
use omnilog_auth::{Authority, Credentials, User};
use omnilog_broker::{
    Command, Delivery, EntryId, Message, NamespaceId, Publish, QueueId, QueueInfo, Refusal, Reply,
    StoredBatch,
};
use omnilog_wire::{Action, Authenticator, Close, Connection, SignalReceiver};

/// A connection, its client and its broker.
struct Pair {
    session: AmqpSession,
    out: Outbox,
    input: BytesMut,
    /// Kept, so that the session has somebody to send to.
    _signals: SignalReceiver<Signal>,
    now: Instant,
    commands: Vec<(u64, Command)>,
    connects: Vec<NamespaceId>,
    ended: Option<ConnectionError>,
}

const NOW_MS: i64 = 1_000_000;

impl Pair {
    fn new(config: AmqpConfig) -> Self {
        let mut credentials = Credentials::new();
        credentials.add("user", User::plain("pass")).unwrap();
        let shared = Arc::new(Shared {
            config,
            authenticator: Authenticator::new(Authority::new(credentials), 1),
            clock: Arc::new(|| NOW_MS),
        });
        let (stream, _) = tokio::io::duplex(1);
        let (sender, signals) = omnilog_wire::signals();
        let now = Instant::now();
        let namespaces: Namespaces = Arc::new(|name| match name {
            b"/" => Some(NamespaceId(0)),
            b"tenant" => Some(NamespaceId(1)),
            _ => None,
        });
        let info = Connection::over_pipe(stream).info;
        Self {
            session: AmqpSession::new(shared, info, namespaces, sender, now),
            out: Outbox::new(),
            input: BytesMut::new(),
            _signals: signals,
            now,
            commands: Vec::new(),
            connects: Vec::new(),
            ended: None,
        }
    }

    /// An open connection with channel 1 open.
    fn open() -> Self {
        let mut pair = Self::new(AmqpConfig::default());
        pair.send(PROTOCOL_HEADER);
        pair.method(0, start_ok("PLAIN", b"\0user\0pass", true));
        pair.method(0, tune_ok(2047, 131_072, 60));
        pair.method(0, open("/"));
        pair.method(
            1,
            AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        );
        let last = pair.frames().pop();
        assert!(matches!(
            last,
            Some(AMQPFrame::Method(
                1,
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))
            ))
        ));
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

    /// The client sends frames at once.
    fn send_frames(&mut self, frames: &[AMQPFrame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(encoded).collect();
        self.send(&bytes);
    }

    fn method(&mut self, channel: u16, method: AMQPClass) {
        self.send_frames(&[AMQPFrame::Method(channel, method)]);
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
        }
    }

    /// The broker answers the oldest command that was not looked at.
    fn answer(&mut self, result: Result<Reply, Refusal>) -> Command {
        let (correlation, command) = self.commands.remove(0);
        self.event(Event::reply(correlation, result));
        command
    }

    /// The oldest command that was not looked at, which is not answered.
    fn command(&mut self) -> Command {
        self.commands.remove(0).1
    }

    /// What was sent to the client since this was last asked.
    fn frames(&mut self) -> Vec<AMQPFrame> {
        let bytes = self.out.take_bytes();
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (left, frame) = parse_frame(rest).expect("what we send can be read");
            rest = left;
            frames.push(frame);
        }
        frames
    }

    /// The methods among them.
    fn methods(&mut self) -> Vec<AMQPClass> {
        let methods = self.frames().into_iter().filter_map(|frame| match frame {
            AMQPFrame::Method(_, method) => Some(method),
            _ => None,
        });
        methods.collect()
    }

    /// The channel was closed, just now, so.
    fn channel_closed(&mut self) -> (u16, String, (u16, u16)) {
        match self.methods().pop() {
            Some(AMQPClass::Channel(channel::AMQPMethod::Close(close))) => (
                close.reply_code,
                close.reply_text.to_string(),
                (close.class_id, close.method_id),
            ),
            other => panic!("no channel.close: {other:?}"),
        }
    }

    /// The connection was closed, just now, so.
    fn connection_closed(&mut self) -> (u16, String, (u16, u16)) {
        match self.methods().pop() {
            Some(AMQPClass::Connection(connection::AMQPMethod::Close(close))) => (
                close.reply_code,
                close.reply_text.to_string(),
                (close.class_id, close.method_id),
            ),
            other => panic!("no connection.close: {other:?}"),
        }
    }

    /// Time passes; deadlines in it are kept.
    fn pass(&mut self, time: std::time::Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let result = self.session.on_deadline(self.now, &mut self.out);
            self.after(result);
            if self.ended.is_some() {
                return;
            }
        }
        self.now = end;
    }
}

fn encoded(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new()))
        .expect("a frame can be written")
        .write
}

fn start_ok(mechanism: &str, response: &[u8], capable: bool) -> AMQPClass {
    let mut capabilities = FieldTable::default();
    if capable {
        for name in [
            "authentication_failure_close",
            "consumer_cancel_notify",
            "connection.blocked",
        ] {
            capabilities.insert(name.into(), AMQPValue::Boolean(true));
        }
    }
    let mut client_properties = FieldTable::default();
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties,
        mechanism: mechanism.into(),
        response: response.into(),
        locale: "en_US".into(),
    }))
}

fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::TuneOk(connection::TuneOk {
        channel_max,
        frame_max,
        heartbeat,
    }))
}

fn open(vhost: &str) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Open(connection::Open {
        virtual_host: vhost.into(),
    }))
}

fn queue(method: queue::AMQPMethod) -> AMQPClass {
    AMQPClass::Queue(method)
}

fn exchange(method: exchange::AMQPMethod) -> AMQPClass {
    AMQPClass::Exchange(method)
}

fn basic(method: basic::AMQPMethod) -> AMQPClass {
    AMQPClass::Basic(method)
}

fn declare_queue(name: &str) -> AMQPClass {
    queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        ..queue::Declare::default()
    }))
}

fn queue_info(name: &'static str, ready: u64, consumers: u32) -> Reply {
    Reply::Queue(QueueInfo {
        queue: QueueId(7),
        name: Bytes::from_static(name.as_bytes()),
        ready,
        consumers,
    })
}

/// A publish's three frames.
fn publish(exchange: &str, key: &str, mandatory: bool, body: &[u8]) -> Vec<AMQPFrame> {
    publish_with(
        exchange,
        key,
        mandatory,
        basic::AMQPProperties::default(),
        body,
    )
}

fn publish_with(
    exchange: &str,
    key: &str,
    mandatory: bool,
    properties: basic::AMQPProperties,
    body: &[u8],
) -> Vec<AMQPFrame> {
    let publish = basic::Publish {
        exchange: exchange.into(),
        routing_key: key.into(),
        mandatory,
        immediate: false,
    };
    let header = amq_protocol::frame::AMQPContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties,
    };
    let mut frames = vec![
        AMQPFrame::Method(1, basic(basic::AMQPMethod::Publish(publish))),
        AMQPFrame::Header(1, header),
    ];
    if !body.is_empty() {
        frames.push(AMQPFrame::Body(1, body.to_vec()));
    }
    frames
}

/// A stored message, made of a publish.
fn message(publish: &Publish, index: u32) -> Message {
    Message {
        stored: Arc::new(StoredBatch {
            deaths: Vec::new(),
            hints: Vec::new(),
            batch: publish.batch.clone(),
            envelopes: publish
                .records
                .iter()
                .map(|record| record.envelope.clone())
                .collect(),
        }),
        index,
        position: None,
    }
}

fn delivery(consumer: u64, entry: u64, message: Message) -> Delivery {
    Delivery {
        consumer: omnilog_broker::ConsumerKey(consumer),
        queue: QueueId(7),
        entry: EntryId(entry),
        unsettled: true,
        redelivered: false,
        returned_count: 0,
        qos: 1,
        by_root: false,
        delivery_count: None,
        retained: false,
        message,
        acquired_count: None,
    }
}
