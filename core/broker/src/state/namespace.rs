//! A namespace: the names of one tenant and what they stand for.

use crate::api::*;
use crate::state::exchange::Exchange;
use crate::state::index::Index;
use crate::state::names::Names;
use crate::state::objects::Objects;
use crate::state::queue::Queue;
use crate::state::retained::Retained;
use crate::state::routes::Routes;
use crate::state::session::Session;
use crate::state::transactions::Transactional;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The names of one tenant.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) id: NamespaceId,
    pub(crate) topics: Names<TopicId>,
    pub(crate) topic_uuids: Index<TopicId>,
    /// Topics by what their raw views are called.
    pub(crate) raws: BTreeMap<Name, TopicId>,
    pub(crate) raw_uuids: BTreeMap<u128, TopicId>,
    pub(crate) exchanges: BTreeMap<Name, Exchange>,
    pub(crate) queues: Names<QueueId>,
    pub(crate) sessions: Names<SessionId>,
    /// Shared subscriptions: (group, filter) and their queue.
    pub(crate) shared: BTreeMap<(Name, Bytes), QueueId>,
    /// MQTT filters and `amq.topic` patterns over whole paths, and route caches.
    pub(crate) routes: Routes,
    pub(crate) retained: Retained,
    pub(crate) groups: BTreeMap<Name, Group>,
    /// Transactional ids.
    pub(crate) transactions: BTreeMap<Name, Transactional>,
    /// Names that publishing made by itself, and for whom.
    pub(crate) auto_names: u64,
    pub(crate) makers: BTreeMap<TopicId, Name>,
    /// How many each has made.
    pub(crate) made: BTreeMap<Name, u64>,
    /// How many of them within this second, for each principal.
    pub(crate) made_now: (u64, BTreeMap<Name, u64>),
    /// Topics with a path template, by the first level of their paths, if they all have the same.
    pub(crate) templated: BTreeMap<Option<Bytes>, BTreeSet<TopicId>>,
    /// Which exchanges lead to one of this name, by how many bindings or as its alternate.
    led_to_by: BTreeMap<Name, BTreeMap<Name, usize>>,
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
            topics: Names::default(),
            topic_uuids: Index::default(),
            raws: BTreeMap::new(),
            raw_uuids: BTreeMap::new(),
            exchanges,
            queues: Names::default(),
            sessions: Names::default(),
            shared: BTreeMap::new(),
            routes: Routes::default(),
            retained: Retained::default(),
            groups: BTreeMap::new(),
            transactions: BTreeMap::new(),
            auto_names: 0,
            makers: BTreeMap::new(),
            made: BTreeMap::new(),
            made_now: (0, BTreeMap::new()),
            templated: BTreeMap::new(),
            led_to_by: BTreeMap::new(),
        }
    }

    /// An exchange leads to another, by a binding or as its alternate.
    pub(crate) fn lead(&mut self, from: &Name, to: &Name) {
        let by = self.led_to_by.entry(to.clone()).or_default();
        *by.entry(from.clone()).or_insert(0) += 1;
    }

    /// One way from an exchange to another is gone.
    pub(crate) fn unlead(&mut self, from: &Name, to: &Name) {
        let Some(by) = self.led_to_by.get_mut(to) else {
            return;
        };
        if let Some(ways) = by.get_mut(from) {
            *ways -= 1;
            if *ways == 0 {
                by.remove(from);
            }
        }
        if by.is_empty() {
            self.led_to_by.remove(to);
        }
    }

    /// The exchanges that lead to this one.
    pub(crate) fn leading_to(&self, name: &Name) -> impl Iterator<Item = &Name> {
        self.led_to_by
            .get(name)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }

    /// The filters by which a session's or a shared subscription's queue is subscribed.
    pub(crate) fn filters_of(
        &self,
        queue: &Queue,
        sessions: &Objects<SessionId, Session>,
    ) -> Vec<Bytes> {
        if queue.kind == QueueKind::Shared {
            let shared = self.shared.iter().filter(|(_, of)| **of == queue.id);
            return shared.map(|((_, filter), _)| filter.clone()).collect();
        }
        let session = self.sessions.get(sessions, &queue.declared.name);
        session
            .and_then(|session| sessions.get(&session))
            .into_iter()
            .flat_map(|session| session.subscriptions.values())
            .filter(|(of, _)| *of == queue.id)
            .map(|(_, subscription)| subscription.filter.clone())
            .collect()
    }

    /// An exchange routes otherwise from now on: routes remembered through it, or through one that leads to it, hold
    /// no more.
    pub(crate) fn touch_exchange(&mut self, name: &Name) {
        let mut touched: BTreeSet<&Name> = BTreeSet::new();
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            if touched.insert(name) {
                open.extend(
                    self.led_to_by
                        .get(name)
                        .into_iter()
                        .flat_map(BTreeMap::keys),
                );
            }
        }
        for touched in touched {
            // What is bound to `amq.topic` by patterns may take any path.
            if touched == "amq.topic" && touched != name {
                self.routes.touch_all();
            } else {
                self.routes.touch(touched);
            }
        }
    }
}
