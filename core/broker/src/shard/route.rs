//! Where a publish goes: the provenance table (design, section 5), one queue at most once.

use crate::api::*;
use crate::path::{amqp_key, words};
use crate::shard::Shard;
use crate::shard::headers::Headers;
use crate::state::apply::first_level;
use crate::state::holder_sets::MEMBERS_MIN;
use crate::state::namespace::Namespace;
use crate::state::queue::Queue;
use crate::state::routes::{Crowd, Route, RouteTarget, Target};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who takes it so far.
#[derive(Debug, Default)]
struct Takers {
    /// The QoS granted, and whose own messages a queue does not want.
    queues: BTreeMap<QueueId, (u8, Option<Name>)>,
    by_headers: bool,
    cut_short: bool,
}

impl Takers {
    /// A queue takes it as it is.
    fn take(&mut self, queue: QueueId) {
        self.queues.insert(queue, (2, None));
    }

    /// A queue takes it by a subscription; of several the greatest QoS counts, and any that wants it.
    fn subscribed(&mut self, queue: QueueId, qos: u8, not_from: Option<&Name>) {
        let taker = self
            .queues
            .entry(queue)
            .or_insert_with(|| (qos, not_from.cloned()));
        taker.0 = taker.0.max(qos);
        if taker.1.as_ref() != not_from {
            taker.1 = None;
        }
    }
}

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

/// The address under which a route is remembered; none for a record without a key, whose path is not that of an empty
/// one.
fn remembered(address: &Address) -> Option<(&[u8], &[u8])> {
    match address {
        Address::Amqp {
            exchange,
            routing_key,
        } => Some((exchange, routing_key)),
        Address::Mqtt { topic } => Some((topic, b"")),
        Address::Kafka { topic, key } => Some((topic, key.as_ref()?)),
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
        headers: Headers<'_>,
        more_keys: &[Bytes],
    ) -> Arc<Route> {
        let Some(names) = self.state.namespace_mut(namespace) else {
            return Arc::default();
        };
        // A path that a template made of a Kafka client's key goes where MQTT's would.
        let provenance = match address {
            Address::Mqtt { .. } => Provenance::Mqtt,
            _ => provenance,
        };
        let head = path_head(provenance, address);
        let known = remembered(address).filter(|_| more_keys.is_empty());
        if let Some(known) = known
            && let Some(route) = names.routes.cache.get(provenance, known, head)
        {
            return route;
        }
        let Some(names) = self.state.namespace(namespace) else {
            return Arc::default();
        };
        let mut route = self.find_route(names, provenance, address, headers, more_keys);
        if let Some(crowd) = route.crowd.take()
            && let Some(names) = self.state.namespace_mut(namespace)
        {
            route.crowd = Some(names.routes.same_crowd(crowd));
        }
        let route = Arc::new(route);
        if let Some(known) = known
            && !route.by_headers
            && let Some(names) = self.state.namespace_mut(namespace)
        {
            let cache = &mut names.routes.cache;
            cache.put(provenance, known, head, route.clone());
        }
        route
    }

    fn find_route(
        &self,
        names: &Namespace,
        provenance: Provenance,
        address: &Address,
        headers: Headers<'_>,
        more_keys: &[Bytes],
    ) -> Route {
        let mut takers = Takers::default();
        let head = path_head(provenance, address);
        let rest = path_rest(provenance, address);
        let mut levels = Vec::with_capacity(rest.len() + 1);
        levels.push(head);
        levels.extend(rest.iter().copied());
        match provenance {
            Provenance::Kafka | Provenance::Mqtt => {
                if let Some(queue) = self.addressed_queue(names, head) {
                    takers.take(queue);
                }
                let key = Key {
                    words: &rest,
                    spelled: amqp_key(rest.iter().copied()),
                };
                self.bound_to_exchange(names, head, &[key], headers, &mut takers);
                self.matching_filters(names, &levels, true, Some(headers), &mut takers);
            }
            Provenance::AmqpDefault => {
                let keys = std::iter::once(head).chain(more_keys.iter().map(|key| &key[..]));
                for key in keys {
                    if let Some(queue) = names.queues.get(&self.state.queues, key) {
                        takers.take(queue);
                    }
                }
                self.matching_filters(names, &levels, false, None, &mut takers);
            }
            Provenance::AmqpTopic | Provenance::AmqpExchange | Provenance::AmqpPredeclared => {
                if let Address::Amqp {
                    exchange,
                    routing_key,
                } = address
                {
                    // All keys together: an alternate takes what none of them leads anywhere.
                    let spelled: Vec<&Bytes> =
                        std::iter::once(routing_key).chain(more_keys).collect();
                    let split: Vec<Vec<&[u8]>> = spelled.iter().map(|key| words(key)).collect();
                    let keys: Vec<Key<'_>> = split
                        .iter()
                        .zip(&spelled)
                        .map(|(words, spelled)| Key {
                            words,
                            spelled: (*spelled).clone(),
                        })
                        .collect();
                    self.bound_to_exchange(names, exchange, &keys, headers, &mut takers);
                    let internal = names
                        .exchanges
                        .get(exchange)
                        .is_some_and(|exchange| exchange.declared.internal);
                    if !internal {
                        let everywhere = provenance != Provenance::AmqpPredeclared;
                        self.matching_filters(names, &levels, everywhere, None, &mut takers);
                    }
                }
            }
        }
        let (by_headers, cut_short) = (takers.by_headers, takers.cut_short);
        if cut_short {
            let head = String::from_utf8_lossy(head);
            tracing::warn!(%head, "a match was cut short: patterns and path are too involved");
        }
        let crowd = self.crowd_of(&takers);
        if crowd.is_some() {
            takers
                .queues
                .retain(|queue, taker| !self.of_crowd(*queue, taker));
        }
        let queues = takers
            .queues
            .into_iter()
            .map(|(queue, (qos, not_from))| RouteTarget {
                queue,
                qos,
                not_from,
            })
            .collect();
        let log = self.log_of(names, provenance, &levels);
        Route {
            queues,
            topic: log.topic,
            by_headers,
            cut_short,
            placed: log.placed,
            unlogged: log.unlogged,
            crowd,
        }
    }

    /// The queues that hold whatever comes at QoS 1 or 2, if they are many.
    fn crowd_of(&self, takers: &Takers) -> Option<Crowd> {
        if takers.queues.len() < MEMBERS_MIN {
            return None;
        }
        let all = takers.queues.iter();
        let crowd: Vec<QueueId> = all
            .filter(|(queue, taker)| self.of_crowd(**queue, taker))
            .map(|(queue, _)| *queue)
            .collect();
        (crowd.len() >= MEMBERS_MIN).then(|| Crowd::from(crowd))
    }

    /// Does a queue hold whatever comes at QoS 1 or 2?
    fn of_crowd(&self, queue: QueueId, (qos, not_from): &(u8, Option<Name>)) -> bool {
        *qos > 0
            && not_from.is_none()
            && self
                .state
                .queues
                .get(&queue)
                .is_some_and(Queue::may_be_crowded)
    }

    /// The queue that a path's first level names: not an exclusive or server-named one, which have no path.
    fn addressed_queue(&self, names: &Namespace, head: &[u8]) -> Option<QueueId> {
        let id = names.queues.get(&self.state.queues, head)?;
        let queue = self.state.queues.get(&id)?;
        let has_path = !queue.declared.exclusive && !queue.declared.name.starts_with(b"amq.");
        has_path.then_some(id)
    }

    /// An exchange's bindings, those of exchanges bound to it, and alternates where nothing matched: each exchange once,
    /// for all keys.
    fn bound_to_exchange(
        &self,
        names: &Namespace,
        name: &[u8],
        keys: &[Key<'_>],
        headers: Headers<'_>,
        takers: &mut Takers,
    ) {
        let Some((name, _)) = names.exchanges.get_key_value(name) else {
            return;
        };
        let mut visited: BTreeSet<&Name> = BTreeSet::from([name]);
        let mut open: Vec<&Name> = vec![name];
        let mut table: Option<Table> = None;
        let none = Table::new();
        while let Some(exchange) = open.pop().and_then(|name| names.exchanges.get(name)) {
            let mut matched = false;
            let mut next: SmallVec<[Name; 4]> = SmallVec::new();
            if exchange.routing == ExchangeKind::Headers {
                takers.by_headers = true;
                table.get_or_insert_with(|| headers.table());
            }
            for key in keys {
                let headers = table.as_ref().unwrap_or(&none);
                let whole = exchange.route(key.words, &key.spelled, headers, &mut |destination| {
                    matched = true;
                    match destination {
                        Destination::Queue(queue) => {
                            if let Some(queue) = names.queues.get(&self.state.queues, queue) {
                                takers.take(queue);
                            }
                        }
                        Destination::Exchange(exchange) => next.push(exchange.clone()),
                    }
                });
                takers.cut_short |= !whole;
            }
            if !matched {
                next.extend(exchange.alternate().cloned());
            }
            for name in next {
                if let Some((name, _)) = names.exchanges.get_key_value(&name)
                    && visited.insert(name)
                {
                    open.push(name);
                }
            }
        }
    }

    /// MQTT filters, and `amq.topic`'s bindings where the headers for what is bound there are given.
    fn matching_filters(
        &self,
        names: &Namespace,
        levels: &[&[u8]],
        wildcards_at_root: bool,
        amq_topic: Option<Headers<'_>>,
        takers: &mut Takers,
    ) {
        let mut exchanges: BTreeSet<&Name> = BTreeSet::new();
        let mut found = |target: &Target| match target {
            Target::Subscribed {
                queue,
                session,
                qos,
                no_local,
            } => {
                let not_from = no_local
                    .then(|| self.state.sessions.get(session))
                    .flatten()
                    .map(|session| &session.client_id);
                takers.subscribed(*queue, *qos, not_from);
            }
            Target::Bound(destination) if amq_topic.is_some() => match &**destination {
                Destination::Queue(name) => {
                    if let Some(queue) = names.queues.get(&self.state.queues, name) {
                        takers.take(queue);
                    }
                }
                Destination::Exchange(name) => {
                    if let Some((name, _)) = names.exchanges.get_key_value(name) {
                        exchanges.insert(name);
                    }
                }
            },
            Target::Bound(_) => {}
        };
        let filters = &names.routes.filters;
        let whole = filters.matches_from(levels, wildcards_at_root, &mut found);
        takers.cut_short |= !whole;
        let Some(headers) = amq_topic.filter(|_| !exchanges.is_empty()) else {
            return;
        };
        let key = [Key {
            words: levels,
            spelled: amqp_key(levels.iter().copied()),
        }];
        for name in exchanges {
            self.bound_to_exchange(names, name, &key, headers, takers);
        }
    }
}
