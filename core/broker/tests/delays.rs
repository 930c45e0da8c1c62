//! Messages that are published later: not before their time, in the order of their times, over restarts and from disk.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::time::{Duration, Instant};
use support::*;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// An exchange that delays, and a queue bound to it.
async fn exchange(peer: &mut Peer, kind: &'static str) {
    let declare = DeclareExchange {
        name: text("later"),
        kind: ExchangeKind::Delayed,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: vec![(text("x-delayed-type"), Value::Bytes(text(kind)))],
    };
    peer.ask(Command::DeclareExchange(declare)).await.unwrap();
    peer.declare("work").await;
    bind(peer, "k", Vec::new()).await;
}

async fn bind(peer: &mut Peer, key: &'static str, arguments: Table) {
    let binding = Binding {
        source: text("later"),
        destination: Destination::Queue(text("work")),
        routing_key: text(key),
        arguments,
    };
    peer.ask(Command::Bind(binding)).await.unwrap();
}

/// A message to be published this much later.
fn later(address: Address, value: &str, ms: i64) -> Publish {
    let mut publish = message(address, value);
    let record = publish.records.first_mut().unwrap();
    record.delay = Some(Box::new(Delay {
        ms,
        properties: Some(text("seen")),
    }));
    publish
}

/// So many messages in one batch.
fn many(count: i64, ms: impl Fn(i64) -> i64) -> Publish {
    let mut publish = later(amqp("later", "k"), "", 0);
    let like = publish.records.remove(0);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for number in 0..count {
        let none: [Header<'_>; 0] = [];
        let appended = builder
            .append(&NewRecord {
                timestamp: now_ms(),
                key: None,
                value: Some(Pieces::One(number.to_string().as_bytes())),
                headers: none,
            })
            .unwrap();
        let mut record = like.clone();
        record.envelope.range = appended.range();
        record.delay.as_mut().unwrap().ms = ms(number);
        publish.records.push(record);
    }
    publish.batch = builder.finish().unwrap().to_bytes();
    publish
}

async fn send(peer: &mut Peer, publish: Publish) -> Published {
    match peer.ask(Command::Publish(publish)).await {
        Ok(Reply::Published(published)) => published,
        other => panic!("{other:?}"),
    }
}

async fn figures(peer: &mut Peer) -> Stats {
    match peer.ask(Command::Stats).await {
        Ok(Reply::Stats(stats)) => *stats,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_when_they_are_due_and_in_that_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    exchange(&mut peer, "direct").await;
    peer.consume("work").await;
    let began = Instant::now();
    for (value, ms) in [("c", 900), ("a", 300), ("b", 600), ("now", 0), ("too", -5)] {
        let published = send(&mut peer, later(amqp("later", "k"), value, ms)).await;
        assert!(published.outcomes.is_empty(), "{published:?}");
    }
    assert_eq!(figures(&mut peer).await.delayed, 3);
    assert!(figures(&mut peer).await.delayed_next_ms > 0);
    for (expected, after_ms) in [("now", 0), ("too", 0), ("a", 300), ("b", 600), ("c", 900)] {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), expected);
        assert!(began.elapsed() >= Duration::from_millis(after_ms));
        // What waited has the properties for that.
        let properties = &delivery.message.envelope().unwrap().properties;
        assert_eq!(properties == "seen", after_ms > 0);
    }
    let stats = figures(&mut peer).await;
    assert_eq!((stats.delayed, stats.delayed_next_ms), (0, 0));
    assert_eq!((stats.delays_over, stats.delays_lost), (3, 0));
    running.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_does_not_delay_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("work").await;
    peer.consume("work").await;
    send(&mut peer, later(amqp("", "work"), "1", 1_000_000)).await;
    assert_eq!(value(&peer.delivery().await.message), "1");
    running.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_routed_when_they_are_due_by_keys_and_headers() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    exchange(&mut peer, "headers").await;
    let mut publish = later(amqp("later", "none"), "matches", 400);
    let record = publish.records.first_mut().unwrap();
    record.headers = vec![(text("kind"), Value::Int(7))];
    send(&mut peer, publish).await;
    // The binding comes after the message.
    bind(&mut peer, "", vec![(text("kind"), Value::Int(7))]).await;
    peer.consume("work").await;
    assert_eq!(value(&peer.delivery().await.message), "matches");
    running.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn they_survive_restarts_and_are_read_from_disk_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    exchange(&mut peer, "direct").await;
    // The later it comes the sooner it is due.
    send(&mut peer, many(100, |number| 2500 - number * 3)).await;
    send(&mut peer, later(mqtt("a/b"), "1", 86_400_000 * 365)).await;
    peer.publish(mqtt("other"), "pushes them out").await;
    running.stop().unwrap();
    let running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    peer.consume("work").await;
    for number in (0..100).rev() {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), number.to_string());
        let settle = Settle {
            entries: vec![(delivery.queue, delivery.entry)],
            settlement: Settlement::Ack,
        };
        peer.ask(Command::Settle(settle)).await.unwrap();
    }
    let stats = figures(&mut peer).await;
    assert_eq!((stats.delayed, stats.delays_over), (1, 100));
    running.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_or_is_one_too_many_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        delayed_messages_max: 2,
        delay_ms_max: 10_000,
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut peer = Peer::join(&running);
    exchange(&mut peer, "direct").await;
    let mut refused = Vec::new();
    for ms in [10_001, 10_000, 9_000, 8_000] {
        let published = send(&mut peer, later(amqp("later", "k"), "1", ms)).await;
        refused.push(published.outcomes == [Routed::Rejected]);
    }
    assert_eq!(refused, [true, false, false, true]);
    assert_eq!(figures(&mut peer).await.delayed, 2);
    running.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_exchange_is_gone_is_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    exchange(&mut peer, "direct").await;
    send(&mut peer, later(amqp("later", "k"), "1", 100)).await;
    let delete = Command::DeleteExchange(text("later"), false);
    peer.ask(delete).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stats = figures(&mut peer).await;
    assert_eq!((stats.delayed, stats.delays_lost), (0, 1));
    running.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_message_is_retained_when_it_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let mut publish = later(mqtt("a/b"), "kept", 200);
    let record = publish.records.first_mut().unwrap();
    record.envelope.retain = true;
    record.retain = Some(RetainAction::Set);
    send(&mut peer, publish).await;
    assert_eq!(figures(&mut peer).await.retained, 0);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(figures(&mut peer).await.retained, 1);
    running.stop().unwrap();
}
