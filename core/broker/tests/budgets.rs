//! What is bounded, and what happens at the bound: memory of queues, space on the disk.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{Env, JournalOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::*;

async fn stop(running: Running) {
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

async fn hears(peer: &mut Peer, wanted: &Event) {
    while !peer.events.contains(wanted) {
        peer.more().await;
    }
    peer.events.retain(|event| event != wanted);
}

#[tokio::test]
async fn whoever_fills_a_queue_in_memory_is_blocked_until_it_has_drained() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        memory_queue_bytes_max: 20_000,
        ..BrokerConfig::default()
    };
    let options = JournalOptions {
        file_bytes: 4 << 20,
        reserve_bytes: 0,
        low_bytes: 0,
        ..JournalOptions::default()
    };
    let running = Broker::start(&Env::real(), dir.path(), options, config).unwrap();
    let mut publisher = Peer::join(&running);
    let mut bystander = Peer::join(&running);
    publisher.declare_with("memory", false, Vec::new()).await;
    let big = "x".repeat(3000);
    for _ in 0..8 {
        let published = publisher.publish(amqp("", "memory"), &big).await;
        assert!(published.outcomes.is_empty(), "all of it is taken");
    }
    let blocked = Event::Blocked(BlockReason::Memory);
    hears(&mut publisher, &blocked).await;
    // Past twice the budget it is refused: what is blocked should not come.
    let mut refused = false;
    for _ in 0..8 {
        let published = publisher.publish(amqp("", "memory"), &big).await;
        refused |= published.outcomes == [Routed::Rejected];
    }
    assert!(refused);
    let stats = bystander.ask(Command::Stats).await;
    assert!(matches!(stats, Ok(Reply::Stats(_))));
    assert!(!bystander.events.contains(&blocked), "it filled nothing");
    let mut consumer = Peer::join(&running);
    consumer.consume("memory").await;
    for _ in 0..12 {
        let delivery = consumer.delivery().await;
        let settle = Settle {
            entries: vec![(delivery.queue, delivery.entry)],
            settlement: Settlement::Ack,
        };
        consumer.ask(Command::Settle(settle)).await.unwrap();
    }
    hears(&mut publisher, &Event::Unblocked).await;
    drop((publisher, bystander, consumer));
    stop(running).await;
}

fn commit(offset: i64) -> Command {
    Command::CommitOffsets(
        Bytes::from_static(b"group"),
        vec![GroupOffset {
            topic: Bytes::from_static(b"log"),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: Bytes::from(vec![b'm'; 3000]),
        }],
    )
}

#[tokio::test]
async fn when_entries_take_too_much_memory_publishers_wait_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        memory_sets_bytes_max: 2_000,
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut publisher = Peer::join(&running);
    publisher.declare("one").await;
    publisher.declare("other").await;
    // A run costs nothing however long it is ...
    for _ in 0..200 {
        publisher.publish(amqp("", "one"), "a").await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let blocked = Event::Blocked(BlockReason::Memory);
    assert!(!publisher.events.contains(&blocked));
    // ... and many of them do.
    for _ in 0..200 {
        publisher.publish(amqp("", "one"), "a").await;
        publisher.publish(amqp("", "other"), "b").await;
    }
    hears(&mut publisher, &blocked).await;
    let Ok(Reply::Stats(stats)) = publisher.ask(Command::Stats).await else {
        panic!("no figures");
    };
    assert!(stats.sets_bytes > 2_000 && stats.memory_low == 1);
    for queue in ["one", "other"] {
        let purge = Command::PurgeQueue(Bytes::from_static(queue.as_bytes()));
        publisher.ask(purge).await.unwrap();
    }
    hears(&mut publisher, &Event::Unblocked).await;
    stop(running).await;
}

#[tokio::test]
async fn what_a_consumer_has_and_does_not_settle_counts_as_memory_of_the_queues() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        memory_sets_bytes_max: 10_000,
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut peer = Peer::join(&running);
    peer.declare("work").await;
    let consume = Consume {
        queue: Bytes::from_static(b"work"),
        consumer: ConsumerKey(1),
        no_ack: false,
        exclusive: false,
        credit: 1000,
        credit_group: None,
        priority: 0,
        arguments: Vec::new(),
    };
    peer.ask(Command::Consume(consume)).await.unwrap();
    let mut entries = Vec::new();
    for _ in 0..300 {
        peer.publish(amqp("", "work"), "a").await;
        let delivery = peer.delivery().await;
        entries.push((delivery.queue, delivery.entry));
    }
    hears(&mut peer, &Event::Blocked(BlockReason::Memory)).await;
    let settle = Settle {
        entries,
        settlement: Settlement::Ack,
    };
    peer.ask(Command::Settle(settle)).await.unwrap();
    hears(&mut peer, &Event::Unblocked).await;
    stop(running).await;
}

#[tokio::test]
async fn when_the_reserve_is_used_up_what_was_decided_waits_and_is_told_when_there_is_space() {
    const FILE_BYTES: u64 = 64 << 10;
    let files = SimFiles::new(1, u64::MAX);
    let env = Env {
        files: Arc::new(files.clone()),
        ..Env::real()
    };
    let options = JournalOptions {
        file_bytes: FILE_BYTES,
        low_bytes: 2 * FILE_BYTES,
        reserve_bytes: 4 * FILE_BYTES,
        bytes_max: 0,
        ..JournalOptions::default()
    };
    let start = || {
        let config = BrokerConfig::default();
        Broker::start(&env, Path::new("/data"), options.clone(), config).unwrap()
    };
    let running = start();
    let mut peer = Peer::join(&running);
    let create = CreateTopic {
        name: Bytes::from_static(b"log"),
        partitions: Some(1),
        settings: LogSettings::default(),
        validate_only: false,
        path_template: None,
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
    peer.append("log", b"k", "v").await;
    files.leave_free(0);
    hears(&mut peer, &Event::Blocked(BlockReason::Disk)).await;
    let refused = peer
        .ask(Command::Publish(message(amqp("", "log"), "v")))
        .await;
    assert_eq!(refused, Err(Refusal::DiskFull));
    // The reserve serves what consumers need.
    let mut committed = 0;
    let short = Duration::from_millis(1500);
    while let Ok(reply) = tokio::time::timeout(short, peer.ask(commit(committed + 1))).await {
        assert!(matches!(reply, Ok(Reply::Committed(_))), "{reply:?}");
        committed += 1;
        assert!(committed < 1000, "more than the disk has");
    }
    assert!(committed > 40, "{committed}");
    // Nothing is told, and nothing lost, until there is space.
    let waiting = committed + 1;
    files.set_capacity(u64::MAX);
    hears(&mut peer, &Event::Unblocked).await;
    let asked = peer.next;
    let told = |event: &Event| matches!(event, Event::Reply { correlation, result } if *correlation == asked && result.is_ok());
    while !peer.events.iter().any(told) {
        peer.more().await;
    }
    peer.append("log", b"k", "v").await;
    drop(peer);
    stop(running).await;

    let running = start();
    let mut peer = Peer::join(&running);
    let fetch = Command::FetchOffsets(Bytes::from_static(b"group"), None);
    let Ok(Reply::GroupOffsets(offsets)) = peer.ask(fetch).await else {
        panic!("no offsets");
    };
    assert_eq!(offsets.first().map(|offset| offset.offset), Some(waiting));
    drop(peer);
    stop(running).await;
}
