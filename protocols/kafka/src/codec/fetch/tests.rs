//! The Fetch response against `kafka-protocol`.

use kafka_protocol::messages as m;
use kafka_protocol::protocol::Decodable;

use super::*;

fn reply(batches: Vec<Bytes>, read_committed: bool) -> FetchReply {
    FetchReply {
        throttle_time_ms: 3,
        error_code: 0,
        session_id: 0,
        topics: vec![FetchReplyTopic {
            name: StrBytes::from_static_str("orders"),
            topic_id: Uuid::from_u128(5),
            partitions: vec![FetchReplyPartition {
                index: 2,
                error_code: 0,
                high_watermark: 1000,
                last_stable_offset: 999,
                log_start_offset: 7,
                aborted: read_committed.then(|| vec![(7, 20), (8, 30)]),
                batches,
            }],
        }],
    }
}

#[test]
fn the_oracle_reads_our_reply_in_every_version() {
    let batches = vec![
        Bytes::from(vec![1; 5000]),
        Bytes::from(vec![2; 10]),
        Bytes::from(vec![3; 900]),
    ];
    let all: Vec<u8> = batches.concat();
    let versions = Api::Fetch.versions();
    for version in versions.min..=versions.max {
        for read_committed in [false, true] {
            let mut bytes = reply(batches.clone(), read_committed)
                .encode(version, 77)
                .to_bytes();
            assert_eq!(&bytes[..4], &(bytes.len() as i32 - 4).to_be_bytes());
            let _ = bytes.split_to(if Api::Fetch.is_flexible(version) {
                9
            } else {
                8
            });
            let theirs = m::FetchResponse::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "v{version} leaves bytes");
            let topic = &theirs.responses[0];
            if version < TOPIC_ID_FROM {
                assert_eq!(topic.topic.as_str(), "orders");
            } else {
                assert_eq!(topic.topic_id, Uuid::from_u128(5));
            }
            let partition = &topic.partitions[0];
            assert_eq!(partition.partition_index, 2);
            assert_eq!(partition.high_watermark, 1000);
            assert_eq!(partition.last_stable_offset, 999);
            assert_eq!(
                partition.log_start_offset,
                if version >= 5 { 7 } else { -1 }
            );
            assert_eq!(partition.aborted_transactions.is_some(), read_committed);
            assert_eq!(partition.records.as_deref(), Some(&all[..]));
        }
    }
}

#[test]
fn large_batches_are_not_copied() {
    let batch = Bytes::from(vec![9; 100_000]);
    let slices: Vec<Bytes> = reply(vec![batch.clone()], false)
        .encode(12, 1)
        .into_slices()
        .collect();
    assert!(slices.iter().any(|slice| slice.as_ptr() == batch.as_ptr()));
    assert_eq!(slices.len(), 3, "header, batch, trailer");
}
