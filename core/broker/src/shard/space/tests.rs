//! A full disk.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::api::*;
use crate::shard::workbench::*;

#[test]
fn a_delayed_message_that_is_held_for_want_of_space_waits_for_it_and_is_not_lost() {
    for full_for_ms in [0, 500, 5000] {
        let mut bench = Bench::with_tail(1);
        bench.declare("work", true, Vec::new());
        let declare = DeclareExchange {
            name: name("x"),
            kind: ExchangeKind::Delayed,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: vec![text("x-delayed-type", "direct")],
        };
        bench.ask(1, Command::DeclareExchange(declare));
        bench.ask(
            1,
            Command::Bind(Binding {
                source: name("x"),
                destination: Destination::Queue(name("work")),
                routing_key: name("key"),
                arguments: Vec::new(),
            }),
        );
        bench.files.leave_free(0);
        let mut sent = Vec::new();
        let mut asked = 0;
        while !bench.shard.holds_frames() {
            let number = sent.len();
            assert!(number < 100, "the disk is full");
            let value = format!("{number:02} {}", "x".repeat(2000));
            let mut publish = bench.message("", "key", &value);
            // Those that came last are due first.
            let ms = 1000 - 10 * i64::try_from(number).unwrap();
            publish.records[0].delay = Some(Box::new(Delay {
                ms,
                properties: None,
            }));
            asked = bench.send(1, Command::Publish(publish));
            sent.push(value);
        }
        assert_eq!(
            bench.answer(asked),
            None,
            "what is held is not acknowledged"
        );
        bench.pass(full_for_ms);
        bench.pass(0);
        let waiting = bench.shard.state.delayed.len();
        assert_eq!(waiting, sent.len(), "nothing is published meanwhile");
        bench.files.set_capacity(u64::MAX);
        for _ in 0..20 {
            bench.pass(250);
        }
        assert!(!bench.shard.holds_frames());
        let answer = bench.answer(asked).expect("an answer");
        assert!(answer.is_ok(), "{answer:?}");
        let mut came = Vec::new();
        while let Some(delivery) = bench.get("work") {
            came.push(value(&delivery));
        }
        came.reverse();
        assert_eq!(came, sent, "after {full_for_ms} ms");
        assert_eq!(bench.shard.stats.delays_lost, 0);
    }
}
