//! What the broker delivers.

use super::*;
use omnilog_broker::{OutgoingStage, SessionStep, Settle, Settlement};

fn settled(entries: &[u64]) -> Command {
    Command::Settle(Settle {
        entries: entries
            .iter()
            .map(|&entry| (QUEUE, EntryId(entry)))
            .collect(),
        settlement: Settlement::Ack,
    })
}

#[test]
fn qos_0_is_sent_and_forgotten() {
    let mut pair = Pair::open(4);
    pair.deliver(delivery(1, "a/b", 0, b"x"));
    assert_eq!(pair.bytes(), publish(4, 0, "a/b", 0, &[], b"x"));
    assert!(pair.commands.is_empty());
}

#[test]
fn qos_1_is_settled_by_puback() {
    let mut pair = Pair::open(4);
    pair.deliver(delivery(1, "a", 1, b"x"));
    pair.deliver(delivery(2, "a", 1, b"y"));
    let expected = [
        publish(4, 2, "a", 1, &[], b"x"),
        publish(4, 2, "a", 2, &[], b"y"),
    ]
    .concat();
    assert_eq!(pair.bytes(), expected);
    pair.send(&[ack(0x40, 2), ack(0x40, 1), ack(0x40, 9)].concat());
    assert_eq!(pair.command(), settled(&[2, 1]));
}

#[test]
fn qos_2_journals_before_each_packet_that_promises() {
    // 4.3.3-1 to 4.3.3-6
    let mut pair = Pair::open(5);
    pair.deliver(delivery(1, "a", 2, b"x"));
    assert!(
        pair.bytes().is_empty(),
        "PUBLISH before its id is journaled"
    );
    let assign = SessionStep::Assign {
        packet_id: 1,
        queue: QUEUE,
        entry: EntryId(1),
    };
    assert_eq!(
        pair.answer(Reply::Step(true)),
        Command::Step(SESSION, assign)
    );
    assert_eq!(pair.bytes(), publish(5, 4, "a", 1, &[], b"x"));
    pair.send(&ack(0x50, 1));
    assert!(pair.bytes().is_empty(), "PUBREL before PUBREC is journaled");
    let received = SessionStep::Received { packet_id: 1 };
    assert_eq!(
        pair.answer(Reply::Step(true)),
        Command::Step(SESSION, received)
    );
    assert_eq!(pair.bytes(), ack(0x62, 1));
    // PUBREC again: PUBREL again.
    pair.send(&ack(0x50, 1));
    assert_eq!(pair.bytes(), ack(0x62, 1));
    pair.send(&ack(0x70, 1));
    let completed = SessionStep::Completed { packet_id: 1 };
    assert_eq!(pair.command(), Command::Step(SESSION, completed));
    pair.send(&ack(0x50, 1));
    assert_eq!(pair.bytes(), [0x62, 3, 0, 1, 0x92]);
}

#[test]
fn pubrec_with_an_error_ends_the_exchange() {
    // 4.3.3-4
    let mut pair = Pair::open(5);
    pair.deliver(delivery(1, "a", 2, b"x"));
    pair.answer(Reply::Step(true));
    pair.bytes();
    pair.send(&packet(0x50, &[&[0, 1, 0x97]]));
    assert_eq!(
        pair.command(),
        Command::Step(SESSION, SessionStep::Completed { packet_id: 1 })
    );
    assert!(pair.bytes().is_empty());
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_protocol_error() {
    let mut pair = Pair::open(5);
    pair.deliver(delivery(1, "a", 1, b"x"));
    pair.bytes();
    pair.send(&ack(0x50, 1));
    assert_eq!(pair.bytes()[2], 0x82);
    let mut pair = Pair::open(5);
    pair.deliver(delivery(1, "a", 2, b"x"));
    pair.answer(Reply::Step(true));
    pair.bytes();
    pair.send(&ack(0x40, 1));
    assert_eq!(pair.bytes()[2], 0x82);
}

fn resumed(packet_id: u16, entry: u64, qos: u8, payload: &'static [u8]) -> Resumed {
    Resumed {
        packet_id,
        stage: OutgoingStage::Publish {
            queue: QUEUE,
            entry: EntryId(entry),
            qos,
            retained: false,
            message: Some(message("a", qos, payload, false, None)),
        },
    }
}

#[test]
fn what_was_in_flight_is_resent_in_order_with_dup() {
    // 4.4.0-1, 3.3.1-1
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect(4, "c", 0, &[]));
    let outgoing = vec![
        resumed(5, 1, 1, b"x"),
        resumed(6, 2, 2, b"y"),
        Resumed {
            packet_id: 7,
            stage: OutgoingStage::Release,
        },
    ];
    pair.opened(SessionOpened {
        present: true,
        outgoing,
        ..opened()
    });
    let expected = [
        vec![0x20, 2, 1, 0],
        publish(4, 0x0A, "a", 5, &[], b"x"),
        publish(4, 0x0C, "a", 6, &[], b"y"),
        ack(0x62, 7),
    ];
    assert_eq!(pair.bytes(), expected.concat());
    pair.send(&[ack(0x40, 5), ack(0x70, 7)].concat());
    assert_eq!(
        pair.command(),
        Command::Step(SESSION, SessionStep::Completed { packet_id: 7 })
    );
    assert_eq!(pair.command(), settled(&[1]));
    // New packet ids are other ones.
    pair.deliver(delivery(9, "b", 1, b"z"));
    assert_eq!(pair.bytes(), publish(4, 2, "b", 1, &[], b"z"));
}

#[test]
fn resending_respects_a_smaller_receive_maximum() {
    // 3.3.4-9
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect(
        5,
        "c",
        0,
        &[Property::ReceiveMaximum(1), Property::SessionExpiry(9)],
    ));
    let outgoing = vec![resumed(5, 1, 1, b"x"), resumed(6, 2, 1, b"y")];
    pair.opened(SessionOpened {
        present: true,
        outgoing,
        ..opened()
    });
    let bytes = pair.bytes();
    assert!(bytes.ends_with(&publish(5, 0x0A, "a", 5, &[], b"x")));
    pair.send(&ack(0x40, 5));
    assert_eq!(pair.bytes(), publish(5, 0x0A, "a", 6, &[], b"y"));
}

#[test]
fn expired_messages_are_not_sent_and_others_count_down() {
    // 3.3.2-5, 3.3.2-6
    let mut pair = Pair::open(5);
    pair.deliver(delivery_with(1, "a", 1, b"x", false, Some(1_000_000)));
    assert!(pair.bytes().is_empty());
    assert_eq!(pair.command(), settled(&[1]));
    pair.pass(Duration::from_secs(4));
    pair.deliver(delivery_with(2, "a", 1, b"x", false, Some(1_010_000)));
    assert_eq!(
        pair.bytes(),
        publish(5, 2, "a", 2, &[Property::MessageExpiry(6)], b"x")
    );
}

#[test]
fn a_packet_larger_than_the_client_takes_counts_as_delivered() {
    // 3.1.2-24, 3.1.2-25
    let connect = connect(5, "c", 2, &[Property::MaximumPacketSize(30)]);
    let mut pair = Pair::open_with(MqttConfig::default(), &connect);
    pair.deliver(delivery(1, "a", 1, &[b'x'; 40]));
    assert!(pair.bytes().is_empty());
    assert_eq!(pair.command(), settled(&[1]));
    pair.deliver(delivery(2, "a", 1, b"x"));
    assert!(!pair.bytes().is_empty());
}

#[test]
fn retain_is_kept_only_where_asked_for() {
    // 3.3.1-8, 3.3.1-12, 3.3.1-13
    let mut pair = Pair::open(5);
    pair.deliver(delivery_with(1, "a", 0, b"x", true, None));
    assert_eq!(pair.bytes()[0], 0x30);
    pair.deliver(Delivery {
        retained: true,
        ..delivery_with(2, "a", 0, b"x", true, None)
    });
    assert_eq!(pair.bytes()[0], 0x31);
    pair.send(&subscribe(5, 1, &[], &[("a", 0x08)]));
    pair.answer(Reply::Subscribed(vec![Ok(())]));
    pair.bytes();
    pair.deliver(delivery_with(3, "a", 0, b"x", true, None));
    assert_eq!(pair.bytes()[0], 0x31);
}

#[test]
fn identifiers_of_all_matching_subscriptions_go_along() {
    // 3.3.4-3, 3.3.4-5
    let mut pair = Pair::open(5);
    for (id, filter, identifier) in [(1, "a/#", 10), (2, "+/b", 200), (3, "c", 30)] {
        let properties = [Property::SubscriptionIdentifier(identifier)];
        pair.send(&subscribe(5, id, &properties, &[(filter, 0)]));
        pair.answer(Reply::Subscribed(vec![Ok(())]));
    }
    pair.bytes();
    pair.deliver(delivery(1, "a/b", 0, b"x"));
    let properties = [10, 200].map(Property::SubscriptionIdentifier);
    assert_eq!(pair.bytes(), publish(5, 0, "a/b", 0, &properties, b"x"));
}

#[test]
fn aliases_are_set_as_far_as_the_client_takes_them() {
    // 3.1.2-26, 3.1.2-27
    let connect = connect(5, "c", 2, &[Property::TopicAliasMaximum(1)]);
    let mut pair = Pair::open_with(MqttConfig::default(), &connect);
    let alias = [Property::TopicAlias(1)];
    pair.deliver(delivery(1, "a", 0, b"x"));
    assert_eq!(pair.bytes(), publish(5, 0, "a", 0, &alias, b"x"));
    pair.deliver(delivery(2, "a", 0, b"y"));
    assert_eq!(pair.bytes(), publish(5, 0, "", 0, &alias, b"y"));
    pair.deliver(delivery(3, "b", 0, b"z"));
    assert_eq!(pair.bytes(), publish(5, 0, "b", 0, &[], b"z"));
}
