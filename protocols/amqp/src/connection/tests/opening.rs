//! From the protocol header to open-ok.

use super::*;
use std::time::Duration;

fn started(config: AmqpConfig) -> Pair {
    let mut pair = Pair::new(config);
    pair.send(PROTOCOL_HEADER);
    pair
}

#[test]
fn start_names_the_product_and_all_capabilities() {
    let mut pair = started(AmqpConfig::default());
    let methods = pair.methods();
    let Some(AMQPClass::Connection(connection::AMQPMethod::Start(start))) = methods.first() else {
        panic!("no start: {methods:?}");
    };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(start.mechanisms.as_bytes(), b"AMQPLAIN PLAIN");
    let properties = start.server_properties.inner();
    assert_eq!(
        properties.get("product"),
        Some(&AMQPValue::LongString("RabbitMQ".into()))
    );
    let Some(AMQPValue::FieldTable(capabilities)) = properties.get("capabilities") else {
        panic!("no capabilities");
    };
    assert_eq!(capabilities.inner().len(), 9);
}

#[test]
fn the_header_may_come_in_pieces() {
    let mut pair = Pair::new(AmqpConfig::default());
    for byte in PROTOCOL_HEADER {
        assert!(pair.out.take_bytes().is_empty());
        pair.send(&[*byte]);
    }
    assert_eq!(pair.methods().len(), 1);
}

#[test]
fn another_version_is_told_ours() {
    for header in [
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        b"HTTP/1.1",
    ] {
        let mut pair = Pair::new(AmqpConfig::default());
        pair.send(header);
        assert_eq!(pair.out.take_bytes(), &PROTOCOL_HEADER[..]);
        assert!(matches!(pair.ended, Some(ConnectionError::Violation(_))));
    }
}

#[test]
fn plain_and_amqplain_let_in() {
    let amqplain = b"\x05LOGINS\x00\x00\x00\x04user\x08PASSWORDS\x00\x00\x00\x04pass";
    for (mechanism, response) in [("PLAIN", &b"\0user\0pass"[..]), ("AMQPLAIN", amqplain)] {
        let mut pair = started(AmqpConfig::default());
        pair.frames();
        pair.method(0, start_ok(mechanism, response, true));
        let methods = pair.methods();
        assert!(
            matches!(
                &methods[..],
                [AMQPClass::Connection(connection::AMQPMethod::Tune(
                    connection::Tune {
                        channel_max: 2047,
                        frame_max: 131_072,
                        heartbeat: 60
                    }
                ))]
            ),
            "{mechanism}: {methods:?}"
        );
    }
}

#[test]
fn a_capable_client_hears_of_a_wrong_password() {
    let mut pair = started(AmqpConfig::default());
    pair.method(0, start_ok("PLAIN", b"\0user\0wrong", true));
    let (code, text, method) = pair.connection_closed();
    assert_eq!((code, method), (403, (0, 0)));
    assert_eq!(
        text,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    );
}

#[test]
fn another_client_is_left_alone_with_it() {
    for (mechanism, response) in [("PLAIN", &b"\0user\0wrong"[..]), ("NTLM", b"")] {
        let mut pair = started(AmqpConfig::default());
        pair.frames();
        pair.method(0, start_ok(mechanism, response, false));
        pair.pass(Duration::from_millis(900));
        assert!(pair.ended.is_none());
        pair.pass(Duration::from_millis(200));
        assert!(pair.ended.is_some());
        assert!(pair.frames().is_empty());
    }
}

#[test]
fn what_is_negotiated_must_fit_the_offer() {
    for (answer, text) in [
        (
            tune_ok(2047, 4095, 60),
            "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
        (
            tune_ok(2047, 0, 60),
            "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(2048, 131_072, 60),
            "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
    ] {
        let mut pair = started(AmqpConfig::default());
        pair.method(0, start_ok("PLAIN", b"\0user\0pass", true));
        pair.method(0, answer);
        let closed = pair.connection_closed();
        assert_eq!(closed, (530, format!("NOT_ALLOWED - {text}"), (10, 30)));
    }
}

#[test]
fn an_unknown_vhost_is_not_allowed() {
    let mut pair = started(AmqpConfig::default());
    pair.method(0, start_ok("PLAIN", b"\0user\0pass", true));
    pair.method(0, tune_ok(2047, 4096, 0));
    pair.method(0, open("none"));
    let closed = pair.connection_closed();
    let text = "NOT_ALLOWED - vhost none not found".to_owned();
    assert_eq!(closed, (530, text, (10, 40)));
    assert!(pair.connects.is_empty());
}

#[test]
fn a_vhost_is_a_namespace() {
    let mut pair = started(AmqpConfig::default());
    pair.method(0, start_ok("PLAIN", b"\0user\0pass", true));
    pair.method(0, tune_ok(2047, 4096, 0));
    pair.method(0, open("tenant"));
    assert_eq!(pair.connects, [NamespaceId(1)]);
}

#[test]
fn a_stranger_may_not_make_us_hold_more_than_a_little() {
    let mut pair = started(AmqpConfig::default());
    pair.frames();
    pair.send(&[1, 0, 0, 0, 0, 0x10, 1]);
    assert_eq!(pair.connection_closed().0, 501);
}

#[test]
fn deep_tables_are_refused() {
    let mut nested = Vec::new();
    for _ in 0..500 {
        let mut outer = b"\x01aF".to_vec();
        outer.extend((nested.len() as u32).to_be_bytes());
        outer.extend(&nested);
        nested = outer;
    }
    let mut payload = vec![0, 10, 0, 11];
    payload.extend((nested.len() as u32).to_be_bytes());
    payload.extend(&nested);
    let mut frame = vec![1, 0, 0];
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    let mut pair = started(AmqpConfig::default());
    pair.frames();
    pair.send(&frame);
    assert_eq!(pair.connection_closed().0, 501);
}

#[test]
fn heartbeats_go_both_ways() {
    let mut pair = Pair::open();
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.frames(), [AMQPFrame::Heartbeat]);
    pair.send_frames(&[AMQPFrame::Heartbeat]);
    pair.pass(Duration::from_secs(119));
    assert!(pair.ended.is_none());
    pair.pass(Duration::from_secs(1));
    assert!(matches!(pair.ended, Some(ConnectionError::Silent(_))));
}

#[test]
fn a_handshake_takes_no_longer_than_allowed() {
    let mut pair = started(AmqpConfig::default());
    pair.pass(Duration::from_secs(11));
    assert!(matches!(pair.ended, Some(ConnectionError::Silent(_))));
}
