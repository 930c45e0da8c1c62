//! Matching whole paths: MQTT filters and `amq.topic` patterns, and the cache of routes found.

use crate::api::*;
use crate::mapping::Placed;
use crate::route::{Matcher, Pattern, PatternError};
use crate::state::route_cache::RouteCache;
use std::collections::VecDeque;
use std::sync::Arc;

/// Whose pattern language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatternKind {
    /// `*` one word, `#` any number of words, anywhere.
    Amqp,
    /// `+` one level, `#` the rest and the parent; neither matches a first level that starts with `$`.
    Mqtt,
}

/// Targets by pattern.
#[derive(Debug)]
pub(crate) struct Patterns<T> {
    matcher: Matcher<T>,
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self {
            matcher: Matcher::default(),
        }
    }
}

/// Who takes what a path pattern matches. There may be millions: kept small.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A binding of `amq.topic`.
    Bound(Box<Destination>),
    /// A subscription: the queue and the QoS granted, and whether the subscriber does not want its own.
    Subscribed {
        queue: QueueId,
        session: SessionId,
        qos: u8,
        no_local: bool,
    },
}

/// Where a publish goes: computed once for each address, until a topology change touches its first level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Queues, each once, in the order of their numbers, with the QoS granted; but for its crowd.
    pub(crate) queues: Vec<RouteTarget>,
    /// The log that keeps it.
    pub(crate) topic: Option<TopicId>,
    /// A headers exchange had a say: messages with other headers go elsewhere.
    pub(crate) by_headers: bool,
    /// A match was cut short: more queues than these may want it.
    pub(crate) cut_short: bool,
    /// The key in that log, if it is not the one that the path has by default.
    pub(crate) placed: Option<Box<Placed>>,
    /// It has no log of its own, but might have one.
    pub(crate) unlogged: bool,
    /// Queues in great number, not among the others, that hold whatever comes at QoS 1 or 2 without a further look:
    /// sessions, and AMQP queues, which hold QoS 0 as well.
    pub(crate) crowd: Option<Crowd>,
}

impl Route {
    /// The QoS granted to a queue to which it leads. Of a crowd it plays no part.
    pub(crate) fn granted(&self, queue: QueueId) -> Option<u8> {
        let crowd = self.crowd.as_deref().unwrap_or_default();
        if crowd.binary_search(&queue).is_ok() {
            return Some(1);
        }
        let target = self.queues.iter().find(|target| target.queue == queue);
        target.map(|target| target.qos)
    }
}

/// Queues in order, shared between routes that lead to the same.
pub(crate) type Crowd = Arc<[QueueId]>;

/// Crowds that further routes may lead to.
const CROWDS: usize = 16;

/// One queue of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteTarget {
    pub(crate) queue: QueueId,
    /// The QoS granted; AMQP queues take all.
    pub(crate) qos: u8,
    /// A subscriber that does not want its own messages: its client id.
    pub(crate) not_from: Option<Name>,
}

/// The patterns over whole paths, and the cache.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) filters: Patterns<Target>,
    pub(crate) cache: RouteCache,
    /// Crowds of the routes found last.
    crowds: VecDeque<Crowd>,
}

impl Routes {
    /// A crowd of the same queues that a route before had, or this one from now on.
    pub(crate) fn same_crowd(&mut self, crowd: Crowd) -> Crowd {
        if let Some(known) = self.crowds.iter().find(|known| **known == crowd) {
            return known.clone();
        }
        self.crowds.truncate(CROWDS - 1);
        self.crowds.push_front(crowd.clone());
        crowd
    }

    /// Something about this first level changed.
    pub(crate) fn touch(&mut self, first: &[u8]) {
        self.cache.touch(first);
    }

    /// Something changed that may touch any first level.
    pub(crate) fn touch_all(&mut self) {
        self.cache.touch_all();
    }

    /// Something about a pattern changed.
    pub(crate) fn touch_pattern(&mut self, first: &[u8]) {
        if matches!(first, b"+" | b"#" | b"*") {
            self.touch_all();
        } else {
            self.touch(first);
        }
    }
}

impl<T: Ord + Clone> Patterns<T> {
    /// Adds a target under a pattern.
    pub(crate) fn insert(
        &mut self,
        kind: PatternKind,
        pattern: &[u8],
        target: T,
    ) -> Result<(), Refusal> {
        self.matcher
            .insert(&parse(kind, pattern).map_err(bad_pattern)?, target);
        Ok(())
    }

    /// Takes one target away.
    pub(crate) fn remove(&mut self, kind: PatternKind, pattern: &[u8], target: &T) -> bool {
        parse(kind, pattern).is_ok_and(|pattern| self.matcher.remove(&pattern, target.clone()))
    }

    /// Every target whose pattern begins literally with this level, and with `wild` also those of a wildcard there.
    pub(crate) fn beginning_with(&self, level: &[u8], wild: bool, found: &mut dyn FnMut(&T)) {
        self.matcher.beginning_with(level, wild, found);
    }

    /// Every target there is.
    pub(crate) fn every(&self, found: &mut dyn FnMut(&T)) {
        self.matcher.every(found);
    }

    /// Every target whose pattern matches these levels; `false`: the match was cut short.
    pub(crate) fn matches(&self, levels: &[&[u8]], found: &mut dyn FnMut(&T)) -> bool {
        self.matches_from(levels, true, found)
    }

    /// The same; unless `wildcards_at_root`, only patterns whose first level is literally the first of these.
    pub(crate) fn matches_from(
        &self,
        levels: &[&[u8]],
        wildcards_at_root: bool,
        found: &mut dyn FnMut(&T),
    ) -> bool {
        self.matcher.matches(levels, !wildcards_at_root, found)
    }
}

fn parse(kind: PatternKind, pattern: &[u8]) -> Result<Pattern<&[u8]>, PatternError> {
    match kind {
        PatternKind::Amqp => Pattern::amqp(pattern),
        PatternKind::Mqtt => Pattern::mqtt(pattern),
    }
}

fn bad_pattern(error: PatternError) -> Refusal {
    Refusal::BadPattern(error.to_string())
}
