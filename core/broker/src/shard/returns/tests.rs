//! When what came back to a queue is tried again, and when it is not: with time let pass by hand.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::api::*;
use crate::server::Input;
use crate::shard::Now;
use crate::shard::workbench::*;
use bytes::Bytes;
use std::time::Duration;

#[test]
fn what_failed_waits_longer_each_time_and_dies_when_its_budget_is_spent() {
    for durable in [true, false] {
        let mut bench = Bench::new();
        bench.declare("dead", true, Vec::new());
        bench.declare("q", durable, limited("all", 4));
        bench.publish("q", "", &["poison", "other"]);
        for (failures, delay_ms) in [(0, 1000), (1, 2000), (2, 2500), (3, 2500)] {
            let delivery = bench.give_back("q", Settlement::Fail);
            assert_eq!(value(&delivery), "poison");
            assert_eq!(delivery.returned_count, failures);
            assert_eq!(delivery.redelivered, failures > 0);
            let figures = bench.figures("q");
            assert_eq!((figures.ready, figures.deferred, figures.leased), (1, 1, 0));
            bench.pass(delay_ms - 1);
            assert_eq!(
                bench.figures("q").deferred,
                1,
                "{durable}: after {failures}"
            );
            bench.pass(1);
            assert_eq!(
                bench.figures("q").deferred,
                0,
                "{durable}: after {failures}"
            );
        }
        // The limit is how often it may come back: it has been delivered once more than that.
        assert_eq!(value(&bench.give_back("q", Settlement::Fail)), "poison");
        let dead = bench.get("dead").expect("a dead letter");
        let deaths = dead.message.deaths().unwrap();
        assert_eq!(deaths.deaths[0].reason, DeathReason::DeliveryLimit);
        assert_eq!(
            (&deaths.deaths[0].queue[..], deaths.deaths[0].count),
            (&b"q"[..], 1)
        );
        assert!(bench.get("dead").is_none(), "it died once");
        bench.pass(10_000);
        assert_eq!(value(&bench.get("q").unwrap()), "other");
        assert!(bench.get("q").is_none());
    }
}

#[test]
fn what_is_given_back_untried_uses_up_nothing() {
    let mut bench = Bench::new();
    let mut arguments = limited("all", 1);
    arguments.push(text("x-queue-type", "quorum"));
    bench.declare("dead", true, Vec::new());
    bench.declare("q", true, arguments);
    bench.publish("q", "", &["1"]);
    for count in 0..4 {
        let delivery = bench.give_back("q", Settlement::Requeue);
        assert_eq!(delivery.delivery_count, Some(0));
        assert_eq!(delivery.acquired_count, Some(count));
        assert!(bench.get("q").is_none());
        bench.pass(1000);
    }
    bench.give_back("q", Settlement::Fail);
    bench.pass(1000);
    let delivery = bench.give_back("q", Settlement::Fail);
    assert_eq!(
        (delivery.delivery_count, delivery.acquired_count),
        (Some(1), Some(5))
    );
    assert!(bench.get("dead").is_some());
}

#[test]
fn the_type_says_what_waits_and_failures_count_whether_it_waits_or_not() {
    let mut bench = Bench::new();
    bench.declare("dead", true, Vec::new());
    for (queue, kind) in [("f", "failed"), ("r", "returned")] {
        bench.declare(queue, true, limited(kind, 2));
        bench.publish(queue, "", &["1"]);
    }
    bench.give_back("f", Settlement::Requeue);
    bench.give_back("f", Settlement::Fail);
    assert!(bench.get("f").is_none());
    bench.give_back("r", Settlement::Fail);
    bench.give_back("r", Settlement::Fail);
    bench.give_back("r", Settlement::Requeue);
    assert!(bench.get("r").is_none());
    // Two failures: the shortest time, twice.
    bench.pass(1999);
    assert!(bench.get("r").is_none());
    bench.pass(1);
    bench.give_back("r", Settlement::Fail);
    assert!(bench.get("dead").is_some());
}

#[test]
fn a_connection_that_ends_has_failed_and_what_comes_back_has_its_old_place() {
    let mut bench = Bench::new();
    bench.declare("q", true, retry("failed"));
    bench.publish("q", "", &["1", "2", "3"]);
    bench.connect(2);
    bench.consume(2, "q", 2);
    assert_eq!(bench.values(2), ["1", "2"]);
    bench.disconnect(2);
    bench.connect(3);
    bench.consume(3, "q", 1);
    let third = bench.delivered(3);
    assert_eq!(third.iter().map(value).collect::<Vec<_>>(), ["3"]);
    bench.publish("q", "", &["4"]);
    bench.pass(1000);
    bench.settle(3, &third[0], Settlement::Ack);
    let first = bench.delivered(3);
    assert_eq!(first.iter().map(value).collect::<Vec<_>>(), ["1"]);
    assert!(first[0].redelivered);
}

#[test]
fn after_a_crash_it_waits_until_its_time() {
    for checkpoint in [false, true] {
        let mut bench = Bench::new();
        bench.declare("dead", true, Vec::new());
        bench.declare("q", true, limited("all", 2));
        bench.publish("q", "", &["1", "2"]);
        bench.give_back("q", Settlement::Fail);
        bench.pass(1000);
        bench.give_back("q", Settlement::Fail);
        if checkpoint {
            bench.pass(600);
            bench.pass(600);
        }
        bench.crash();
        assert_eq!(bench.figures("q").deferred, 1);
        assert_eq!(value(&bench.get("q").unwrap()), "2");
        assert!(bench.get("q").is_none());
        bench.pass(if checkpoint { 800 } else { 2000 });
        assert_eq!(value(&bench.give_back("q", Settlement::Fail)), "1");
        assert!(bench.get("dead").is_some(), "what failed before counts");
        bench.crash();
        bench.pass(5000);
        assert_eq!(value(&bench.get("q").unwrap()), "2");
        assert!(bench.get("q").is_none());
    }
}

#[test]
fn a_message_that_waits_counts_for_limits_and_the_oldest_is_dropped() {
    for durable in [true, false] {
        let mut bench = Bench::new();
        let mut arguments = limited("all", 9);
        arguments.push(int("x-max-length", 2));
        bench.declare("dead", true, Vec::new());
        bench.declare("q", durable, arguments);
        bench.publish("q", "", &["1", "2"]);
        bench.give_back("q", Settlement::Fail);
        bench.publish("q", "", &["3"]);
        let dead = bench.get("dead").expect("what waited is the oldest");
        assert_eq!(value(&dead), "1");
        assert_eq!(
            dead.message.deaths().unwrap().deaths[0].reason,
            DeathReason::MaxLen
        );
        let figures = bench.figures("q");
        assert_eq!((figures.ready, figures.deferred), (2, 0));
        // One that is not the oldest stays.
        let (second, third) = (bench.get("q").unwrap(), bench.get("q").unwrap());
        bench.settle(1, &third, Settlement::Fail);
        bench.settle(1, &second, Settlement::Requeue);
        bench.publish("q", "", &["4"]);
        assert_eq!(value(&bench.get("dead").unwrap()), "2");
        bench.pass(5000);
        assert_eq!(value(&bench.get("q").unwrap()), "3");
        assert_eq!(value(&bench.get("q").unwrap()), "4");
    }
    let mut bench = Bench::new();
    let mut arguments = retry("all");
    arguments.extend([int("x-max-length", 1), text("x-overflow", "reject-publish")]);
    bench.declare("q", true, arguments);
    bench.publish("q", "", &["1"]);
    bench.give_back("q", Settlement::Fail);
    bench.publish("q", "", &["2"]);
    bench.pass(1000);
    assert_eq!(value(&bench.get("q").unwrap()), "1");
    assert!(bench.get("q").is_none(), "the second was refused");
}

#[test]
fn a_message_that_waits_expires_and_is_purged_like_one_that_is_ready() {
    for durable in [true, false] {
        let mut bench = Bench::with_tail(1);
        let mut arguments = limited("all", 9);
        arguments.push(int("x-message-ttl", 1500));
        bench.declare("dead", true, Vec::new());
        bench.declare("q", durable, arguments);
        bench.publish("q", "", &["1"]);
        bench.give_back("q", Settlement::Fail);
        bench.pass(1000);
        bench.give_back("q", Settlement::Fail);
        bench.pass(499);
        assert!(bench.get("dead").is_none());
        bench.pass(1);
        let dead = bench.get("dead").expect("a dead letter");
        assert_eq!(
            dead.message.deaths().unwrap().deaths[0].reason,
            DeathReason::Expired
        );
        assert_eq!(bench.figures("q").deferred, 0);
        bench.publish("q", "", &["2", "3"]);
        bench.give_back("q", Settlement::Fail);
        let purged = bench.ask(1, Command::PurgeQueue(name("q")));
        assert_eq!(purged, Reply::Count(2));
        bench.pass(10_000);
        assert!(bench.get("q").is_none());
        let queue = bench
            .shard
            .state
            .queues
            .values()
            .find(|queue| queue.declared.name == "q");
        assert!(queue.unwrap().retries.is_none(), "nothing is left behind");
        assert_eq!(queue.unwrap().memory_bytes, 0);
    }
}

#[test]
fn later_messages_of_a_key_wait_for_one_that_waits_and_other_keys_do_not() {
    let mut bench = Bench::new();
    let mut arguments = retry("all");
    arguments.push((name("x-key-shared"), Value::Bool(true)));
    bench.declare("q", true, arguments);
    let exchange = DeclareExchange {
        name: name("x"),
        kind: ExchangeKind::Fanout,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    };
    bench.ask(1, Command::DeclareExchange(exchange));
    bench.ask(
        1,
        Command::Bind(Binding {
            source: name("x"),
            destination: Destination::Queue(name("q")),
            routing_key: Bytes::new(),
            arguments: Vec::new(),
        }),
    );
    bench.publish("q", "k", &["k1", "k2"]);
    bench.publish("q", "l", &["l1", "l2"]);
    for client in [2, 3] {
        bench.connect(client);
    }
    bench.consume(2, "q", 1);
    let first = bench.delivered(2);
    assert_eq!(value(&first[0]), "k1");
    bench.consume(3, "q", 9);
    assert_eq!(bench.values(3), ["l1", "l2"]);
    bench.settle(2, &first[0], Settlement::Fail);
    assert_eq!((bench.values(2), bench.values(3)), (vec![], vec![]));
    bench.crash();
    bench.connect(2);
    bench.consume(2, "q", 9);
    assert_eq!(bench.values(2), ["l1", "l2"]);
    bench.pass(1000);
    assert_eq!(bench.values(2), ["k1", "k2"]);
}

#[test]
fn a_single_active_consumer_hands_over_while_messages_wait() {
    let mut bench = Bench::new();
    let mut arguments = retry("all");
    arguments.push((name("x-single-active-consumer"), Value::Bool(true)));
    bench.declare("q", true, arguments);
    bench.publish("q", "", &["1", "2"]);
    for client in [2, 3] {
        bench.connect(client);
        bench.consume(client, "q", 1);
    }
    let first = bench.delivered(2);
    bench.settle(2, &first[0], Settlement::Fail);
    assert_eq!(bench.values(2), ["2"]);
    bench.disconnect(2);
    bench.publish("q", "", &["3"]);
    assert_eq!(bench.values(3), ["3"]);
    assert_eq!(bench.figures("q").deferred, 2);
}

#[test]
fn a_queue_with_messages_that_wait_is_not_empty() {
    let mut bench = Bench::new();
    bench.declare("q", true, retry("all"));
    bench.publish("q", "", &["1"]);
    bench.give_back("q", Settlement::Fail);
    let delete = |if_empty| Command::DeleteQueue {
        name: name("q"),
        if_unused: false,
        if_empty,
    };
    bench.next += 1;
    let asked = bench.next;
    bench.step(vec![Input::Command {
        client: ClientId(1),
        correlation: asked,
        command: delete(true),
        cost: None,
    }]);
    let refused = bench.heard.pop().map(|(_, event)| event);
    let Some(Event::Reply { result, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(matches!(*result, Err(Refusal::NotEmpty(_))), "{result:?}");
    assert_eq!(bench.ask(1, delete(false)), Reply::Count(1));
    bench.pass(5000);
}

#[test]
fn what_was_never_delivered_counts_for_nothing() {
    for arguments in [limited("all", 0), vec![int("x-delivery-limit", 0)]] {
        let mut bench = Bench::new();
        bench.declare("q", true, arguments);
        bench.publish("q", "", &["1"]);
        for _ in 0..3 {
            let delivery = bench.give_back("q", Settlement::Undelivered);
            assert_eq!((delivery.returned_count, delivery.redelivered), (0, false));
        }
        bench.give_back("q", Settlement::Fail);
        assert!(bench.get("q").is_none(), "one failure is one too many");
    }
}

#[test]
fn many_that_are_due_at_once_come_back_in_several_steps_and_in_order() {
    let mut bench = Bench::new();
    bench.declare("q", true, retry("all"));
    let values: Vec<String> = (0..2500).map(|number| number.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    bench.publish("q", "", &values);
    bench.connect(2);
    bench.consume(2, "q", 0);
    bench.pass(0);
    bench.pass(0);
    assert!(bench.values(2) == values, "all, in order");
    bench.disconnect(2);
    assert_eq!(bench.figures("q").deferred, 2500);
    bench.clock.advance(Duration::from_millis(1000));
    for left in [1476, 452, 0] {
        let now = Now {
            unix_ms: bench.env.clock.now_ms(),
            monotonic_ms: u64::try_from(bench.env.clock.monotonic().as_millis()).unwrap(),
        };
        bench.shard.step(now, &mut Vec::new());
        let queue = bench.shard.state.queues.values();
        let waiting: u64 = queue.map(|queue| queue.deferred_count()).sum();
        assert_eq!(waiting, left);
        if left > 0 {
            assert_eq!(bench.shard.next_due_ms(), 0, "the rest comes at once");
        }
    }
    bench.connect(3);
    bench.consume(3, "q", 0);
    bench.pass(0);
    bench.pass(0);
    assert!(bench.values(3) == values, "all, in order");
}

#[test]
fn many_that_are_refused_expire_or_are_too_many_at_once_take_several_frames() {
    // A frame of this journal holds some twenty of these.
    let body = "x".repeat(1000);
    let values = vec![body.as_str(); 100];
    let to_dead = [
        text("x-dead-letter-exchange", ""),
        text("x-dead-letter-routing-key", "dead"),
    ];
    for durable in [true, false] {
        for tail_bytes_max in [1, 1 << 20] {
            for more in [
                None,
                Some(int("x-message-ttl", 1000)),
                Some(int("x-delivery-limit", 0)),
            ] {
                let mut bench = Bench::with_tail(tail_bytes_max);
                bench.declare("dead", true, Vec::new());
                let arguments = to_dead.iter().cloned().chain(more.clone()).collect();
                bench.declare("q", durable, arguments);
                bench.publish("q", "", &values);
                bench.connect(2);
                let by_time = more
                    .as_ref()
                    .is_some_and(|(name, _)| name == "x-message-ttl");
                if by_time {
                    bench.pass(1000);
                } else {
                    bench.consume(2, "q", 0);
                    let got = bench.delivered(2);
                    let settle = Settle {
                        entries: got.iter().map(|one| (one.queue, one.entry)).collect(),
                        settlement: match more {
                            None => Settlement::Reject,
                            Some(_) => Settlement::Requeue,
                        },
                    };
                    bench.ask(2, Command::Settle(settle));
                }
                for _ in 0..100 {
                    bench.step(Vec::new());
                }
                let (left, dead) = (bench.figures("q"), bench.figures("dead").ready);
                assert_eq!(
                    (left.ready + left.leased, dead),
                    (0, 100),
                    "{durable} {more:?}"
                );
            }
        }
    }
}
