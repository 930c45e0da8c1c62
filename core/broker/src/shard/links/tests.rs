//! What a read brings to links that were moved, or made, while it was under way.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use crate::api::*;
use crate::link::LinkJob;
use crate::server::Input;
use crate::shard::workbench::*;
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};

const LOG: &str = "log";

/// A topic of one partition, and a queue of its name.
fn linked() -> Bench {
    let mut bench = Bench::new();
    let create = CreateTopic {
        name: name(LOG),
        partitions: Some(1),
        settings: LogSettings::default(),
        validate_only: false,
        path_template: None,
    };
    bench.ask(1, Command::CreateTopic(create));
    bench.declare(LOG, true, Vec::new());
    bench
}

/// A Kafka client writes these, each in a batch of its own.
fn append(bench: &mut Bench, values: &[&str]) {
    for value in values {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let none: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: bench.env.clock.now_ms(),
            key: None,
            value: Some(Pieces::One(value.as_bytes())),
            headers: none,
        };
        builder.append(&record).unwrap();
        let append = Append {
            topic: TopicRef::Name(name(LOG)),
            partition: 0,
            batch: builder.finish().unwrap().to_bytes(),
            wait: Wait::Durable,
            keyless: false,
            transactional_id: None,
        };
        bench.ask(1, Command::Append(append));
    }
}

/// The read that links want.
fn wanted(bench: &mut Bench) -> LinkJob {
    let mut jobs = bench.shard.take_link_jobs();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

/// A read comes back.
fn come_back(bench: &mut Bench, job: LinkJob) {
    let pulled = job.run(&*bench.reader);
    bench.step(vec![Input::Pulled(Box::new(pulled))]);
}

/// How far the only link came.
fn came(bench: &Bench) -> i64 {
    let links = &bench.shard.state.links;
    assert_eq!(links.len(), 1);
    links.values().next().unwrap().next_offset
}

fn all(bench: &mut Bench) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(delivery) = bench.get(LOG) {
        found.push(value(&delivery));
    }
    found
}

#[test]
fn a_read_that_comes_back_when_a_new_link_is_ahead_of_it_takes_that_nowhere() {
    let mut bench = linked();
    append(&mut bench, &["0", "1", "2"]);
    let job = wanted(&mut bench);
    append(&mut bench, &["3", "4"]);
    let delete = Command::DeleteQueue {
        name: name(LOG),
        if_unused: false,
        if_empty: false,
    };
    bench.ask(1, delete);
    bench.declare(LOG, true, Vec::new());
    assert_eq!(came(&bench), 5, "it begins at the log's end");
    come_back(&mut bench, job);
    assert_eq!(came(&bench), 5);
    append(&mut bench, &["5"]);
    let job = wanted(&mut bench);
    come_back(&mut bench, job);
    assert_eq!(all(&mut bench), ["5"]);
}
