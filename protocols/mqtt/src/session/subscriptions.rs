//! A session's subscriptions as its connection knows them: what a delivery is told of them.
//!
//! The broker decides who gets a message. QoS, identifiers and RETAIN as published are worked out here, from the
//! message's topic and the subscriptions of the moment (MQTT 5 sections 3.3.4, 3.8.3.1 and 3.8.4).

use crate::codec::{filter_matches, is_topic_name};
use bytes::Bytes;
use omnilog_broker::Subscription;
use omnilog_broker::path::queue_of_filter;
use smallvec::SmallVec;
use std::collections::HashMap;

/// What the matching subscriptions say of a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Matched {
    /// The highest QoS granted; `None`: no subscription matches any more.
    pub(super) qos: Option<u8>,
    pub(super) identifiers: SmallVec<[u32; 2]>,
    pub(super) retain_as_published: bool,
    /// It comes from an AMQP queue that the session consumes from.
    pub(super) queue: bool,
}

/// What a delivery is matched by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivered<'a> {
    pub(super) topic: &'a [u8],
    /// It came from a shared subscription's queue.
    pub(super) shared: bool,
    /// This client published it itself.
    pub(super) own: bool,
    /// It is a retained message sent because of a new subscription.
    pub(super) retained: bool,
}

/// The subscriptions of a session.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Those without wildcard and group, by their filter: a topic finds its own at once, however many there are.
    exact: HashMap<Bytes, Subscription>,
    /// The others.
    patterns: Vec<Subscription>,
    /// Those that have an identifier or keep RETAIN; mostly none.
    telling: usize,
    /// How many there are of each QoS.
    by_qos: [usize; 3],
    /// Filters of the newest SUBSCRIBE that was granted: retained messages that follow are because of them.
    newest: Vec<Bytes>,
    /// The last answer, for a topic that comes again.
    memo: Option<(Bytes, bool, bool, Matched)>,
}

impl Subscriptions {
    pub(super) fn new(entries: Vec<Subscription>) -> Self {
        let mut table = Self::default();
        for entry in entries {
            table.add(entry);
        }
        table
    }

    fn add(&mut self, subscription: Subscription) {
        self.telling += usize::from(tells(&subscription));
        self.by_qos[usize::from(subscription.qos.min(2))] += 1;
        if is_exact(&subscription.filter, subscription.share.as_ref()) {
            self.exact.insert(subscription.filter.clone(), subscription);
        } else {
            self.patterns.push(subscription);
        }
    }

    /// The QoS of all subscriptions, where they have the same.
    fn uniform_qos(&self) -> Option<u8> {
        match self.by_qos {
            [_, 0, 0] => Some(0),
            [0, _, 0] => Some(1),
            [0, 0, _] => Some(2),
            _ => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.exact.len() + self.patterns.len()
    }

    /// These were granted by one SUBSCRIBE: equal filters (and groups) replace [3.8.4-3].
    pub(super) fn granted(&mut self, subscriptions: Vec<Subscription>) {
        self.memo = None;
        self.newest.clear();
        for subscription in subscriptions {
            if subscription.share.is_none() {
                self.newest.push(subscription.filter.clone());
            }
            self.remove(&subscription.filter, subscription.share.as_ref());
            self.add(subscription);
        }
    }

    /// This one is no more.
    pub(super) fn remove(&mut self, filter: &[u8], share: Option<&Bytes>) {
        let found = if is_exact(filter, share) {
            self.exact.remove(filter)
        } else {
            self.patterns
                .iter()
                .position(|entry| entry.filter == filter && entry.share.as_ref() == share)
                .map(|index| self.patterns.swap_remove(index))
        };
        if let Some(entry) = found {
            self.telling -= usize::from(tells(&entry));
            self.by_qos[usize::from(entry.qos.min(2))] -= 1;
            self.memo = None;
        }
    }

    /// What the subscriptions that this delivery satisfies say of it.
    pub(super) fn matched(&mut self, delivered: Delivered<'_>) -> Matched {
        if self.telling == 0
            && let Some(qos) = self.uniform_qos()
        {
            // They all say the same: no need to look which of them match.
            return Matched {
                qos: (self.len() > 0).then_some(qos),
                ..Matched::default()
            };
        }
        if delivered.retained {
            // Because of one SUBSCRIBE, so by its filters if any of them fits.
            let newest = self.collect(delivered, true);
            return newest.unwrap_or_else(|| self.collect(delivered, false).unwrap_or_default());
        }
        if let Some((topic, shared, own, matched)) = &self.memo
            && topic == delivered.topic
            && *shared == delivered.shared
            && *own == delivered.own
        {
            return matched.clone();
        }
        let matched = self.collect(delivered, false).unwrap_or_default();
        self.memo = Some((
            Bytes::copy_from_slice(delivered.topic),
            delivered.shared,
            delivered.own,
            matched.clone(),
        ));
        matched
    }

    fn collect(&self, delivered: Delivered<'_>, newest_only: bool) -> Option<Matched> {
        let mut matched = None;
        let mut named = None;
        let exact = self.exact.get(delivered.topic);
        for entry in exact.into_iter().chain(&self.patterns) {
            if queue_of_filter(&entry.filter).is_some() {
                named = Some(entry).filter(|_| delivered.shared).or(named);
                continue;
            }
            if entry.share.is_some() != delivered.shared
                || (entry.no_local && delivered.own)
                || (newest_only && !self.newest.contains(&entry.filter))
                || !filter_matches(&entry.filter, delivered.topic)
            {
                continue;
            }
            let matched: &mut Matched = matched.get_or_insert_default();
            matched.qos = matched.qos.max(Some(entry.qos));
            matched.retain_as_published |= entry.retain_as_published;
            if let Some(identifier) = entry.identifier
                && !matched.identifiers.contains(&identifier)
            {
                matched.identifiers.push(identifier);
            }
        }
        // What no group's filter matches comes from a queue that was asked for by its name.
        matched.or_else(|| {
            named.map(|entry| Matched {
                qos: Some(entry.qos),
                identifiers: entry.identifier.into_iter().collect(),
                retain_as_published: entry.retain_as_published,
                queue: true,
            })
        })
    }
}

fn is_exact(filter: &[u8], share: Option<&Bytes>) -> bool {
    share.is_none() && is_topic_name(filter) && queue_of_filter(filter).is_none()
}

fn tells(subscription: &Subscription) -> bool {
    queue_of_filter(&subscription.filter).is_some()
        || subscription.identifier.is_some()
        || subscription.retain_as_published
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(filter: &'static str, identifier: Option<u32>) -> Subscription {
        Subscription {
            filter: Bytes::from_static(filter.as_bytes()),
            share: None,
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            identifier,
        }
    }

    fn identifiers(subscriptions: &mut Subscriptions, topic: &str, retained: bool) -> Vec<u32> {
        let delivered = Delivered {
            topic: topic.as_bytes(),
            shared: false,
            own: false,
            retained,
        };
        subscriptions.matched(delivered).identifiers.to_vec()
    }

    #[test]
    fn overlapping_subscriptions_give_all_their_identifiers() {
        let mut table = Subscriptions::default();
        table.granted(vec![subscription("a/#", Some(1))]);
        table.granted(vec![
            subscription("a/+", Some(2)),
            subscription("b", Some(3)),
        ]);
        assert_eq!(identifiers(&mut table, "a/b", false), [1, 2]);
        assert_eq!(identifiers(&mut table, "a", false), [1]);
        table.remove(b"a/#", None);
        assert_eq!(identifiers(&mut table, "a/b", false), [2]);
    }

    #[test]
    fn a_retained_message_has_the_new_subscriptions_identifier_alone() {
        let mut table = Subscriptions::default();
        table.granted(vec![subscription("a/#", Some(1))]);
        table.granted(vec![subscription("a/+", Some(2))]);
        assert_eq!(identifiers(&mut table, "a/b", true), [2]);
    }

    #[test]
    fn the_highest_qos_of_those_that_match_counts() {
        let qos = |table: &mut Subscriptions, topic: &str| {
            let delivered = Delivered {
                topic: topic.as_bytes(),
                shared: false,
                own: false,
                retained: false,
            };
            table.matched(delivered).qos
        };
        let mut table = Subscriptions::default();
        assert_eq!(qos(&mut table, "a/b"), None);
        table.granted(vec![subscription("a/#", None)]);
        assert_eq!(qos(&mut table, "a/b"), Some(1));
        let at = |filter, qos| Subscription {
            qos,
            ..subscription(filter, None)
        };
        table.granted(vec![at("a/+", 2), at("a/c", 0)]);
        assert_eq!(qos(&mut table, "a/b"), Some(2));
        assert_eq!(qos(&mut table, "a/b/c"), Some(1));
        assert_eq!(qos(&mut table, "x"), None);
    }

    #[test]
    fn an_equal_filter_replaces_the_identifier() {
        let mut table = Subscriptions::default();
        table.granted(vec![subscription("a", Some(1))]);
        table.granted(vec![subscription("a", None)]);
        assert_eq!(identifiers(&mut table, "a", false), [0_u32; 0]);
        assert_eq!(table.len(), 1);
    }
}
