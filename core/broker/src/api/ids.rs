//! Numbers that name things. They are allotted by the broker and never reused within a shard's life.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A name as its protocol wrote it: any bytes. Keep names small copies of their own, never slices of a read buffer.
pub type Name = Bytes;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A namespace: a tenant, AMQP's virtual host.
    NamespaceId(u32)
);
id!(
    /// One connection's membership of a shard, from `connect` to its loss.
    ClientId(u64)
);
id!(
    /// One incarnation of a topic's log. A topic deleted and made again has another.
    TopicId(u64)
);
id!(
    /// One incarnation of a queue, an MQTT session's queue or a shared subscription.
    QueueId(u64)
);
id!(
    /// One incarnation of an MQTT session.
    SessionId(u64)
);
id!(
    /// A consumer, named by its client: unique within one connection.
    ConsumerKey(u64)
);
id!(
    /// Consumers of one connection that share a credit limit (AMQP's `basic.qos` with `global`): named by the client.
    CreditGroup(u64)
);
id!(
    /// An entry of a queue: the record's shard sequence in a durable queue, a running number in a non-durable one.
    EntryId(u64)
);
