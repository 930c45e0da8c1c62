//! The census: each link and each exchange is counted, once, however many slices that takes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use super::AT_ONCE;
use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Now;
use crate::shard::workbench::*;
use crate::state::namespace::Namespace;
use bytes::Bytes;

const LOG: &str = "log";

fn now(bench: &Bench) -> Now {
    Now {
        unix_ms: bench.env.clock.now_ms(),
        monotonic_ms: u64::try_from(bench.env.clock.monotonic().as_millis()).unwrap(),
    }
}

/// Partitions with a link each, the first of which lags behind by one record, the next by two, and so on.
fn lagging(partitions: u32) -> Bench {
    let mut bench = Bench::new();
    bench.declare_linked(LOG, partitions);
    for partition in 0..i32::try_from(partitions).unwrap() {
        let lag = usize::try_from(partition).unwrap() + 1;
        bench.append(LOG, partition, &vec!["value"; lag]);
    }
    assert_eq!(bench.shard.state.links.len(), partitions as usize);
    bench
}

/// Ends the census that is going on; says how many steps that took.
fn finish(bench: &mut Bench) -> usize {
    let mut steps = 0;
    while bench.shard.counts() {
        assert_eq!(bench.shard.next_due_ms(), 0, "the rest comes at once");
        bench.shard.step(now(bench), &mut Vec::new());
        steps += 1;
        assert!(steps < 1000, "it never ends");
    }
    steps
}

/// Takes a census; says what it found, and in how many steps.
fn census(bench: &mut Bench) -> (Stats, usize) {
    finish(bench);
    bench.shard.figures();
    let steps = finish(bench);
    // What was found, and another begins.
    (bench.shard.figures(), steps)
}

#[test]
fn a_link_that_goes_while_links_are_counted_hides_no_other() {
    let links = 3 * AT_ONCE as u64;
    let mut bench = lagging(3 * AT_ONCE as u32);
    finish(&mut bench);
    bench.shard.figures();
    while bench.shard.census.going_on.as_ref().unwrap().link.is_none() {
        bench.shard.step(now(&bench), &mut Vec::new());
    }
    // The one that was looked at last.
    let at = bench.shard.census.going_on.as_ref().unwrap().link.unwrap();
    bench.shard.state.links.remove(&at).unwrap();
    finish(&mut bench);
    assert_eq!(bench.shard.figures().link_lag, links * (links + 1) / 2);
}

#[test]
fn every_exchange_is_counted_once_in_however_many_slices() {
    for exchanges in [0, 1, AT_ONCE, 2 * AT_ONCE, 21] {
        let mut bench = Bench::new();
        bench.declare("q", true, Vec::new());
        let there = bench.shard.state.namespaces[0].exchanges.len();
        // Those that are there from the start fill a slice, or don't.
        let names: Vec<Name> = (there..exchanges.max(there))
            .map(|number| Name::from(format!("x{number:02}").into_bytes()))
            .collect();
        for (exchange, bindings) in names.iter().zip(1..) {
            let declare = DeclareExchange {
                name: exchange.clone(),
                kind: ExchangeKind::Direct,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Vec::new(),
            };
            bench.ask(1, Command::DeclareExchange(declare));
            for key in 0..bindings {
                let binding = Binding {
                    source: exchange.clone(),
                    destination: Destination::Queue(name("q")),
                    routing_key: Bytes::from(format!("{key}")),
                    arguments: Vec::new(),
                };
                bench.ask(1, Command::Bind(binding));
            }
        }
        let (stats, steps) = census(&mut bench);
        assert!(steps >= exchanges / AT_ONCE, "{steps} of {exchanges}");
        let made = names.len() as u64;
        assert_eq!(stats.bindings, made * (made + 1) / 2, "of {made} exchanges");
        assert_eq!(census(&mut bench).0, stats, "another finds the same");
    }
}

#[test]
fn the_exchanges_of_every_namespace_are_counted() {
    let mut bench = Bench::new();
    let mut expected = 0;
    for (number, exchanges) in [(0, AT_ONCE), (1, 0), (2, 2 * AT_ONCE + 1), (3, 1)] {
        let namespace = NamespaceId(number);
        if number > 0 {
            bench.shard.state.namespaces.push(Namespace::new(namespace));
        }
        for exchange in 0..exchanges {
            let binding = Binding {
                source: name("amq.direct"),
                destination: Destination::Exchange(name("amq.fanout")),
                routing_key: Bytes::from(format!("{exchange}")),
                arguments: Vec::new(),
            };
            let declared = DeclareExchange {
                name: Name::from(format!("x{exchange:02}").into_bytes()),
                kind: ExchangeKind::Direct,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Vec::new(),
            };
            let source = declared.name.clone();
            bench.shard.record(&Decision::ExchangeDeclared {
                namespace,
                exchange: declared,
            });
            for source in [binding.source.clone(), source] {
                let binding = Binding {
                    source,
                    ..binding.clone()
                };
                bench.shard.record(&Decision::Bound { namespace, binding });
                expected += 1;
            }
        }
    }
    assert_eq!(census(&mut bench).0.bindings, expected);
}
