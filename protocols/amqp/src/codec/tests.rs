//! The codec against hand-written frames and against another codec.

mod differential;
mod golden;

use super::*;
use bytes::{Bytes, BytesMut};
use omnilog_broker::{Table, Value};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Timestamp),
        (-1e300..1e300f64).prop_map(Value::Float),
        (0..20u8, any::<i32>()).prop_map(|(scale, value)| Value::Decimal(scale, value.into())),
        bytes(300).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec((bytes(20), inner), 0..6).prop_map(Value::Table),
        ]
    })
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn table() -> impl Strategy<Value = Table> {
    prop::collection::vec((bytes(255), value()), 0..8)
}

fn properties() -> impl Strategy<Value = Properties> {
    let short = || prop::option::of(bytes(255));
    let headers = prop::option::of(table().prop_map(|table| {
        let mut encoded = BytesMut::new();
        encode_table(&table, &mut encoded);
        encoded.split_off(4).freeze()
    }));
    (
        (
            short(),
            short(),
            headers,
            short(),
            short(),
            short(),
            short(),
        ),
        (short(), short(), short(), short()),
        (
            prop::option::of(any::<u8>()),
            prop::option::of(any::<u8>()),
            prop::option::of(any::<u64>()),
        ),
    )
        .prop_map(|(first, second, numbers)| Properties {
            content_type: first.0,
            content_encoding: first.1,
            headers: first.2,
            correlation_id: first.3,
            reply_to: first.4,
            expiration: first.5,
            message_id: first.6,
            kind: second.0,
            user_id: second.1,
            app_id: second.2,
            cluster_id: second.3,
            delivery_mode: numbers.0,
            priority: numbers.1,
            timestamp: numbers.2,
        })
}

proptest! {
    #[test]
    fn a_table_comes_back_in_order_with_duplicates(table in table()) {
        let mut encoded = BytesMut::new();
        encode_table(&table, &mut encoded);
        let mut reader = Reader::new(encoded.freeze());
        prop_assert_eq!(reader.table(), Ok(table));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn properties_come_back(properties in properties()) {
        prop_assert_eq!(Properties::decode(properties.to_bytes()), Ok(properties));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in bytes(600)) {
        let _ = decode_table(bytes.clone());
        let _ = Properties::decode(bytes.clone()).map(|p| p.header_table());
        let _ = ContentHeader::decode(bytes.clone());
        let _ = Method::decode(bytes.clone());
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = split_frame(&mut input, 4096) {}
    }

    #[test]
    fn truncated_properties_are_malformed(properties in properties(), cut in any::<prop::sample::Index>()) {
        let whole = properties.to_bytes();
        let cut = whole.slice(..cut.index(whole.len()));
        prop_assert!(Properties::decode(cut).is_err());
    }
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| {
        let value = (1..depth).fold(Value::Void, |inner, _| Value::List(vec![inner]));
        let mut encoded = BytesMut::new();
        encode_table(&vec![(Bytes::from_static(b"a"), value)], &mut encoded);
        decode_table(encoded.split_off(4).freeze())
    };
    assert!(nested(DEPTH_MAX).is_ok());
    assert!(nested(DEPTH_MAX + 1).is_err());
}

#[test]
fn a_frame_larger_than_allowed_is_refused_before_it_is_there() {
    let mut input = BytesMut::from(&[1, 0, 0, 0, 0, 0x10, 1][..]);
    assert_eq!(
        split_frame(&mut input, 4096),
        Err(FrameError::TooLarge {
            size: 4097,
            limit: 4096
        })
    );
    assert_eq!(
        split_frame(&mut BytesMut::from(&[9][..]), 4096),
        Err(FrameError::Kind(9))
    );
    let mut open = BytesMut::from(&[1, 0, 0, 0, 0, 0, 0, 0xAA][..]);
    assert_eq!(split_frame(&mut open, 4096), Err(FrameError::End(0xAA)));
}
