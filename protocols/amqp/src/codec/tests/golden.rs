//! Frames written by hand after the specification.

use super::*;
use omnilog_wire::Outbox;

#[test]
fn publish_header_body() {
    let bytes = b"\x01\x00\x05\x00\x00\x00\x0c\x00\x3c\x00\x28\x00\x00\x01x\x02k1\x01\xce\
                  \x02\x00\x05\x00\x00\x00\x10\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x18\x00\x02\x07\xce\
                  \x03\x00\x05\x00\x00\x00\x02hi\xce";
    let mut input = BytesMut::from(&bytes[..]);
    let mut next = || split_frame(&mut input, 4096).unwrap().unwrap();
    let method = next();
    assert_eq!((method.kind, method.channel), (FrameKind::Method, 5));
    assert_eq!(
        Method::decode(method.payload),
        Ok((
            MethodId::BASIC_PUBLISH,
            Method::BasicPublish {
                exchange: Bytes::from_static(b"x"),
                routing_key: Bytes::from_static(b"k1"),
                mandatory: true,
                immediate: false,
            }
        ))
    );
    let header = next();
    assert_eq!(header.kind, FrameKind::Header);
    let header = ContentHeader::decode(header.payload).unwrap();
    assert_eq!((header.class, header.body_bytes), (60, 2));
    let properties = Properties::decode(header.properties).unwrap();
    assert_eq!(
        properties,
        Properties {
            delivery_mode: Some(2),
            priority: Some(7),
            ..Properties::default()
        }
    );
    let body = next();
    assert_eq!(
        (body.kind, &body.payload[..]),
        (FrameKind::Body, &b"hi"[..])
    );
    assert!(input.is_empty());
}

#[test]
fn ack_nack_reject() {
    let decode = |bytes: &'static [u8]| Method::decode(Bytes::from_static(bytes)).unwrap().1;
    assert_eq!(
        decode(b"\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x01\x00\x01"),
        Method::BasicAck {
            delivery_tag: 256,
            multiple: true
        }
    );
    assert_eq!(
        decode(b"\x00\x3c\x00\x78\x00\x00\x00\x00\x00\x00\x00\x02\x02"),
        Method::BasicNack {
            delivery_tag: 2,
            multiple: false,
            requeue: true
        }
    );
    assert_eq!(
        decode(b"\x00\x3c\x00\x5a\x00\x00\x00\x00\x00\x00\x00\x03\x01"),
        Method::BasicReject {
            delivery_tag: 3,
            requeue: true
        }
    );
}

#[test]
fn deliver_with_content() {
    let mut out = Outbox::new();
    Writer::method(out.buffer(), 3, MethodId::BASIC_DELIVER, |w| {
        w.short(b"c").u64(1).bit(true).short(b"x").short(b"k");
    });
    let content = Content {
        properties: Bytes::new(),
        body: Bytes::from_static(b"abc"),
    };
    content.put(&mut out, 3, 10);
    let expected = b"\x01\x00\x03\x00\x00\x00\x13\x00\x3c\x00\x3c\x01c\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01x\x01k\xce\
                     \x02\x00\x03\x00\x00\x00\x0e\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\xce\
                     \x03\x00\x03\x00\x00\x00\x02ab\xce\x03\x00\x03\x00\x00\x00\x01c\xce";
    assert_eq!(out.take_bytes(), &expected[..]);
}

#[test]
fn every_type_of_field() {
    let bytes = b"\x01tt\x01\x01bb\xff\x01BB\xff\x01ss\xff\xff\x01uu\xff\xff\x01II\xff\xff\xff\xff\
                  \x01ii\xff\xff\xff\xff\x01ll\xff\xff\xff\xff\xff\xff\xff\xff\x01ff\x3f\x80\x00\x00\
                  \x01dd\x3f\xf0\x00\x00\x00\x00\x00\x00\x01DD\x02\x00\x00\x00\x7b\x01SS\x00\x00\x00\x01z\
                  \x01xx\x00\x00\x00\x01\x00\x01TT\x00\x00\x00\x00\x00\x00\x00\x09\x01AA\x00\x00\x00\x01V\
                  \x01FF\x00\x00\x00\x03\x01aV\x01VV";
    let expected: Vec<(&[u8], Value)> = vec![
        (b"t", Value::Bool(true)),
        (b"b", Value::Int(-1)),
        (b"B", Value::Int(255)),
        (b"s", Value::Int(-1)),
        (b"u", Value::Int(65_535)),
        (b"I", Value::Int(-1)),
        (b"i", Value::Int(4_294_967_295)),
        (b"l", Value::Int(-1)),
        (b"f", Value::Float(1.0)),
        (b"d", Value::Float(1.0)),
        (b"D", Value::Decimal(2, 123)),
        (b"S", Value::Bytes(Bytes::from_static(b"z"))),
        (b"x", Value::Bytes(Bytes::from_static(b"\0"))),
        (b"T", Value::Timestamp(9)),
        (b"A", Value::List(vec![Value::Void])),
        (
            b"F",
            Value::Table(vec![(Bytes::from_static(b"a"), Value::Void)]),
        ),
        (b"V", Value::Void),
    ];
    let expected: Table = expected
        .into_iter()
        .map(|(name, value)| (Bytes::from_static(name), value))
        .collect();
    assert_eq!(decode_table(Bytes::from_static(bytes)), Ok(expected));
}
