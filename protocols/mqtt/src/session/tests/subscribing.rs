//! SUBSCRIBE and UNSUBSCRIBE.

use super::*;
use omnilog_broker::{Subscribe, Unsubscribe};

fn asked(command: Command) -> Vec<Subscription> {
    match command {
        Command::Subscribe(Subscribe { subscriptions, .. }) => subscriptions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_filter_gets_its_own_code_in_order() {
    // 3.8.4-5 to 3.8.4-7
    let mut pair = Pair::open(5);
    let filters = [("a", 0), ("b#", 1), ("c", 2), ("d", 1), ("$share/x", 0)];
    pair.send(&subscribe(5, 7, &[], &filters));
    let refusal = Refusal::BadPattern("deep".to_owned());
    let sent = asked(pair.answer(Reply::Subscribed(vec![Ok(()), Err(refusal), Ok(())])));
    assert_eq!(sent.len(), 3);
    assert_eq!(pair.bytes(), [0x90, 8, 0, 7, 0, 0, 0x8F, 0x8F, 1, 0x8F]);
    let mut pair = Pair::open(4);
    pair.send(&subscribe(4, 7, &[], &filters));
    pair.answer(Reply::Subscribed(vec![Ok(()), Ok(()), Ok(())]));
    assert_eq!(pair.bytes(), [0x90, 7, 0, 7, 0, 0x80, 2, 1, 0x80]);
}

#[test]
fn options_and_share_reach_the_broker() {
    let mut pair = Pair::open(5);
    let identifier = [Property::SubscriptionIdentifier(5)];
    pair.send(&subscribe(
        5,
        1,
        &identifier,
        &[("$share/g/a/+", 0x1A), ("b", 0x24)],
    ));
    let sent = asked(pair.command());
    assert_eq!(
        (sent[0].share.as_deref(), &sent[0].filter[..]),
        (Some(&b"g"[..]), &b"a/+"[..])
    );
    assert_eq!(
        (
            sent[0].qos,
            sent[0].retain_as_published,
            sent[0].retain_handling
        ),
        (2, true, 1)
    );
    assert_eq!(
        (
            sent[1].no_local,
            sent[1].retain_handling,
            sent[1].identifier
        ),
        (true, 2, Some(5))
    );
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    // 3.8.3-4
    let mut pair = Pair::open(5);
    pair.send(&subscribe(5, 1, &[], &[("$share/g/a", 0x04)]));
    assert_eq!(pair.bytes()[2], 0x82);
}

#[test]
fn unsubscribing_says_what_was_there() {
    // 3.10.4-4, 3.11.3-1
    let unsubscribe = |version| {
        let filters = [string("a"), string("b/#"), string("c#")].concat();
        packet(0xA2, &[&[0, 9], &block(version, &[]), &filters])
    };
    let mut pair = Pair::open(5);
    pair.send(&unsubscribe(5));
    match pair.answer(Reply::Unsubscribed(vec![true, false])) {
        Command::Unsubscribe(Unsubscribe { filters, .. }) => assert_eq!(filters.len(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.bytes(), [0xB0, 6, 0, 9, 0, 0, 0x11, 0x8F]);
    let mut pair = Pair::open(4);
    pair.send(&unsubscribe(4));
    pair.answer(Reply::Unsubscribed(vec![true, false]));
    assert_eq!(pair.bytes(), [0xB0, 2, 0, 9]);
}

#[test]
fn a_bridge_hears_no_echo_and_sees_retain() {
    let connect = connect(0x84, "bridge", 2, &[]);
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect);
    pair.opened(opened());
    pair.send(&subscribe(4, 1, &[], &[("#", 1)]));
    let sent = asked(pair.command());
    assert!(sent[0].no_local && sent[0].retain_as_published);
}

#[test]
fn too_many_subscriptions_are_refused_one_by_one() {
    let config = MqttConfig {
        subscriptions_max: 1,
        ..MqttConfig::default()
    };
    let mut pair = Pair::open_with(config, &connect(5, "c", 2, &[]));
    pair.send(&subscribe(5, 1, &[], &[("a", 0), ("b", 0)]));
    assert_eq!(asked(pair.answer(Reply::Subscribed(vec![Ok(())]))).len(), 1);
    assert_eq!(pair.bytes(), [0x90, 5, 0, 1, 0, 0, 0x97]);
}
