//! Queues that read what Kafka clients write: how far they read ahead, and what they miss when they are too slow.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use std::time::Duration;
use support::*;

/// Records that a queue takes in before anybody consumes them.
const AHEAD: u64 = 1000;

async fn stats(peer: &mut Peer) -> Stats {
    match peer.ask(Command::Stats).await {
        Ok(Reply::Stats(stats)) => *stats,
        other => panic!("{other:?}"),
    }
}

async fn ready(peer: &mut Peer) -> u64 {
    match peer
        .ask(Command::CheckQueue(Bytes::from_static(b"orders")))
        .await
    {
        Ok(Reply::Queue(info)) => info.ready,
        other => panic!("{other:?}"),
    }
}

/// Has all that a queue holds delivered, and settled by that.
async fn take_all(peer: &mut Peer, queue: &'static str) {
    let consume = Consume {
        queue: Bytes::from_static(queue.as_bytes()),
        consumer: ConsumerKey(1),
        no_ack: true,
        exclusive: false,
        credit: 0,
        credit_group: None,
        priority: 0,
        arguments: Vec::new(),
    };
    peer.ask(Command::Consume(consume)).await.unwrap();
}

async fn take(peer: &mut Peer) -> String {
    value(&peer.delivery().await.message)
}

#[tokio::test]
async fn a_queue_that_retention_has_passed_goes_on_where_the_log_begins() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("orders").await;
    for number in 0..AHEAD + 200 {
        peer.append("orders", b"k", &number.to_string()).await;
    }
    for _ in 0..1000 {
        if ready(&mut peer).await >= AHEAD {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ready(&mut peer).await, AHEAD, "it reads no further ahead");
    let figures = stats(&mut peer).await;
    assert_eq!((figures.link_lag, figures.link_lag_max), (200, 200));
    assert_eq!(figures.link_gaps, 0);
    let topic = TopicRef::Name(Bytes::from_static(b"orders"));
    let delete = Command::DeleteRecords(topic, 0, 1_150);
    peer.ask(delete).await.unwrap();
    take_all(&mut peer, "orders").await;
    for number in 0..AHEAD {
        assert_eq!(take(&mut peer).await, number.to_string(), "it holds these");
    }
    for number in 1_150..AHEAD + 200 {
        assert_eq!(
            take(&mut peer).await,
            number.to_string(),
            "the log has these"
        );
    }
    let figures = stats(&mut peer).await;
    assert_eq!((figures.link_gaps, figures.link_gap_offsets), (1, 150));
    assert_eq!(figures.link_lag, 0);
    drop(peer);
    running.stop().unwrap();

    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.append("orders", b"k", "after").await;
    peer.consume("orders").await;
    assert_eq!(take(&mut peer).await, "after", "and nothing twice");
    running.stop().unwrap();
}

#[tokio::test]
async fn a_full_queue_gets_nothing_twice_while_another_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    for queue in ["orders", "slow"] {
        peer.declare(queue).await;
    }
    let bind = Command::Bind(Binding {
        source: Bytes::from_static(b"amq.topic"),
        destination: Destination::Queue(Bytes::from_static(b"slow")),
        routing_key: Bytes::from_static(b"orders.#"),
        arguments: Vec::new(),
    });
    peer.ask(bind).await.unwrap();
    let before = AHEAD / 2;
    for number in 0..before {
        peer.publish(amqp("", "slow"), &number.to_string()).await;
    }
    for number in 0..AHEAD + 20 {
        peer.append("orders", b"k", &number.to_string()).await;
    }
    for _ in 0..1000 {
        if ready(&mut peer).await >= AHEAD {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The other stands where it was full, and reads on from there.
    let mut other = Peer::join(&running);
    take_all(&mut other, "slow").await;
    for _ in 0..before {
        take(&mut other).await;
    }
    for number in 0..AHEAD + 20 {
        assert_eq!(take(&mut other).await, number.to_string());
    }
    take_all(&mut peer, "orders").await;
    for number in 0..AHEAD + 20 {
        assert_eq!(take(&mut peer).await, number.to_string(), "once each");
    }
    peer.append("orders", b"k", "after").await;
    assert_eq!(take(&mut peer).await, "after");
    running.stop().unwrap();
}

async fn hold(peer: &mut Peer, value: &str) -> Result<Reply, Refusal> {
    let settings = LogSettings {
        retention_bytes: Some(1),
        others: vec![(HOLD.to_owned(), value.to_owned())],
        ..LogSettings::default()
    };
    let topic = TopicRef::Name(Bytes::from_static(b"orders"));
    peer.ask(Command::AlterTopic(AlterTopic::new(topic, settings)))
        .await
}

/// Where the log starts once retention, which looks every second, has moved that to this offset or further.
async fn log_start(peer: &mut Peer, at_least: i64) -> i64 {
    for _ in 0..100 {
        let newest = peer.append("orders", b"k", "another").await.base_offset;
        let start = peer.fetch("orders", newest).await.log_start_offset;
        if start >= at_least {
            return start;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("retention has not come to {at_least}")
}

#[tokio::test]
async fn a_log_that_holds_for_links_keeps_what_they_have_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("orders").await;
    peer.append("orders", b"k", "0").await;
    assert!(
        hold(&mut peer, "sometimes").await.is_err(),
        "no such setting"
    );
    hold(&mut peer, "links").await.unwrap();
    for number in 1..AHEAD + 20 {
        peer.append("orders", b"k", &number.to_string()).await;
    }
    // What was read goes, and no more than that however long it takes.
    let ahead = AHEAD.cast_signed();
    assert_eq!(log_start(&mut peer, ahead).await, ahead);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(log_start(&mut peer, ahead).await, ahead);
    // Without the setting retention takes what it wants.
    hold(&mut peer, "none").await.unwrap();
    assert!(log_start(&mut peer, ahead + 1).await > ahead);
    drop(peer);
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn wildcards_reach_what_is_exposed_by_its_name_or_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        expose: vec![Bytes::from_static(b"plain"), Bytes::from_static(b"ord*")],
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut peer = Peer::join(&running);
    let topics = ["hidden", "order", "orders", "others", "plain", "plainer"];
    for topic in topics {
        // With a queue comes a log.
        peer.declare(topic).await;
        peer.append(topic, b"k", "before").await;
    }
    peer.subscribe("watcher", "+/k").await;
    for topic in topics {
        peer.append(topic, b"k", topic).await;
    }
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(take(&mut peer).await);
    }
    found.sort();
    assert_eq!(found, ["order", "orders", "plain"]);
    peer.append("orders", b"k", "the last").await;
    assert_eq!(take(&mut peer).await, "the last");
    running.stop().unwrap();
}
