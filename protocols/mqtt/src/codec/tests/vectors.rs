//! Packets written out by hand from the specifications.

use super::*;
use bytes::BytesMut;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn connect_3_1_1_with_everything() {
    let bytes = hex(
        "10 25 0004 4D515454 04 F6 003C 0001 63 0003 612F62 0004 6279650A 0004 75736572 0005 00FF706173 ",
    );
    let connect = decode_connect(&bytes).unwrap();
    assert_eq!(connect.version, Version::V311);
    assert!(connect.clean_start && !connect.bridge);
    assert_eq!(connect.keep_alive, 60);
    assert_eq!(connect.client_id, "c");
    let will = connect.will.unwrap();
    assert_eq!((will.qos, will.retain), (2, true));
    assert_eq!((will.topic, will.payload), (text("a/b"), text("bye\n")));
    assert_eq!(connect.user_name, Some(text("user")));
    assert_eq!(connect.password.as_deref(), Some(&b"\x00\xFFpas"[..]));
}

#[test]
fn connect_3_1_and_a_bridges_connect() {
    let connect = decode_connect(&hex("10 0F 0006 4D5149736470 03 02 000A 0001 78")).unwrap();
    assert_eq!((connect.version, connect.bridge), (Version::V31, false));
    let connect = decode_connect(&hex("10 0D 0004 4D515454 84 02 000A 0001 78")).unwrap();
    assert_eq!((connect.version, connect.bridge), (Version::V311, true));
}

#[test]
fn connect_5_with_every_property() {
    let bytes = hex("10 5B 0004 4D515454 05 06 0000 \
         2A 11 0000000A 21 0014 27 00000100 22 0005 19 01 17 00 15 0001 6D 16 0002 00FF 26 0001 6B 0001 76 26 0001 6B 0000 \
         0000 \
         1D 18 00000005 01 01 02 0000000A 03 0001 63 08 0001 72 09 0001 00 26 0000 0000 \
         0001 74 0001 70");
    let connect = decode_connect(&bytes).unwrap();
    assert_eq!(connect.session_expiry, Some(10));
    assert_eq!(connect.receive_maximum, Some(20));
    assert_eq!(connect.packet_size_max, Some(256));
    assert_eq!(connect.topic_alias_max, 5);
    assert!(connect.request_response && !connect.request_problem);
    assert_eq!(connect.authentication_method, Some(text("m")));
    assert_eq!(
        connect.authentication_data.as_deref(),
        Some(&b"\x00\xFF"[..])
    );
    assert!(connect.client_id.is_empty());
    let will = connect.will.unwrap();
    assert_eq!((will.delay, will.message_expiry), (5, Some(10)));
    let kept: Vec<_> = will.properties.iter().collect();
    assert_eq!(
        kept,
        [
            Property::PayloadFormat(true),
            Property::ContentType(text("c")),
            Property::ResponseTopic(text("r")),
            Property::CorrelationData(text("\0")),
            Property::User(text(""), text("")),
        ]
    );
}

#[test]
fn publish_of_each_version_and_qos() {
    let packet = decode_bytes(Version::V311, &hex("30 06 0003 612F62 68")).unwrap();
    let Packet::Publish(publish) = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(
        (publish.qos, publish.dup, publish.retain, publish.packet_id),
        (0, false, false, 0)
    );
    assert_eq!((publish.topic, publish.payload), (text("a/b"), text("h")));
    let packet = decode_bytes(Version::V311, &hex("3D 05 0001 61 000A")).unwrap();
    let Packet::Publish(publish) = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(
        (publish.qos, publish.dup, publish.retain, publish.packet_id),
        (2, true, true, 10)
    );
    assert!(publish.payload.is_empty());
}

#[test]
fn alias_and_expiry_are_taken_out_of_what_is_forwarded() {
    let bytes = hex("32 1A 0001 61 000A 13 26 0001 61 0001 62 23 0007 02 0000003C 03 0001 63 70");
    let bytes = [
        &bytes[..1],
        &[u8::try_from(bytes.len() - 2).unwrap()],
        &bytes[2..],
    ]
    .concat();
    let packet = decode_bytes(Version::V5, &bytes).unwrap();
    let Packet::Publish(publish) = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(publish.properties.topic_alias, Some(7));
    assert_eq!(publish.properties.message_expiry, Some(60));
    assert_eq!(
        publish.properties.forward.block()[..],
        hex("26 0001 61 0001 62 03 0001 63")[..]
    );
    assert_eq!(publish.payload, "p");
}

#[test]
fn subscribe_with_options_and_identifier() {
    let bytes = hex("82 0E 0001 03 0B 80 01 0001 61 2E 0001 23 01");
    let packet = decode_bytes(Version::V5, &bytes).unwrap();
    let Packet::Subscribe(subscribe) = packet else {
        panic!("{packet:?}")
    };
    assert_eq!((subscribe.packet_id, subscribe.identifier), (1, Some(128)));
    let first = &subscribe.filters[0];
    assert_eq!(
        (first.qos, first.no_local, first.retain_as_published),
        (2, true, true)
    );
    assert_eq!(first.retain_handling, RetainHandling::Never);
    assert_eq!(subscribe.filters[1].filter, "#");
}

#[test]
fn disconnects_of_all_lengths() {
    for (bytes, reason, expiry) in [
        ("E0 00", ReasonCode::Success, None),
        ("E0 01 04", ReasonCode::DisconnectWithWill, None),
        ("E0 02 00 00", ReasonCode::Success, None),
        ("E0 07 00 05 11 00000009", ReasonCode::Success, Some(9)),
    ] {
        let packet = decode_bytes(Version::V5, &hex(bytes)).unwrap();
        let Packet::Disconnect(disconnect) = packet else {
            panic!("{packet:?}")
        };
        assert_eq!(
            (disconnect.reason, disconnect.session_expiry),
            (reason, expiry)
        );
    }
    assert!(decode_bytes(Version::V311, &hex("E0 00")).is_ok());
    assert!(decode_bytes(Version::V311, &hex("E0 01 00")).is_err());
}

#[test]
fn acknowledgements_short_and_long() {
    for (bytes, reason) in [
        ("40 02 0007", ReasonCode::Success),
        ("40 03 0007 10", ReasonCode::NoMatchingSubscribers),
        ("40 04 0007 87 00", ReasonCode::NotAuthorized),
        ("40 08 0007 80 04 1F 0001 78", ReasonCode::UnspecifiedError),
    ] {
        let packet = decode_bytes(Version::V5, &hex(bytes)).unwrap();
        let Packet::PubAck(ack) = packet else {
            panic!("{packet:?}")
        };
        assert_eq!((ack.packet_id, ack.reason), (7, reason));
    }
}

#[test]
fn what_a_server_sends() {
    let mut out = BytesMut::new();
    ConnAck::V3 {
        session_present: true,
        code: ConnectReturn::Accepted,
    }
    .put(&mut out);
    assert_eq!(out.split()[..], hex("20 02 01 00")[..]);
    ConnAck::V5 {
        session_present: false,
        reason: ReasonCode::Success,
        properties: vec![],
    }
    .put(&mut out);
    assert_eq!(out.split()[..], hex("20 03 00 00 00")[..]);
    Ack::success(5).put(Version::V5, PacketType::PubRel, None, &mut out);
    assert_eq!(out.split()[..], hex("62 02 0005")[..]);
    let ack = Ack {
        packet_id: 5,
        reason: ReasonCode::QuotaExceeded,
    };
    ack.put(Version::V5, PacketType::PubAck, Some("no"), &mut out);
    assert_eq!(out.split()[..], hex("40 09 0005 97 05 1F 0002 6E6F")[..]);
    ack.put(Version::V311, PacketType::PubAck, Some("no"), &mut out);
    assert_eq!(out.split()[..], hex("40 02 0005")[..]);
    let suback = SubAck {
        packet_id: 3,
        reasons: vec![ReasonCode::GrantedQos2, ReasonCode::NotAuthorized],
        reason_string: None,
    };
    suback.put(Version::V311, &mut out);
    assert_eq!(out.split()[..], hex("90 04 0003 02 80")[..]);
    suback.put(Version::V5, &mut out);
    assert_eq!(out.split()[..], hex("90 05 0003 00 02 87")[..]);
    let unsuback = UnsubAck {
        packet_id: 3,
        reasons: vec![ReasonCode::NoSubscriptionExisted],
    };
    unsuback.put(Version::V311, &mut out);
    assert_eq!(out.split()[..], hex("B0 02 0003")[..]);
    unsuback.put(Version::V5, &mut out);
    assert_eq!(out.split()[..], hex("B0 04 0003 00 11")[..]);
    put_ping_response(&mut out);
    assert_eq!(out.split()[..], hex("D0 00")[..]);
    Disconnect {
        reason: ReasonCode::SessionTakenOver,
        session_expiry: None,
        reason_string: None,
    }
    .put(&mut out);
    assert_eq!(out.split()[..], hex("E0 02 8E 00")[..]);
}

#[test]
fn filters_match_as_section_4_7_says() {
    for (filter, topic, matches) in [
        ("sport/#", "sport", true),
        ("sport/#", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("/a", "a", false),
        ("a//b", "a/b", false),
        ("é/x", "é/x", true),
        ("#", "é/x", true),
    ] {
        assert_eq!(
            filter_matches(filter.as_bytes(), topic.as_bytes()),
            matches,
            "{filter} {topic}"
        );
    }
}

#[test]
fn filters_and_shares_are_valid_as_sections_4_7_and_4_8_say() {
    for filter in [
        "#",
        "+",
        "a/#",
        "+/a/+",
        "/",
        "//",
        "$SYS/#",
        "$share/g/a",
        "$share/g//",
        "$shared/x",
    ] {
        assert!(
            split_shared(&Bytes::from(filter.to_owned())).is_ok(),
            "{filter}"
        );
    }
    for filter in [
        "",
        "a#",
        "#/a",
        "a+",
        "+a/b",
        "a/#/b",
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/g#/a",
        "$share/g/a#",
    ] {
        assert!(
            split_shared(&Bytes::from(filter.to_owned())).is_err(),
            "{filter}"
        );
    }
    let shared = split_shared(&text("$share/g/a/#")).unwrap();
    assert_eq!(
        (shared.group, shared.filter),
        (Some(text("g")), text("a/#"))
    );
}
