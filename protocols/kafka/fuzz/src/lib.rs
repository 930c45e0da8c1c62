//! What the fuzz targets check. `tests/fuzz_targets.rs` of the codec runs the same checks as an ordinary test.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::Decodable;
use omnilog_kafka::codec::{Api, CodecError, ProduceRequest, RequestHeader, check, next_frame};

/// The largest frame while fuzzing, in bytes.
const FRAME_BYTES_MAX: usize = 1 << 16;

/// Arbitrary bytes as a connection's input: whatever passes the walk can be decoded without a panic and without a
/// reservation that the frame does not pay for, and our Produce decoder finds in it what the walk saw.
pub fn requests(data: &[u8]) {
    let mut input = BytesMut::from(data);
    while let Ok(Some(frame)) = next_frame(&mut input, FRAME_BYTES_MAX) {
        assert!(frame.len() <= FRAME_BYTES_MAX);
        request(&frame);
    }
}

fn request(frame: &Bytes) {
    let Ok(header) = RequestHeader::peek(frame) else {
        return;
    };
    let Some(api) = Api::from_key(header.key) else {
        return;
    };
    if !api.versions().contains(header.version) {
        return;
    }
    let Ok((_, body)) = header.split_body(api, frame) else {
        return;
    };
    if check(api, header.version, &body).is_err() {
        return;
    }
    if api == Api::Produce {
        // The walk knows lengths; text and null are for the decoder to refuse.
        match ProduceRequest::decode(&body, header.version) {
            Ok(_) | Err(CodecError::Utf8 | CodecError::NegativeLength(-1)) => {}
            Err(error) => panic!("the walk passed what the decoder refuses: {error}"),
        }
    }
    decode(api, header.version, body);
}

/// Decodes as the server does; that it comes back is all that is asked.
fn decode(api: Api, version: i16, mut body: Bytes) {
    macro_rules! decode {
        ($($api:ident => $message:ident,)*) => {
            match api {
                $(Api::$api => drop(m::$message::decode(&mut body, version)),)*
            }
        };
    }
    decode! {
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
    }
}
