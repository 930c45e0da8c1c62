//! The bodies of every served request, field by field, as Apache Kafka's message definitions
//! give them.

use super::{
    Field, array, boolean, bytes, int8, int16, int32, int32_array, int64, int64_array, string,
    string_array, structure, uuid,
};
use crate::codec::Api;

/// The fields of an api's request body.
pub const fn body(api: Api) -> &'static [Field] {
    match api {
        Api::Produce => PRODUCE,
        Api::Fetch => FETCH,
        Api::ListOffsets => LIST_OFFSETS,
        Api::Metadata => METADATA,
        Api::OffsetCommit => OFFSET_COMMIT,
        Api::OffsetFetch => OFFSET_FETCH,
        Api::FindCoordinator => FIND_COORDINATOR,
        Api::JoinGroup => JOIN_GROUP,
        Api::Heartbeat => HEARTBEAT,
        Api::LeaveGroup => LEAVE_GROUP,
        Api::SyncGroup => SYNC_GROUP,
        Api::DescribeGroups => DESCRIBE_GROUPS,
        Api::ListGroups => LIST_GROUPS,
        Api::SaslHandshake => SASL_HANDSHAKE,
        Api::ApiVersions => API_VERSIONS,
        Api::CreateTopics => CREATE_TOPICS,
        Api::DeleteTopics => DELETE_TOPICS,
        Api::DeleteRecords => DELETE_RECORDS,
        Api::InitProducerId => INIT_PRODUCER_ID,
        Api::OffsetForLeaderEpoch => OFFSET_FOR_LEADER_EPOCH,
        Api::AddPartitionsToTxn => ADD_PARTITIONS_TO_TXN,
        Api::AddOffsetsToTxn => ADD_OFFSETS_TO_TXN,
        Api::EndTxn => END_TXN,
        Api::TxnOffsetCommit => TXN_OFFSET_COMMIT,
        Api::DescribeConfigs => DESCRIBE_CONFIGS,
        Api::SaslAuthenticate => SASL_AUTHENTICATE,
        Api::CreatePartitions => CREATE_PARTITIONS,
        Api::DeleteGroups => DELETE_GROUPS,
        Api::IncrementalAlterConfigs => INCREMENTAL_ALTER_CONFIGS,
        Api::DescribeCluster => DESCRIBE_CLUSTER,
        Api::DescribeTransactions => DESCRIBE_TRANSACTIONS,
        Api::ListTransactions => LIST_TRANSACTIONS,
    }
}

const PRODUCE: &[Field] = &[
    string(), // transactional id
    int16(),  // acks
    int32(),  // timeout
    array(&[
        string().until(12), // topic
        uuid().since(13),   // topic id
        array(&[int32(), bytes()]),
    ]),
];

const FETCH: &[Field] = &[
    string().tagged(0), // cluster id
    int32().until(14),  // replica id
    structure(&[int32().since(15), int64().since(15)])
        .since(15)
        .tagged(1), // replica state
    int32(),            // max wait
    int32(),            // min bytes
    int32(),            // max bytes
    int8(),             // isolation level
    int32().since(7),   // session id
    int32().since(7),   // session epoch
    array(&[
        string().until(12), // topic
        uuid().since(13),   // topic id
        array(&[
            int32(),                     // partition
            int32().since(9),            // current leader epoch
            int64(),                     // fetch offset
            int32().since(12),           // last fetched epoch
            int64().since(5),            // log start offset
            int32(),                     // partition max bytes
            uuid().since(17).tagged(0),  // replica directory id
            int64().since(18).tagged(1), // high watermark
        ]),
    ]),
    array(&[string().until(12), uuid().since(13), int32_array()]).since(7), // forgotten topics
    string().since(11),                                                     // rack
];

const LIST_OFFSETS: &[Field] = &[
    int32(),         // replica id
    int8().since(2), // isolation level
    array(&[
        string(),                                     // topic
        array(&[int32(), int32().since(4), int64()]), // partition, leader epoch, timestamp
    ]),
    int32().since(10), // timeout
];

const METADATA: &[Field] = &[
    array(&[uuid().since(10), string()]), // topics
    boolean().since(4),                   // allow auto topic creation
    boolean().since(8).until(10),         // include cluster authorized operations
    boolean().since(8),                   // include topic authorized operations
];

const OFFSET_COMMIT: &[Field] = &[
    string(),                  // group
    int32(),                   // generation
    string(),                  // member
    string().since(7),         // group instance
    int64().since(2).until(4), // retention time
    array(&[
        string(),                                               // topic
        array(&[int32(), int64(), int32().since(6), string()]), // partition, offset, epoch, metadata
    ]),
];

const OFFSET_FETCH: &[Field] = &[
    string().until(7),                          // group
    array(&[string(), int32_array()]).until(7), // topics
    array(&[
        string(),          // group
        string().since(9), // member
        int32().since(9),  // member epoch
        array(&[string(), int32_array()]),
    ])
    .since(8),
    boolean().since(7), // require stable
];

const FIND_COORDINATOR: &[Field] = &[
    string().until(3),       // key
    int8().since(1),         // key type
    string_array().since(4), // keys
];

const JOIN_GROUP: &[Field] = &[
    string(),                    // group
    int32(),                     // session timeout
    int32().since(1),            // rebalance timeout
    string(),                    // member
    string().since(5),           // group instance
    string(),                    // protocol type
    array(&[string(), bytes()]), // protocols
    string().since(8),           // reason
];

const HEARTBEAT: &[Field] = &[
    string(),          // group
    int32(),           // generation
    string(),          // member
    string().since(3), // group instance
];

const LEAVE_GROUP: &[Field] = &[
    string(),                                                 // group
    string().until(2),                                        // member
    array(&[string(), string(), string().since(5)]).since(3), // member, instance, reason
];

const SYNC_GROUP: &[Field] = &[
    string(),                    // group
    int32(),                     // generation
    string(),                    // member
    string().since(3),           // group instance
    string().since(5),           // protocol type
    string().since(5),           // protocol name
    array(&[string(), bytes()]), // assignments
];

const DESCRIBE_GROUPS: &[Field] = &[string_array(), boolean().since(3)];

const LIST_GROUPS: &[Field] = &[string_array().since(4), string_array().since(5)];

const SASL_HANDSHAKE: &[Field] = &[string()];

const API_VERSIONS: &[Field] = &[string().since(3), string().since(3)];

const CREATE_TOPICS: &[Field] = &[
    array(&[
        string(),                         // name
        int32(),                          // partitions
        int16(),                          // replication factor
        array(&[int32(), int32_array()]), // assignments
        array(&[string(), string()]),     // configs
    ]),
    int32(),   // timeout
    boolean(), // validate only
];

const DELETE_TOPICS: &[Field] = &[
    array(&[string(), uuid()]).since(6), // topics
    string_array().until(5),             // topic names
    int32(),                             // timeout
];

const DELETE_RECORDS: &[Field] = &[array(&[string(), array(&[int32(), int64()])]), int32()];

const INIT_PRODUCER_ID: &[Field] = &[
    string(),         // transactional id
    int32(),          // transaction timeout
    int64().since(3), // producer id
    int16().since(3), // producer epoch
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    int32().since(3), // replica id
    array(&[
        string(),                            // topic
        array(&[int32(), int32(), int32()]), // partition, current leader epoch, leader epoch
    ]),
];

const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    string(),                          // transactional id
    int64(),                           // producer id
    int16(),                           // producer epoch
    array(&[string(), int32_array()]), // topic, partitions
];

const ADD_OFFSETS_TO_TXN: &[Field] = &[
    string(), // transactional id
    int64(),  // producer id
    int16(),  // producer epoch
    string(), // group
];

const END_TXN: &[Field] = &[
    string(),  // transactional id
    int64(),   // producer id
    int16(),   // producer epoch
    boolean(), // commit
];

const TXN_OFFSET_COMMIT: &[Field] = &[
    string(),          // transactional id
    string(),          // group
    int64(),           // producer id
    int16(),           // producer epoch
    int32().since(3),  // generation
    string().since(3), // member
    string().since(3), // group instance
    array(&[
        string(),                                               // topic
        array(&[int32(), int64(), int32().since(2), string()]), // partition, offset, epoch, metadata
    ]),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    array(&[int8(), string(), string_array()]), // resource type, name, keys
    boolean(),                                  // include synonyms
    boolean().since(3),                         // include documentation
];

const SASL_AUTHENTICATE: &[Field] = &[bytes()];

const CREATE_PARTITIONS: &[Field] = &[
    array(&[string(), int32(), array(&[int32_array()])]), // topic, count, assignments
    int32(),                                              // timeout
    boolean(),                                            // validate only
];

const DELETE_GROUPS: &[Field] = &[string_array()];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    array(&[
        int8(),                               // resource type
        string(),                             // resource name
        array(&[string(), int8(), string()]), // name, operation, value
    ]),
    boolean(), // validate only
];

const DESCRIBE_CLUSTER: &[Field] = &[
    boolean(),          // include cluster authorized operations
    int8().since(1),    // endpoint type
    boolean().since(2), // include fenced brokers
];

const DESCRIBE_TRANSACTIONS: &[Field] = &[string_array()];

const LIST_TRANSACTIONS: &[Field] = &[
    string_array(),   // states
    int64_array(),    // producer ids
    int64().since(1), // duration
];
