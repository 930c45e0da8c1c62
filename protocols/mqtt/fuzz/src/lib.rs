//! What the fuzz targets check. `tests/fuzz_targets.rs` of the codec runs the same checks as an ordinary test.

use bytes::{Bytes, BytesMut};
use omnilog_mqtt::codec::{
    Connect, FixedHeader, OutgoingPublish, Packet, PacketType, Version, decode,
};

/// The largest packet while fuzzing, in bytes.
const PACKET_BYTES_MAX: usize = 1 << 16;

/// Arbitrary bytes as a connection's input, in each version: whatever is accepted is consistent, and a publish that is
/// forwarded reads back as what it was.
pub fn stream(data: &[u8]) {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut input = Bytes::copy_from_slice(data);
        while let Ok(Some(header)) = FixedHeader::parse(&input, PACKET_BYTES_MAX) {
            assert!(header.length + header.remaining <= PACKET_BYTES_MAX);
            if input.len() < header.length + header.remaining {
                break;
            }
            let mut packet = input.split_to(header.length + header.remaining);
            let body = packet.split_off(header.length);
            if header.packet == PacketType::Connect {
                if let Ok(connect) = Connect::decode(header, &body) {
                    check_connect(&connect);
                }
                continue;
            }
            match decode(version, header, &body) {
                Ok(packet) => check(version, packet),
                Err(_) => break,
            }
        }
    }
}

fn check_connect(connect: &Connect) {
    assert!(std::str::from_utf8(&connect.client_id).is_ok());
    if let Some(will) = &connect.will {
        assert!(will.qos <= 2 && !will.topic.is_empty());
        assert!(will.properties.iter().count() <= will.properties.block().len());
    }
}

fn check(version: Version, packet: Packet) {
    match packet {
        Packet::Publish(publish) => {
            assert!(publish.qos <= 2 && (publish.qos == 0) == (publish.packet_id == 0));
            if publish.topic.is_empty() {
                return;
            }
            let outgoing = OutgoingPublish {
                dup: publish.dup,
                qos: publish.qos,
                retain: publish.retain,
                topic: &publish.topic,
                packet_id: publish.packet_id,
                topic_alias: publish.properties.topic_alias,
                message_expiry: publish.properties.message_expiry,
                subscription_identifiers: &[],
                forward: publish.properties.forward.block(),
                payload_length: publish.payload.len(),
            };
            let mut bytes = BytesMut::new();
            outgoing.put_head(version, &mut bytes);
            bytes.extend_from_slice(&publish.payload);
            assert_eq!(bytes.len(), outgoing.length(version));
            let bytes = bytes.freeze();
            let header = FixedHeader::parse(&bytes, usize::MAX).ok().flatten();
            let header = header.expect("what we write has a header");
            let again = decode(version, header, &bytes.slice(header.length..));
            assert_eq!(again, Ok(Packet::Publish(publish)));
        }
        Packet::Subscribe(subscribe) => assert!(!subscribe.filters.is_empty()),
        Packet::Unsubscribe(unsubscribe) => assert!(!unsubscribe.filters.is_empty()),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            assert_ne!(ack.packet_id, 0);
        }
        Packet::PingReq | Packet::Disconnect(_) | Packet::Auth(_) => {}
    }
}
