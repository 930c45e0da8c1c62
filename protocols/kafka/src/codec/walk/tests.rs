//! The walk against `kafka-protocol`'s decoders: bodies generated from our schema decode there to
//! the last byte, in every version; and what is hostile is refused before it is decoded.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;

use super::*;
use crate::codec::maker::{Maker, every_version};

/// Decodes a body with the oracle; how many bytes it left, or its error.
fn decode_with_oracle(api: Api, version: i16, body: &Bytes) -> Result<usize, String> {
    let mut rest = body.clone();
    macro_rules! decode {
        ($($api:ident => $message:ident,)*) => {
            match api {
                $(Api::$api => m::$message::decode(&mut rest, version).map(drop),)*
            }
        };
    }
    let result = decode! {
        Produce => ProduceRequest,
        Fetch => FetchRequest,
        ListOffsets => ListOffsetsRequest,
        Metadata => MetadataRequest,
        OffsetCommit => OffsetCommitRequest,
        OffsetFetch => OffsetFetchRequest,
        FindCoordinator => FindCoordinatorRequest,
        JoinGroup => JoinGroupRequest,
        Heartbeat => HeartbeatRequest,
        LeaveGroup => LeaveGroupRequest,
        SyncGroup => SyncGroupRequest,
        DescribeGroups => DescribeGroupsRequest,
        ListGroups => ListGroupsRequest,
        SaslHandshake => SaslHandshakeRequest,
        ApiVersions => ApiVersionsRequest,
        CreateTopics => CreateTopicsRequest,
        DeleteTopics => DeleteTopicsRequest,
        DeleteRecords => DeleteRecordsRequest,
        InitProducerId => InitProducerIdRequest,
        OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
        AddPartitionsToTxn => AddPartitionsToTxnRequest,
        AddOffsetsToTxn => AddOffsetsToTxnRequest,
        EndTxn => EndTxnRequest,
        TxnOffsetCommit => TxnOffsetCommitRequest,
        DescribeConfigs => DescribeConfigsRequest,
        SaslAuthenticate => SaslAuthenticateRequest,
        CreatePartitions => CreatePartitionsRequest,
        DeleteGroups => DeleteGroupsRequest,
        IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
        DescribeCluster => DescribeClusterRequest,
        DescribeTransactions => DescribeTransactionsRequest,
        ListTransactions => ListTransactionsRequest,
    };
    result.map(|()| rest.len()).map_err(|e| e.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_schema_agrees_with_the_decoders(choices in prop::collection::vec(any::<u8>(), 1..400)) {
        for (api, version) in every_version() {
            let body = Maker::body(api, version, &choices);
            let walked = check(api, version, &body);
            prop_assert_eq!(walked, Ok(()), "{:?} v{}", api, version);
            let left = decode_with_oracle(api, version, &body);
            prop_assert_eq!(left, Ok(0), "{:?} v{}", api, version);
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_refused(choices in prop::collection::vec(any::<u8>(), 1..60)) {
        for (api, version) in every_version() {
            let body = Maker::body(api, version, &choices);
            for end in 0..body.len() {
                prop_assert!(check(api, version, &body.slice(..end)).is_err());
            }
        }
    }

    #[test]
    fn what_passes_the_walk_decodes_within_its_means(
        choices in prop::collection::vec(any::<u8>(), 1..200),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (api, version) in every_version() {
            let mut body = Maker::body(api, version, &choices).to_vec();
            for (at, byte) in &damage {
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] = *byte;
                }
            }
            let body = Bytes::from(body);
            if check(api, version, &body).is_ok() {
                // Whatever it says, it comes back: no panic, no reservation beyond the body.
                let _ = decode_with_oracle(api, version, &body);
            }
        }
    }
}

#[test]
fn counts_beyond_the_frame_are_refused_in_every_version() {
    for (api, version) in every_version() {
        for filler in [0x7fu8, 0xff, 0x80, 0x0f, 0x01] {
            for length in [4, 9, 40, 400] {
                let body = Bytes::from(vec![filler; length]);
                if check(api, version, &body).is_ok() {
                    let _ = decode_with_oracle(api, version, &body);
                }
            }
        }
    }
    // The frame that made a decoder ask for 154 GB.
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(check(Api::Metadata, 1, &body), Err(CodecError::Truncated));
}

#[test]
fn the_number_of_elements_is_bounded() {
    let topics = |count: usize| {
        let mut body = BytesMut::new();
        body.put_i32(count as i32);
        body.put_bytes(0, count * 2);
        body.freeze()
    };
    assert_eq!(check(Api::Metadata, 1, &topics(ELEMENTS_MAX)), Ok(()));
    let error = CodecError::TooManyElements(ELEMENTS_MAX);
    assert_eq!(
        check(Api::Metadata, 1, &topics(ELEMENTS_MAX + 1)),
        Err(error)
    );
}

#[test]
fn a_known_tag_must_have_the_size_of_its_type() {
    // Fetch v18 with nothing in it but tag 0 (cluster id "ab"), its size given one too small.
    let mut body = BytesMut::new();
    body.put_bytes(0, 4 + 4 + 4 + 1 + 4 + 4);
    body.put_slice(&[1, 1, 1]); // no topics, none forgotten, empty rack
    body.put_slice(&[1, 0, 2, 3, b'a', b'b']);
    assert_eq!(
        check(Api::Fetch, 18, &body.freeze()),
        Err(CodecError::TagSize(0))
    );
}
