//! Transactions: what readers of committed records see, who may write, and how a transaction ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces, RecordBatch};
use std::time::Duration;
use support::*;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn topic(name: &'static str) -> TopicRef {
    TopicRef::Name(text(name))
}

async fn create(peer: &mut Peer, name: &'static str) {
    let create = CreateTopic {
        name: text(name),
        partitions: Some(2),
        settings: LogSettings::default(),
        validate_only: false,
        path_template: None,
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
}

/// A transactional producer and its next sequence numbers.
struct Writer {
    who: Transactor,
    sequences: [i32; 2],
}

async fn init(peer: &mut Peer, id: &'static str, timeout_ms: i64) -> Writer {
    let init = InitTransactions {
        id: text(id),
        timeout_ms,
        expected: None,
    };
    let reply = peer.ask(Command::InitTransactions(init)).await;
    let Ok(Reply::Producer(producer, epoch)) = reply else {
        panic!("{reply:?}")
    };
    let id = text(id);
    Writer {
        who: Transactor {
            id,
            producer,
            epoch,
        },
        sequences: [0, 0],
    }
}

impl Writer {
    async fn enlist(&self, peer: &mut Peer) -> Result<Reply, Refusal> {
        let partitions = vec![(text("orders"), 0), (text("orders"), 1)];
        let command = Command::Enlist(self.who.clone(), Enlist::Partitions(partitions));
        peer.ask(command).await
    }

    async fn write(
        &mut self,
        peer: &mut Peer,
        partition: i32,
        value: &str,
    ) -> Result<i64, Refusal> {
        self.write_as(peer, partition, value, true).await
    }

    /// Writes one batch: a record for each part of the value between commas.
    async fn write_as(
        &mut self,
        peer: &mut Peer,
        partition: i32,
        value: &str,
        transactional: bool,
    ) -> Result<i64, Refusal> {
        let sequence = &mut self.sequences[usize::try_from(partition).unwrap()];
        let mut builder = BatchBuilder::new(BatchOptions {
            transactional,
            producer_id: self.who.producer,
            producer_epoch: self.who.epoch,
            base_sequence: *sequence,
            ..BatchOptions::default()
        });
        let headers: [Header<'_>; 0] = [];
        let mut count = 0;
        for value in value.split(',') {
            let record = NewRecord {
                timestamp: now_ms(),
                key: None,
                value: Some(Pieces::One(value.as_bytes())),
                headers,
            };
            builder.append(&record).unwrap();
            count += 1;
        }
        let append = Append {
            topic: topic("orders"),
            partition,
            batch: builder.finish().unwrap().to_bytes(),
            wait: Wait::Durable,
            keyless: false,
            transactional_id: transactional.then(|| self.who.id.clone()),
        };
        match peer.ask(Command::Append(append)).await? {
            Reply::Appended(appended) => {
                *sequence += count;
                Ok(appended.base_offset)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn end(&self, peer: &mut Peer, commit: bool) -> Result<Reply, Refusal> {
        let command = Command::EndTransaction(self.who.clone(), commit);
        peer.ask(command).await
    }

    async fn position(&self, peer: &mut Peer, offset: i64) -> Result<Reply, Refusal> {
        let commit = OffsetsInTransaction {
            transactor: self.who.clone(),
            group: text("group"),
            offsets: vec![GroupOffset {
                topic: text("orders"),
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: Bytes::new(),
            }],
        };
        peer.ask(Command::OffsetsInTransaction(commit)).await
    }
}

async fn fetch(peer: &mut Peer, partition: i32, committed: bool) -> Fetched {
    let fetch = Fetch {
        partitions: vec![FetchPartition {
            topic: topic("orders"),
            partition,
            offset: 0,
            bytes_max: 1 << 20,
            current_leader_epoch: -1,
        }],
        wait_ms_max: 0,
        bytes_min: 1,
        bytes_max: 1 << 20,
        committed,
    };
    match peer.ask(Command::Fetch(fetch)).await {
        Ok(Reply::Fetched(mut parts)) => parts.remove(0).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Base offsets of batches, and which of them are markers.
fn outline(fetched: &Fetched) -> Vec<(i64, bool)> {
    let batches = fetched.batches.iter();
    batches
        .map(|batch| {
            let batch = RecordBatch::parse(batch.clone()).unwrap();
            let header = batch.header();
            (header.base_offset, header.attributes.is_control())
        })
        .collect()
}

async fn latest(peer: &mut Peer, committed: bool) -> i64 {
    let find = FindOffset {
        topic: topic("orders"),
        partition: 0,
        at: OffsetAt::Latest,
        committed,
    };
    match peer.ask(Command::FindOffset(find)).await {
        Ok(Reply::Offset(found)) => found.offset,
        other => panic!("{other:?}"),
    }
}

async fn position(peer: &mut Peer) -> Option<i64> {
    let fetch = Command::FetchOffsets(text("group"), None);
    match peer.ask(fetch).await {
        Ok(Reply::GroupOffsets(offsets)) => offsets.first().map(|offset| offset.offset),
        other => panic!("{other:?}"),
    }
}

async fn unstable(peer: &mut Peer) -> Vec<(Name, i32)> {
    match peer.ask(Command::UnstableOffsets(text("group"))).await {
        Ok(Reply::Unstable(pending)) => pending,
        other => panic!("{other:?}"),
    }
}

async fn stop(running: Running) {
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn readers_of_committed_records_stop_at_what_is_open_and_are_told_what_was_aborted() {
    // Once with the records in memory, once with them on disk only.
    for begin in [start, start_small] {
        let dir = tempfile::tempdir().unwrap();
        let running = begin(dir.path());
        let mut peer = Peer::join(&running);
        create(&mut peer, "orders").await;
        let mut writer = init(&mut peer, "writer", 60_000).await;
        writer.enlist(&mut peer).await.unwrap();
        writer.write(&mut peer, 0, "a").await.unwrap();
        writer.write(&mut peer, 1, "a").await.unwrap();
        peer.append("orders", b"k", "plain").await;
        let open = fetch(&mut peer, 0, true).await;
        assert_eq!(
            (outline(&open), open.last_stable_offset, open.high_watermark),
            (vec![], 0, 2)
        );
        assert_eq!(latest(&mut peer, true).await, 0);
        assert_eq!(latest(&mut peer, false).await, 2);
        assert_eq!(
            outline(&fetch(&mut peer, 0, false).await),
            [(0, false), (1, false)]
        );
        writer.end(&mut peer, false).await.unwrap();
        writer.enlist(&mut peer).await.unwrap();
        writer.write(&mut peer, 0, "b").await.unwrap();
        writer.end(&mut peer, true).await.unwrap();
        let fetched = fetch(&mut peer, 0, true).await;
        let all = [(0, false), (1, false), (2, true), (3, false), (4, true)];
        assert_eq!(outline(&fetched), all);
        let aborted = AbortedTransaction {
            producer: writer.who.producer,
            first_offset: 0,
            last_offset: 2,
        };
        assert_eq!(fetched.aborted, [aborted]);
        assert_eq!((fetched.last_stable_offset, fetched.high_watermark), (5, 5));
        let fetched = fetch(&mut peer, 0, false).await;
        assert_eq!((outline(&fetched).len(), fetched.aborted), (5, vec![]));
        drop(peer);
        stop(running).await;
        let running = begin(dir.path());
        let mut peer = Peer::join(&running);
        let fetched = fetch(&mut peer, 1, true).await;
        assert_eq!(outline(&fetched), [(0, false), (1, true), (2, true)]);
        assert_eq!(fetched.aborted.len(), 1);
        stop(running).await;
    }
}

#[tokio::test]
async fn positions_count_when_the_transaction_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "orders").await;
    let writer = init(&mut peer, "writer", 60_000).await;
    let refused = writer.position(&mut peer, 1).await;
    assert_eq!(refused, Err(Refusal::InvalidTransactionState));
    for (commit, offset, after) in [(false, 5, None), (true, 7, Some(7)), (false, 9, Some(7))] {
        let group = Enlist::Group(text("group"));
        let enlist = Command::Enlist(writer.who.clone(), group);
        peer.ask(enlist).await.unwrap();
        let before = position(&mut peer).await;
        writer.position(&mut peer, offset).await.unwrap();
        assert_eq!(position(&mut peer).await, before);
        assert_eq!(unstable(&mut peer).await, [(text("orders"), 0)]);
        writer.end(&mut peer, commit).await.unwrap();
        assert_eq!(position(&mut peer).await, after);
        assert_eq!(unstable(&mut peer).await, []);
    }
    stop(running).await;
}

#[tokio::test]
async fn who_takes_over_an_id_fences_the_one_before_and_aborts_what_it_left() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "orders").await;
    let mut before = init(&mut peer, "writer", 60_000).await;
    before.enlist(&mut peer).await.unwrap();
    before.write(&mut peer, 0, "left").await.unwrap();
    let mut after = init(&mut peer, "writer", 60_000).await;
    assert_eq!(after.who.producer, before.who.producer);
    assert!(after.who.epoch > before.who.epoch);
    assert_eq!(fetch(&mut peer, 0, true).await.aborted.len(), 1);
    assert_eq!(latest(&mut peer, true).await, 2);
    assert_eq!(
        before.write(&mut peer, 0, "late").await,
        Err(Refusal::InvalidProducerEpoch)
    );
    assert_eq!(before.enlist(&mut peer).await, Err(Refusal::ProducerFenced));
    assert_eq!(
        before.end(&mut peer, true).await,
        Err(Refusal::ProducerFenced)
    );
    after.enlist(&mut peer).await.unwrap();
    assert_eq!(after.write(&mut peer, 0, "new").await, Ok(2));
    after.end(&mut peer, true).await.unwrap();
    stop(running).await;
}

#[tokio::test]
async fn a_batch_needs_an_open_transaction_that_takes_its_partition_in() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "orders").await;
    let mut writer = init(&mut peer, "writer", 60_000).await;
    assert_eq!(
        writer.write(&mut peer, 0, "too early").await,
        Err(Refusal::InvalidTransactionState)
    );
    let some = Enlist::Partitions(vec![(text("orders"), 0), (text("nowhere"), 0)]);
    let Ok(Reply::Committed(each)) = peer.ask(Command::Enlist(writer.who.clone(), some)).await
    else {
        panic!("an answer for each partition")
    };
    assert!(each[0].is_ok() && each[1].is_err());
    assert_eq!(
        writer.write(&mut peer, 0, "all or none").await,
        Err(Refusal::InvalidTransactionState)
    );
    writer.enlist(&mut peer).await.unwrap();
    writer.write(&mut peer, 0, "in it").await.unwrap();
    assert_eq!(
        writer.write_as(&mut peer, 0, "beside it", false).await,
        Err(Refusal::InvalidTransactionState)
    );
    let mut stranger = init(&mut peer, "stranger", 60_000).await;
    stranger.who.id = writer.who.id.clone();
    assert_eq!(
        stranger.write(&mut peer, 0, "not its id").await,
        Err(Refusal::InvalidProducerMapping)
    );
    writer.end(&mut peer, true).await.unwrap();
    // Asked again, it answers as before; asked otherwise, it does not.
    assert_eq!(writer.end(&mut peer, true).await, Ok(Reply::Done));
    assert_eq!(
        writer.end(&mut peer, false).await,
        Err(Refusal::InvalidTransactionState)
    );
    assert_eq!(
        writer.write(&mut peer, 0, "too late").await,
        Err(Refusal::InvalidTransactionState)
    );
    stop(running).await;
}

#[tokio::test]
async fn an_open_transaction_survives_a_restart_and_is_aborted_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "orders").await;
    let mut writer = init(&mut peer, "writer", 1500).await;
    writer.enlist(&mut peer).await.unwrap();
    writer.write(&mut peer, 0, "open").await.unwrap();
    let began = std::time::Instant::now();
    stop(running).await;
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    if began.elapsed() < Duration::from_millis(1000) {
        assert_eq!(latest(&mut peer, true).await, 0);
    }
    while latest(&mut peer, true).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1400));
    assert_eq!(fetch(&mut peer, 0, true).await.aborted.len(), 1);
    assert_eq!(
        writer.end(&mut peer, true).await,
        Err(Refusal::ProducerFenced)
    );
    stop(running).await;
}

#[tokio::test]
async fn a_producer_that_asks_again_for_its_next_epoch_gets_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let writer = init(&mut peer, "writer", 60_000).await;
    let next = |epoch: i16| {
        Command::InitTransactions(InitTransactions {
            id: text("writer"),
            timeout_ms: 60_000,
            expected: Some((writer.who.producer, epoch)),
        })
    };
    let bumped = Ok(Reply::Producer(writer.who.producer, 1));
    assert_eq!(peer.ask(next(0)).await, bumped);
    assert_eq!(peer.ask(next(0)).await, bumped);
    assert_eq!(
        peer.ask(next(1)).await,
        Ok(Reply::Producer(writer.who.producer, 2))
    );
    assert_eq!(peer.ask(next(0)).await, Err(Refusal::ProducerFenced));
    let too_long = Command::InitTransactions(InitTransactions {
        id: text("writer"),
        timeout_ms: 900_001,
        expected: None,
    });
    assert_eq!(
        peer.ask(too_long).await,
        Err(Refusal::InvalidTransactionTimeout)
    );
    stop(running).await;
}

#[tokio::test]
async fn queues_get_what_is_committed_and_nothing_else() {
    for begin in [start, start_small] {
        let dir = tempfile::tempdir().unwrap();
        let running = begin(dir.path());
        let mut peer = Peer::join(&running);
        create(&mut peer, "orders").await;
        peer.declare("orders").await;
        peer.consume("orders").await;
        let mut writer = init(&mut peer, "writer", 60_000).await;
        let mut other = init(&mut peer, "other", 60_000).await;
        writer.enlist(&mut peer).await.unwrap();
        other.enlist(&mut peer).await.unwrap();
        writer.write(&mut peer, 0, "aborted").await.unwrap();
        other.write(&mut peer, 0, "committed").await.unwrap();
        peer.append("orders", b"k", "plain").await;
        writer.write(&mut peer, 0, "aborted too").await.unwrap();
        other.end(&mut peer, true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let early = peer
            .events
            .iter()
            .any(|event| matches!(event, Event::Delivery(_)));
        assert!(
            !early,
            "something comes while a transaction before it is open"
        );
        writer.end(&mut peer, false).await.unwrap();
        peer.append("orders", b"k", "last").await;
        for expected in ["committed", "plain", "last"] {
            let delivery = peer.delivery().await;
            assert_eq!(value(&delivery.message), expected);
        }
        stop(running).await;
    }
}

#[tokio::test]
async fn records_may_be_deleted_past_an_open_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "orders").await;
    let mut writer = init(&mut peer, "writer", 60_000).await;
    writer.enlist(&mut peer).await.unwrap();
    writer.write(&mut peer, 0, "open").await.unwrap();
    peer.append("orders", b"k", "plain").await;
    let delete = Command::DeleteRecords(topic("orders"), 0, 1);
    peer.ask(delete).await.unwrap();
    assert_eq!(latest(&mut peer, true).await, 1);
    writer.end(&mut peer, false).await.unwrap();
    assert_eq!(latest(&mut peer, true).await, 3);
    stop(running).await;
}

#[tokio::test]
async fn queues_get_nothing_open_of_a_batch_within_which_the_log_begins() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "orders").await;
    peer.declare("orders").await;
    peer.consume("orders").await;
    let mut writer = init(&mut peer, "writer", 60_000).await;
    writer.enlist(&mut peer).await.unwrap();
    writer.write(&mut peer, 0, "one,two,three").await.unwrap();
    let delete = Command::DeleteRecords(topic("orders"), 0, 1);
    peer.ask(delete).await.unwrap();
    // Whatever is read for links is looked at when there is news.
    peer.append("orders", b"k", "plain").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let early = peer.events.iter();
    let early = early.filter(|event| matches!(event, Event::Delivery(_)));
    assert_eq!(early.count(), 0, "what is open is delivered");
    writer.end(&mut peer, true).await.unwrap();
    for expected in ["two", "three", "plain"] {
        assert_eq!(value(&peer.delivery().await.message), expected);
    }
    stop(running).await;
}
