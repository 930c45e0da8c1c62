//! Raw views of compacted topics.

use super::*;
use std::collections::BTreeMap;

type Records = Vec<(i64, Bytes, Option<Bytes>)>;

fn named(topic: &'static str) -> TopicRef {
    TopicRef::Name(Name::from_static(topic.as_bytes()))
}

/// A compacted topic whose raw view keeps records for so long.
fn viewed(ms: &str, others: &[(&str, &str)]) -> LogSettings {
    let mut all = vec![
        ("min.cleanable.dirty.ratio", "0.01"),
        (RAW_RETENTION_MS, ms),
    ];
    all.extend(others);
    compacted(&all)
}

/// Of a topic that pushes on the journal next to nothing stays.
fn narrow() -> LogSettings {
    LogSettings {
        retention_bytes: Some(1000),
        ..LogSettings::default()
    }
}

impl Bench {
    fn alter(&mut self, topic: &'static str, settings: LogSettings) -> Result<Reply, Refusal> {
        let alter = AlterTopic::new(named(topic), settings);
        self.ask(Command::AlterTopic(alter))
    }

    /// Writes records of a few keys, with the present time; each once under its offset in what is returned.
    fn write_some(&mut self, topic: &'static str, count: usize) -> Records {
        let mut written = Vec::new();
        for round in 0..count {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            let value = format!("{round} {}", "x".repeat(400));
            let keys = [format!("key {}", round % 3), format!("key {}", round % 50)];
            let values = [Some(&value), (round % 7 > 0).then_some(&value)];
            for (key, value) in keys.iter().zip(values) {
                let headers: [Header<'_>; 0] = [];
                let record = NewRecord {
                    timestamp: self.env.clock.now_ms(),
                    key: Some(key.as_bytes()),
                    value: value.map(|value| Pieces::One(value.as_bytes())),
                    headers,
                };
                builder.append(&record).unwrap();
            }
            let base = self.append(topic, builder.finish().unwrap().to_bytes());
            for ((offset, key), value) in (base..).zip(keys).zip(values) {
                let value = value.map(|value| Bytes::from(value.clone()));
                written.push((offset, Bytes::from(key), value));
            }
        }
        written
    }

    fn find(&mut self, topic: &'static str, at: OffsetAt) -> i64 {
        let find = FindOffset {
            topic: named(topic),
            partition: 0,
            at,
            committed: false,
        };
        match self.ask(Command::FindOffset(find)) {
            Ok(Reply::Offset(found)) => found.offset,
            other => panic!("{other:?}"),
        }
    }

    fn names(&mut self) -> Vec<String> {
        match self.ask(Command::DescribeTopics(None)) {
            Ok(Reply::Topics(topics)) => topics
                .into_iter()
                .map(|topic| String::from_utf8_lossy(&topic.unwrap().name).into_owned())
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Rests until a job is over whose files count, and power is lost before that is journaled.
    fn crash_behind_a_swap(&mut self) {
        for _ in 0..60 {
            self.clock.advance(Duration::from_millis(1500));
            self.step(Vec::new());
            if let Some(job) = self.shard.take_checkpoint_job() {
                job.run(&mut || {});
            }
            if let Some(mut job) = self.shard.take_compaction_job() {
                let before = self.shard.journal.clusters().unwrap().files();
                while job.step(16 << 10) {}
                if self.shard.journal.clusters().unwrap().files() != before {
                    self.crash();
                    return;
                }
            }
        }
        panic!("nothing was compacted");
    }
}

/// What a compacted log must still have of what was written.
fn last_of_each(written: &Records) -> usize {
    let last: BTreeMap<&Bytes, i64> = written.iter().map(|(at, key, _)| (key, *at)).collect();
    last.len()
}

#[test]
fn a_raw_view_has_every_record_as_it_was_written_whatever_was_cleaned() {
    let mut bench = Bench::new();
    bench.create("table", viewed("-1", &[("delete.retention.ms", "1000")]));
    bench.create("other", narrow());
    assert_eq!(bench.names(), ["other", "table", "table.raw"]);
    let mut written = bench.write_some("table", 150);
    assert_eq!(bench.read_log("table.raw", 0), written);
    bench.fill(20);
    let left = bench.read_log("table", 0).len();
    assert!(left < last_of_each(&written) + 20, "{left} are left");
    assert_eq!(bench.read_log("table.raw", 0), written);
    // What is newer is in the log itself: a reader goes over from one to the other.
    written.extend(bench.write_some("table", 60));
    for from in 0..i64::try_from(written.len()).unwrap() {
        let expected = &written[usize::try_from(from).unwrap()..];
        assert_eq!(bench.read_log("table.raw", from), expected, "from {from}");
    }
    bench.crash();
    assert_eq!(bench.read_log("table.raw", 0), written);
    bench.fill(20);
    assert_eq!(bench.read_log("table.raw", 0), written);
    for file in 0..3 {
        written.extend(bench.write_some("table", 40 + file));
        bench.fill(12);
        assert_eq!(bench.read_log("table.raw", 0), written);
    }
    let end = i64::try_from(written.len()).unwrap();
    assert_eq!(bench.find("table.raw", OffsetAt::Earliest), 0);
    assert_eq!(bench.find("table.raw", OffsetAt::Latest), end);
    bench.fill(20);
    let left = bench.read_log("table", 0).len();
    assert!(left < last_of_each(&written) + 20, "{left} are left");
    assert_eq!(bench.read_log("table.raw", 0), written);
}

#[test]
fn power_that_is_lost_between_the_swap_and_its_journaling_loses_and_doubles_nothing() {
    let mut bench = Bench::new();
    bench.create("table", viewed("-1", &[]));
    bench.create("other", narrow());
    let mut written = Vec::new();
    for _ in 0..3 {
        written.extend(bench.write_some("table", 150));
        bench.fill(0);
        bench.crash_behind_a_swap();
        assert_eq!(bench.read_log("table.raw", 0), written);
        bench.rest(3);
        assert_eq!(bench.read_log("table.raw", 0), written);
    }
    bench.fill(20);
    assert_eq!(bench.read_log("table.raw", 0), written);
    let left = bench.read_log("table", 0).len();
    assert!(left < last_of_each(&written) + 20, "{left} are left");
}

#[test]
fn a_raw_view_begins_where_nothing_was_cleaned_even_if_nobody_heard_of_that() {
    let mut bench = Bench::new();
    bench.create("table", compacted(&[("min.cleanable.dirty.ratio", "0.01")]));
    bench.create("other", narrow());
    let mut written = bench.write_some("table", 150);
    bench.fill(0);
    bench.crash_behind_a_swap();
    written.extend(bench.write_some("table", 20));
    bench.alter("table", viewed("-1", &[])).unwrap();
    let from = bench.find("table.raw", OffsetAt::Earliest);
    assert!((200..=300).contains(&from), "it begins at {from}");
    let expected = &written[usize::try_from(from).unwrap()..];
    assert_eq!(bench.read_log("table.raw", from), expected);
    bench.fill(20);
    assert_eq!(bench.read_log("table.raw", from), expected);
    assert_eq!(
        bench.fetch("table.raw", from - 1),
        Err(Refusal::OffsetOutOfRange {
            log_start_offset: from,
            high_watermark: 340
        })
    );
}

#[test]
fn a_raw_view_keeps_to_its_own_window() {
    let mut bench = Bench::new();
    bench.create("table", viewed("100000", &[]));
    bench.create("other", narrow());
    let old = bench.write_some("table", 150);
    bench.fill(20);
    assert_eq!(bench.read_log("table.raw", 0), old);
    let full = bench.on_disk("/data/clusters");
    bench.clock.advance(Duration::from_secs(60));
    let time = bench.env.clock.now_ms();
    let new = bench.write_some("table", 10);
    assert_eq!(bench.find("table.raw", OffsetAt::Time(time)), 300);
    assert_eq!(bench.find("table.raw", OffsetAt::Time(0)), 0);
    bench.fill(12);
    assert_eq!(bench.find("table.raw", OffsetAt::Earliest), 300);
    assert_eq!(bench.read_log("table.raw", 300), new);
    // The log itself still has the last of each key.
    let left = bench.read_log("table", 0).len();
    assert!(left >= last_of_each(&old), "{left} are left");
    bench.rest(40);
    bench.crash();
    bench.rest(40);
    // When all is outside, all that is left of the view is its end.
    bench.fill(80);
    assert_eq!(bench.find("table.raw", OffsetAt::Earliest), 320);
    assert_eq!(bench.read_log("table.raw", 320), []);
    let copies = bench.on_disk("/data/clusters");
    assert!(copies < full / 2, "{copies} of {full} bytes are left");
    let newer = bench.write_some("table", 5);
    assert_eq!(bench.read_log("table.raw", 320), newer);
}

#[test]
fn what_the_log_lets_go_of_stays_in_its_raw_view() {
    let mut bench = Bench::new();
    let mut settings = viewed("-1", &[]);
    settings.cleanup = Some(CleanupPolicy::CompactDelete);
    settings.retention_ms = Some(20_000);
    bench.create("table", settings);
    bench.create("other", narrow());
    let mut written = bench.write_some("table", 60);
    // The first of them go before they were copied, and all the others later.
    bench
        .ask(Command::DeleteRecords(named("table"), 0, 50))
        .unwrap();
    assert_eq!(bench.find("table", OffsetAt::Earliest), 50);
    assert_eq!(bench.read_log("table.raw", 0), written);
    written.extend(bench.write_some("table", 60));
    bench.fill(12);
    assert_eq!(bench.read_log("table.raw", 0), written);
    bench.fill(40);
    assert_eq!(bench.find("table", OffsetAt::Earliest), 240);
    assert_eq!(bench.read_log("table.raw", 0), written);
    bench.crash();
    written.extend(bench.write_some("table", 60));
    bench.fill(40);
    assert_eq!(bench.read_log("table.raw", 0), written);
}

#[test]
fn a_raw_view_tells_of_aborted_transactions_for_as_long_as_it_has_them() {
    let mut bench = Bench::new();
    bench.create("table", viewed("-1", &[("delete.retention.ms", "1000")]));
    bench.create("other", narrow());
    let who = bench.init("writer");
    bench.transact(&who, 0, &[("a", Some("1")), ("b", Some("1"))]);
    bench.end(&who, true);
    bench.transact(&who, 2, &[("a", Some("aborted")), ("c", Some("aborted"))]);
    bench.end(&who, false);
    bench.append("table", keyed(&[("b", Some("2"))], BatchOptions::default()));
    for _ in 0..3 {
        bench.fill(20);
        bench.append("table", keyed(&[("d", Some("3"))], BatchOptions::default()));
    }
    let fetch = Fetch {
        partitions: vec![FetchPartition {
            topic: named("table.raw"),
            partition: 0,
            offset: 0,
            bytes_max: 1 << 20,
            current_leader_epoch: -1,
        }],
        wait_ms_max: 0,
        bytes_min: 1,
        bytes_max: 1 << 20,
        committed: true,
    };
    for _ in 0..2 {
        let Ok(Reply::Fetched(parts)) = bench.ask(Command::Fetch(fetch.clone())) else {
            panic!("no reply");
        };
        let fetched = parts[0].as_ref().unwrap();
        let aborted = [AbortedTransaction {
            producer: who.producer,
            first_offset: 3,
            last_offset: 5,
        }];
        assert_eq!(fetched.aborted, aborted);
        let headers = fetched.batches.iter().map(|batch| {
            let batch = RecordBatch::parse(batch.clone()).unwrap();
            let header = *batch.header();
            let control = header.attributes.is_control();
            (header.base_offset, header.record_count, control)
        });
        let all: Vec<_> = headers.collect();
        let expected = [
            (0, 2, false),
            (2, 1, true),
            (3, 2, false),
            (5, 1, true),
            (6, 1, false),
            (7, 1, false),
            (8, 1, false),
            (9, 1, false),
        ];
        assert_eq!(all, expected);
        bench.crash();
    }
}

#[test]
fn a_raw_view_goes_with_its_setting_and_with_its_topic() {
    let mut bench = Bench::new();
    bench.create("table", viewed("-1", &[]));
    bench.create("other", narrow());
    bench.write_some("table", 150);
    bench.fill(20);
    let with = bench.on_disk("/data/clusters");
    let position = |topic: &'static str| GroupOffset {
        topic: Name::from_static(topic.as_bytes()),
        partition: 0,
        offset: 7,
        leader_epoch: -1,
        metadata: Name::new(),
    };
    let group = Name::from_static(b"group");
    let all = vec![position("table"), position("table.raw")];
    let commit = Command::CommitOffsets(group.clone(), all.clone());
    assert_eq!(
        bench.ask(commit),
        Ok(Reply::Committed(vec![Ok(()), Ok(())]))
    );
    let positions = |bench: &mut Bench| {
        let wanted = Some(vec![(all[0].topic.clone(), 0), (all[1].topic.clone(), 0)]);
        match bench.ask(Command::FetchOffsets(group.clone(), wanted)) {
            Ok(Reply::GroupOffsets(offsets)) => offsets,
            other => panic!("{other:?}"),
        }
    };
    bench.crash();
    assert_eq!(positions(&mut bench), all);
    let plain = compacted(&[("min.cleanable.dirty.ratio", "0.01")]);
    bench.alter("table", plain).unwrap();
    let gone = Refusal::NotFound(Noun::Topic, Name::from_static(b"table.raw"));
    assert_eq!(bench.fetch("table.raw", 0), Err(gone.clone()));
    assert_eq!(bench.names(), ["other", "table"]);
    assert_eq!(positions(&mut bench), [position("table")]);
    bench.fill(80);
    let without = bench.on_disk("/data/clusters");
    assert!(without < with / 2, "{without} of {with} bytes are left");
    // A new one begins where nothing was cleaned.
    bench.alter("table", viewed("-1", &[])).unwrap();
    let from = bench.find("table.raw", OffsetAt::Earliest);
    assert_eq!(from, 300);
    assert_eq!(positions(&mut bench), [position("table")]);
    let written = bench.write_some("table", 100);
    bench.fill(20);
    bench.crash();
    assert_eq!(bench.read_log("table.raw", from), written);
    bench.ask(Command::DeleteTopic(named("table"))).unwrap();
    assert_eq!(bench.fetch("table.raw", from), Err(gone));
    bench.fill(80);
    let nothing = bench.on_disk("/data/clusters");
    assert!(nothing < with / 10, "{nothing} of {with} bytes are left");
    bench.crash();
    assert_eq!(bench.names(), ["other"]);
}

#[test]
fn a_raw_view_is_read_only_and_its_name_is_taken() {
    let mut bench = Bench::new();
    bench.create("table", viewed("-1", &[]));
    let read_only = Refusal::ReadOnly(Name::from_static(b"table.raw"));
    let append = Append {
        topic: named("table.raw"),
        partition: 0,
        batch: keyed(&[("k", None)], BatchOptions::default()),
        wait: Wait::Durable,
        keyless: false,
        transactional_id: None,
    };
    let create = |topic: &'static str, settings: LogSettings| {
        Command::CreateTopic(CreateTopic {
            name: Name::from_static(topic.as_bytes()),
            partitions: Some(1),
            settings,
            validate_only: false,
            path_template: None,
        })
    };
    for command in [
        Command::Append(append),
        Command::DeleteTopic(named("table.raw")),
        Command::AddPartitions(named("table.raw"), 3),
        Command::AlterTopic(AlterTopic::new(named("table.raw"), LogSettings::default())),
        Command::DeleteRecords(named("table.raw"), 0, 0),
    ] {
        assert_eq!(bench.ask(command), Err(read_only.clone()));
    }
    let taken = Refusal::Exists(Noun::Topic, Name::from_static(b"table.raw"));
    let made = bench.ask(create("table.raw", LogSettings::default()));
    assert_eq!(made, Err(taken));
    bench.create("plain.raw", LogSettings::default());
    for settings in [
        ("plain", viewed("-1", &[])),
        ("small", viewed("-2", &[])),
        (
            "open",
            LogSettings {
                cleanup: None,
                ..viewed("5", &[])
            },
        ),
    ] {
        let made = bench.ask(create(settings.0, settings.1));
        assert!(matches!(made, Err(Refusal::InvalidSetting(_))), "{made:?}");
    }
    let deleted = LogSettings {
        cleanup: Some(CleanupPolicy::Delete),
        ..viewed("-1", &[])
    };
    let altered = bench.alter("table", deleted);
    assert!(
        matches!(altered, Err(Refusal::InvalidSetting(_))),
        "{altered:?}"
    );
    // Partitions that are added have raw views, too.
    let added = bench.ask(Command::AddPartitions(named("table"), 3));
    assert!(added.is_ok(), "{added:?}");
    let Ok(Reply::Topics(topics)) =
        bench.ask(Command::DescribeTopics(Some(vec![named("table.raw")])))
    else {
        panic!("no reply");
    };
    let info = topics[0].clone().unwrap();
    assert_eq!((info.partitions, info.settings.retention_ms), (3, Some(-1)));
    // Publishing to its name makes no log.
    bench.declare("table.raw");
    assert_eq!(bench.names(), ["plain.raw", "table", "table.raw"]);
}

#[test]
fn what_is_only_checked_is_refused_as_it_would_be_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.create("table", compacted(&[]));
    bench.create("plain", LogSettings::default());
    let mut check = |topic, settings: LogSettings| {
        let alter = AlterTopic {
            validate_only: true,
            ..AlterTopic::new(named(topic), settings)
        };
        bench.ask(Command::AlterTopic(alter))
    };
    let raw = [(RAW_RETENTION_MS, "-1")];
    let other = |name: &str, value: &str| LogSettings {
        others: vec![(name.to_owned(), value.to_owned())],
        ..LogSettings::default()
    };
    for refused in [
        check("plain", other(RAW_RETENTION_MS, "-1")),
        check("table", compacted(&[(RAW_RETENTION_BYTES, "-2")])),
        check("plain", other(HOLD, "always")),
        check("plain", other(RETAIN, "first")),
    ] {
        assert!(
            matches!(refused, Err(Refusal::InvalidSetting(_))),
            "{refused:?}"
        );
    }
    assert!(check("table", compacted(&raw)).is_ok());
    let view = bench.ask(Command::DescribeTopics(Some(vec![named("table.raw")])));
    assert!(
        matches!(&view, Ok(Reply::Topics(found)) if found[0].is_err()),
        "{view:?}"
    );
}
