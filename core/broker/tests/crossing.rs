//! The broker over a real journal on disk: what one protocol's commands write, the others' read, and what was
//! acknowledged is there after a restart.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_ledger::{Env, JournalOptions};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::path::Path;
use std::time::Duration;

fn start(dir: &Path) -> Running {
    let options = JournalOptions {
        file_bytes: 4 << 20,
        low_bytes: 1 << 20,
        reserve_bytes: 1 << 19,
        ..JournalOptions::default()
    };
    Broker::start(&Env::real(), dir, options, BrokerConfig::default()).expect("a broker")
}

struct Peer {
    client: Client,
    events: Vec<Event>,
    next: u64,
}

impl Peer {
    fn join(running: &Running) -> Self {
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

    async fn more(&mut self) {
        tokio::time::timeout(Duration::from_secs(10), self.client.recv(&mut self.events))
            .await
            .expect("an event within ten seconds");
    }

    async fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
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
                return result;
            }
            self.more().await;
        }
    }

    async fn delivery(&mut self) -> Delivery {
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

    async fn declare(&mut self, name: &'static str) -> QueueInfo {
        let declare = DeclareQueue {
            name: Bytes::from_static(name.as_bytes()),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Vec::new(),
        };
        match self.ask(Command::DeclareQueue(declare)).await {
            Ok(Reply::Queue(info)) => info,
            other => panic!("{other:?}"),
        }
    }

    async fn consume(&mut self, queue: &'static str) {
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

    async fn subscribe(&mut self, client_id: &'static str, filter: &'static str) -> SessionOpened {
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

    async fn publish(&mut self, address: Address, value: &str) -> Published {
        match self.ask(Command::Publish(message(address, value))).await {
            Ok(Reply::Published(published)) => published,
            other => panic!("{other:?}"),
        }
    }

    async fn append(&mut self, topic: &'static str, key: &[u8], value: &str) -> Appended {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(&NewRecord {
                timestamp: now_ms(),
                key: Some(key),
                value: Some(Pieces::One(value.as_bytes())),
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
        };
        match self.ask(Command::Append(append)).await {
            Ok(Reply::Appended(appended)) => appended,
            other => panic!("{other:?}"),
        }
    }

    async fn fetch(&mut self, topic: &'static str, offset: i64) -> Fetched {
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
        };
        match self.ask(Command::Fetch(fetch)).await {
            Ok(Reply::Fetched(mut parts)) => parts.remove(0).expect("a partition"),
            other => panic!("{other:?}"),
        }
    }
}

fn message(address: Address, value: &str) -> Publish {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let headers: [Header<'_>; 0] = [];
    let appended = builder
        .append(&NewRecord {
            timestamp: now_ms(),
            key: None,
            value: Some(Pieces::One(value.as_bytes())),
            headers,
        })
        .unwrap();
    let provenance = match &address {
        Address::Mqtt { .. } => Provenance::Mqtt,
        _ => Provenance::AmqpExchange,
    };
    Publish {
        batch: builder.finish().unwrap().to_bytes(),
        records: vec![PublishRecord {
            envelope: Envelope {
                address,
                provenance,
                publisher: Bytes::from_static(b"tester"),
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
        }],
        wait: Wait::Durable,
        dedupe: None,
    }
}

/// A log keeps what its window covers, so records must be of today.
fn now_ms() -> i64 {
    Env::real().clock.now_ms()
}

fn amqp(exchange: &'static str, key: &'static str) -> Address {
    Address::Amqp {
        exchange: Bytes::from_static(exchange.as_bytes()),
        routing_key: Bytes::from_static(key.as_bytes()),
    }
}

fn mqtt(topic: &'static str) -> Address {
    Address::Mqtt {
        topic: Bytes::from_static(topic.as_bytes()),
    }
}

fn value(message: &Message) -> String {
    let body = message.record_bytes().expect("a record");
    let base = omnilog_record::RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = omnilog_record::Record::parse(&body, &base).expect("a record that parses");
    String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap()
}

#[tokio::test]
async fn a_queue_a_session_and_a_log_of_one_name_each_get_what_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut amqp_peer = Peer::join(&running);
    let mut mqtt_peer = Peer::join(&running);
    let mut kafka_peer = Peer::join(&running);
    amqp_peer.declare("orders").await;
    amqp_peer.consume("orders").await;
    let session = mqtt_peer.subscribe("device", "orders/#").await;
    assert!(!session.present);

    // From Kafka: to the queue and the session by links, and to the log.
    let appended = kafka_peer
        .append("orders", b"eu/created", "from kafka")
        .await;
    assert_eq!(appended.base_offset, 0);
    for peer in [&mut amqp_peer, &mut mqtt_peer] {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), "from kafka");
        assert_eq!(
            delivery.message.envelope().unwrap().address,
            Address::Kafka {
                topic: Bytes::from_static(b"orders"),
                key: Some(Bytes::from_static(b"eu/created"))
            }
        );
    }

    // From MQTT: to the queue, the session, the log.
    mqtt_peer.publish(mqtt("orders/eu/paid"), "from mqtt").await;
    assert_eq!(value(&amqp_peer.delivery().await.message), "from mqtt");
    assert_eq!(value(&mqtt_peer.delivery().await.message), "from mqtt");

    // To the queue by the default exchange: the queue and the log, and a filter whose first level is its name.
    amqp_peer.publish(amqp("", "orders"), "from amqp").await;
    assert_eq!(value(&amqp_peer.delivery().await.message), "from amqp");
    assert_eq!(value(&mqtt_peer.delivery().await.message), "from amqp");

    let fetched = kafka_peer.fetch("orders", 0).await;
    assert_eq!(fetched.high_watermark, 3);
    assert_eq!(fetched.batches.len(), 3);
    drop((amqp_peer, mqtt_peer, kafka_peer));
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_what_was_settled_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("work").await;
    for number in 0..10 {
        peer.publish(amqp("", "work"), &number.to_string()).await;
    }
    peer.consume("work").await;
    let mut settled = Vec::new();
    for number in 0..10 {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), number.to_string());
        assert!(!delivery.redelivered);
        if number % 2 == 0 {
            settled.push((delivery.queue, delivery.entry));
        }
    }
    let settle = Settle {
        entries: settled,
        settlement: Settlement::Ack,
    };
    peer.ask(Command::Settle(settle)).await.unwrap();
    drop(peer);
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();

    let running = start(dir.path());
    assert!(running.replayed().1, "a clean stop");
    let mut peer = Peer::join(&running);
    assert_eq!(peer.declare("work").await.ready, 5);
    peer.consume("work").await;
    for number in [1, 3, 5, 7, 9] {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), number.to_string());
        assert!(delivery.redelivered);
    }
    let fetched = peer.fetch("work", 4).await;
    assert_eq!(fetched.high_watermark, 10);
    assert_eq!(fetched.batches.len(), 6);
    drop(peer);
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_offline_session_gets_what_it_missed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let session = peer.subscribe("device", "a/+/c").await;
    let close = CloseSession {
        session: session.session,
        expiry: None,
        publish_will: false,
        in_flight: Vec::new(),
    };
    peer.ask(Command::CloseSession(close)).await.unwrap();
    let mut publisher = Peer::join(&running);
    for number in 0..50 {
        let published = publisher.publish(mqtt("a/b/c"), &number.to_string()).await;
        assert!(published.outcomes.is_empty(), "{published:?}");
    }
    let missed = publisher.publish(mqtt("a/b/d"), "nobody").await;
    assert_eq!(missed.outcomes, vec![Routed::NoTaker]);
    let open = OpenSession {
        client_id: Bytes::from_static(b"device"),
        clean_start: false,
        expiry: SessionExpiry::Never,
        credit: 100,
        will: None,
    };
    let Ok(Reply::Session(session)) = peer.ask(Command::OpenSession(open)).await else {
        panic!()
    };
    assert!(session.present);
    for number in 0..50 {
        assert_eq!(value(&peer.delivery().await.message), number.to_string());
    }
    drop((peer, publisher));
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_session_is_handed_from_one_connection_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut old = Peer::join(&running);
    let held = old.subscribe("device", "t").await;
    let mut new = Peer::join(&running);
    let open = OpenSession {
        client_id: Bytes::from_static(b"device"),
        clean_start: false,
        expiry: SessionExpiry::Never,
        credit: 100,
        will: None,
    };
    new.client.send(1000, Command::OpenSession(open));
    while !old.events.contains(&Event::SessionTakenOver(held.session)) {
        old.more().await;
    }
    let close = CloseSession {
        session: held.session,
        expiry: None,
        publish_will: false,
        in_flight: Vec::new(),
    };
    old.ask(Command::CloseSession(close)).await.unwrap();
    new.more().await;
    let opened = new.events.iter().any(|event| {
        matches!(
            event,
            Event::Reply { correlation: 1000, result: Ok(Reply::Session(session)) } if session.present
        )
    });
    assert!(opened, "{:?}", new.events);
}
