//! Matching whole paths: MQTT filters and `amq.topic` patterns, and the cache of routes found.

use crate::api::*;
use crate::route::{Matcher, Pattern, PatternError};
use bytes::Bytes;
use std::collections::HashMap;
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

/// Who takes what a path pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A binding of `amq.topic`.
    Bound(Destination),
    /// A subscription: the queue and the QoS granted, and the subscriber where it does not want its own.
    Subscribed {
        queue: QueueId,
        qos: u8,
        session: SessionId,
        not_from: Option<Name>,
    },
}

/// Where a publish goes: computed once for each address, until a topology change touches its first level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Queues, each once, in the order of their numbers, with the QoS granted.
    pub(crate) queues: Vec<RouteTarget>,
    /// The log that keeps it: its partition keys, empty for none.
    pub(crate) topic: Option<TopicId>,
}

/// One queue of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteTarget {
    pub(crate) queue: QueueId,
    /// The QoS granted; AMQP queues take all.
    pub(crate) qos: u8,
    /// A subscriber that does not want its own messages: its client id.
    pub(crate) not_from: Option<Name>,
}

/// Stripes of first levels whose routes go stale together.
const STRIPES: usize = 256;

/// Routes that are remembered at the most; past it the cache starts afresh.
const CACHED_MAX: usize = 65_536;

/// The patterns over whole paths, and the cache.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) filters: Patterns<Target>,
    versions: Box<[u64; STRIPES]>,
    /// Moved by changes that may touch any first level.
    shared: u64,
    cache: HashMap<(Provenance, Bytes, Bytes), (u64, Arc<Route>)>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            filters: Patterns::default(),
            versions: Box::new([0; STRIPES]),
            shared: 0,
            cache: HashMap::new(),
        }
    }
}

impl Routes {
    /// What a cached route of this first level must carry to be true.
    pub(crate) fn version(&self, first: &[u8]) -> u64 {
        self.versions
            .get(stripe(first))
            .copied()
            .unwrap_or(0)
            .wrapping_add(self.shared)
    }

    /// Something about this first level changed.
    pub(crate) fn touch(&mut self, first: &[u8]) {
        if let Some(version) = self.versions.get_mut(stripe(first)) {
            *version += 1;
        }
    }

    /// Something changed that may touch any first level.
    pub(crate) fn touch_all(&mut self) {
        self.shared += 1;
    }

    /// Something about a pattern changed.
    pub(crate) fn touch_pattern(&mut self, first: &[u8]) {
        if matches!(first, b"+" | b"#" | b"*") {
            self.touch_all()
        } else {
            self.touch(first)
        }
    }

    /// The route found before, if it still holds.
    pub(crate) fn cached(
        &self,
        key: &(Provenance, Bytes, Bytes),
        version: u64,
    ) -> Option<Arc<Route>> {
        self.cache
            .get(key)
            .filter(|(found_at, _)| *found_at == version)
            .map(|(_, route)| route.clone())
    }

    /// Remembers a route.
    pub(crate) fn remember(
        &mut self,
        key: (Provenance, Bytes, Bytes),
        version: u64,
        route: Arc<Route>,
    ) {
        if self.cache.len() >= CACHED_MAX {
            self.cache.clear();
        }
        self.cache.insert(key, (version, route));
    }
}

fn stripe(first: &[u8]) -> usize {
    // FNV-1a over the level: a stripe, not a defence.
    let hash = first.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash >> 32) as usize % STRIPES
}

impl<T: PartialEq> Patterns<T> {
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
        parse(kind, pattern).is_ok_and(|pattern| self.matcher.remove(&pattern, target))
    }

    /// Every target whose pattern matches these levels.
    pub(crate) fn matches(&self, levels: &[&[u8]], found: &mut dyn FnMut(&T)) {
        self.matches_from(levels, true, found);
    }

    /// The same; unless `wildcards_at_root`, only patterns whose first level is literally the first of these.
    pub(crate) fn matches_from(
        &self,
        levels: &[&[u8]],
        wildcards_at_root: bool,
        found: &mut dyn FnMut(&T),
    ) {
        if !self.matcher.matches(levels, !wildcards_at_root, found) {
            tracing::warn!("a match was cut short: patterns and path are too involved");
        }
    }
}

fn parse(kind: PatternKind, pattern: &[u8]) -> Result<Pattern, PatternError> {
    match kind {
        PatternKind::Amqp => Pattern::amqp(pattern),
        PatternKind::Mqtt => Pattern::mqtt(pattern),
    }
}

fn bad_pattern(error: PatternError) -> Refusal {
    Refusal::BadPattern(error.to_string())
}
