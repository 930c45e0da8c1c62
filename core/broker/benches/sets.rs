//! What the entries of a long queue take in memory, in the patterns that consumers leave behind: as the allocator counts
//! it, as the operating system does, and as the broker reckons it for `memory.sets_bytes_max`.
//!
//! `cargo bench -p omnilog-broker --bench sets`; `OMNILOG_ENTRIES` changes the number, 10,000,000 by default. Each
//! pattern has a process of its own.

#![allow(
    missing_docs,
    unsafe_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people"
)]

use omnilog_broker::bench::QueueSets;
use omnilog_broker::{Name, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The gateway's allocator, and how much of it is in use.
struct Counting(mimalloc::MiMalloc);

static IN_USE: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { self.0.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { self.0.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

/// Entries of one publish, of a gathered batch say.
const BATCH: u64 = 100;
const NOW_MS: i64 = 1_700_000_000_000;

type Fill = fn(u64) -> QueueSets;

const PATTERNS: [(&str, Fill); 12] = [
    ("untouched", untouched),
    ("every second acked", every_second_acked),
    ("a random tenth left", a_random_tenth_left),
    ("one record in a hundred", one_in_a_hundred),
    ("a time to live each", a_time_to_live_each),
    ("a time to live each, every second acked", times_half_acked),
    ("sizes (x-max-length-bytes)", sizes),
    ("ten priorities at random", ten_priorities),
    ("100,000 keys (x-key-shared)", keys),
    ("each returned once", each_returned_once),
    ("each waits for its next try", each_waits),
    ("each with a consumer", each_with_a_consumer),
];

fn main() {
    let entries = std::env::var("OMNILOG_ENTRIES").map_or(10_000_000, |text| text.parse().unwrap());
    if let Ok(pattern) = std::env::var("OMNILOG_PATTERN") {
        return measure(&PATTERNS[pattern.parse::<usize>().unwrap()], entries);
    }
    println!("{entries} entries; bytes for each that is left");
    println!(
        "{:<42} {:>10} {:>10} {:>8} {:>9} {:>8}",
        "", "left", "allocated", "resident", "reckoned", "seconds"
    );
    for pattern in 0..PATTERNS.len() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .env("OMNILOG_PATTERN", pattern.to_string())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }
}

fn measure((name, fill): &(&str, Fill), entries: u64) {
    let (in_use, resident) = (IN_USE.load(Ordering::Relaxed), resident_bytes());
    let started = Instant::now();
    let mut queue = fill(entries);
    let took = started.elapsed();
    let in_use = IN_USE.load(Ordering::Relaxed) - in_use;
    let resident = resident_bytes().saturating_sub(resident);
    let left = match *name {
        "each waits for its next try" | "each with a consumer" => entries,
        _ => queue.ready(),
    };
    let each = |bytes: u64| bytes as f64 / left as f64;
    println!(
        "{name:<42} {left:>10} {:>10.2} {:>8.2} {:>9.2} {:>8.1}",
        each(in_use),
        each(resident),
        each(queue.reckoned_bytes()),
        took.as_secs_f64()
    );
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn random() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

/// Batches as they are published.
fn batches(entries: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..entries / BATCH).map(|at| (at * BATCH + 1, (at + 1) * BATCH))
}

fn filled(entries: u64, arguments: &[(&'static str, Value)]) -> QueueSets {
    let arguments = arguments.iter();
    let arguments =
        arguments.map(|(name, value)| (Name::from_static(name.as_bytes()), value.clone()));
    let mut queue = QueueSets::new(arguments.collect());
    batches(entries).for_each(|(first, last)| queue.hold(first, last));
    queue
}

/// Acknowledges what is chosen, as a consumer's acknowledgements are journaled: some at a time.
fn ack(queue: &mut QueueSets, entries: u64, mut chosen: impl FnMut(u64) -> bool) {
    for (first, last) in batches(entries) {
        let runs = (first..=last).filter(|entry| chosen(*entry));
        queue.removed(runs.map(|entry| (entry, entry)).collect());
    }
}

fn untouched(entries: u64) -> QueueSets {
    filled(entries, &[])
}

fn every_second_acked(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[]);
    ack(&mut queue, entries, |entry| entry % 2 == 0);
    queue
}

fn a_random_tenth_left(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[]);
    let mut random = random();
    ack(&mut queue, entries, |_| !random.random_ratio(1, 10));
    queue
}

fn one_in_a_hundred(entries: u64) -> QueueSets {
    let mut queue = QueueSets::new(Vec::new());
    let mut random = random();
    for at in 0..entries {
        let entry = at * 100 + random.random_range(0..100);
        queue.hold(entry, entry);
    }
    queue
}

fn a_time_to_live_each(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[]);
    let mut random = random();
    for entry in 1..=entries {
        let at_ms = NOW_MS + random.random_range(1_000..86_400_000);
        queue.expires(entry, entry, at_ms);
    }
    queue
}

fn times_half_acked(entries: u64) -> QueueSets {
    let mut queue = a_time_to_live_each(entries);
    ack(&mut queue, entries, |entry| entry % 2 == 0);
    queue
}

fn sizes(entries: u64) -> QueueSets {
    let limit = Value::Int(1 << 40);
    let mut queue = filled(entries, &[("x-max-length-bytes", limit)]);
    let mut random = random();
    for (first, last) in batches(entries) {
        let bytes = (first..=last).map(|_| random.random_range(10..100_000));
        queue.sized(first, bytes.collect());
    }
    queue
}

fn ten_priorities(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[("x-max-priority", Value::Int(9))]);
    let mut random = random();
    for entry in 1..=entries {
        let priority = random.random_range(0..10);
        if priority > 0 {
            queue.prioritised(entry, entry, priority);
        }
    }
    queue
}

fn keys(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[("x-key-shared", Value::Bool(true))]);
    let mut random = random();
    for entry in 1..=entries {
        queue.keyed(entry, entry, random.random_range(0..1024));
    }
    queue
}

fn each_returned_once(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[]);
    for (first, last) in batches(entries) {
        queue.returned((first..=last).map(|entry| (entry, 1)).collect());
    }
    queue
}

fn each_waits(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[]);
    let mut random = random();
    for (first, last) in batches(entries) {
        let waits = (first..=last).map(|entry| (entry, NOW_MS + random.random_range(0..60_000)));
        queue.deferred(waits.collect());
    }
    queue
}

fn each_with_a_consumer(entries: u64) -> QueueSets {
    let mut queue = filled(entries, &[]);
    for (first, last) in batches(entries) {
        queue.leased(first, last);
    }
    queue
}
