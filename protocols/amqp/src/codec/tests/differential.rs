//! What another codec writes, ours reads the same; what ours writes, the other reads.

use super::*;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use omnilog_wire::Outbox;

fn text(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::char::range(' ', 'ö'), 0..most / 2)
        .prop_map(|characters| characters.into_iter().collect())
}

/// A table as either codec has it; names are unique, since the other's tables are maps.
fn both_tables() -> impl Strategy<Value = (FieldTable, Table)> {
    let value = prop_oneof![
        any::<bool>().prop_map(|v| (AMQPValue::Boolean(v), Value::Bool(v))),
        any::<i8>().prop_map(|v| (AMQPValue::ShortShortInt(v), Value::Int(v.into()))),
        any::<i16>().prop_map(|v| (AMQPValue::ShortInt(v), Value::Int(v.into()))),
        any::<i32>().prop_map(|v| (AMQPValue::LongInt(v), Value::Int(v.into()))),
        any::<i64>().prop_map(|v| (AMQPValue::LongLongInt(v), Value::Int(v))),
        (-1e300..1e300f64).prop_map(|v| (AMQPValue::Double(v), Value::Float(v))),
        any::<u32>().prop_map(|v| (AMQPValue::Timestamp(v.into()), Value::Timestamp(v.into()))),
        text(100).prop_map(|v| (
            AMQPValue::LongString(v.clone().into()),
            Value::Bytes(v.into())
        )),
        Just((AMQPValue::Void, Value::Void)),
    ];
    prop::collection::btree_map(text(40), value, 0..8).prop_map(|fields| {
        let mut theirs = FieldTable::default();
        let mut ours = Table::new();
        for (name, (their_value, our_value)) in fields {
            theirs.insert(name.clone().into(), their_value);
            ours.push((name.into(), our_value));
        }
        (theirs, ours)
    })
}

/// The other codec's frame, split and decoded by ours.
fn read(frame: &AMQPFrame) -> Frame {
    let written = gen_frame(frame)(WriteContext::from(Vec::new())).expect("it can be written");
    let mut input = BytesMut::from(&written.write[..]);
    let frame = split_frame(&mut input, 1 << 20).expect("a frame");
    assert!(input.is_empty());
    frame.expect("a whole frame")
}

fn method(class: AMQPClass) -> Method {
    let frame = read(&AMQPFrame::Method(9, class));
    assert_eq!(frame.channel, 9);
    Method::decode(frame.payload).expect("a method").1
}

fn of(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

proptest! {
    #[test]
    fn declarations(
        name in text(120),
        bits in any::<[bool; 5]>(),
        (theirs, ours) in both_tables(),
    ) {
        let declared = method(AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: name.clone().into(),
            passive: bits[0],
            durable: bits[1],
            exclusive: bits[2],
            auto_delete: bits[3],
            nowait: bits[4],
            arguments: theirs.clone(),
        })));
        let expected = Method::QueueDeclare {
            queue: of(&name),
            passive: bits[0],
            durable: bits[1],
            exclusive: bits[2],
            auto_delete: bits[3],
            nowait: bits[4],
            arguments: ours.clone(),
        };
        prop_assert_eq!(declared, expected);
        let declared = method(AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: name.clone().into(),
            kind: "topic".into(),
            passive: bits[0],
            durable: bits[1],
            auto_delete: bits[2],
            internal: bits[3],
            nowait: bits[4],
            arguments: theirs,
        })));
        let expected = Method::ExchangeDeclare {
            exchange: of(&name),
            kind: of("topic"),
            passive: bits[0],
            durable: bits[1],
            auto_delete: bits[2],
            internal: bits[3],
            nowait: bits[4],
            arguments: ours,
        };
        prop_assert_eq!(declared, expected);
    }

    #[test]
    fn publishes_and_settlements(exchange in text(120), key in text(120), bits in any::<[bool; 2]>(), tag in any::<u64>()) {
        let publish = method(AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
            exchange: exchange.clone().into(),
            routing_key: key.clone().into(),
            mandatory: bits[0],
            immediate: bits[1],
        })));
        let expected = Method::BasicPublish {
            exchange: of(&exchange),
            routing_key: of(&key),
            mandatory: bits[0],
            immediate: bits[1],
        };
        prop_assert_eq!(publish, expected);
        let nack = method(AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag: tag,
            multiple: bits[0],
            requeue: bits[1],
        })));
        let expected = Method::BasicNack {
            delivery_tag: tag,
            multiple: bits[0],
            requeue: bits[1],
        };
        prop_assert_eq!(nack, expected);
    }

    #[test]
    fn content_headers(
        kind in text(100),
        id in text(100),
        mode in any::<u8>(),
        timestamp in any::<u32>(),
        size in any::<u64>(),
        (theirs, ours) in both_tables(),
    ) {
        let properties = basic::AMQPProperties::default()
            .with_content_type(kind.clone().into())
            .with_headers(theirs)
            .with_delivery_mode(mode)
            .with_correlation_id(id.clone().into())
            .with_timestamp(timestamp.into())
            .with_app_id(id.clone().into());
        let frame = read(&AMQPFrame::Header(3, AMQPContentHeader {
            class_id: 60,
            body_size: size,
            properties: properties.clone(),
        }));
        let header = ContentHeader::decode(frame.payload).expect("a header");
        prop_assert_eq!(header.body_bytes, size);
        let read = Properties::decode(header.properties.clone()).expect("properties");
        prop_assert_eq!(&read.content_type, &Some(of(&kind)));
        prop_assert_eq!(&read.correlation_id, &Some(of(&id)));
        prop_assert_eq!(&read.app_id, &Some(of(&id)));
        prop_assert_eq!(read.delivery_mode, Some(mode));
        prop_assert_eq!(read.timestamp, Some(timestamp.into()));
        prop_assert_eq!(read.header_table(), Ok(ours));
        prop_assert_eq!(read.to_bytes(), header.properties.clone());
        // And back.
        let mut out = Outbox::new();
        let content = Content { properties: header.properties, body: Bytes::new() };
        content.put(&mut out, 3, 4096);
        let written = out.take_bytes();
        let (rest, frame) = parse_frame(&written[..]).expect("theirs reads ours");
        prop_assert!(rest.is_empty());
        let AMQPFrame::Header(3, header) = frame else {
            panic!("no header");
        };
        prop_assert_eq!(header.properties, properties);
    }
}
