//! Turns between queues, step by step.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use super::{NEWS_MAX, STEP_LINE_MAX, TURN_MAX};
use crate::api::*;
use crate::server::{Input, Mailbox, Parcel};
use crate::shard::behind::{AHEAD_MAX, AHEAD_MS_MAX};
use crate::shard::workbench::consume_of;
use crate::shard::{Now, Shard};
use bytes::Bytes;
use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{JournalOptions, LocalJournal, ShardId, Syncer};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A shard and two clients: one that consumes everything, and one that consumes `live`.
struct Bench {
    shard: Shard,
    syncer: Syncer,
    mailboxes: [Arc<Mailbox>; 2],
    now_ms: u64,
}

const BACKLOGS: usize = 8;
const EACH: usize = 4_000;

fn backlog(number: usize) -> Name {
    Name::from(format!("backlog-{number}"))
}

fn begin(key: u64, queue: Name, credit: u32) -> Command {
    Command::Consume(consume_of(queue, key, credit))
}

impl Bench {
    fn new() -> Self {
        let (env, _) = SimFiles::new(3, u64::MAX).env(3);
        let options = JournalOptions {
            file_bytes: 4 << 20,
            low_bytes: 0,
            reserve_bytes: 0,
            bytes_max: 0,
            ..JournalOptions::default()
        };
        let opened = LocalJournal::open(&env, Path::new("/data"), options, Arc::new(|| {}));
        let (journal, recovery) = opened.unwrap();
        let syncer = journal.syncer();
        let config = BrokerConfig {
            mailbox_bytes_max: u64::MAX,
            ..BrokerConfig::default()
        };
        let (shard, _) = Shard::open(
            ShardId(0),
            Arc::new(config),
            Box::new(journal),
            &recovery,
            Box::new(|| 4),
            Now::default(),
        )
        .unwrap();
        let taken = shard.taken();
        let mut bench = Self {
            shard,
            syncer,
            mailboxes: [0, 1].map(|_| Arc::new(Mailbox::new(taken.clone()))),
            now_ms: 0,
        };
        for (client, mailbox) in [(1, 0), (2, 1)] {
            let mailbox = bench.mailboxes[mailbox].clone();
            bench.connect(client, mailbox);
        }
        bench
    }

    fn connect(&mut self, client: u64, mailbox: Arc<Mailbox>) {
        self.step(vec![Input::Connect {
            client: ClientId(client),
            namespace: NamespaceId(0),
            info: ClientInfo {
                principal: Name::from_static(b"tester"),
                protocol: "test".to_owned(),
                peer: "here".to_owned(),
            },
            mailbox,
        }]);
    }

    fn step(&mut self, mut inputs: Vec<Input>) {
        let now = Now {
            unix_ms: 1_700_000_000_000 + self.now_ms.cast_signed(),
            monotonic_ms: self.now_ms,
        };
        self.shard.step(now, &mut inputs);
        while self.syncer.step() {}
    }

    fn tell(&mut self, client: u64, command: Command) {
        self.step(vec![Input::Command {
            client: ClientId(client),
            correlation: 0,
            command,
            cost: None,
        }]);
    }

    /// All of this in one step.
    fn tell_together(&mut self, client: u64, commands: impl Iterator<Item = Command>) {
        let input = |command| Input::Command {
            client: ClientId(client),
            correlation: 0,
            command,
            cost: None,
        };
        self.step(commands.map(input).collect());
    }

    fn declare(&mut self, name: Name) {
        self.tell(
            1,
            Command::DeclareQueue(DeclareQueue {
                name,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: Vec::new(),
            }),
        );
    }

    fn consume(&mut self, client: u64, key: u64, queue: Name) {
        self.tell(client, begin(key, queue, 0));
    }

    fn publish(&mut self, queue: &Name, count: usize) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: 1_700_000_000_000,
            key: None,
            value: Some(Pieces::One(b"hello")),
            headers,
        };
        let mut records = Vec::new();
        for _ in 0..count {
            let appended = builder.append(&record).unwrap();
            let address = Address::Amqp {
                exchange: Name::new(),
                routing_key: queue.clone(),
            };
            let range = (appended.body_position, appended.body_bytes);
            let envelope = Envelope::new(address, Provenance::AmqpDefault, range);
            records.push(PublishRecord::of(envelope));
        }
        let batch: Bytes = builder.finish().unwrap().to_bytes();
        self.tell(
            1,
            Command::Publish(Publish {
                batch,
                records,
                wait: Wait::Durable,
                dedupe: None,
            }),
        );
    }

    /// Lets what is there become old, and connections that have just come find their place.
    fn grow_old(&mut self) {
        for _ in 0..3 {
            self.now_ms += 1000;
            self.step(Vec::new());
        }
    }

    /// Deliveries that a client has got since this was last asked.
    fn delivered(&self, client: usize) -> usize {
        let mut parcels = VecDeque::new();
        self.mailboxes[client].try_take(&mut parcels);
        let is_delivery = |parcel: &&Parcel| matches!(parcel, Parcel::Delivery(_));
        parcels.iter().filter(is_delivery).count()
    }

    fn is_behind(&self, client: usize) -> bool {
        self.mailboxes[client].catches_up().load(Ordering::Relaxed)
    }
}

#[test]
fn what_has_just_been_published_waits_for_no_backlog() {
    let mut bench = Bench::new();
    let live = Name::from_static(b"live");
    bench.declare(live.clone());
    bench.consume(2, 1, live.clone());
    for number in 0..BACKLOGS {
        let queue = backlog(number);
        bench.declare(queue.clone());
        for _ in 0..EACH / 200 {
            bench.publish(&queue, 200);
        }
    }
    bench.grow_old();
    for number in 0..BACKLOGS {
        bench.consume(1, number as u64, backlog(number));
    }
    let mut taken = bench.delivered(0);
    for round in 1..=3 {
        bench.publish(&live, 1);
        // One step more: the sync comes between.
        bench.step(Vec::new());
        assert_eq!(bench.delivered(1), 1, "round {round}");
        let some = bench.delivered(0);
        assert!(some > 0 && some <= 2 * (STEP_LINE_MAX + TURN_MAX), "{some}");
        taken += some;
    }
    assert!(taken < BACKLOGS * EACH, "the backlogs are still served");
    assert!(bench.is_behind(0) && !bench.is_behind(1));
    for _ in 0..BACKLOGS * EACH / STEP_LINE_MAX + 1 {
        bench.step(Vec::new());
        taken += bench.delivered(0);
    }
    assert_eq!(taken, BACKLOGS * EACH, "and to their ends");
}

#[test]
fn many_that_come_back_at_once_are_behind_from_the_start_and_wait_in_line() {
    let mut bench = Bench::new();
    for number in 0..BACKLOGS {
        bench.declare(backlog(number));
        bench.publish(&backlog(number), 200);
    }
    bench.grow_old();
    assert!(!bench.is_behind(0));
    let come_back = (0..BACKLOGS).map(|number| begin(number as u64, backlog(number), 0));
    bench.tell_together(1, come_back);
    assert_eq!(bench.delivered(0), STEP_LINE_MAX.next_multiple_of(200));
    assert!(bench.is_behind(0));
}

#[test]
fn who_takes_little_of_a_backlog_has_it_at_once_and_is_not_behind() {
    let mut bench = Bench::new();
    for (number, count) in [(0, 200), (1, NEWS_MAX), (2, 200)] {
        bench.declare(backlog(number));
        bench.publish(&backlog(number), count);
    }
    bench.grow_old();
    let few = u32::try_from(NEWS_MAX).unwrap();
    let group = CreditGroup(1);
    bench.tell(1, Command::SetCredit(group, 10));
    let grouped = Consume {
        credit_group: Some(group),
        ..consume_of(backlog(2), 2, 0)
    };
    let come_back = [
        begin(0, backlog(0), few),
        begin(1, backlog(1), 0),
        Command::Consume(grouped),
    ];
    bench.tell_together(1, come_back.into_iter());
    assert_eq!(bench.delivered(0), 2 * NEWS_MAX + 10);
    assert!(!bench.is_behind(0));
}

#[test]
fn a_connection_is_behind_for_a_second_after_it_was_last_given_of_a_backlog() {
    let mut bench = Bench::new();
    let queue = backlog(0);
    bench.declare(queue.clone());
    for _ in 0..EACH / 200 {
        bench.publish(&queue, 200);
    }
    bench.grow_old();
    bench.consume(1, 1, queue);
    for _ in 0..EACH / STEP_LINE_MAX + 1 {
        bench.step(Vec::new());
    }
    assert_eq!(bench.delivered(0), EACH);
    bench.now_ms += 900;
    bench.step(Vec::new());
    assert!(bench.is_behind(0));
    // However much of it is not settled: a consumer under load always has something to settle.
    bench.grow_old();
    assert!(!bench.is_behind(0));
}

#[test]
fn whoever_has_just_come_is_behind_for_a_moment() {
    let mut bench = Bench::new();
    assert!(bench.is_behind(0));
    bench.grow_old();
    assert!(!bench.is_behind(0));
}

#[test]
fn those_that_have_gone_keep_nobody_behind() {
    let mut bench = Bench::new();
    for client in 10..1010 {
        bench.connect(client, Arc::default());
        bench.step(vec![Input::Disconnect(ClientId(client))]);
    }
    bench.mailboxes[0] = Arc::default();
    bench.connect(3, bench.mailboxes[0].clone());
    bench.now_ms += 200;
    bench.step(Vec::new());
    assert!(!bench.is_behind(0));
}

#[test]
fn a_burst_makes_nobody_behind_and_waits_for_no_backlog() {
    let mut bench = Bench::new();
    let live = Name::from_static(b"live");
    bench.declare(live.clone());
    bench.consume(2, 1, live.clone());
    for number in 0..BACKLOGS {
        bench.declare(backlog(number));
        bench.publish(&backlog(number), 2 * TURN_MAX);
    }
    bench.grow_old();
    let come_back = (0..BACKLOGS).map(|number| begin(number as u64, backlog(number), 0));
    bench.tell_together(1, come_back);
    bench.publish(&live, TURN_MAX);
    bench.step(Vec::new());
    bench.step(Vec::new());
    assert_eq!(bench.delivered(1), TURN_MAX);
    assert!(bench.delivered(0) < BACKLOGS * TURN_MAX);
    assert!(bench.is_behind(0) && !bench.is_behind(1));
}

#[test]
fn those_that_are_behind_are_given_what_they_take_and_little_more() {
    let mut bench = Bench::new();
    for number in 0..BACKLOGS {
        bench.declare(backlog(number));
        for _ in 0..2 * EACH / 200 {
            bench.publish(&backlog(number), 200);
        }
    }
    bench.grow_old();
    for number in 0..BACKLOGS {
        bench.consume(1, number as u64, backlog(number));
    }
    let ahead = usize::try_from(AHEAD_MAX).unwrap();
    let all = 2 * BACKLOGS * EACH;
    for _ in 0..all / STEP_LINE_MAX {
        bench.step(Vec::new());
    }
    let given = bench.delivered(0);
    assert!(
        given >= ahead && given < ahead + STEP_LINE_MAX + TURN_MAX,
        "{given}"
    );
    // It has taken that, and is given as much again.
    for _ in 0..all / STEP_LINE_MAX {
        bench.step(Vec::new());
    }
    // It takes nothing for a while: that is not to hold up others.
    bench.now_ms += AHEAD_MS_MAX;
    for _ in 0..all / STEP_LINE_MAX {
        bench.step(Vec::new());
    }
    let given = bench.delivered(0);
    assert!(given >= 2 * ahead && given < 3 * ahead, "{given}");
    // What it took late does not count twice.
    for _ in 0..all / STEP_LINE_MAX {
        bench.step(Vec::new());
    }
    let given = bench.delivered(0);
    assert!(
        given >= ahead && given < ahead + STEP_LINE_MAX + TURN_MAX,
        "{given}"
    );
}
