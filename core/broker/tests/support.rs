//! A client of a running broker, for tests.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "not every test uses all of it"
)]

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_ledger::{Env, JournalOptions};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::path::Path;
use std::time::Duration;

pub fn start(dir: &Path) -> Running {
    start_with(dir, BrokerConfig::default())
}

/// A broker that keeps hardly anything in memory.
pub fn start_small(dir: &Path) -> Running {
    let config = BrokerConfig {
        tail_bytes_max: 1,
        ..BrokerConfig::default()
    };
    start_with(dir, config)
}

pub fn start_with(dir: &Path, config: BrokerConfig) -> Running {
    try_start(dir, config).expect("a broker")
}

pub fn try_start(dir: &Path, config: BrokerConfig) -> Result<Running, StartError> {
    let options = JournalOptions {
        file_bytes: 4 << 20,
        low_bytes: 1 << 20,
        reserve_bytes: 1 << 19,
        ..JournalOptions::default()
    };
    Broker::start(&Env::real(), dir, options, config)
}

pub struct Peer {
    pub client: Client,
    pub events: Vec<Event>,
    pub next: u64,
}

impl Peer {
    pub fn join(running: &Running) -> Self {
        let info = ClientInfo {
            principal: Bytes::from_static(b"tester"),
            protocol: "test".to_owned(),
            peer: "here".to_owned(),
        };
        let broker = running.broker();
        Self {
            client: broker.connect(broker.default_namespace(), info),
            events: Vec::new(),
            next: 0,
        }
    }

    pub async fn more(&mut self) {
        tokio::time::timeout(Duration::from_secs(10), self.client.recv(&mut self.events))
            .await
            .expect("an event within ten seconds");
    }

    pub async fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.next += 1;
        let asked = self.next;
        self.client.send(asked, command);
        loop {
            let found = self.events.iter().position(
                |event| matches!(event, Event::Reply { correlation, .. } if *correlation == asked),
            );
            if let Some(at) = found {
                let Event::Reply { result, .. } = self.events.remove(at) else {
                    unreachable!()
                };
                return *result;
            }
            self.more().await;
        }
    }

    pub async fn delivery(&mut self) -> Delivery {
        loop {
            let found = self
                .events
                .iter()
                .position(|event| matches!(event, Event::Delivery(_)));
            if let Some(at) = found {
                let Event::Delivery(delivery) = self.events.remove(at) else {
                    unreachable!()
                };
                return *delivery;
            }
            self.more().await;
        }
    }

    /// A durable queue.
    pub async fn declare(&mut self, name: &'static str) -> QueueInfo {
        self.declare_with(name, true, Vec::new()).await
    }

    pub async fn declare_with(
        &mut self,
        name: &'static str,
        durable: bool,
        arguments: Table,
    ) -> QueueInfo {
        let declare = DeclareQueue {
            name: Bytes::from_static(name.as_bytes()),
            durable,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        match self.ask(Command::DeclareQueue(declare)).await {
            Ok(Reply::Queue(info)) => info,
            other => panic!("{other:?}"),
        }
    }

    pub async fn consume(&mut self, queue: &'static str) {
        let consume = Consume {
            queue: Bytes::from_static(queue.as_bytes()),
            consumer: ConsumerKey(1),
            no_ack: false,
            exclusive: false,
            credit: 10,
            credit_group: None,
            priority: 0,
            arguments: Vec::new(),
        };
        self.ask(Command::Consume(consume))
            .await
            .expect("a consumer");
    }

    pub async fn subscribe(
        &mut self,
        client_id: &'static str,
        filter: &'static str,
    ) -> SessionOpened {
        let open = OpenSession {
            client_id: Bytes::from_static(client_id.as_bytes()),
            clean_start: false,
            expiry: SessionExpiry::Never,
            credit: 100,
            will: None,
        };
        let Ok(Reply::Session(session)) = self.ask(Command::OpenSession(open)).await else {
            panic!("no session")
        };
        let subscription = Subscription {
            filter: Bytes::from_static(filter.as_bytes()),
            share: None,
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            identifier: None,
        };
        let subscribe = Subscribe {
            session: session.session,
            subscriptions: vec![subscription],
        };
        self.ask(Command::Subscribe(subscribe))
            .await
            .expect("a subscription");
        *session
    }

    pub async fn publish(&mut self, address: Address, value: &str) -> Published {
        match self.ask(Command::Publish(message(address, value))).await {
            Ok(Reply::Published(published)) => published,
            other => panic!("{other:?}"),
        }
    }

    pub async fn append(&mut self, topic: &'static str, key: &[u8], value: &str) -> Appended {
        self.append_at(topic, key, value, now_ms()).await
    }

    pub async fn append_at(
        &mut self,
        topic: &'static str,
        key: &[u8],
        value: &str,
        timestamp: i64,
    ) -> Appended {
        self.append_record(topic, key, Some(value), timestamp).await
    }

    /// Without a value it is the mark of a deleted key.
    pub async fn append_record(
        &mut self,
        topic: &'static str,
        key: &[u8],
        value: Option<&str>,
        timestamp: i64,
    ) -> Appended {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(&NewRecord {
                timestamp,
                key: Some(key),
                value: value.map(|value| Pieces::One(value.as_bytes())),
                headers: [Header {
                    key: b"h",
                    value: None,
                }],
            })
            .unwrap();
        let append = Append {
            topic: TopicRef::Name(Bytes::from_static(topic.as_bytes())),
            partition: 0,
            batch: builder.finish().unwrap().to_bytes(),
            wait: Wait::Durable,
            keyless: false,
            transactional_id: None,
        };
        match self.ask(Command::Append(append)).await {
            Ok(Reply::Appended(appended)) => appended,
            other => panic!("{other:?}"),
        }
    }

    pub async fn fetch(&mut self, topic: &'static str, offset: i64) -> Fetched {
        let fetch = Fetch {
            partitions: vec![FetchPartition {
                topic: TopicRef::Name(Bytes::from_static(topic.as_bytes())),
                partition: 0,
                offset,
                bytes_max: 1 << 20,
                current_leader_epoch: -1,
            }],
            wait_ms_max: 2000,
            bytes_min: 1,
            bytes_max: 1 << 20,
            committed: false,
        };
        match self.ask(Command::Fetch(fetch)).await {
            Ok(Reply::Fetched(mut parts)) => parts.remove(0).expect("a partition"),
            other => panic!("{other:?}"),
        }
    }
}

pub fn message(address: Address, value: &str) -> Publish {
    gathered(&[(address, value)])
}

/// Several publishes of one first level or exchange, gathered.
pub fn gathered(messages: &[(Address, &str)]) -> Publish {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut records = Vec::new();
    for (address, value) in messages {
        let headers: [Header<'_>; 0] = [];
        let appended = builder
            .append(&NewRecord {
                timestamp: now_ms(),
                key: key(address).as_deref(),
                value: Some(Pieces::One(value.as_bytes())),
                headers,
            })
            .unwrap();
        let provenance = match address {
            Address::Mqtt { .. } => Provenance::Mqtt,
            _ => Provenance::AmqpExchange,
        };
        records.push(PublishRecord::of(Envelope {
            publisher: Bytes::from_static(b"tester"),
            ..Envelope::new(address.clone(), provenance, appended.range())
        }));
    }
    Publish {
        batch: builder.finish().unwrap().to_bytes(),
        records,
        wait: Wait::Durable,
        dedupe: None,
    }
}

/// The key that a protocol gives what is published to an address.
fn key(address: &Address) -> Option<Vec<u8>> {
    match address {
        Address::Mqtt { topic } => {
            let slash = topic.iter().position(|byte| *byte == b'/')?;
            topic.get(slash + 1..).map(<[u8]>::to_vec)
        }
        Address::Amqp { exchange, .. } if exchange.is_empty() => None,
        Address::Amqp { routing_key, .. } => path::kafka_key(routing_key).map(|key| key.to_vec()),
        Address::Kafka { .. } => None,
    }
}

/// A log keeps what its window covers, so records must be of today.
pub fn now_ms() -> i64 {
    Env::real().clock.now_ms()
}

pub fn amqp(exchange: &'static str, key: &'static str) -> Address {
    Address::Amqp {
        exchange: Bytes::from_static(exchange.as_bytes()),
        routing_key: Bytes::from_static(key.as_bytes()),
    }
}

pub fn mqtt(topic: &str) -> Address {
    Address::Mqtt {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
    }
}

pub fn value(message: &Message) -> String {
    let body = message.record_bytes().expect("a record");
    let base = omnilog_record::RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = omnilog_record::Record::parse(body, &base).expect("a record that parses");
    String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap()
}
