//! How a connection ends, and what the broker hears of it.

use super::*;
use omnilog_broker::{CloseSession, InFlight, SessionExpiry};

fn closed(pair: &mut Pair) -> CloseSession {
    loop {
        if let Command::CloseSession(close) = pair.command() {
            assert!(pair.commands.is_empty(), "a command after the end");
            return close;
        }
    }
}

#[test]
fn disconnect_forgets_the_will() {
    // 3.14.4-3
    for (version, bytes, will) in [
        (4, &[0xE0, 0][..], false),
        (5, &[0xE0, 0], false),
        (5, &[0xE0, 1, 0x04], true),
        (5, &[0xE0, 1, 0x80], true),
    ] {
        let mut pair = Pair::open(version);
        pair.send(bytes);
        assert_eq!(closed(&mut pair).publish_will, will);
        assert!(pair.ended.is_none() && pair.bytes().is_empty());
        assert_eq!(pair.out.closing(), Some(Close::Linger));
        pair.close(ClosedBy::Us);
        assert!(pair.commands.is_empty());
    }
}

#[test]
fn disconnect_may_change_the_expiry_but_not_from_nothing() {
    // 3.14.2-2
    let disconnect = packet(0xE0, &[&[0], &block(5, &[Property::SessionExpiry(60)])]);
    let connect = connect(5, "c", 2, &[Property::SessionExpiry(5)]);
    let mut pair = Pair::open_with(MqttConfig::default(), &connect);
    pair.send(&disconnect);
    assert_eq!(
        closed(&mut pair).expiry,
        Some(SessionExpiry::AfterMs(60_000))
    );
    let mut pair = Pair::open(5);
    pair.send(&disconnect);
    assert_eq!(pair.bytes()[2], 0x82);
    assert!(closed(&mut pair).publish_will);
}

#[test]
fn a_lost_connection_publishes_the_will_and_hands_back_what_is_in_flight() {
    let mut pair = Pair::open(4);
    pair.deliver(delivery(11, "a", 1, b"x"));
    pair.deliver(delivery(12, "a", 2, b"y"));
    pair.deliver(delivery(13, "a", 1, b"z"));
    pair.send(&ack(0x40, 1));
    pair.deliver(delivery(14, "a", 1, b"z"));
    pair.close(ClosedBy::Peer);
    let close = closed(&mut pair);
    assert!(close.publish_will);
    let in_flight = |packet_id, entry| InFlight {
        packet_id,
        queue: QUEUE,
        entry: EntryId(entry),
        qos: 1,
    };
    assert_eq!(close.in_flight, [in_flight(3, 13), in_flight(4, 14)]);
}

#[test]
fn silence_beyond_one_and_a_half_times_the_keep_alive_ends_it() {
    // 3.1.2-22
    for version in [4, 5] {
        let connect = connect_with(version, "c", 2, 10, &[], &[]);
        let mut pair = Pair::open_with(MqttConfig::default(), &connect);
        pair.pass(Duration::from_secs(14));
        pair.send(&[0xC0, 0]);
        pair.bytes();
        pair.pass(Duration::from_secs(14));
        assert!(pair.out.closing().is_none());
        pair.pass(Duration::from_secs(2));
        assert_eq!(pair.out.closing(), Some(Close::Linger));
        assert!(closed(&mut pair).publish_will);
        let bytes = pair.bytes();
        assert_eq!(bytes.get(2), (version == 5).then_some(&0x8D));
    }
    let mut pair = Pair::open(4);
    pair.pass(Duration::from_secs(1_000_000));
    assert!(pair.out.closing().is_none());
}

#[test]
fn a_session_taken_over_is_told_so() {
    // 3.1.4-3
    let mut pair = Pair::open(5);
    pair.event(Event::SessionTakenOver(SessionId(99)));
    assert!(pair.out.closing().is_none());
    pair.event(Event::SessionTakenOver(SESSION));
    assert_eq!(pair.bytes()[2], 0x8E);
    assert!(closed(&mut pair).publish_will);
    let mut pair = Pair::open(4);
    pair.event(Event::SessionTakenOver(SESSION));
    assert!(pair.bytes().is_empty());
    assert_eq!(pair.out.closing(), Some(Close::Linger));
}

#[test]
fn a_stopping_server_says_so() {
    let mut pair = Pair::open(5);
    pair.session.on_shutdown(pair.now, &mut pair.out);
    pair.after(Ok(()));
    assert_eq!(pair.bytes()[2], 0x8B);
    closed(&mut pair);
}

#[test]
fn auth_without_extended_authentication_is_a_protocol_error() {
    // 4.12.0-7
    let mut pair = Pair::open(5);
    pair.send(&[0xF0, 0]);
    assert_eq!(pair.bytes()[2], 0x82);
}

#[test]
fn publishes_before_the_end_reach_the_broker_before_it() {
    let mut pair = Pair::open(4);
    pair.send(&[publish(4, 0, "a", 0, &[], b"x"), vec![0xE0, 0]].concat());
    assert!(matches!(pair.command(), Command::Publish(_)));
    closed(&mut pair);
}

#[test]
fn reason_strings_are_left_out_where_the_client_takes_no_such_packet() {
    // 3.14.2-3
    let connect = connect(5, "c", 2, &[Property::MaximumPacketSize(20)]);
    let mut pair = Pair::open_with(MqttConfig::default(), &connect);
    pair.send(&[0xD0, 0]);
    assert_eq!(pair.bytes(), [0xE0, 2, 0x82, 0]);
}
