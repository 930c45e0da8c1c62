//! Consuming, getting, settling.

use super::*;
use omnilog_broker::{ConsumerKey, Settle, Settlement};

fn consume(tag: &str, no_ack: bool) -> AMQPClass {
    basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: "q".into(),
        consumer_tag: tag.into(),
        no_ack,
        ..basic::Consume::default()
    }))
}

/// What a publish becomes.
fn sample(body: &[u8]) -> Message {
    let mut pair = Pair::open();
    let properties = basic::AMQPProperties::default().with_content_type("text/plain".into());
    pair.send_frames(&publish_with("x", "k", false, properties, body));
    let Command::Publish(publish) = pair.command() else {
        panic!("no publish");
    };
    message(&publish, 0)
}

/// A connection with a consumer, and the consumer's key.
fn consuming(tag: &str) -> (Pair, u64) {
    let mut pair = Pair::open();
    pair.method(1, consume(tag, false));
    assert!(matches!(pair.command(), Command::SetCredit(_, 0)));
    let Command::Consume(consume) = pair.answer(Ok(queue_info("q", 0, 1))) else {
        panic!("no consume");
    };
    pair.frames();
    (pair, consume.consumer.0)
}

fn ack(delivery_tag: u64, multiple: bool) -> AMQPClass {
    basic(basic::AMQPMethod::Ack(basic::Ack {
        delivery_tag,
        multiple,
    }))
}

fn settle(entries: &[u64], settlement: Settlement) -> Command {
    Command::Settle(Settle {
        entries: entries.iter().map(|e| (QueueId(7), EntryId(*e))).collect(),
        settlement,
    })
}

#[test]
fn a_delivery_is_what_was_published() {
    let (mut pair, key) = consuming("c");
    pair.event(Event::Delivery(Box::new(delivery(key, 1, sample(b"body")))));
    let frames = pair.frames();
    let [
        AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))),
        AMQPFrame::Header(1, header),
        AMQPFrame::Body(1, body),
    ] = &frames[..]
    else {
        panic!("{frames:?}");
    };
    assert_eq!(deliver.consumer_tag.as_str(), "c");
    assert_eq!(deliver.delivery_tag, 1);
    assert_eq!(
        (deliver.exchange.as_str(), deliver.routing_key.as_str()),
        ("x", "k")
    );
    let content_type = header.properties.content_type().as_ref().unwrap();
    assert_eq!(content_type.as_str(), "text/plain");
    assert_eq!(body, b"body");
}

#[test]
fn a_large_body_is_split_into_frames() {
    let (mut pair, key) = consuming("c");
    let large = vec![7; 300_000];
    pair.event(Event::Delivery(Box::new(delivery(
        key,
        1,
        sample_large(&large),
    ))));
    let bodies: Vec<usize> = pair
        .frames()
        .iter()
        .filter_map(|frame| match frame {
            AMQPFrame::Body(_, body) => Some(body.len()),
            _ => None,
        })
        .collect();
    assert_eq!(bodies, [131_064, 131_064, 37_872]);
}

fn sample_large(body: &[u8]) -> Message {
    let mut pair = Pair::open();
    let mut frames = publish("x", "k", false, body);
    frames.pop();
    frames.extend(body.chunks(100_000).map(|c| AMQPFrame::Body(1, c.to_vec())));
    pair.send_frames(&frames);
    let Command::Publish(publish) = pair.command() else {
        panic!("no publish");
    };
    message(&publish, 0)
}

#[test]
fn acks_of_one_read_are_one_command() {
    let (mut pair, key) = consuming("c");
    for entry in 1..=4 {
        pair.event(Event::Delivery(Box::new(delivery(
            key,
            entry,
            sample(b"b"),
        ))));
    }
    pair.send_frames(&[
        AMQPFrame::Method(1, ack(1, false)),
        AMQPFrame::Method(1, ack(3, true)),
    ]);
    let settled: Vec<_> = std::mem::take(&mut pair.commands);
    let entries: Vec<u64> = settled
        .iter()
        .flat_map(|(_, command)| match command {
            Command::Settle(settle) => settle.entries.iter().map(|(_, e)| e.0).collect(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(entries, [1, 2, 3]);
    pair.method(
        1,
        basic(basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag: 4,
            multiple: false,
            requeue: true,
        })),
    );
    assert_eq!(pair.command(), settle(&[4], Settlement::Requeue));
    pair.method(1, ack(0, true));
    assert!(pair.commands.is_empty(), "all of none is fine");
}

#[test]
fn an_unknown_tag_closes_the_channel() {
    for method in [ack(5, false), ack(5, true)] {
        let (mut pair, _) = consuming("c");
        pair.method(1, method);
        let text = "PRECONDITION_FAILED - unknown delivery tag 5".to_owned();
        assert_eq!(pair.channel_closed(), (406, text, (60, 80)));
    }
}

#[test]
fn a_tag_is_a_consumers_own() {
    let (mut pair, _) = consuming("c");
    pair.method(1, consume("c", false));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'".to_owned();
    assert_eq!(pair.connection_closed(), (530, text, (60, 20)));
}

#[test]
fn a_missing_tag_is_made() {
    let mut pair = Pair::open();
    pair.method(1, consume("", true));
    pair.command();
    pair.answer(Ok(queue_info("q", 0, 1)));
    let methods = pair.methods();
    let [AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok))] = &methods[..] else {
        panic!("{methods:?}");
    };
    assert!(ok.consumer_tag.as_str().starts_with("amq.ctag-"));
}

#[test]
fn prefetch_is_for_consumers_to_come() {
    let mut pair = Pair::open();
    let qos = |count, global| {
        basic(basic::AMQPMethod::Qos(basic::Qos {
            prefetch_count: count,
            global,
        }))
    };
    pair.method(1, qos(10, false));
    pair.method(1, qos(50, true));
    assert_eq!(pair.methods().len(), 2);
    let Command::SetCredit(group, 50) = pair.command() else {
        panic!("no channel-wide credit");
    };
    pair.method(1, consume("c", false));
    let Command::Consume(consume) = pair.command() else {
        panic!("no consume");
    };
    assert_eq!((consume.credit, consume.credit_group), (10, Some(group)));
}

#[test]
fn getting_counts_what_is_left() {
    let mut pair = Pair::open();
    let get = || {
        basic(basic::AMQPMethod::Get(basic::Get {
            queue: "q".into(),
            no_ack: false,
        }))
    };
    pair.method(1, get());
    let got = (Box::new(delivery(0, 9, sample(b"b"))), 4);
    pair.answer(Ok(Reply::Got(Some(got))));
    let methods = pair.methods();
    let [AMQPClass::Basic(basic::AMQPMethod::GetOk(ok))] = &methods[..] else {
        panic!("{methods:?}");
    };
    assert_eq!((ok.delivery_tag, ok.message_count), (1, 4));
    pair.method(1, get());
    pair.answer(Ok(Reply::Got(None)));
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_))]
    ));
}

#[test]
fn a_consumer_that_the_broker_ended_is_cancelled() {
    let (mut pair, key) = consuming("c");
    pair.event(Event::ConsumerCancelled(ConsumerKey(key)));
    let methods = pair.methods();
    assert!(matches!(
        &methods[..],
        [AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))] if cancel.consumer_tag.as_str() == "c"
    ));
    // A delivery on its way goes back.
    pair.event(Event::Delivery(Box::new(delivery(key, 3, sample(b"b")))));
    assert_eq!(pair.command(), settle(&[3], Settlement::Undelivered));
}

#[test]
fn recover_puts_everything_back() {
    let (mut pair, key) = consuming("c");
    pair.event(Event::Delivery(Box::new(delivery(key, 1, sample(b"b")))));
    pair.event(Event::Delivery(Box::new(delivery(key, 2, sample(b"b")))));
    pair.frames();
    pair.method(
        1,
        basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true })),
    );
    assert_eq!(pair.command(), settle(&[1, 2], Settlement::Requeue));
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Basic(basic::AMQPMethod::RecoverOk(_))]
    ));
}

#[test]
fn a_cancellation_does_not_overtake_the_answer_to_a_delete() {
    let (mut pair, key) = consuming("c");
    pair.method(
        1,
        queue(queue::AMQPMethod::Delete(queue::Delete {
            queue: "q".into(),
            ..queue::Delete::default()
        })),
    );
    pair.event(Event::ConsumerCancelled(ConsumerKey(key)));
    assert!(pair.frames().is_empty());
    pair.answer(Ok(Reply::Count(2)));
    assert!(matches!(
        pair.methods()[..],
        [
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(_)),
            AMQPClass::Basic(basic::AMQPMethod::Cancel(_))
        ]
    ));
}

fn consume_replies(no_ack: bool) -> AMQPClass {
    basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: "amq.rabbitmq.reply-to".into(),
        consumer_tag: "r".into(),
        no_ack,
        ..basic::Consume::default()
    }))
}

fn request() -> Vec<AMQPFrame> {
    let properties = basic::AMQPProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    publish_with("", "server", false, properties, b"?")
}

#[test]
fn requests_leave_with_the_address_of_a_queue_for_replies() {
    let mut pair = Pair::open();
    pair.method(1, consume_replies(true));
    let Command::DeclareQueue(declared) = pair.answer(Ok(queue_info("amq.gen-9", 0, 0))) else {
        panic!("no queue");
    };
    assert!(declared.name.is_empty() && declared.auto_delete && !declared.durable);
    pair.command();
    let Command::Consume(consume) = pair.answer(Ok(queue_info("amq.gen-9", 0, 1))) else {
        panic!("no consumer");
    };
    assert_eq!(
        (&consume.queue[..], consume.no_ack),
        (&b"amq.gen-9"[..], true)
    );
    pair.frames();
    pair.send_frames(&request());
    let Command::Publish(publish) = pair.command() else {
        panic!("no request");
    };
    let properties = publish.records[0].envelope.properties.clone();
    let properties = crate::codec::Properties::decode(properties).unwrap();
    assert_eq!(properties.reply_to.as_deref(), Some(&b"amq.gen-9"[..]));
}

#[test]
fn a_consumer_of_replies_has_its_rules() {
    let mut pair = Pair::open();
    pair.method(1, consume_replies(false));
    let text = "PRECONDITION_FAILED - reply consumer cannot acknowledge".to_owned();
    assert_eq!(pair.channel_closed(), (406, text, (60, 20)));
    let mut pair = Pair::open();
    pair.send_frames(&request());
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist".to_owned();
    assert_eq!(pair.channel_closed(), (406, text, (60, 40)));
}
