//! The codec's hot paths: a PUBLISH in, a PUBLISH out.

#![expect(clippy::unwrap_used, reason = "a bench of a broken codec may end")]

use bytes::{Bytes, BytesMut};
use divan::{Bencher, black_box};
use omnilog_mqtt::codec::{FixedHeader, OutgoingPublish, Version, decode};

fn main() {
    divan::main();
}

/// A PUBLISH at QoS 1 with 128 bytes of payload, and in version 5 with a user property.
fn packet(version: Version) -> Bytes {
    let mut bytes = BytesMut::new();
    OutgoingPublish {
        dup: false,
        qos: 1,
        retain: false,
        topic: b"devices/4711/temperature",
        packet_id: 7,
        topic_alias: None,
        message_expiry: None,
        subscription_identifiers: &[],
        forward: b"\x26\x00\x01k\x00\x01v",
        payload_length: 128,
    }
    .put_head(version, &mut bytes);
    bytes.extend_from_slice(&[b'x'; 128]);
    bytes.freeze()
}

#[divan::bench(args = [Version::V311, Version::V5])]
fn decode_publish(bencher: Bencher<'_, '_>, version: Version) {
    let packet = packet(version);
    bencher.bench_local(|| {
        let header = FixedHeader::parse(&packet, 1 << 20).unwrap().unwrap();
        let body = packet.slice(header.length..);
        decode(version, header, black_box(&body)).unwrap()
    });
}

#[divan::bench(args = [Version::V311, Version::V5])]
fn encode_publish(bencher: Bencher<'_, '_>, version: Version) {
    let mut out = BytesMut::with_capacity(1 << 10);
    bencher.bench_local(|| {
        out.clear();
        OutgoingPublish {
            dup: false,
            qos: 1,
            retain: false,
            topic: black_box(b"devices/4711/temperature"),
            packet_id: 7,
            topic_alias: None,
            message_expiry: Some(60),
            subscription_identifiers: &[1],
            forward: b"\x26\x00\x01k\x00\x01v",
            payload_length: 128,
        }
        .put_head(version, &mut out);
        black_box(out.len())
    });
}
