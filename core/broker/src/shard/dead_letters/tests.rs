//! Dead letters that a frame has no room for: none is lost, and none costs the server.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::api::*;
use crate::shard::workbench::*;

/// A message of about two thirds of a frame, which has a third of the journal file's 64 KiB.
fn large(first: char) -> String {
    first.to_string().repeat(14_000)
}

fn bind(bench: &mut Bench, queue: &'static str) {
    bench.ask(
        1,
        Command::Bind(Binding {
            source: name("x"),
            destination: Destination::Queue(name(queue)),
            routing_key: name("key"),
            arguments: Vec::new(),
        }),
    );
}

fn exchange(bench: &mut Bench) {
    let declare = DeclareExchange {
        name: name("x"),
        kind: ExchangeKind::Direct,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    };
    bench.ask(1, Command::DeclareExchange(declare));
}

fn to_dead(others: Table) -> Table {
    let mut arguments = vec![
        text("x-dead-letter-exchange", ""),
        text("x-dead-letter-routing-key", "dead"),
    ];
    arguments.extend(others);
    arguments
}

#[test]
fn a_refused_message_and_its_dead_letter_need_not_fit_into_one_frame() {
    for durable in [true, false] {
        let mut bench = Bench::new();
        exchange(&mut bench);
        bench.declare("dead", true, Vec::new());
        bench.declare("takes", true, Vec::new());
        let strict = vec![
            int("x-max-length", 1),
            text("x-overflow", "reject-publish-dlx"),
        ];
        bench.declare("strict", durable, to_dead(strict));
        bind(&mut bench, "takes");
        bind(&mut bench, "strict");
        let values: Vec<String> = ('a'..='d').map(large).collect();
        for value in &values {
            bench.publish("", "key", &[value]);
        }
        // Whoever was told that it was published finds all of it, whatever happens.
        bench.crash();
        for (queue, expected) in [("takes", &values[..]), ("dead", &values[1..])] {
            for expected in expected {
                let delivery = bench.get(queue).expect("a message");
                assert_eq!(value(&delivery)[..1], expected[..1], "{durable}: {queue}");
            }
            assert!(bench.get(queue).is_none(), "{durable}: {queue}");
        }
    }
}

#[test]
fn what_is_refused_in_one_transaction_need_not_fit_into_one_frame() {
    for durable in [true, false] {
        let mut bench = Bench::new();
        bench.declare("dead", true, Vec::new());
        bench.declare("work", durable, to_dead(Vec::new()));
        let values: Vec<String> = ('a'..='c').map(|c| c.to_string().repeat(5600)).collect();
        for value in &values {
            bench.publish("work", "", &[value]);
        }
        let entries: Vec<_> = values
            .iter()
            .map(|_| bench.get("work").expect("a message"))
            .map(|delivery| (delivery.queue, delivery.entry))
            .collect();
        // The publish leaves too little room for all three.
        let settle = Settle {
            entries,
            settlement: Settlement::Reject,
        };
        let message = bench.message("takes", "", &"x".repeat(200));
        let atomic = vec![Command::Publish(message), Command::Settle(settle)];
        bench.ask(1, Command::Atomic(atomic));
        for expected in &values {
            let delivery = bench.get("dead").expect("a dead letter");
            assert_eq!(value(&delivery)[..1], expected[..1], "{durable}");
        }
        assert!(bench.get("dead").is_none(), "{durable}");
        assert!(bench.get("work").is_none(), "{durable}");
    }
}

#[test]
fn a_history_that_does_not_fit_beside_its_message_is_cut_and_the_message_is_not() {
    let mut bench = Bench::new();
    let leaked = |number: usize| -> &'static str {
        Box::leak(format!("{number}-{}", "q".repeat(240)).into_boxed_str())
    };
    let hops: Vec<&'static str> = (0..30).map(leaked).collect();
    for pair in hops.windows(2) {
        let arguments = vec![
            int("x-message-ttl", 10),
            text("x-dead-letter-exchange", ""),
            text("x-dead-letter-routing-key", pair[1]),
        ];
        bench.declare(pair[0], true, arguments);
    }
    bench.declare(hops[29], true, Vec::new());
    bench.publish(hops[0], "", &[&large('a')]);
    for _ in 0..60 {
        bench.pass(20);
    }
    let delivery = bench.get(hops[29]).expect("it came to the last queue");
    assert_eq!(value(&delivery), large('a'));
    let deaths = delivery.message.deaths().expect("a history");
    assert_eq!(deaths.deaths[0].queue, hops[28]);
    assert_eq!(deaths.first.queue, hops[0]);
    assert!((2..29).contains(&deaths.deaths.len()));
}

#[test]
fn a_transaction_counts_all_that_its_messages_take_in_a_frame() {
    let mut bench = Bench::new();
    bench.declare("q", true, Vec::new());
    // With what AMQP clients put into properties, the frame's limit is met long before that of the batches.
    for count in [1, 4, 8, 12, 16, 20, 30] {
        let mut commands = Vec::new();
        for _ in 0..count {
            let mut publish = bench.message("q", "", "x");
            publish.records[0].envelope.properties = vec![7; 1500].into();
            commands.push(Command::Publish(publish));
        }
        let asked = bench.send(1, Command::Atomic(commands));
        match bench.answer(asked).expect("an answer") {
            Ok(_) => assert!(count < 16, "{count}"),
            Err(Refusal::TooLarge { .. }) => assert!(count > 8, "{count}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.shard.failure(), None);
}
