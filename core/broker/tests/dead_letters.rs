//! Dead letters of messages that are on disk only: they are read first, and are in one queue at any time.

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

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A queue whose dead letters go to `dead`, and three messages in it that are in no memory.
async fn work(peer: &mut Peer, ttl_ms: Option<i64>) {
    peer.declare("dead").await;
    let to_dead = [
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-routing-key", "dead"),
    ];
    let mut arguments: Table = to_dead
        .map(|(name, value)| (text(name), Value::Bytes(text(value))))
        .to_vec();
    arguments.extend(ttl_ms.map(|ttl_ms| (text("x-message-ttl"), Value::Int(ttl_ms))));
    peer.declare_with("work", true, arguments).await;
    for value in ["1", "2", "3"] {
        peer.publish(amqp("", "work"), value).await;
    }
    peer.publish(mqtt("other"), "pushes them out").await;
}

async fn ready(peer: &mut Peer, queue: &'static str) -> u64 {
    match peer.ask(Command::CheckQueue(text(queue))).await {
        Ok(Reply::Queue(info)) => info.ready,
        other => panic!("{other:?}"),
    }
}

/// The dead letters are there, in their order, with their history, and nowhere else.
async fn are_dead(peer: &mut Peer, reason: DeathReason) {
    peer.consume("dead").await;
    for expected in ["1", "2", "3"] {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), expected);
        let history = delivery.message.deaths().unwrap();
        assert_eq!(history.deaths.len(), 1);
        let death = history.deaths.first().unwrap();
        assert_eq!((&death.queue[..], death.reason), (&b"work"[..], reason));
        assert_eq!((&death.routing_key[..], death.count), (&b"work"[..], 1));
    }
    assert_eq!(ready(peer, "work").await, 0);
    assert_eq!(ready(peer, "dead").await, 0);
}

async fn stop(running: Running) {
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_refused_message_is_read_from_disk_and_published_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    work(&mut peer, None).await;
    let mut worker = Peer::join(&running);
    worker.consume("work").await;
    for _ in 0..3 {
        let delivery = worker.delivery().await;
        let settle = Settle {
            entries: vec![(delivery.queue, delivery.entry)],
            settlement: Settlement::Reject,
        };
        worker.ask(Command::Settle(settle)).await.unwrap();
    }
    are_dead(&mut peer, DeathReason::Rejected).await;
    drop((peer, worker));
    stop(running).await;
}

#[tokio::test]
async fn an_expired_message_is_read_from_disk_and_published_again_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    work(&mut peer, Some(1500)).await;
    assert_eq!(ready(&mut peer, "work").await, 3);
    drop(peer);
    stop(running).await;
    running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    let all_dead = async {
        while ready(&mut peer, "dead").await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_dead)
        .await
        .unwrap();
    are_dead(&mut peer, DeathReason::Expired).await;
    drop(peer);
    stop(running).await;
}

#[tokio::test]
async fn what_comes_back_to_a_full_queue_that_refuses_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let limited = vec![
        (text("x-max-length"), Value::Int(1)),
        (text("x-overflow"), Value::Bytes(text("reject-publish"))),
    ];
    peer.declare_with("full", true, limited).await;
    let mut worker = Peer::join(&running);
    worker.consume("full").await;
    for value in ["1", "2"] {
        peer.publish(amqp("", "full"), value).await;
        worker.delivery().await;
    }
    worker.ask(Command::Cancel(ConsumerKey(1))).await.unwrap();
    assert_eq!(peer.publish(amqp("", "full"), "3").await.outcomes, []);
    drop(worker);
    let back = async {
        while ready(&mut peer, "full").await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back)
        .await
        .unwrap();
    let refused = peer.publish(amqp("", "full"), "4").await;
    assert_eq!(refused.outcomes, [Routed::Rejected]);
    drop(peer);
    stop(running).await;
}
