//! Random packets against other implementations: mqttbytes for version 3.1.1, rmqtt-codec for version 5.
//!
//! Left out are what those are known to get wrong: mqttbytes takes binary passwords, wrong flags and topics for what
//! they are not; rmqtt-codec has no zero where the specification allows one (message expiry).

use super::*;
use bytes::BytesMut;
use proptest::prelude::*;
use rmqtt_codec::v5;
use std::num::{NonZeroU16, NonZeroU32};
use tokio_util::codec::{Decoder, Encoder};

fn topic() -> impl Strategy<Value = String> {
    "[a-zé$ ]{0,6}(/[a-z0-9]{0,4}){0,4}".prop_filter("not empty", |topic| !topic.is_empty())
}

fn qos_v5(qos: u8) -> rmqtt_codec::types::QoS {
    rmqtt_codec::types::QoS::try_from(qos).unwrap()
}

fn encode_v5(packet: v5::Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    v5::Codec::new(0, 0).encode(packet, &mut out).unwrap();
    out.to_vec()
}

fn decode_v5(bytes: &[u8]) -> v5::Packet {
    let mut input = BytesMut::from(bytes);
    let (packet, _) = v5::Codec::new(0, 0).decode(&mut input).unwrap().unwrap();
    assert!(input.is_empty());
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_a_packet_or_a_violation(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        kind in 1_u8..=15,
    ) {
        for version in [Version::V31, Version::V311, Version::V5] {
            for flags in [0, 2, 4] {
                let mut packet = vec![kind << 4 | flags, u8::try_from(bytes.len()).unwrap()];
                packet.extend(&bytes);
                if let Ok(Some(header)) = FixedHeader::parse(&packet, 1000) {
                    let body = Bytes::copy_from_slice(&bytes);
                    _ = decode(version, header, &body);
                    _ = Connect::decode(header, &body);
                }
            }
        }
    }

    #[test]
    fn publishes_of_3_1_1_as_mqttbytes_has_them(
        topic in topic(), qos in 0_u8..3, id in 1_u16.., dup: bool, retain: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut theirs = mqttbytes::v4::Publish::new(&topic, mqttbytes::qos(qos).unwrap(), payload.clone());
        theirs.pkid = if qos == 0 { 0 } else { id };
        theirs.dup = dup && qos > 0;
        theirs.retain = retain;
        let mut bytes = BytesMut::new();
        theirs.write(&mut bytes).unwrap();
        let packet = decode_bytes(Version::V311, &bytes).unwrap();
        let Packet::Publish(ours) = packet else { panic!("{packet:?}") };
        prop_assert_eq!(&ours.topic[..], topic.as_bytes());
        prop_assert_eq!(&ours.payload[..], &payload[..]);
        prop_assert_eq!((ours.qos, ours.dup, ours.retain), (qos, theirs.dup, retain));
        prop_assert_eq!(ours.packet_id, theirs.pkid);

        let mut out = BytesMut::new();
        OutgoingPublish {
            dup: theirs.dup, qos, retain, topic: topic.as_bytes(), packet_id: id, topic_alias: None,
            message_expiry: Some(1), subscription_identifiers: &[9], forward: b"ignored in version 3",
            payload_length: payload.len(),
        }.put_head(Version::V311, &mut out);
        out.extend_from_slice(&payload);
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn subscribes_of_3_1_1_as_mqttbytes_has_them(
        filters in proptest::collection::vec((topic(), 0_u8..3), 1..5), id in 1_u16..,
    ) {
        let theirs = mqttbytes::v4::Subscribe {
            pkid: id,
            filters: filters.iter().map(|(path, qos)| {
                mqttbytes::v4::SubscribeFilter::new(path.clone(), mqttbytes::qos(*qos).unwrap())
            }).collect(),
        };
        let mut bytes = BytesMut::new();
        theirs.write(&mut bytes).unwrap();
        let packet = decode_bytes(Version::V311, &bytes).unwrap();
        let Packet::Subscribe(ours) = packet else { panic!("{packet:?}") };
        prop_assert_eq!(ours.packet_id, id);
        let got: Vec<_> = ours.filters.iter()
            .map(|filter| (String::from_utf8(filter.filter.to_vec()).unwrap(), filter.qos)).collect();
        prop_assert_eq!(got, filters);
    }

    #[test]
    fn publishes_of_5_as_rmqtt_has_them(
        topic in topic(), qos in 0_u8..3, id in 1_u16.., retain: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        alias in proptest::option::of(1_u16..), expiry in proptest::option::of(1_u32..),
        content in proptest::option::of("[a-z/é]{0,9}"),
        correlation in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        response in proptest::option::of(topic()), utf8: bool,
        user in proptest::collection::vec(("[a-z]{0,3}", "[a-zé]{0,3}"), 0..4),
        identifiers in proptest::collection::vec(1_u32..0x0FFF_FFFF, 0..4),
    ) {
        let theirs = rmqtt_codec::types::Publish {
            dup: false, qos: qos_v5(qos), retain, topic: topic.clone().into(),
            packet_id: if qos > 0 { NonZeroU16::new(id) } else { None },
            payload: payload.clone().into(),
            properties: Some(v5::PublishProperties {
                topic_alias: alias.and_then(NonZeroU16::new),
                correlation_data: correlation.map(Bytes::from),
                message_expiry_interval: expiry.and_then(NonZeroU32::new),
                content_type: content.map(Into::into),
                user_properties: user.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
                is_utf8_payload: utf8,
                response_topic: response.map(Into::into),
                subscription_ids: vec![],
            }),
        };
        let packet = decode_bytes(Version::V5, &encode_v5(v5::Packet::Publish(Box::new(theirs.clone())))).unwrap();
        let Packet::Publish(ours) = packet else { panic!("{packet:?}") };
        prop_assert_eq!(&ours.topic[..], topic.as_bytes());
        prop_assert_eq!(&ours.payload[..], &payload[..]);
        prop_assert_eq!((ours.properties.topic_alias, ours.properties.message_expiry), (alias, expiry));

        // And back, with identifiers, as a server sends it.
        let mut out = BytesMut::new();
        let publish = OutgoingPublish {
            dup: false, qos, retain, topic: topic.as_bytes(), packet_id: id, topic_alias: alias,
            message_expiry: expiry, subscription_identifiers: &identifiers,
            forward: ours.properties.forward.block(), payload_length: payload.len(),
        };
        publish.put_head(Version::V5, &mut out);
        out.extend_from_slice(&payload);
        prop_assert_eq!(out.len(), publish.length(Version::V5));
        let v5::Packet::Publish(back) = decode_v5(&out) else { panic!("not a PUBLISH") };
        let mut expected = theirs;
        if let Some(properties) = &mut expected.properties {
            properties.subscription_ids = identifiers.iter().filter_map(|&id| NonZeroU32::new(id)).collect();
        }
        prop_assert_eq!(*back, expected);
    }

    #[test]
    fn connects_of_5_as_rmqtt_has_them(
        id in "[a-z]{0,9}", clean: bool, keep_alive: u16, expiry: u32,
        receive in proptest::option::of(1_u16..), packet in proptest::option::of(1_u32..),
        alias: u16, user in proptest::option::of("[a-z]{0,5}"),
        password in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        will in proptest::option::of((topic(), proptest::collection::vec(any::<u8>(), 0..9), 0_u8..3, any::<bool>(), any::<u32>())),
    ) {
        let theirs = v5::Connect {
            clean_start: clean, keep_alive, session_expiry_interval_secs: expiry,
            auth_method: None, auth_data: None, request_problem_info: true, request_response_info: false,
            receive_max: receive.and_then(NonZeroU16::new), topic_alias_max: alias, user_properties: vec![],
            max_packet_size: packet.and_then(NonZeroU32::new),
            last_will: will.clone().map(|(topic, message, qos, retain, delay)| v5::LastWill {
                qos: qos_v5(qos), retain, topic: topic.into(), message: message.into(),
                will_delay_interval_sec: Some(delay), correlation_data: None, message_expiry_interval: None,
                content_type: None, user_properties: vec![], is_utf8_payload: None, response_topic: None,
            }),
            client_id: id.clone().into(), username: user.clone().map(Into::into),
            password: password.clone().map(Bytes::from), cert: None,
        };
        let ours = decode_connect(&encode_v5(v5::Packet::Connect(Box::new(theirs)))).unwrap();
        prop_assert_eq!(&ours.client_id[..], id.as_bytes());
        prop_assert_eq!((ours.clean_start, ours.keep_alive), (clean, keep_alive));
        prop_assert_eq!(ours.session_expiry.unwrap_or(0), expiry);
        prop_assert_eq!((ours.receive_maximum.unwrap_or(65535), ours.packet_size_max), (receive.unwrap_or(65535), packet));
        prop_assert_eq!(ours.topic_alias_max, alias);
        prop_assert_eq!(ours.user_name.map(|name| name.to_vec()), user.map(String::into_bytes));
        prop_assert_eq!(ours.password.map(|word| word.to_vec()), password);
        let got = ours.will.map(|will| {
            (String::from_utf8(will.topic.to_vec()).unwrap(), will.payload.to_vec(), will.qos, will.retain, will.delay)
        });
        prop_assert_eq!(got, will);
    }

    #[test]
    fn what_a_server_of_5_sends_reads_back_with_rmqtt(
        present: bool, expiry in proptest::option::of(any::<u32>()), receive in 1_u16..,
        assigned in proptest::option::of("[a-z]{1,9}"), keep_alive in proptest::option::of(any::<u16>()),
        codes in proptest::collection::vec(0_u8..3, 1..9), id in 1_u16..,
    ) {
        let mut properties = vec![Property::ReceiveMaximum(receive)];
        properties.extend(expiry.map(Property::SessionExpiry));
        properties.extend(assigned.clone().map(|id| Property::AssignedClientId(id.into())));
        properties.extend(keep_alive.map(Property::ServerKeepAlive));
        let mut out = BytesMut::new();
        let connack = ConnAck::V5 { session_present: present, reason: ReasonCode::Success, properties };
        connack.put(&mut out);
        prop_assert_eq!(out.len(), connack.length());
        let v5::Packet::ConnectAck(theirs) = decode_v5(&out) else { panic!("not a CONNACK") };
        prop_assert_eq!((theirs.session_present, theirs.receive_max.get()), (present, receive));
        prop_assert_eq!(theirs.session_expiry_interval_secs, expiry);
        prop_assert_eq!(theirs.assigned_client_id.map(|id| id.to_string()), assigned);
        prop_assert_eq!(theirs.server_keepalive_sec, keep_alive);

        let mut out = BytesMut::new();
        let reasons = codes.iter().map(|&code| ReasonCode::granted(code)).collect();
        SubAck { packet_id: id, reasons, reason_string: Some("why".into()) }.put(Version::V5, &mut out);
        let v5::Packet::SubscribeAck(theirs) = decode_v5(&out) else { panic!("not a SUBACK") };
        prop_assert_eq!(theirs.packet_id.get(), id);
        prop_assert_eq!(theirs.status.len(), codes.len());
        prop_assert_eq!(theirs.reason_string.map(|text| text.to_string()), Some("why".to_owned()));
    }
}
