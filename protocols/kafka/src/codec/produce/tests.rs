//! Produce against `kafka-protocol` in both directions.

use bytes::BytesMut;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;

/// A topic's name and, for each partition, its index and records.
type Topic = (String, Vec<(i32, Option<Vec<u8>>)>);

fn request(version: i16, topics: &[Topic]) -> m::ProduceRequest {
    let topics = topics
        .iter()
        .enumerate()
        .map(|(i, (name, partitions))| {
            let partitions = partitions
                .iter()
                .map(|(index, records)| {
                    m::produce_request::PartitionProduceData::default()
                        .with_index(*index)
                        .with_records(records.clone().map(Bytes::from))
                })
                .collect();
            let topic =
                m::produce_request::TopicProduceData::default().with_partition_data(partitions);
            if version < TOPIC_ID_FROM {
                topic.with_name(StrBytes::from_string(name.clone()).into())
            } else {
                topic.with_topic_id(Uuid::from_u128(i as u128 + 7))
            }
        })
        .collect();
    m::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(topics)
}

proptest! {
    #[test]
    fn decodes_as_the_oracle_does(
        topics in prop::collection::vec(
            ("[a-z]{1,20}", prop::collection::vec(
                (0..9i32, prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..4)),
            0..4),
    ) {
        let versions = Api::Produce.versions();
        for version in versions.min..=versions.max {
            let mut bytes = BytesMut::new();
            let oracle = request(version, &topics);
            oracle.encode(&mut bytes, version).unwrap();
            let body = bytes.freeze();
            super::super::check(Api::Produce, version, &body).unwrap();
            let ours = ProduceRequest::decode(&body, version).unwrap();
            prop_assert_eq!(ours.acks, oracle.acks);
            prop_assert_eq!(ours.timeout_ms, oracle.timeout_ms);
            prop_assert_eq!(ours.topics.len(), oracle.topic_data.len());
            for (ours, theirs) in ours.topics.iter().zip(&oracle.topic_data) {
                prop_assert_eq!(&ours.name, &*theirs.name);
                prop_assert_eq!(ours.topic_id, theirs.topic_id);
                for (ours, theirs) in ours.partitions.iter().zip(&theirs.partition_data) {
                    prop_assert_eq!(ours.index, theirs.index);
                    prop_assert_eq!(&ours.records, &theirs.records);
                    let shared = ours.records.as_ref().is_none_or(|records| {
                        records.is_empty() || body.as_ptr_range().contains(&records.as_ptr())
                    });
                    prop_assert!(shared, "records are a slice of the request");
                }
            }
        }
    }
}

#[test]
fn the_oracle_reads_our_reply_in_every_version() {
    let reply = ProduceReply {
        throttle_time_ms: 12,
        topics: vec![ProduceReplyTopic {
            name: StrBytes::from_static_str("orders"),
            topic_id: Uuid::from_u128(99),
            partitions: vec![ProduceReplyPartition {
                index: 3,
                error_code: 10,
                base_offset: 1 << 40,
                log_append_time_ms: -1,
                log_start_offset: 17,
                error_message: Some("too large".to_owned()),
            }],
        }],
    };
    let versions = Api::Produce.versions();
    for version in versions.min..=versions.max {
        let mut bytes = reply.encode(version, 5).to_bytes();
        let header = if Api::Produce.is_flexible(version) {
            9
        } else {
            8
        };
        assert_eq!(&bytes[..4], &(bytes.len() as i32 - 4).to_be_bytes());
        assert_eq!(&bytes[4..8], &5i32.to_be_bytes());
        let _ = bytes.split_to(header);
        let theirs = m::ProduceResponse::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "v{version} leaves bytes");
        assert_eq!(theirs.throttle_time_ms, 12);
        let topic = &theirs.responses[0];
        if version < TOPIC_ID_FROM {
            assert_eq!(topic.name.as_str(), "orders");
        } else {
            assert_eq!(topic.topic_id, Uuid::from_u128(99));
        }
        let partition = &topic.partition_responses[0];
        assert_eq!((partition.index, partition.error_code), (3, 10));
        assert_eq!(
            (partition.base_offset, partition.log_append_time_ms),
            (1 << 40, -1)
        );
        assert_eq!(
            partition.log_start_offset,
            if version >= 5 { 17 } else { -1 }
        );
        let message = partition.error_message.as_ref().map(|m| m.as_str());
        assert_eq!(message, (version >= 8).then_some("too large"));
    }
}
