//! Where a publish goes: the provenance table (design, section 5), one queue at most once.

use crate::api::*;
use crate::path::{amqp_key, words};
use crate::shard::Shard;
use crate::state::apply::first_level;
use crate::state::namespace::Namespace;
use crate::state::routes::{Route, RouteTarget, Target};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who takes it so far: QoS granted, and whose own messages it does not want.
type Takers = BTreeMap<QueueId, (u8, Option<Name>)>;

/// A routing key: its words, which patterns are matched against, and as it is spelled.
struct Key<'a> {
    words: &'a [&'a [u8]],
    spelled: Bytes,
}

/// The provenance of an AMQP exchange.
pub(crate) fn amqp_provenance(exchange: &[u8]) -> Provenance {
    match exchange {
        b"" => Provenance::AmqpDefault,
        b"amq.topic" => Provenance::AmqpTopic,
        name if name.starts_with(b"amq.") => Provenance::AmqpPredeclared,
        _ => Provenance::AmqpExchange,
    }
}

/// The key under which a route is remembered, and the first level that makes it stale.
fn route_key(provenance: Provenance, address: &Address) -> (Provenance, Bytes, Bytes) {
    match address {
        Address::Amqp {
            exchange,
            routing_key,
        } => (provenance, exchange.clone(), routing_key.clone()),
        Address::Mqtt { topic } => (provenance, topic.clone(), Bytes::new()),
        Address::Kafka { topic, key } => {
            (provenance, topic.clone(), key.clone().unwrap_or_default())
        }
    }
}

/// The first level of a publish's path.
pub(crate) fn path_head(provenance: Provenance, address: &Address) -> &[u8] {
    match address {
        Address::Amqp {
            exchange,
            routing_key,
        } => match provenance {
            Provenance::AmqpTopic => first_level(routing_key, b'.'),
            Provenance::AmqpDefault => routing_key,
            _ => exchange,
        },
        Address::Mqtt { topic } => first_level(topic, b'/'),
        Address::Kafka { topic, .. } => topic,
    }
}

/// The levels below the first, for routing.
pub(crate) fn path_rest(provenance: Provenance, address: &Address) -> Vec<&[u8]> {
    match address {
        Address::Amqp { routing_key, .. } => match provenance {
            Provenance::AmqpTopic => words(routing_key).into_iter().skip(1).collect(),
            Provenance::AmqpDefault => Vec::new(),
            _ => words(routing_key),
        },
        Address::Mqtt { topic } => topic.split(|byte| *byte == b'/').skip(1).collect(),
        Address::Kafka { key: Some(key), .. } => key.split(|byte| *byte == b'/').collect(),
        Address::Kafka { key: None, .. } => Vec::new(),
    }
}

impl Shard {
    /// The route of an address, remembered where headers play no part.
    pub(crate) fn route(
        &mut self,
        namespace: NamespaceId,
        provenance: Provenance,
        address: &Address,
        headers: &Table,
        more_keys: &[Bytes],
    ) -> Arc<Route> {
        let Some(names) = self.state.namespace(namespace) else {
            return Arc::default();
        };
        let head = path_head(provenance, address);
        let version = names.routes.version(head);
        let cacheable = more_keys.is_empty() && headers.is_empty();
        let key = route_key(provenance, address);
        if cacheable && let Some(route) = names.routes.cached(&key, version) {
            return route;
        }
        let route = Arc::new(self.find_route(names, provenance, address, headers, more_keys));
        if cacheable && let Some(names) = self.state.namespace_mut(namespace) {
            names.routes.remember(key, version, route.clone());
        }
        route
    }

    fn find_route(
        &self,
        names: &Namespace,
        provenance: Provenance,
        address: &Address,
        headers: &Table,
        more_keys: &[Bytes],
    ) -> Route {
        let mut takers = Takers::new();
        let head = path_head(provenance, address);
        let rest = path_rest(provenance, address);
        let mut levels = Vec::with_capacity(rest.len() + 1);
        levels.push(head);
        levels.extend(rest.iter().copied());
        match provenance {
            Provenance::Kafka | Provenance::Mqtt => {
                if let Some(queue) = self.addressed_queue(names, head) {
                    takers.insert(queue, (2, None));
                }
                let key = Key {
                    words: &rest,
                    spelled: amqp_key(rest.iter().copied()),
                };
                self.bound_to_exchange(names, head, &key, headers, &mut takers);
                self.matching_filters(names, &levels, true, true, &mut takers);
            }
            Provenance::AmqpDefault => {
                let keys = std::iter::once(head).chain(more_keys.iter().map(|key| &key[..]));
                for key in keys {
                    if let Some(queue) = names.queues.get(key) {
                        takers.insert(*queue, (2, None));
                    }
                }
                self.matching_filters(names, &levels, false, false, &mut takers);
            }
            Provenance::AmqpTopic | Provenance::AmqpExchange | Provenance::AmqpPredeclared => {
                if let Address::Amqp {
                    exchange,
                    routing_key,
                } = address
                {
                    for key in std::iter::once(routing_key).chain(more_keys) {
                        let key = Key {
                            words: &words(key),
                            spelled: key.clone(),
                        };
                        self.bound_to_exchange(names, exchange, &key, headers, &mut takers);
                    }
                    let internal = names
                        .exchanges
                        .get(exchange)
                        .is_some_and(|exchange| exchange.declared.internal);
                    if !internal {
                        let everywhere = provenance != Provenance::AmqpPredeclared;
                        self.matching_filters(names, &levels, everywhere, false, &mut takers);
                    }
                }
            }
        }
        let queues = takers
            .into_iter()
            .map(|(queue, (qos, not_from))| RouteTarget {
                queue,
                qos,
                not_from,
            })
            .collect();
        Route {
            queues,
            topic: self.log_of(names, provenance, head),
        }
    }

    /// The queue that a path's first level names: not an exclusive or server-named one, which have no path.
    fn addressed_queue(&self, names: &Namespace, head: &[u8]) -> Option<QueueId> {
        let id = names.queues.get(head)?;
        let queue = self.state.queues.get(id)?;
        let has_path = !queue.declared.exclusive && !queue.declared.name.starts_with(b"amq.");
        has_path.then_some(*id)
    }

    /// An exchange's bindings, those of exchanges bound to it, and alternates where nothing matched.
    fn bound_to_exchange(
        &self,
        names: &Namespace,
        name: &[u8],
        key: &Key<'_>,
        headers: &Table,
        takers: &mut Takers,
    ) {
        let mut visited: Vec<&[u8]> = Vec::new();
        let mut open: Vec<&[u8]> = vec![name];
        while let Some(name) = open.pop() {
            if visited.contains(&name) {
                continue;
            }
            visited.push(name);
            let Some((_, exchange)) = names.exchanges.get_key_value(name) else {
                continue;
            };
            let mut matched = false;
            let mut next: Vec<Name> = Vec::new();
            exchange.route(key.words, &key.spelled, headers, &mut |destination| {
                matched = true;
                match destination {
                    Destination::Queue(queue) => {
                        if let Some(queue) = names.queues.get(queue) {
                            takers.insert(*queue, (2, None));
                        }
                    }
                    Destination::Exchange(exchange) => next.push(exchange.clone()),
                }
            });
            if !matched && let Some(alternate) = exchange.alternate() {
                next.push(alternate.clone());
            }
            for name in next {
                if let Some((name, _)) = names.exchanges.get_key_value(&name) {
                    open.push(name);
                }
            }
        }
    }

    /// MQTT filters, and `amq.topic`'s bindings where the provenance says so.
    fn matching_filters(
        &self,
        names: &Namespace,
        levels: &[&[u8]],
        wildcards_at_root: bool,
        amq_topic: bool,
        takers: &mut Takers,
    ) {
        let mut found: Vec<Target> = Vec::new();
        names
            .routes
            .filters
            .matches_from(levels, wildcards_at_root, &mut |target| {
                found.push(target.clone());
            });
        for target in found {
            match target {
                Target::Subscribed {
                    queue,
                    qos,
                    not_from,
                    ..
                } => {
                    let taker = takers.entry(queue).or_insert((qos, not_from.clone()));
                    taker.0 = taker.0.max(qos);
                    if taker.1 != not_from {
                        taker.1 = None;
                    }
                }
                Target::Bound(destination) if amq_topic => match destination {
                    Destination::Queue(name) => {
                        if let Some(queue) = names.queues.get(&name) {
                            takers.insert(*queue, (2, None));
                        }
                    }
                    Destination::Exchange(name) => {
                        let spelled = amqp_key(levels.iter().copied());
                        let key = Key {
                            words: levels,
                            spelled,
                        };
                        self.bound_to_exchange(names, &name, &key, &Vec::new(), takers);
                    }
                },
                Target::Bound(_) => {}
            }
        }
    }

    /// The log that keeps what is published to this path, if there is one.
    fn log_of(&self, names: &Namespace, provenance: Provenance, head: &[u8]) -> Option<TopicId> {
        match provenance {
            Provenance::AmqpPredeclared => None,
            // What is addressed to a queue is logged where the queue has a log role; nothing else makes one.
            _ => names.topics.get(head).copied(),
        }
    }
}
