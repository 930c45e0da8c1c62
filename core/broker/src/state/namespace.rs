//! A namespace: the names of one tenant and what they stand for.

use crate::api::*;
use crate::state::exchange::Exchange;
use crate::state::retained::Retained;
use crate::state::routes::Routes;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The names of one tenant.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) id: NamespaceId,
    pub(crate) topics: BTreeMap<Name, TopicId>,
    pub(crate) topic_uuids: BTreeMap<u128, TopicId>,
    pub(crate) exchanges: BTreeMap<Name, Exchange>,
    pub(crate) queues: BTreeMap<Name, QueueId>,
    pub(crate) sessions: BTreeMap<Name, SessionId>,
    /// Shared subscriptions: (group, filter) and their queue.
    pub(crate) shared: BTreeMap<(Name, Bytes), QueueId>,
    /// MQTT filters and `amq.topic` patterns over whole paths, and route caches.
    pub(crate) routes: Routes,
    pub(crate) retained: Retained,
    pub(crate) groups: BTreeMap<Name, Group>,
    /// Names that publishing made by itself.
    pub(crate) auto_names: u64,
}

/// What is kept of a consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Group {
    /// The coordinator's own state.
    pub(crate) state: Option<Bytes>,
    /// Offsets by topic incarnation and partition.
    pub(crate) offsets: BTreeMap<(TopicId, i32), GroupOffset>,
}

impl Namespace {
    /// A namespace with the predeclared exchanges.
    pub(crate) fn new(id: NamespaceId) -> Self {
        let predeclared = [
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ];
        let exchanges = predeclared
            .into_iter()
            .map(|(name, kind)| {
                let name = Name::from_static(name.as_bytes());
                let declared = DeclareExchange {
                    name: name.clone(),
                    kind,
                    durable: true,
                    auto_delete: false,
                    internal: false,
                    arguments: Vec::new(),
                };
                (name, Exchange::new(declared))
            })
            .collect();
        Self {
            id,
            topics: BTreeMap::new(),
            topic_uuids: BTreeMap::new(),
            exchanges,
            queues: BTreeMap::new(),
            sessions: BTreeMap::new(),
            shared: BTreeMap::new(),
            routes: Routes::default(),
            retained: Retained::default(),
            groups: BTreeMap::new(),
            auto_names: 0,
        }
    }
}
