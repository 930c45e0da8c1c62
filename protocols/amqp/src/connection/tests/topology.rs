//! Exchanges, queues and bindings: what the broker is asked, and how its answers are told.

use super::*;
use omnilog_broker::{DeclareQueue, Destination, Noun};

#[test]
fn a_queue_is_declared_as_asked() {
    let mut pair = Pair::open();
    pair.method(1, declare_queue("q"));
    assert!(
        pair.frames().is_empty(),
        "nothing before the broker's answer"
    );
    let command = pair.answer(Ok(queue_info("q", 3, 2)));
    assert_eq!(
        command,
        Command::DeclareQueue(DeclareQueue {
            name: Bytes::from_static(b"q"),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Vec::new(),
        })
    );
    let methods = pair.methods();
    let Some(AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))) = methods.first() else {
        panic!("{methods:?}");
    };
    assert_eq!(
        (ok.queue.as_str(), ok.message_count, ok.consumer_count),
        ("q", 3, 2)
    );
}

#[test]
fn an_empty_name_is_the_queue_declared_last() {
    let mut pair = Pair::open();
    pair.method(1, declare_queue(""));
    pair.answer(Ok(queue_info("amq.gen-1", 0, 0)));
    pair.method(
        1,
        queue(queue::AMQPMethod::Bind(queue::Bind {
            exchange: "x".into(),
            ..queue::Bind::default()
        })),
    );
    let Command::Bind(binding) = pair.answer(Ok(Reply::Done)) else {
        panic!("no bind");
    };
    let name = Bytes::from_static(b"amq.gen-1");
    assert_eq!(binding.destination, Destination::Queue(name.clone()));
    assert_eq!(binding.routing_key, name);
}

#[test]
fn an_empty_name_without_a_declaration_is_not_found() {
    let mut pair = Pair::open();
    pair.method(1, queue(queue::AMQPMethod::Purge(queue::Purge::default())));
    let text = "NOT_FOUND - no previously declared queue".to_owned();
    assert_eq!(pair.channel_closed(), (404, text, (50, 30)));
}

#[test]
fn what_is_missing_closes_the_channel_by_its_name() {
    let mut pair = Pair::open();
    let passive = queue::Declare {
        queue: "q".into(),
        passive: true,
        ..queue::Declare::default()
    };
    pair.method(1, queue(queue::AMQPMethod::Declare(passive)));
    pair.answer(Err(Refusal::NotFound(
        Noun::Queue,
        Bytes::from_static(b"q"),
    )));
    let text = "NOT_FOUND - no queue 'q' in vhost '/'".to_owned();
    assert_eq!(pair.channel_closed(), (404, text, (50, 10)));
}

#[test]
fn another_declaration_is_inequivalent() {
    let mut pair = Pair::open();
    pair.method(1, declare_queue("q"));
    pair.answer(Err(Refusal::Inequivalent {
        noun: Noun::Queue,
        name: Bytes::from_static(b"q"),
        argument: "durable".to_owned(),
        received: "'false'".to_owned(),
        current: "'true'".to_owned(),
    }));
    let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but \
                current is 'true'";
    assert_eq!(pair.channel_closed(), (406, text.to_owned(), (50, 10)));
}

#[test]
fn deleting_and_unbinding_what_is_missing_is_fine() {
    let mut pair = Pair::open();
    pair.method(
        1,
        queue(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: "q".into(),
            exchange: "x".into(),
            ..queue::Unbind::default()
        })),
    );
    pair.answer(Err(Refusal::NotFound(
        Noun::Queue,
        Bytes::from_static(b"q"),
    )));
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Queue(queue::AMQPMethod::UnbindOk(_))]
    ));
    pair.method(
        1,
        queue(queue::AMQPMethod::Delete(queue::Delete {
            queue: "q".into(),
            ..queue::Delete::default()
        })),
    );
    pair.answer(Ok(Reply::Count(0)));
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Queue(queue::AMQPMethod::DeleteOk(
            queue::DeleteOk { message_count: 0 }
        ))]
    ));
}

#[test]
fn reserved_names_are_refused_without_asking() {
    for (method, text, id) in [
        (
            declare_queue("amq.x"),
            "queue name 'amq.x' contains reserved prefix 'amq.*'",
            (50, 10),
        ),
        (
            exchange(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: "amq.direct".into(),
                ..exchange::Delete::default()
            })),
            "deletion of system exchange 'amq.direct' in vhost '/' not allowed",
            (40, 20),
        ),
        (
            exchange(exchange::AMQPMethod::Declare(exchange::Declare {
                kind: "direct".into(),
                ..exchange::Declare::default()
            })),
            "operation not permitted on the default exchange",
            (40, 10),
        ),
    ] {
        let mut pair = Pair::open();
        pair.method(1, method);
        assert_eq!(
            pair.channel_closed(),
            (403, format!("ACCESS_REFUSED - {text}"), id)
        );
        assert!(pair.commands.is_empty());
    }
}

#[test]
fn an_unknown_exchange_type_is_an_invalid_command() {
    let mut pair = Pair::open();
    pair.method(
        1,
        exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: "x".into(),
            kind: "x-none".into(),
            ..exchange::Declare::default()
        })),
    );
    let text = "COMMAND_INVALID - unknown exchange type 'x-none'".to_owned();
    assert_eq!(pair.connection_closed(), (503, text, (40, 10)));
}

fn declare_with(argument: &str, value: AMQPValue) -> AMQPClass {
    let mut arguments = FieldTable::default();
    arguments.insert(argument.into(), value);
    queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: "q".into(),
        arguments,
        ..queue::Declare::default()
    }))
}

#[test]
fn an_argument_that_is_not_served_is_refused_by_name() {
    for (argument, value) in [
        ("x-queue-type", AMQPValue::LongString("stream".into())),
        ("x-max-age", AMQPValue::LongString("1h".into())),
    ] {
        let mut pair = Pair::open();
        pair.method(1, declare_with(argument, value));
        let (code, text, id) = pair.connection_closed();
        assert_eq!((code, id), (540, (50, 10)));
        assert!(text.contains(argument), "{text}");
    }
}

#[test]
fn an_argument_of_a_wrong_type_is_refused_before() {
    for (argument, value) in [
        ("x-message-ttl", AMQPValue::LongString("a".into())),
        ("x-expires", AMQPValue::LongInt(0)),
        ("x-max-priority", AMQPValue::LongInt(256)),
        ("x-overflow", AMQPValue::LongString("none".into())),
    ] {
        let mut pair = Pair::open();
        pair.method(1, declare_with(argument, value));
        assert_eq!(pair.channel_closed().0, 406, "{argument}");
    }
}

#[test]
fn harmless_arguments_pass() {
    let mut pair = Pair::open();
    pair.method(
        1,
        declare_with("x-queue-type", AMQPValue::LongString("classic".into())),
    );
    pair.answer(Ok(queue_info("q", 0, 0)));
    assert_eq!(pair.methods().len(), 1);
}

#[test]
fn later_methods_wait_for_the_answer() {
    let mut pair = Pair::open();
    let mut frames = vec![AMQPFrame::Method(1, declare_queue("a"))];
    frames.extend(publish("", "a", false, b"body"));
    pair.send_frames(&frames);
    assert_eq!(pair.commands.len(), 1);
    pair.answer(Ok(queue_info("a", 0, 0)));
    assert!(matches!(pair.command(), Command::Publish(_)));
}

#[test]
fn nowait_is_not_answered() {
    let mut pair = Pair::open();
    pair.method(
        1,
        queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: "q".into(),
            nowait: true,
            ..queue::Declare::default()
        })),
    );
    pair.answer(Ok(queue_info("q", 0, 0)));
    assert!(pair.frames().is_empty());
}
