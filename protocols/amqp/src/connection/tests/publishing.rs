//! Publishing, confirms, returns, transactions.

use super::*;
use amq_protocol::protocol::{confirm, tx};
use omnilog_broker::{Address, Noun, Provenance, Published, Routed, Wait};

fn confirming() -> Pair {
    let mut pair = Pair::open();
    pair.method(
        1,
        AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select::default())),
    );
    assert_eq!(pair.methods().len(), 1);
    pair
}

fn published(outcomes: Vec<Routed>) -> Result<Reply, Refusal> {
    Ok(Reply::Published(Published {
        outcomes,
        duplicate: false,
    }))
}

fn persistent() -> basic::AMQPProperties {
    basic::AMQPProperties::default().with_delivery_mode(2)
}

#[test]
fn publishes_of_one_read_are_one_batch() {
    let mut pair = Pair::open();
    let frames: Vec<_> = (0..3)
        .flat_map(|n| publish("x", &format!("k.{n}"), false, b"body"))
        .chain(publish("y", "k", false, b""))
        .collect();
    pair.send_frames(&frames);
    let Command::Publish(first) = pair.command() else {
        panic!("no publish");
    };
    assert_eq!(first.records.len(), 3);
    assert_eq!(first.wait, Wait::Decided);
    let envelope = &first.records[1].envelope;
    assert_eq!(envelope.provenance, Provenance::AmqpExchange);
    assert_eq!(
        envelope.address,
        Address::Amqp {
            exchange: Bytes::from_static(b"x"),
            routing_key: Bytes::from_static(b"k.1"),
        }
    );
    assert_eq!(envelope.publisher, "user");
    assert!(matches!(pair.command(), Command::Publish(p) if p.records.len() == 1));
    assert!(pair.frames().is_empty());
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let mut pair = Pair::open();
    let mut frames = publish("", "q", false, b"abcdef");
    frames.pop();
    for piece in [&b"ab"[..], b"c", b"def"] {
        frames.push(AMQPFrame::Body(1, piece.to_vec()));
    }
    for byte in frames.iter().flat_map(encoded) {
        pair.send(&[byte]);
    }
    let Command::Publish(publish) = pair.command() else {
        panic!("no publish");
    };
    let view = crate::mapping::view(&delivery(1, 1, message(&publish, 0))).unwrap();
    assert_eq!(view.body, &b"abcdef"[..]);
}

#[test]
fn confirms_count_from_one_and_come_together() {
    let mut pair = confirming();
    let frames: Vec<_> = (0..3)
        .flat_map(|_| publish_with("", "q", false, persistent(), b"b"))
        .collect();
    pair.send_frames(&frames);
    let Command::Publish(publish) = pair.answer(published(Vec::new())) else {
        panic!("no publish");
    };
    assert_eq!(publish.wait, Wait::Durable);
    assert_eq!(publish.records[0].envelope.qos, 1);
    let ack = basic::Ack {
        delivery_tag: 3,
        multiple: true,
    };
    assert_eq!(pair.methods(), [basic(basic::AMQPMethod::Ack(ack))]);
}

#[test]
fn a_rejected_publish_is_nacked() {
    let mut pair = confirming();
    let frames: Vec<_> = (0..2).flat_map(|_| publish("", "q", false, b"b")).collect();
    pair.send_frames(&frames);
    pair.answer(published(vec![Routed::Taken, Routed::Rejected]));
    let methods = pair.methods();
    assert!(
        matches!(
            &methods[..],
            [
                AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
                    delivery_tag: 1,
                    ..
                })),
                AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack {
                    delivery_tag: 2,
                    ..
                })),
            ]
        ),
        "{methods:?}"
    );
}

#[test]
fn a_full_disk_nacks() {
    let mut pair = confirming();
    pair.send_frames(&publish("", "q", false, b"b"));
    pair.answer(Err(Refusal::DiskFull));
    let methods = pair.methods();
    assert!(matches!(
        &methods[..],
        [AMQPClass::Basic(basic::AMQPMethod::Nack(_))]
    ));
}

#[test]
fn a_mandatory_message_without_taker_is_returned_before_its_ack() {
    let mut pair = confirming();
    pair.send_frames(&publish("x", "k", true, b"body"));
    pair.answer(published(vec![Routed::NoTaker]));
    let frames = pair.frames();
    let [
        AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Return(returned))),
        AMQPFrame::Header(1, _),
        AMQPFrame::Body(1, body),
        AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(_))),
    ] = &frames[..]
    else {
        panic!("{frames:?}");
    };
    assert_eq!(returned.reply_code, 312);
    assert_eq!(returned.reply_text.as_str(), "NO_ROUTE");
    assert_eq!(returned.exchange.as_str(), "x");
    assert_eq!(body, b"body");
}

#[test]
fn a_missing_exchange_closes_the_channel() {
    let mut pair = Pair::open();
    pair.send_frames(&publish("x", "k", false, b"body"));
    pair.answer(Err(Refusal::NotFound(
        Noun::Exchange,
        Bytes::from_static(b"x"),
    )));
    let text = "NOT_FOUND - no exchange 'x' in vhost '/'".to_owned();
    assert_eq!(pair.channel_closed(), (404, text, (60, 40)));
    // What follows is discarded until close-ok, and then the number is free.
    pair.send_frames(&publish("y", "k", false, b"body"));
    assert!(pair.commands.is_empty());
    let ok = AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
    pair.method(1, ok);
    pair.method(
        1,
        AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
    );
    assert_eq!(pair.methods().len(), 1);
}

#[test]
fn what_a_message_claims_is_checked() {
    for (properties, text) in [
        (
            basic::AMQPProperties::default().with_user_id("other".into()),
            "user_id property set to 'other' but authenticated user was 'user'",
        ),
        (
            basic::AMQPProperties::default().with_expiration("abc".into()),
            "invalid expiration 'abc'",
        ),
    ] {
        let mut pair = Pair::open();
        pair.send_frames(&publish_with("", "q", false, properties, b"b"));
        let closed = pair.channel_closed();
        assert_eq!(
            closed,
            (406, format!("PRECONDITION_FAILED - {text}"), (60, 40))
        );
        assert!(pair.commands.is_empty());
    }
}

#[test]
fn an_expiration_is_a_moment() {
    let mut pair = Pair::open();
    let properties = basic::AMQPProperties::default().with_expiration("250".into());
    pair.send_frames(&publish_with("", "q", false, properties, b"b"));
    let Command::Publish(publish) = pair.command() else {
        panic!("no publish");
    };
    let expires_at_ms = publish.records[0].envelope.expires_at_ms;
    assert_eq!(expires_at_ms, Some(NOW_MS + 250));
}

#[test]
fn frames_out_of_order_are_unexpected() {
    let publish = publish("", "q", false, b"body");
    for frames in [
        vec![publish[1].clone()],
        vec![publish[0].clone(), publish[2].clone()],
        vec![publish[0].clone(), publish[0].clone()],
        vec![publish[0].clone(), publish[1].clone(), publish[1].clone()],
    ] {
        let mut pair = Pair::open();
        pair.send_frames(&frames);
        assert_eq!(pair.connection_closed().0, 505);
    }
}

#[test]
fn a_body_longer_than_its_header_says_is_a_frame_error() {
    let mut pair = Pair::open();
    let mut frames = publish("", "q", false, b"body");
    frames.pop();
    frames.push(AMQPFrame::Body(1, b"bodybody".to_vec()));
    pair.send_frames(&frames);
    assert_eq!(pair.connection_closed().0, 501);
}

#[test]
fn immediate_is_not_implemented() {
    let mut pair = Pair::open();
    let publish = basic::Publish {
        immediate: true,
        ..basic::Publish::default()
    };
    pair.method(1, basic(basic::AMQPMethod::Publish(publish)));
    let text = "NOT_IMPLEMENTED - immediate=true".to_owned();
    assert_eq!(pair.connection_closed(), (540, text, (60, 40)));
}

fn tx(method: tx::AMQPMethod) -> AMQPClass {
    AMQPClass::Tx(method)
}

#[test]
fn a_transaction_is_one_command() {
    let mut pair = Pair::open();
    pair.method(1, tx(tx::AMQPMethod::Select(tx::Select {})));
    pair.frames();
    pair.send_frames(&publish("", "a", false, b"1"));
    pair.send_frames(&publish("x", "b", false, b"2"));
    assert!(matches!(
        pair.answer(Ok(Reply::Done)),
        Command::CheckExchange(_)
    ));
    assert!(pair.commands.is_empty());
    pair.method(1, tx(tx::AMQPMethod::Commit(tx::Commit {})));
    let Command::Atomic(commands) = pair.answer(Ok(Reply::Done)) else {
        panic!("not atomic");
    };
    assert_eq!(commands.len(), 2);
    assert_eq!(
        pair.methods(),
        [tx(tx::AMQPMethod::CommitOk(tx::CommitOk {}))]
    );
    // Nothing is left for another commit.
    pair.method(1, tx(tx::AMQPMethod::Commit(tx::Commit {})));
    assert!(pair.commands.is_empty());
    assert_eq!(pair.methods().len(), 1);
}

#[test]
fn a_rollback_forgets_publishes() {
    let mut pair = Pair::open();
    pair.method(1, tx(tx::AMQPMethod::Select(tx::Select {})));
    pair.send_frames(&publish("", "a", false, b"1"));
    pair.method(1, tx(tx::AMQPMethod::Rollback(tx::Rollback {})));
    pair.method(1, tx(tx::AMQPMethod::Commit(tx::Commit {})));
    assert!(pair.commands.is_empty());
    assert_eq!(pair.methods().len(), 3);
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    let mut pair = confirming();
    pair.method(1, tx(tx::AMQPMethod::Select(tx::Select {})));
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode".to_owned();
    assert_eq!(pair.channel_closed(), (406, text, (90, 10)));
}
