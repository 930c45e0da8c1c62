//! A million names: what an idle topic, queue and session cost in memory, how long a start after a crash takes, what
//! being few among many costs those that work, and what a checkpoint of it all does to latency.
//!
//! `cargo bench -p omnilog-broker --bench million`; `OMNILOG_TOPICS`, `OMNILOG_QUEUES`, `OMNILOG_SESSIONS` change the
//! numbers. It needs about 3 GB of memory and of disk in the temporary directory.

#![allow(
    missing_docs,
    unsafe_code,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people"
)]

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_ledger::{Env, JournalOptions};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::path::Path;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns in which few topics and many are measured, and the batches of each.
const ROUNDS: usize = 25;
const BATCHES: u64 = 100_000;
/// How often a checkpoint is taken while it is filled.
const CHECKPOINT_MS: u64 = 20_000;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn main() {
    let dir = std::env::var("OMNILOG_MILLION_DIR");
    let mode = std::env::var("OMNILOG_MILLION_MODE").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match (mode.as_str(), dir) {
        ("fill", Ok(dir)) => runtime.block_on(fill(Path::new(&dir))),
        ("open", Ok(dir)) => runtime.block_on(open(Path::new(&dir))),
        _ => orchestrate(),
    }
}

/// Fills in a process that then dies, and opens in another.
fn orchestrate() {
    let dir = tempfile::tempdir().unwrap();
    for mode in ["fill", "open"] {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .env("OMNILOG_MILLION_MODE", mode)
            .env("OMNILOG_MILLION_DIR", dir.path())
            .status()
            .unwrap();
        println!("{mode}: {status}");
    }
}

fn start(dir: &Path, checkpoint_ms: u64) -> Running {
    let options = JournalOptions::default();
    let config = BrokerConfig {
        tail_bytes_max: 8 << 20,
        checkpoint_ms,
        ..BrokerConfig::default()
    };
    let running = Broker::start(&Env::real(), dir, options, config).expect("a broker");
    let stopped = running.stopped();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        if let Err(why) = runtime.unwrap().block_on(stopped) {
            println!("the shard has stopped: {why}");
        }
    });
    running
}

/// A line of `/proc/self/status`, in its unit.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn resident() -> u64 {
    status("VmRSS:") * 1024
}

fn report(what: &str, count: u64, before: u64, began: Instant) -> u64 {
    let after = resident();
    let each = after.saturating_sub(before) / count.max(1);
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    println!(
        "{count:>8} {what:<28} {each:>6} B each; {:>5} MiB resident, {} threads, {files} files, {:.1} s",
        after >> 20,
        status("Threads:"),
        began.elapsed().as_secs_f64(),
    );
    after
}

/// A client that keeps commands under way.
struct Peer {
    client: Client,
    events: Vec<Event>,
    under_way: u64,
}

impl Peer {
    fn join(running: &Running) -> Self {
        let info = ClientInfo {
            principal: Bytes::from_static(b"bench"),
            protocol: "bench".to_owned(),
            peer: "here".to_owned(),
        };
        let broker = running.broker();
        Self {
            client: broker.connect(broker.default_namespace(), info),
            events: Vec::new(),
            under_way: 0,
        }
    }

    /// Sends; every reply and event goes to `each`.
    async fn send(&mut self, correlation: u64, command: Command, each: &mut impl FnMut(Event)) {
        self.client.add(correlation, command);
        self.under_way += 1;
        if self.under_way.is_multiple_of(256) {
            self.client.flush();
        }
        while self.under_way > 4096 {
            self.client.flush();
            self.take(each).await;
        }
    }

    async fn take(&mut self, each: &mut impl FnMut(Event)) {
        self.client.recv(&mut self.events).await;
        self.hear(each);
    }

    fn hear(&mut self, each: &mut impl FnMut(Event)) {
        for event in self.events.drain(..) {
            if let Event::Reply { result, .. } = &event {
                self.under_way -= 1;
                if let Err(refusal) = &**result {
                    std::thread::sleep(Duration::from_millis(200));
                    panic!("{refusal:?}");
                }
            }
            each(event);
        }
    }

    async fn finish(&mut self, each: &mut impl FnMut(Event)) {
        self.client.flush();
        while self.under_way > 0 {
            self.take(each).await;
        }
    }
}

fn name(text: &str) -> Name {
    Bytes::copy_from_slice(text.as_bytes())
}

fn batch(records: u64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let headers: [Header<'_>; 0] = [];
    for _ in 0..records {
        let record = NewRecord {
            timestamp: Env::real().clock.now_ms(),
            key: None,
            value: Some(Pieces::One(b"0123456789abcdef")),
            headers,
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap().to_bytes()
}

fn append(topic: &str, batch: &Bytes) -> Command {
    Command::Append(Append {
        topic: TopicRef::Name(name(topic)),
        partition: 0,
        batch: batch.clone(),
        wait: Wait::Durable,
        keyless: false,
        transactional_id: None,
    })
}

fn publish(queue: &str) -> Command {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let headers: [Header<'_>; 0] = [];
    let appended = builder
        .append(&NewRecord {
            timestamp: Env::real().clock.now_ms(),
            key: None,
            value: Some(Pieces::One(b"0123456789abcdef")),
            headers,
        })
        .unwrap();
    Command::Publish(Publish {
        batch: builder.finish().unwrap().to_bytes(),
        records: vec![PublishRecord::of(Envelope::new(
            Address::Amqp {
                exchange: Bytes::new(),
                routing_key: name(queue),
            },
            Provenance::AmqpDefault,
            appended.range(),
        ))],
        wait: Wait::Durable,
        dedupe: None,
    })
}

async fn fill(dir: &Path) {
    let topics = number("OMNILOG_TOPICS", 1_000_000);
    let queues = number("OMNILOG_QUEUES", 100_000);
    let sessions = number("OMNILOG_SESSIONS", 100_000);
    let running = start(dir, CHECKPOINT_MS);
    let mut peer = Peer::join(&running);
    let ignore = &mut |_: Event| ();
    let ten = batch(10);
    // So that the tail is full, and no part of what is counted.
    for at in 0..10_000 {
        peer.send(at + 1, append_or_create("warm", at, &ten), ignore)
            .await;
    }
    peer.finish(ignore).await;
    let mut before = resident();

    let began = Instant::now();
    for at in 0..topics {
        let topic = format!("topic-{at:07}");
        peer.send(at + 1, create(&topic), ignore).await;
        peer.send(at + 1, append(&topic, &ten), ignore).await;
    }
    peer.finish(ignore).await;
    settled(before, "topics, just filled", topics, began).await;
    before = idle(before, "topics of ten records, idle", topics, began).await;

    let began = Instant::now();
    for at in 0..queues {
        peer.send(at + 1, declare(&format!("queue-{at:07}")), ignore)
            .await;
    }
    peer.finish(ignore).await;
    before = idle(before, "queues with their logs", queues, began).await;

    let began = Instant::now();
    for _ in 0..20 {
        for at in (0..queues).step_by(2) {
            peer.send(at + 1, publish(&format!("queue-{at:07}")), ignore)
                .await;
        }
    }
    peer.finish(ignore).await;
    acknowledge_every_second(&running, queues).await;
    before = idle(before, "sparse backlogs", queues / 2, began).await;

    let began = Instant::now();
    let mut opened = Vec::new();
    for at in 0..sessions {
        let open = OpenSession {
            client_id: name(&format!("device-{at:07}")),
            clean_start: false,
            expiry: SessionExpiry::Never,
            credit: 10,
            will: None,
        };
        let mut each = |event| {
            if let Event::Reply { result, .. } = event
                && let Ok(Reply::Session(session)) = *result
            {
                opened.push(session.session);
            }
        };
        peer.send(at + 1, Command::OpenSession(open), &mut each)
            .await;
        if at + 1 == sessions {
            peer.finish(&mut each).await;
        }
    }
    for (at, session) in opened.into_iter().enumerate() {
        let subscribe = Subscribe {
            session,
            subscriptions: vec![Subscription {
                filter: name(&format!("fleet/device-{at:07}/#")),
                share: None,
                qos: 1,
                no_local: false,
                retain_as_published: false,
                retain_handling: 0,
                identifier: None,
            }],
        };
        peer.send(1, Command::Subscribe(subscribe), ignore).await;
        let close = CloseSession {
            session,
            expiry: None,
            publish_will: false,
            in_flight: Vec::new(),
        };
        peer.send(1, Command::CloseSession(close), ignore).await;
    }
    peer.finish(ignore).await;
    idle(before, "sessions with a subscription", sessions, began).await;
    std::process::abort();
}

/// Waits until a checkpoint of what has been made is written, and what it took given back.
async fn idle(before: u64, what: &str, count: u64, began: Instant) -> u64 {
    tokio::time::sleep(Duration::from_millis(CHECKPOINT_MS * 3 / 2)).await;
    settled(before, what, count, began).await
}

/// Waits until what was given back can be seen to have been.
async fn settled(before: u64, what: &str, count: u64, began: Instant) -> u64 {
    tokio::time::sleep(Duration::from_millis(500)).await;
    // SAFETY: may be called by any thread at any time. The gateway does so each second.
    unsafe { libmimalloc_sys::mi_collect(true) };
    report(what, count, before, began)
}

fn create(topic: &str) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name(topic),
        partitions: Some(1),
        settings: LogSettings::default(),
        validate_only: false,
        path_template: None,
    })
}

fn append_or_create(topic: &str, at: u64, batch: &Bytes) -> Command {
    if at == 0 {
        create(topic)
    } else {
        append(topic, batch)
    }
}

fn declare(queue: &str) -> Command {
    Command::DeclareQueue(DeclareQueue {
        name: name(queue),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Vec::new(),
    })
}

async fn acknowledge_every_second(running: &Running, queues: u64) {
    for part in 0..queues.div_ceil(2000) {
        let mut peer = Peer::join(running);
        let mut entries = Vec::new();
        let mut each = |event| {
            if let Event::Delivery(delivery) = event {
                entries.push((delivery.queue, delivery.entry));
            }
        };
        let part = (part * 2000..queues.min(part * 2000 + 2000)).step_by(2);
        let expected = part.clone().count() * 20;
        for at in part {
            let consume = Consume {
                queue: name(&format!("queue-{at:07}")),
                consumer: ConsumerKey(at),
                no_ack: false,
                exclusive: false,
                credit: 0,
                credit_group: None,
                priority: 0,
                arguments: Vec::new(),
            };
            peer.send(at + 1, Command::Consume(consume), &mut each)
                .await;
        }
        peer.finish(&mut each).await;
        while entries.len() < expected {
            let mut each = |event| {
                if let Event::Delivery(delivery) = event {
                    entries.push((delivery.queue, delivery.entry));
                }
            };
            peer.take(&mut each).await;
        }
        entries.sort_unstable();
        let settle = Settle {
            entries: entries.into_iter().step_by(2).collect(),
            settlement: Settlement::Ack,
        };
        peer.send(1, Command::Settle(settle), &mut |_| ()).await;
        peer.finish(&mut |_| ()).await;
    }
}

async fn open(dir: &Path) {
    let topics = number("OMNILOG_TOPICS", 1_000_000);
    let began = Instant::now();
    let running = start(dir, 3_600_000);
    let (frames, _) = running.replayed();
    println!(
        "ready after a crash in {:.2} s ({frames} frames replayed), {} MiB resident, {} MiB at the most",
        began.elapsed().as_secs_f64(),
        resident() >> 20,
        status("VmHWM:") >> 10,
    );
    let few: Vec<String> = (0..100).map(|at| format!("topic-{at:07}")).collect();
    let percent = (0..topics).step_by(100).map(|at| format!("topic-{at:07}"));
    let many: Vec<String> = percent.collect();
    active(&running, &few, &many).await;
    latency(&running, "no checkpoint").await;
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
    let running = start(dir, 1000);
    latency(&running, "checkpoint after checkpoint").await;
}

/// The same work on few topics and on many, in turns: what being few among many costs.
async fn active(running: &Running, few: &[String], many: &[String]) {
    let both = [few, many];
    // Each is touched once before it is measured.
    for names in both {
        speed(running, names, names.len() as u64).await;
    }
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (names, measured) in both.iter().zip(&mut measured) {
            measured.push(speed(running, names, BATCHES).await);
        }
    }
    let median = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    for (names, measured) in both.iter().zip(&measured) {
        println!(
            "{:>8} active topics: {:.0} batches/s, {:.2} us of the sequencer each",
            names.len(),
            median(measured.iter().map(|(rate, _)| *rate).collect()),
            median(measured.iter().map(|(_, cpu)| *cpu).collect()),
        );
    }
    let pairs = measured[0].iter().zip(&measured[1]);
    let rates = pairs.clone().map(|(few, many)| many.0 / few.0).collect();
    let cpu = pairs.map(|(few, many)| many.1 / few.1).collect();
    println!(
        "many to few: {:.0} % of the rate, {:.0} % of the sequencer's time",
        median(rates) * 100.0,
        median(cpu) * 100.0
    );
}

/// The CPU time of the thread that decides, in microseconds.
fn sequencer_us() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let mut sum = 0.0;
    for thread in threads.map(|thread| thread.unwrap().path()) {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let spent = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        if name.trim() == "sequencer" {
            let ns = spent.split_whitespace().next().unwrap();
            sum += ns.parse::<f64>().unwrap() / 1e3;
        }
    }
    sum
}

/// Batches a second, and what each cost the sequencer.
async fn speed(running: &Running, names: &[String], batches: u64) -> (f64, f64) {
    let mut peer = Peer::join(running);
    let ten = batch(10);
    let (began, spent) = (Instant::now(), sequencer_us());
    for topic in names.iter().cycle().take(batches as usize) {
        peer.send(1, append(topic, &ten), &mut |_| ()).await;
    }
    peer.finish(&mut |_| ()).await;
    let rate = batches as f64 / began.elapsed().as_secs_f64();
    (rate, (sequencer_us() - spent) / batches as f64)
}

/// A thousand a second, for a while, over many topics: how long each waits for its acknowledgement.
async fn latency(running: &Running, what: &str) {
    let mut peer = Peer::join(running);
    let ten = batch(10);
    let mut waits = Vec::new();
    let began = Instant::now();
    // From when it was due: what a stall held up counts, too.
    let due = |at: u64| began + Duration::from_millis(at);
    let mut sent = 0;
    while waits.len() < 10_000 {
        let more = sent < 10_000;
        let early = due(sent).saturating_duration_since(Instant::now());
        if more && early.is_zero() {
            let topic = format!("topic-{:07}", sent * 97 % 1000);
            // Nobody is told of what has the number 0.
            peer.client.send(sent + 1, append(&topic, &ten));
            peer.under_way += 1;
            sent += 1;
            continue;
        }
        let mut each = |event| {
            if let Event::Reply { correlation, .. } = event {
                waits.push(due(correlation - 1).elapsed());
            }
        };
        let wait = if more { early } else { Duration::from_secs(60) };
        // What it had when its time was up is heard, too.
        let heard = tokio::time::timeout(wait, peer.client.recv(&mut peer.events)).await;
        assert!(more || heard.is_ok(), "no acknowledgement within a minute");
        peer.hear(&mut each);
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{what}: acknowledged in p50 {:.2}, p99 {:.2}, p99.9 {:.2}, at the most {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
