//! Routes under churn: a million filters of ten thousand sessions, of which some come and go all the time while
//! messages are matched; and what hostile patterns cost.
//!
//! `cargo bench -p omnilog-broker --bench routes`; `OMNILOG_FILTERS` and `OMNILOG_MATCHES`
//! (for each that comes or goes) change the numbers.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a program for people"
)]

mod by_hand;
mod cpu;

use by_hand::{message, name, open};
use omnilog_broker::bench::ByHand;
use omnilog_broker::route::{Matcher, Pattern};
use omnilog_broker::*;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Filters of each session.
const FILTERS_EACH: u64 = 100;
/// Matches for each filter that comes or goes: 200,000 a second beside 5,000, if nothing else is asked for.
const MATCHES_PER_CHANGE: usize = 40;

fn number(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given
        .and_then(|given| given.parse().ok())
        .unwrap_or(default)
}

/// Rounds over the messages in which filters come and go.
const ROUNDS: usize = 4;

fn main() {
    let filters = number("OMNILOG_FILTERS", 1_000_000) as u64;
    trie(filters);
    shard(filters);
    hostile();
}

/// One of the filters that devices' owners have: mostly of one device, some of a site, few of all sites.
fn filter(number: u64) -> String {
    let (site, device) = (number % 1000, number / 1000);
    match number % 10 {
        0 => format!("+/site-{site}/device-{device}/alarm"),
        1..4 => format!("site-{site}/+/device-{device}/#"),
        _ => format!("site-{site}/floor-{}/device-{device}/+", device % 7),
    }
}

fn topic(random: &mut ChaCha8Rng, filters: u64) -> String {
    let number = random.random_range(0..filters.max(1000));
    let (site, device) = (number % 1000, number / 1000);
    format!(
        "site-{site}/floor-{}/device-{device}/temperature",
        device % 7
    )
}

fn pattern(filter: &str) -> Pattern {
    Pattern::mqtt(filter.as_bytes()).unwrap().apart()
}

/// How long the slowest in a hundred and in a thousand took.
fn tail(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
    format!("mean {mean:?}, p99 {:?}, p99.9 {:?}", at(0.99), at(0.999))
}

/// The trie by itself.
fn trie(filters: u64) {
    let mut matcher = Matcher::default();
    let began = Instant::now();
    for number in 0..filters {
        matcher.insert(&pattern(&filter(number)), number);
    }
    println!(
        "{filters} filters in the trie: {:.2} us each, {} B each",
        began.elapsed().as_secs_f64() * 1e6 / filters as f64,
        matcher.bytes() as u64 / filters,
    );
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let topics: Vec<String> = (0..100_000).map(|_| topic(&mut random, filters)).collect();
    let (mut times, mut changes) = (Vec::new(), Vec::new());
    for (at, topic) in topics.iter().enumerate() {
        if at % MATCHES_PER_CHANGE == 0 {
            let number = random.random_range(0..filters);
            let pattern = pattern(&filter(number));
            let began = Instant::now();
            matcher.remove(&pattern, number);
            matcher.insert(&pattern, number);
            changes.push(began.elapsed() / 2);
        }
        let began = Instant::now();
        let levels: Vec<&[u8]> = topic.as_bytes().split(|byte| *byte == b'/').collect();
        let whole = matcher.matches(&levels, false, &mut |target| _ = black_box(target));
        times.push(began.elapsed());
        assert!(whole);
    }
    println!("  a match beside changes: {}", tail(times));
    println!("  a change: {}", tail(changes));
    let before = matcher.bytes();
    let began = Instant::now();
    let rounds = 10 * filters.min(1_000_000);
    for _ in 0..rounds / 2 {
        let number = random.random_range(0..filters);
        let pattern = pattern(&filter(number));
        matcher.remove(&pattern, number);
        // A name that nobody had before, for a moment.
        let passing = self::pattern(&format!(
            "site-{}/once/{}",
            number % 1000,
            random.random::<u64>()
        ));
        matcher.insert(&passing, number);
        matcher.remove(&passing, number);
        matcher.insert(&pattern, number);
    }
    println!(
        "  after {} changes: {:+.1} % memory, {:.2} us each",
        2 * rounds,
        (matcher.bytes() as f64 / before as f64 - 1.0) * 100.0,
        began.elapsed().as_secs_f64() * 1e6 / (2 * rounds) as f64,
    );
}

/// A shard with the sessions, driven by hand.
struct Sessions {
    hand: ByHand,
    clients: Vec<ClientId>,
    sessions: Vec<SessionId>,
    events: Vec<Event>,
}

impl Sessions {
    fn open(filters: u64) -> Self {
        let mut all = Self {
            hand: open(),
            clients: Vec::new(),
            sessions: Vec::new(),
            events: Vec::new(),
        };
        for number in 0..filters / FILTERS_EACH {
            let client = all.hand.connect();
            let session = OpenSession {
                client_id: name(&format!("client-{number}")),
                clean_start: true,
                expiry: SessionExpiry::Never,
                credit: 100,
                will: None,
            };
            all.hand.send(client, 1, Command::OpenSession(session));
            all.hand.step();
            all.hand.step();
            all.hand.take(client, &mut all.events);
            for event in all.events.drain(..) {
                if let Event::Reply { result, .. } = event
                    && let Ok(Reply::Session(session)) = *result
                {
                    all.clients.push(client);
                    all.sessions.push(session.session);
                }
            }
            let own = (0..FILTERS_EACH).map(|at| number * FILTERS_EACH + at);
            all.subscribe(number, own.collect());
        }
        assert_eq!(all.sessions.len() as u64, filters / FILTERS_EACH);
        all
    }

    fn subscribe(&mut self, session: u64, filters: Vec<u64>) {
        let command = self.subscription(session, filters);
        self.hand.send(self.clients[session as usize], 2, command);
        self.hand.step();
    }

    fn subscription(&self, session: u64, filters: Vec<u64>) -> Command {
        let at = session as usize;
        let subscriptions = filters.into_iter().map(|number| Subscription {
            filter: name(&filter(number)),
            share: None,
            qos: 0,
            no_local: false,
            retain_as_published: false,
            retain_handling: 2,
            identifier: None,
        });
        let subscribe = Subscribe {
            session: self.sessions[at],
            subscriptions: subscriptions.collect(),
        };
        Command::Subscribe(subscribe)
    }

    fn unsubscription(&self, session: u64, number: u64) -> Command {
        Command::Unsubscribe(Unsubscribe {
            session: self.sessions[session as usize],
            filters: vec![(name(&filter(number)), None)],
        })
    }

    /// What has been sent to its clients is taken, so that they are not full.
    fn drain(&mut self) {
        for client in self.clients.clone() {
            self.hand.take(client, &mut self.events);
        }
        self.events.clear();
        self.hand.step();
    }

    /// Publishes one message to each topic; adds how long each took.
    fn publish(&mut self, publisher: ClientId, messages: &[Publish], times: &mut Vec<Duration>) {
        for publish in messages {
            let publish = publish.clone();
            let began = Instant::now();
            self.hand.send(publisher, 3, Command::Publish(publish));
            self.hand.step();
            times.push(began.elapsed());
        }
    }
}

fn shard(filters: u64) {
    let matches = number("OMNILOG_MATCHES", MATCHES_PER_CHANGE);
    let began = Instant::now();
    let mut sessions = Sessions::open(filters);
    println!(
        "{filters} subscriptions of {} sessions in a shard: {:.2} us each",
        sessions.sessions.len(),
        began.elapsed().as_secs_f64() * 1e6 / filters as f64,
    );
    let publisher = sessions.hand.connect();
    sessions.hand.step();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let messages: Vec<Publish> = (0..20_000)
        .map(|_| {
            let topic = name(&topic(&mut random, filters));
            message(&Address::Mqtt { topic }, Provenance::Mqtt, 0, 1)
        })
        .collect();
    let mut alone = Vec::new();
    for part in messages.chunks(matches) {
        sessions.publish(publisher, part, &mut alone);
    }
    sessions.drain();
    let (mut beside, mut changing, mut publishing) = (Vec::new(), Vec::new(), Duration::ZERO);
    let asking = cpu::overhead();
    for round in 0..ROUNDS {
        for part in messages.chunks(matches) {
            let session = random.random_range(0..sessions.sessions.len() as u64);
            let number = session * FILTERS_EACH + random.random_range(0..FILTERS_EACH);
            // Both ways: what is gone at the second is there again at the third.
            for gone in [true, false] {
                let command = if gone {
                    sessions.unsubscription(session, number)
                } else {
                    sessions.subscription(session, vec![number])
                };
                let client = sessions.clients[session as usize];
                let began = cpu::now();
                sessions.hand.send(client, 2, command);
                sessions.hand.step();
                changing.push((cpu::now() - began).saturating_sub(asking));
                // Its connection takes the answer.
                sessions.hand.take(client, &mut sessions.events);
                sessions.events.clear();
                let began = cpu::now();
                sessions.publish(publisher, part, &mut beside);
                publishing += cpu::now() - began;
            }
        }
        if round % 2 == 0 {
            sessions.drain();
        }
    }
    println!("  a publish (QoS 0) with its match: {}", tail(alone));
    let each = publishing.as_secs_f64() * 1e6 / beside.len() as f64;
    println!(
        "  the same beside changes: {}; {each:.2} us of a core",
        tail(beside)
    );
    let each = changing.iter().sum::<Duration>().as_secs_f64() / changing.len() as f64;
    println!(
        "  a subscribe or unsubscribe: {:.2} us of a core ({}); 5,000 a second take {:.1} % of one",
        each * 1e6,
        tail(changing),
        each * 5_000.0 * 100.0
    );
}

/// The longest match of patterns made to be expensive.
fn hostile() {
    let deep = vec!["a"; 200].join("/");
    let patterns: Vec<(&str, Vec<Pattern>)> = vec![
        (
            "200 levels of + and a",
            (0..1000u64)
                .map(|seed| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    let levels = (0..200).map(|_| *["+", "a"].choose(&mut random).unwrap());
                    pattern(&levels.collect::<Vec<_>>().join("/"))
                })
                .collect(),
        ),
        (
            "#.a.#.a.# and so on",
            (1..60)
                .map(|count| {
                    let text = format!("{}.b", vec!["#.a"; count].join("."));
                    Pattern::amqp(text.as_bytes()).unwrap().apart()
                })
                .collect(),
        ),
    ];
    let levels: Vec<&[u8]> = deep.as_bytes().split(|byte| *byte == b'/').collect();
    for (what, patterns) in patterns {
        let mut matcher = Matcher::default();
        for (target, pattern) in patterns.iter().enumerate() {
            matcher.insert(pattern, target);
        }
        let began = Instant::now();
        let whole = matcher.matches(&levels, false, &mut |target| _ = black_box(target));
        let within = if whole { "within" } else { "cut off by" };
        println!(
            "hostile, {what}: {:?}, {within} the budget",
            began.elapsed()
        );
    }
}
