//! The mapping table, row by row.

use super::*;
use crate::gather;
use omnilog_broker::StoredBatch;
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord};
use std::sync::Arc;

fn bytes(text: &'static [u8]) -> Bytes {
    Bytes::from_static(text)
}

fn kafka(topic: &'static [u8], key: Option<&'static [u8]>) -> Bytes {
    let address = Address::Kafka {
        topic: bytes(topic),
        key: key.map(bytes),
    };
    Bytes::from(topic_of(&address).into_owned())
}

fn amqp(exchange: &'static [u8], routing_key: &'static [u8]) -> Bytes {
    let address = Address::Amqp {
        exchange: bytes(exchange),
        routing_key: bytes(routing_key),
    };
    Bytes::from(topic_of(&address).into_owned())
}

#[test]
fn addresses_become_topics_as_the_table_says() {
    assert_eq!(kafka(b"orders", Some(b"eu/created")), "orders/eu/created");
    assert_eq!(kafka(b"orders", None), "orders");
    assert_eq!(kafka(b"orders", Some(b"")), "orders/");
    assert_eq!(amqp(b"orders", b"eu.created"), "orders/eu/created");
    assert_eq!(amqp(b"orders", b""), "orders");
    assert_eq!(amqp(b"amq.topic", b"orders.eu"), "orders/eu");
    assert_eq!(amqp(b"", b"orders.eu"), "orders.eu");
}

#[test]
fn what_mqtt_cannot_have_in_a_level_is_spelled() {
    assert_eq!(kafka(b"$SYS", None), "%24SYS");
    assert_eq!(kafka(b"t", Some(b"100%/%2B")), "t/100%/%2B");
    assert_eq!(kafka(b"t", Some(b"\0\xff\xfe")), "t/~b64AP_-");
    assert_eq!(kafka(b"t", Some(b"a/+")), "t/~b64YS8r");
    assert_eq!(kafka(b"100%/%2B", None), "100%%2F%252B");
    assert_eq!(amqp(b"e", b"a/b.c"), "e/a%2Fb/c");
    assert_eq!(amqp(b"e", b"."), "e//");
}

#[test]
fn the_key_is_what_follows_the_first_level() {
    assert_eq!(key_of(b"a"), None);
    assert_eq!(key_of(b"a/").as_deref(), Some(&b""[..]));
    assert_eq!(key_of(b"a/b/c").as_deref(), Some(&b"b/c"[..]));
    assert_eq!(key_of(b"/b").as_deref(), Some(&b"b"[..]));
    for topic in [&b"a/~b64"[..], b"a/~b64YWI", b"a/~b64??", b"a/~b64AP_-/x"] {
        assert_eq!(key_of(topic).as_deref(), Some(&topic[2..]), "no spelling");
    }
}

#[test]
fn every_key_comes_back_from_its_topic() {
    let keys: [&'static [u8]; 6] = [b"", b"a/b", b"\0", b"\xff\xfe", b"~b64", b"#"];
    for key in keys {
        let topic = kafka(b"t", Some(key));
        assert!(is_topic_name(&topic), "{topic:?}");
        assert_eq!(key_of(&topic).as_deref(), Some(key), "{topic:?}");
    }
}

fn message(provenance: Provenance, mapped: u16, headers: &[(&[u8], Option<&[u8]>)]) -> Message {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let appended = builder
        .append(&NewRecord {
            timestamp: 5,
            key: None,
            value: None,
            headers: headers.iter().map(|&(key, value)| Header { key, value }),
        })
        .unwrap();
    Message {
        stored: Arc::new(StoredBatch {
            deaths: Vec::new(),
            hints: Vec::new(),
            batch: builder.finish().unwrap().to_bytes(),
            envelopes: vec![Envelope {
                address: Address::Kafka {
                    topic: bytes(b"t"),
                    key: None,
                },
                provenance,
                publisher: Bytes::new(),
                properties: Bytes::new(),
                qos: 1,
                retain: false,
                expires_at_ms: Some(10_500),
                priority: 0,
                property_headers: mapped,
                range: appended.range(),
            }],
        }),
        index: 0,
        position: None,
    }
}

fn properties(message: &Message) -> Vec<Property> {
    let view = view(message, Version::V5).unwrap();
    Properties::from_validated(Bytes::from(view.forward.into_owned()))
        .iter()
        .collect()
}

#[test]
fn headers_of_others_become_properties() {
    let message = message(
        Provenance::AmqpExchange,
        3,
        &[
            (b"content-type", Some(b"text/plain")),
            (b"message-id", Some(b"m1")),
            (b"delivery-mode", Some(b"2")),
            (b"content-type", Some(b"mine")),
            (b"n", None),
            (b"n", Some(b"\xff")),
        ],
    );
    let user =
        |name: &'static [u8], value: &'static [u8]| Property::User(bytes(name), bytes(value));
    assert_eq!(
        properties(&message),
        [
            Property::ContentType(bytes(b"text/plain")),
            user(b"message-id", b"m1"),
            user(b"content-type", b"mine"),
            user(b"n", b""),
            user(b"n", b"%FF"),
        ]
    );
    assert!(view(&message, Version::V311).unwrap().forward.is_empty());
}

#[test]
fn kafka_headers_of_well_known_names_become_properties_once() {
    let message = message(
        Provenance::Kafka,
        0,
        &[
            (b"content-type", Some(b"a")),
            (b"content-type", Some(b"b")),
            (b"correlation-id", Some(b"\0\xff")),
            (b"reply-to", Some(b"bad/#")),
        ],
    );
    assert_eq!(
        properties(&message),
        [
            Property::ContentType(bytes(b"a")),
            Property::CorrelationData(bytes(b"\0\xff")),
            Property::User(bytes(b"content-type"), bytes(b"b")),
            Property::User(bytes(b"reply-to"), bytes(b"bad/#")),
        ]
    );
}

#[test]
fn a_null_value_is_an_empty_payload_and_expiry_counts_down() {
    let message = message(Provenance::Kafka, 0, &[]);
    let view = view(&message, Version::V5).unwrap();
    assert!(view.payload.is_empty());
    assert_eq!(view.expiry_s(0), Some(11));
    assert_eq!(view.expiry_s(10_499), Some(1));
    assert_eq!(view.expiry_s(10_500), Some(0));
}

#[test]
fn what_mqtt_wrote_comes_back_as_the_bytes_it_was() {
    let mut block = BytesMut::new();
    Property::User(bytes(b"a"), bytes(b"1")).put(&mut block);
    Property::ContentType(bytes(b"x/y")).put(&mut block);
    Property::CorrelationData(bytes(b"\0\x01")).put(&mut block);
    Property::User(bytes(b"a"), bytes(b"2")).put(&mut block);
    let forward = Properties::from_validated(block.freeze());
    let publish = gather::single(
        &gather::Incoming {
            topic: &bytes(b"t/u"),
            payload: &bytes(b"payload"),
            forward: &forward,
            qos: 1,
            retain: true,
            expires_at_ms: None,
            delay_ms: None,
        },
        &bytes(b"client"),
        7,
    )
    .unwrap();
    let message = Message {
        stored: Arc::new(StoredBatch {
            deaths: Vec::new(),
            hints: Vec::new(),
            batch: publish.batch,
            envelopes: publish
                .records
                .into_iter()
                .map(|record| record.envelope)
                .collect(),
        }),
        index: 0,
        position: None,
    };
    let view = view(&message, Version::V5).unwrap();
    assert_eq!(*view.topic, *b"t/u");
    assert_eq!(view.payload, b"payload");
    assert_eq!(*view.forward, **forward.block());
    assert!(view.retain && is_published_by(message.envelope().unwrap(), &bytes(b"client")));
    // For others they are headers: the mapped ones first, the user's behind them in order.
    let body = message.record_bytes().unwrap();
    let base = RecordBase {
        offset: 0,
        timestamp: 7,
        log_append_time: None,
    };
    let record = Record::parse(body, &base).unwrap();
    let names: Vec<_> = record.headers().map(|header| header.key.to_vec()).collect();
    assert_eq!(names, [&b"content-type"[..], b"correlation-id", b"a", b"a"]);
    assert_eq!(message.envelope().unwrap().property_headers, 2);
    assert_eq!(record.key, Some(&b"u"[..]));
}
