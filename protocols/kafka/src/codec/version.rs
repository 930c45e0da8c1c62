//! The apis that are served and their versions: the one table behind both the gate that every
//! request passes and what ApiVersions advertises.

/// The inclusive versions of an api.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl VersionRange {
    /// Is the version inside the range?
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

macro_rules! apis {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $min:literal..=$max:literal, flexible $flexible:expr;)*) => {
        /// An api that is served.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Api {
            $($(#[$doc])* $name,)*
        }

        impl Api {
            /// Every served api, by key.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The api of a key; `None` when it is not served.
            pub fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The api's key on the wire.
            pub fn key(self) -> i16 {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            /// The versions that are served.
            pub fn versions(self) -> VersionRange {
                match self {
                    $(Self::$name => VersionRange { min: $min, max: $max },)*
                }
            }

            /// The first version with compact types and tagged fields (KIP-482).
            fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }
    };
}

/// No version of the api is flexible.
const NEVER: i16 = i16::MAX;

apis! {
    /// Appends record batches.
    Produce = 0, 3..=13, flexible 9;
    /// Reads record batches.
    Fetch = 1, 4..=18, flexible 12;
    /// Finds offsets by time or at the ends of a partition.
    ListOffsets = 2, 1..=10, flexible 6;
    /// Brokers, topics and partitions.
    Metadata = 3, 0..=13, flexible 9;
    /// Stores a group's positions.
    OffsetCommit = 8, 2..=9, flexible 8;
    /// Reads a group's positions.
    OffsetFetch = 9, 1..=9, flexible 6;
    /// Which broker coordinates a group.
    FindCoordinator = 10, 0..=6, flexible 3;
    /// Enters a group's rebalance.
    JoinGroup = 11, 0..=9, flexible 6;
    /// Keeps a member's session alive.
    Heartbeat = 12, 0..=4, flexible 4;
    /// Leaves a group.
    LeaveGroup = 13, 0..=5, flexible 4;
    /// Distributes a rebalance's assignment.
    SyncGroup = 14, 0..=5, flexible 4;
    /// State and members of groups.
    DescribeGroups = 15, 0..=6, flexible 5;
    /// The groups there are.
    ListGroups = 16, 0..=5, flexible 3;
    /// Chooses a SASL mechanism.
    SaslHandshake = 17, 0..=1, flexible NEVER;
    /// The apis and versions that are served.
    ApiVersions = 18, 0..=4, flexible 3;
    /// Creates topics.
    CreateTopics = 19, 2..=7, flexible 5;
    /// Deletes topics.
    DeleteTopics = 20, 1..=6, flexible 4;
    /// Moves log start offsets forward.
    DeleteRecords = 21, 0..=2, flexible 2;
    /// Hands out a producer id.
    InitProducerId = 22, 0..=5, flexible 2;
    /// Where a leader epoch ends.
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
    /// Partitions that a transaction will write to.
    AddPartitionsToTxn = 24, 0..=3, flexible 3;
    /// A group whose positions a transaction will commit.
    AddOffsetsToTxn = 25, 0..=4, flexible 3;
    /// Commits or aborts a transaction.
    EndTxn = 26, 0..=4, flexible 3;
    /// Positions that a transaction commits.
    TxnOffsetCommit = 28, 0..=4, flexible 3;
    /// Settings of topics and brokers.
    DescribeConfigs = 32, 1..=4, flexible 4;
    /// One step of a SASL exchange.
    SaslAuthenticate = 36, 0..=2, flexible 2;
    /// Adds partitions to topics.
    CreatePartitions = 37, 0..=3, flexible 2;
    /// Deletes groups.
    DeleteGroups = 42, 0..=2, flexible 2;
    /// Changes settings one by one.
    IncrementalAlterConfigs = 44, 0..=1, flexible 1;
    /// Brokers and the cluster's identity.
    DescribeCluster = 60, 0..=2, flexible 0;
    /// State of transactional ids.
    DescribeTransactions = 65, 0..=0, flexible 0;
    /// The transactional ids there are.
    ListTransactions = 66, 0..=1, flexible 0;
}

impl Api {
    /// Has this version compact types and tagged fields (KIP-482)?
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The versions that ApiVersions advertises.
    ///
    /// They are the served ones, but for Produce: Apache Kafka goes on advertising version 0,
    /// though it refuses versions below 3, because librdkafka takes a higher minimum for a broker
    /// without gzip, snappy and lz4 (KAFKA-18659).
    pub fn advertised_versions(self) -> VersionRange {
        let served = self.versions();
        match self {
            Self::Produce => VersionRange { min: 0, ..served },
            _ => served,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiKey;

    #[test]
    fn keys_are_ascending_and_found_again() {
        assert!(Api::ALL.is_sorted_by_key(|api| api.key()));
        for &api in Api::ALL {
            assert_eq!(Api::from_key(api.key()), Some(api));
        }
        assert_eq!(Api::from_key(4), None);
        assert_eq!(Api::from_key(-1), None);
    }

    #[test]
    fn served_versions_are_within_the_codecs_and_agree_on_flexible_headers() {
        for &api in Api::ALL {
            let key = ApiKey::try_from(api.key()).unwrap();
            let codec = key.valid_versions();
            let served = api.versions();
            assert!(
                codec.min <= served.min && served.max <= codec.max,
                "{api:?}"
            );
            for version in served.min..=served.max {
                let flexible = key.request_header_version(version) == 2;
                assert_eq!(api.is_flexible(version), flexible, "{api:?} v{version}");
                let flexible = key.response_header_version(version) == 1;
                assert_eq!(
                    super::super::header::response_header_is_flexible(api, version),
                    flexible,
                    "{api:?} v{version}"
                );
            }
        }
    }

    #[test]
    fn produce_is_advertised_from_zero() {
        assert_eq!(Api::Produce.advertised_versions().min, 0);
        assert!(!Api::Produce.versions().contains(2));
    }
}
