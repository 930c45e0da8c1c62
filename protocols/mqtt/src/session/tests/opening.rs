//! CONNECT to CONNACK.

use super::*;
use omnilog_broker::SessionExpiry;

fn connack_of(config: MqttConfig, connect: &[u8]) -> Vec<u8> {
    let mut pair = Pair::new(config);
    pair.send(connect);
    assert!(pair.ended.is_some() && pair.commands.is_empty());
    pair.bytes()
}

#[test]
fn anything_but_connect_first_is_closed_without_a_word() {
    // 3.1.0-1
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&[0xC0, 0x00]);
    assert!(pair.ended.is_some());
    assert!(pair.bytes().is_empty());
}

#[test]
fn a_connect_larger_than_the_small_limit_is_refused_by_its_header() {
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert!(pair.ended.is_some());
}

#[test]
fn a_silent_peer_is_closed() {
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&[0x10]);
    pair.pass(Duration::from_secs(11));
    assert!(matches!(pair.ended, Some(ConnectionError::Silent(_))));
}

#[test]
fn unserved_versions_hear_it_in_their_own_words() {
    // 3.1.2-2
    assert_eq!(
        connack_of(MqttConfig::default(), &connect(2, "c", 2, &[])),
        [0x20, 2, 0, 1]
    );
    assert_eq!(
        connack_of(MqttConfig::default(), &connect(6, "c", 2, &[])),
        [0x20, 3, 0, 0x84, 0]
    );
}

#[test]
fn version_3_accepts_and_tells_session_present_from_3_1_1_on() {
    for (version, present, byte) in [(3, true, 0), (4, true, 1), (4, false, 0)] {
        let mut pair = Pair::new(MqttConfig::default());
        pair.send(&connect(version, "c", 0, &[]));
        let open = pair.opened(SessionOpened {
            present,
            ..opened()
        });
        assert_eq!(open.client_id, "c");
        assert_eq!(
            (open.clean_start, open.expiry),
            (false, SessionExpiry::Never)
        );
        assert_eq!(pair.bytes(), [0x20, 2, byte, 0]);
    }
}

#[test]
fn session_expiry_of_each_version() {
    // 3.1.2-23
    for (version, flags, seconds, expiry) in [
        (4, 2, None, SessionExpiry::AtClose),
        (5, 0, None, SessionExpiry::AtClose),
        (5, 2, Some(30), SessionExpiry::AfterMs(30_000)),
        (5, 0, Some(u32::MAX), SessionExpiry::Never),
    ] {
        let mut pair = Pair::new(MqttConfig::default());
        let properties: Vec<_> = seconds.map(Property::SessionExpiry).into_iter().collect();
        pair.send(&connect(version, "c", flags, &properties));
        assert_eq!(pair.opened(opened()).expiry, expiry);
    }
}

#[test]
fn version_5_is_told_what_differs_from_the_defaults() {
    let config = MqttConfig {
        keep_alive_s_max: 60,
        session_expiry_s_max: Some(100),
        topic_alias_max: 0,
        ..MqttConfig::default()
    };
    let mut pair = Pair::new(config);
    pair.send(&connect(
        5,
        "",
        2,
        &[Property::SessionExpiry(1000), Property::ReceiveMaximum(5)],
    ));
    let open = pair.opened(opened());
    assert_eq!(
        (open.credit, open.expiry),
        (5, SessionExpiry::AfterMs(100_000))
    );
    let bytes = pair.bytes();
    assert_eq!(bytes[..4], [0x20, bytes[1], 0, 0]);
    let block = codec::Properties::from_validated(Bytes::copy_from_slice(&bytes[5..]));
    let told: Vec<_> = block.iter().collect();
    assert_eq!(
        told,
        [
            Property::SessionExpiry(100),
            Property::ReceiveMaximum(1024),
            Property::MaximumPacketSize(16 << 20),
            Property::AssignedClientId(open.client_id),
            Property::ServerKeepAlive(60),
        ]
    );
}

#[test]
fn an_empty_client_id_needs_a_clean_session_before_version_5() {
    // v3: 3.1.3-7, 3.1.3-8
    assert_eq!(
        connack_of(MqttConfig::default(), &connect(4, "", 0, &[])),
        [0x20, 2, 0, 2]
    );
    assert_eq!(
        connack_of(MqttConfig::default(), &connect(3, "", 2, &[])),
        [0x20, 2, 0, 2]
    );
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect(4, "", 2, &[]));
    assert!(pair.opened(opened()).client_id.starts_with(b"auto-"));
}

#[test]
fn passwords_are_checked() {
    let with = |version, user: &str, password: &str| {
        connect_with(
            version,
            "c",
            0xC2,
            0,
            &[],
            &[string(user), string(password)].concat(),
        )
    };
    assert_eq!(
        connack_of(MqttConfig::default(), &with(4, "user", "wrong")),
        [0x20, 2, 0, 4]
    );
    assert_eq!(
        connack_of(MqttConfig::default(), &with(5, "nobody", "pass")),
        [0x20, 3, 0, 0x86, 0]
    );
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&with(5, "user", "pass"));
    assert_eq!(pair.connects, [NamespaceId(0)]);
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&with(4, "tenant:user", "pass"));
    assert_eq!(pair.connects, [NamespaceId(1)]);
    assert!(pair.signals.try_recv().is_none());
}

#[test]
fn extended_authentication_is_refused() {
    // 4.12.0-1
    let bytes = connack_of(
        MqttConfig::default(),
        &connect(
            5,
            "c",
            2,
            &[Property::AuthenticationMethod("SCRAM-SHA-1".into())],
        ),
    );
    assert_eq!(bytes[2..4], [0, 0x8C]);
}

#[test]
fn violations_in_connect_are_answered_in_version_5_only() {
    assert!(connack_of(MqttConfig::default(), &connect(4, "c", 3, &[])).is_empty());
    let bytes = connack_of(MqttConfig::default(), &connect(5, "c", 3, &[]));
    assert_eq!(bytes[2..4], [0, 0x81]);
}

#[test]
fn a_will_is_handed_over_with_its_properties() {
    // 3.1.2-8, 3.1.2-14, 3.1.2-15, 3.1.3-10
    let will = [
        &block(
            5,
            &[
                Property::WillDelay(5),
                Property::MessageExpiry(9),
                Property::ContentType("t".into()),
            ],
        )[..],
        &string("w/x"),
        &string("bye"),
    ]
    .concat();
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect_with(
        5,
        "c",
        0x02 | 0x04 | 0x20 | 0x10,
        0,
        &[],
        &will,
    ));
    let will = pair.opened(opened()).will.unwrap();
    assert_eq!(
        (will.delay_ms, will.message_expiry_ms),
        (5_000, Some(9_000))
    );
    let envelope = &will.publish.records[0].envelope;
    assert_eq!(
        (envelope.qos, envelope.retain, envelope.expires_at_ms),
        (2, true, None)
    );
    let kept = codec::Properties::from_validated(envelope.properties.clone());
    assert_eq!(
        kept.iter().collect::<Vec<_>>(),
        [Property::ContentType("t".into())]
    );
}

#[test]
fn a_will_to_the_servers_own_topics_is_refused() {
    let will = [string("$SYS/x"), string("bye")].concat();
    let bytes = connack_of(
        MqttConfig::default(),
        &connect_with(4, "c", 6, 0, &[], &will),
    );
    assert_eq!(bytes, [0x20, 2, 0, 5]);
}

#[test]
fn a_bridge_may_have_its_state_as_will() {
    let will = [
        string("$SYS/broker/connection/here.there/state"),
        string("0"),
    ]
    .concat();
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect_with(4, "c", 6, 0, &[], &will));
    assert!(pair.opened(opened()).will.is_some());
}

#[test]
fn what_comes_before_connack_is_served_after_it() {
    // 3.1.4-6
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&[connect(4, "c", 2, &[]), vec![0xC0, 0]].concat());
    assert!(pair.bytes().is_empty());
    pair.opened(opened());
    assert_eq!(pair.bytes(), [0x20, 2, 0, 0, 0xD0, 0]);
}

#[test]
fn the_brokers_refusal_is_a_connack() {
    let mut pair = Pair::new(MqttConfig::default());
    pair.send(&connect(5, "c", 2, &[]));
    let (correlation, _) = pair.commands.remove(0);
    pair.reply(correlation, Err(Refusal::ShardLost));
    assert_eq!(pair.bytes()[2..4], [0, 0x88]);
    assert!(pair.ended.is_some() && pair.commands.is_empty());
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    // 3.1.0-2
    let mut pair = Pair::open(5);
    pair.send(&connect(5, "c", 2, &[]));
    assert_eq!(pair.bytes()[..3], [0xE0, pair_length(&pair), 0x82]);
    assert!(pair.ended.is_some());
}

/// The remaining length of a DISCONNECT with this violation's reason string.
fn pair_length(pair: &Pair) -> u8 {
    let Some(ConnectionError::Violation(text)) = &pair.ended else {
        panic!("no violation")
    };
    u8::try_from(2 + 3 + text.len()).unwrap()
}
