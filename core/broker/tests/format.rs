//! A data directory of format version 1, as it was written by the version that made it: journal files with footers, a
//! checkpoint, frames behind it. Every later version opens it and finds everything.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_ledger::{Env, JournalOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::*;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version_1")
}

fn open(dir: &Path) -> Running {
    let options = JournalOptions {
        file_bytes: 48 << 10,
        low_bytes: 1 << 20,
        reserve_bytes: 1 << 19,
        ..JournalOptions::default()
    };
    // What the fixture holds is of a certain day, and grows old.
    let config = BrokerConfig {
        retention_ms_default: -1,
        window_ms_default: -1,
        checkpoint_ms: 1000,
        ..BrokerConfig::default()
    };
    Broker::start(&Env::real(), dir, options, config).expect("a broker")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else if !matches!(name.to_str(), Some("spare" | "filling" | "unfinished")) {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

fn name(text: &str) -> Name {
    Bytes::copy_from_slice(text.as_bytes())
}

fn has_checkpoint(dir: &Path) -> bool {
    std::fs::read_dir(dir.join("checkpoints"))
        .unwrap()
        .any(|entry| {
            entry
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "ckpt")
        })
}

async fn bind(peer: &mut Peer, exchange: &str, queue: &str, key: &str) {
    let binding = Binding {
        source: name(exchange),
        destination: Destination::Queue(name(queue)),
        routing_key: name(key),
        arguments: Vec::new(),
    };
    peer.ask(Command::Bind(binding)).await.expect("a binding");
}

async fn settle_every_second(peer: &mut Peer, count: usize) {
    let mut entries = Vec::new();
    for number in 0..count {
        let delivery = peer.delivery().await;
        if number % 2 == 0 {
            entries.push((delivery.queue, delivery.entry));
        }
    }
    let settle = Settle {
        entries,
        settlement: Settlement::Ack,
    };
    peer.ask(Command::Settle(settle)).await.expect("settled");
}

/// Writes what the fixture holds. Run by hand, and only for a new version's fixture: what is checked in stays.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the fixture"]
async fn write_the_fixture() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let mut peer = Peer::join(&running);
    let create = CreateTopic {
        name: name("events"),
        partitions: Some(3),
        settings: LogSettings {
            retention_ms: Some(-1),
            others: vec![("segment.ms".to_owned(), "1000".to_owned())],
            ..LogSettings::default()
        },
        validate_only: false,
        path_template: None,
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
    let exchange = DeclareExchange {
        name: name("orders"),
        kind: ExchangeKind::Topic,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    };
    peer.ask(Command::DeclareExchange(exchange)).await.unwrap();
    peer.declare("work").await;
    bind(&mut peer, "orders", "work", "eu.#").await;
    peer.declare("linked").await;
    let mut device = Peer::join(&running);
    let session = device.subscribe("device", "a/+/c").await;
    let close = CloseSession {
        session: session.session,
        expiry: None,
        publish_will: false,
        in_flight: Vec::new(),
    };
    device.ask(Command::CloseSession(close)).await.unwrap();
    let large = "x".repeat(1500);
    for number in 0..40 {
        let text = format!("{number} {large}");
        peer.append("events", b"key", &text).await;
        peer.publish(amqp("orders", "eu.paid"), &text).await;
    }
    for number in 0..3 {
        peer.append("linked", b"key", &number.to_string()).await;
    }
    let offset = GroupOffset {
        topic: name("events"),
        partition: 0,
        offset: 17,
        leader_epoch: -1,
        metadata: name("meta"),
    };
    let commit = Command::CommitOffsets(name("readers"), vec![offset]);
    peer.ask(commit).await.unwrap();
    let mut retained = message(mqtt("state/door"), "open");
    for record in &mut retained.records {
        record.retain = Some(RetainAction::Set);
        record.envelope.retain = true;
    }
    peer.ask(Command::Publish(retained)).await.unwrap();
    // Consumed with a prefetch of ten: every second of the first ten is acknowledged.
    let mut taker = Peer::join(&running);
    taker.consume("work").await;
    settle_every_second(&mut taker, 10).await;
    drop(taker);
    while !has_checkpoint(dir.path()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Behind the checkpoint.
    for number in 0..5 {
        let text = format!("late {number}");
        device.publish(mqtt("a/b/c"), &text).await;
        peer.append("events", b"late", &text).await;
    }
    std::fs::remove_dir_all(fixture()).ok();
    copy(dir.path(), &fixture());
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_opens_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    assert!(has_checkpoint(dir.path()));
    let running = open(dir.path());
    let (frames, clean) = running.replayed();
    assert!(frames > 5 && !clean, "{frames} frames, clean: {clean}");
    found_again(&running).await;
    stop(running).await;
    // And once more, from what this version wrote beside it.
    let running = open(dir.path());
    assert!(running.replayed().1);
    let mut peer = Peer::join(&running);
    assert_eq!(peer.fetch("events", 40).await.high_watermark, 45);
    stop(running).await;
}

async fn stop(running: Running) {
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

async fn found_again(running: &Running) {
    let mut peer = Peer::join(running);
    // The log, from its first record to those behind the checkpoint.
    let first = peer.fetch("events", 0).await;
    assert_eq!((first.log_start_offset, first.high_watermark), (0, 45));
    let last = peer.fetch("events", 44).await;
    assert_eq!(last.batches.len(), 1);
    let refs = vec![TopicRef::Name(name("events"))];
    let Ok(Reply::Topics(topics)) = peer.ask(Command::DescribeTopics(Some(refs))).await else {
        panic!("no topics")
    };
    let events = topics[0].as_ref().expect("a topic");
    assert_eq!((events.partitions, events.provisional), (3, false));
    assert_eq!(events.settings.retention_ms, Some(-1));
    assert_eq!(events.settings.others[0].0, "segment.ms");
    // The queue: 40 messages less five; its binding still leads to it.
    assert_eq!(peer.declare("work").await.ready, 35);
    peer.publish(amqp("orders", "eu.paid"), "today").await;
    assert_eq!(peer.declare("work").await.ready, 36);
    peer.consume("work").await;
    for number in [1, 3, 5, 7, 9, 10, 11] {
        let delivery = peer.delivery().await;
        assert!(delivery.redelivered);
        let text = value(&delivery.message);
        assert!(text.starts_with(&format!("{number} ")), "{text:.9}");
    }
    // What a link brought.
    assert_eq!(peer.declare("linked").await.ready, 3);
    peer.append("linked", b"key", "3").await;
    let mut other = Peer::join(running);
    other.consume("linked").await;
    for number in 0..4 {
        assert_eq!(value(&other.delivery().await.message), number.to_string());
    }
    // The session and what it missed.
    let mut device = Peer::join(running);
    let session = device.subscribe("device", "state/#").await;
    assert!(session.present);
    assert_eq!(session.subscriptions.len(), 1);
    let mut texts = Vec::new();
    for _ in 0..6 {
        texts.push(value(&device.delivery().await.message));
    }
    texts.sort_unstable();
    let missed = ["late 0", "late 1", "late 2", "late 3", "late 4", "open"];
    assert_eq!(texts, missed);
    // The group.
    let wanted = Some(vec![(name("events"), 0)]);
    let asked = peer
        .ask(Command::FetchOffsets(name("readers"), wanted))
        .await;
    let Ok(Reply::GroupOffsets(offsets)) = asked else {
        panic!("no offsets")
    };
    let offset = format!("{offsets:?}");
    assert!(offset.contains("offset: 17"), "{offset}");
}
