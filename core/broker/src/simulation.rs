//! A seeded simulation of the shard over its journal, in one thread: random clients of every kind, a disk that loses
//! power at any moment, restarts, and a model of what must have been kept.
//!
//! `OMNILOG_SIM_SEEDS` says how many seeds are run, `OMNILOG_SIM_SEED` the first of them. A failing seed prints its
//! number and does the same every time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "it runs as a test"
)]

mod amqp;
mod committed;
mod delays;
mod dying;
mod ends;
mod facts;
mod finish;
mod frames;
mod gaps;
mod kafka;
mod life;
mod lifetimes;
mod limits;
mod messages;
mod modes;
mod mqtt;
mod narrow;
mod peer;
mod placed;
mod raw;
mod retries;
mod settlements;
mod strikes;
mod tables;
mod transactions;
mod view;
mod world;

use world::World;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Runs seeds on all processors; says which of them fail.
fn run_seeds(count: u64, run: impl Fn(u64) + Sync) {
    let first = number("OMNILOG_SIM_SEED", 1);
    let next = std::sync::atomic::AtomicU64::new(first);
    let failed = parking_lot::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if seed >= first + count || failed.lock().len() >= 5 {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
                    if outcome.is_err() {
                        eprintln!("seed {seed} fails: OMNILOG_SIM_SEED={seed} OMNILOG_SIM_SEEDS=1 shows it again");
                        failed.lock().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}

#[test]
fn what_was_acknowledged_survives_any_loss_of_power() {
    run_seeds(number("OMNILOG_SIM_SEEDS", 200), |seed| {
        World::run_seed(seed);
    });
}

#[test]
fn a_slow_journal_that_completes_out_of_order_changes_nothing() {
    run_seeds(number("OMNILOG_SIM_SEEDS", 200) / 4 + 1, |seed| {
        World::new(seed).run_slow();
    });
}
