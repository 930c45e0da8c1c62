//! Sessions that are away: what a publish costs that ten thousand of them are to get, in time of a core, in the journal
//! and in memory, and what it takes until one of them has come back.
//!
//! `cargo bench -p omnilog-broker --bench offline`; `OMNILOG_SESSIONS` changes the number.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a program for people"
)]

mod by_hand;
mod cpu;

use by_hand::{JOURNAL_BYTES, message, name, open};
use omnilog_broker::bench::ByHand;
use omnilog_broker::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of a phase.
const MESSAGES: usize = 2_000;

fn main() {
    let given = std::env::var("OMNILOG_SESSIONS").ok();
    let sessions = given.and_then(|given| given.parse().ok()).unwrap_or(10_000);
    let mut away = Away::open(sessions);
    away.phase("one after the other", 1, MESSAGES, false);
    away.phase("between messages for another queue", 1, MESSAGES, true);
    away.phase("the same under 100 topics", 100, MESSAGES, true);
    away.come_back();
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// Sessions with one and the same filter, whose clients are away.
struct Away {
    hand: ByHand,
    publisher: ClientId,
    sessions: usize,
    events: Vec<Event>,
}

impl Away {
    fn open(sessions: usize) -> Self {
        let mut hand = open();
        let publisher = hand.connect();
        let declare = DeclareQueue {
            name: name("other"),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Vec::new(),
        };
        hand.send(publisher, 1, Command::DeclareQueue(declare));
        hand.step();
        let mut all = Self {
            hand,
            publisher,
            sessions,
            events: Vec::new(),
        };
        for number in 0..sessions {
            let (client, session) = all.attach(number, true);
            let subscription = Subscription {
                filter: name("fleet/+/state"),
                share: None,
                qos: 1,
                no_local: false,
                retain_as_published: false,
                retain_handling: 2,
                identifier: None,
            };
            let subscribe = Subscribe {
                session,
                subscriptions: vec![subscription],
            };
            all.hand.send(client, 2, Command::Subscribe(subscribe));
            let close = CloseSession {
                session,
                expiry: None,
                publish_will: false,
                in_flight: Vec::new(),
            };
            all.hand.send(client, 3, Command::CloseSession(close));
            all.hand.step();
        }
        all
    }

    fn attach(&mut self, number: usize, clean_start: bool) -> (ClientId, SessionId) {
        let client = self.hand.connect();
        self.events.clear();
        let open = OpenSession {
            client_id: name(&format!("client-{number}")),
            clean_start,
            expiry: SessionExpiry::Never,
            credit: u16::MAX,
            will: None,
        };
        self.hand.send(client, 1, Command::OpenSession(open));
        self.hand.step();
        self.hand.step();
        self.hand.take(client, &mut self.events);
        let opened = self.events.iter().find_map(|event| match event {
            Event::Reply { result, .. } => match &**result {
                Ok(Reply::Session(session)) => Some(session.session),
                _ => None,
            },
            _ => None,
        });
        (client, opened.unwrap())
    }

    fn publish(&mut self, messages: &[Publish]) {
        for publish in messages {
            let command = Command::Publish(publish.clone());
            self.hand.send(self.publisher, 2, command);
            self.hand.step();
        }
        self.hand.take(self.publisher, &mut self.events);
        self.events.clear();
    }

    fn phase(&mut self, what: &str, topics: usize, count: usize, between: bool) {
        let messages: Vec<Publish> = (0..topics)
            .flat_map(|number| {
                let topic = name(&format!("fleet/device-{number}/state"));
                let mut all = vec![message(&Address::Mqtt { topic }, Provenance::Mqtt, 1, 1)];
                if between {
                    let other = Address::Amqp {
                        exchange: name(""),
                        routing_key: name("other"),
                    };
                    all.push(message(&other, Provenance::AmqpDefault, 1, 1));
                }
                all
            })
            .collect();
        self.publish(&messages);
        let (before, bytes) = (resident(), JOURNAL_BYTES.load(Ordering::Relaxed));
        let began = cpu::now();
        for _ in 0..count / topics {
            self.publish(&messages);
        }
        let took = cpu::now() - began;
        let each = |value: f64| value / count as f64;
        let us = each(took.as_secs_f64() * 1e6);
        println!(
            "{what}: {us:.1} us of a core for each publish ({:.4} us for each session), {:.0} B of journal, \
             {:.2} B of memory for each message and session",
            us / self.sessions as f64,
            each((JOURNAL_BYTES.load(Ordering::Relaxed) - bytes) as f64),
            each(resident().saturating_sub(before) as f64) / self.sessions as f64,
        );
    }

    /// How long a session takes to come back, and the slowest.
    fn come_back(&mut self) {
        let mut times = Vec::new();
        for number in 0..100.min(self.sessions) {
            let began = cpu::now();
            let (client, _) = self.attach(number, false);
            times.push(cpu::now() - began);
            self.hand.take(client, &mut self.events);
        }
        let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
        println!(
            "coming back: {mean:?} of a core, at most {:?}",
            times.iter().max().unwrap()
        );
    }
}
