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

const LOG: &str = "log";

/// A Kafka client writes these, each in a batch of its own.
fn append(bench: &mut Bench, values: &[&str]) {
    for value in values {
        bench.append(LOG, 0, &[value]);
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
    let mut bench = Bench::new();
    bench.declare_linked(LOG, 1);
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
