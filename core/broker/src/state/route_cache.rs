//! Routes found before, each until a change of topology touches its first level.
//!
//! The cache is a table of a fixed number of places in pairs: a route that finds both places of its address taken puts
//! the one out that was not used last. So nothing is ever cleared at once, and addresses without number cost misses.

use crate::api::*;
use crate::state::routes::Route;
use bytes::Bytes;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Places to begin with, and at the most.
const PLACES_MIN: usize = 256;
const PLACES_MAX: usize = 65_536;

/// First levels whose routes go stale together: so many that strangers rarely meet.
const STRIPES: usize = 16_384;

/// Routes by address.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    /// Pairs of places. Empty until the first route.
    places: Vec<Option<Box<Remembered>>>,
    used: usize,
    /// How often something about a stripe's first levels changed. Empty until the first route.
    versions: Vec<u32>,
    /// How often something changed that may touch any first level.
    shared: u64,
    hasher: foldhash::fast::RandomState,
}

#[derive(Debug)]
struct Remembered {
    hash: u64,
    provenance: Provenance,
    address: (Bytes, Bytes),
    version: (u64, u32),
    route: Arc<Route>,
}

impl RouteCache {
    /// The route found before, if it still holds.
    pub(crate) fn get(
        &mut self,
        provenance: Provenance,
        address: (&[u8], &[u8]),
        first: &[u8],
    ) -> Option<Arc<Route>> {
        let hash = self.hash(provenance, address);
        let version = self.version(first);
        let pair = self.pair(hash)?;
        let held = |place: &Option<Box<Remembered>>| {
            place.as_ref().is_some_and(|known| {
                known.hash == hash
                    && known.version == version
                    && known.provenance == provenance
                    && known.address.0 == address.0
                    && known.address.1 == address.1
            })
        };
        let at = pair.iter().position(held)?;
        // The first of a pair is the one used last.
        pair.swap(0, at);
        pair.first()?.as_ref().map(|known| known.route.clone())
    }

    /// Remembers a route. Its address is copied: what comes in is a piece of a larger buffer.
    pub(crate) fn put(
        &mut self,
        provenance: Provenance,
        address: (&[u8], &[u8]),
        first: &[u8],
        route: Arc<Route>,
    ) {
        if self.versions.is_empty() {
            self.versions.resize(STRIPES, 0);
        }
        // An eighth of them: three addresses of one pair would put each other out all the time.
        if self.used * 8 >= self.places.len() && self.places.len() < PLACES_MAX {
            self.grow();
        }
        let hash = self.hash(provenance, address);
        let version = self.version(first);
        let copy = (
            Bytes::copy_from_slice(address.0),
            Bytes::copy_from_slice(address.1),
        );
        let Some(pair) = self.pair(hash) else {
            return;
        };
        pair.swap(0, 1);
        let taken = pair.iter().filter(|place| place.is_some()).count();
        // A free or stale place is as good as the one that was not used last.
        if let Some(place) = pair.first_mut() {
            *place = Some(Box::new(Remembered {
                hash,
                provenance,
                address: copy,
                version,
                route,
            }));
        }
        let now = pair.iter().filter(|place| place.is_some()).count();
        self.used += now - taken;
    }

    /// Something about this first level changed.
    pub(crate) fn touch(&mut self, first: &[u8]) {
        let stripe = self.stripe(first);
        if let Some(version) = self.versions.get_mut(stripe) {
            *version = version.wrapping_add(1);
        }
    }

    /// Something changed that may touch any first level.
    pub(crate) fn touch_all(&mut self) {
        self.shared += 1;
    }

    fn grow(&mut self) {
        let room = (self.places.len() * 4).clamp(PLACES_MIN, PLACES_MAX);
        let before = std::mem::take(&mut self.places);
        self.places.resize_with(room, || None);
        self.used = 0;
        for known in before.into_iter().flatten() {
            if let Some(pair) = self.pair(known.hash)
                && let Some(place) = pair.iter_mut().find(|place| place.is_none())
            {
                *place = Some(known);
                self.used += 1;
            }
        }
    }

    fn pair(&mut self, hash: u64) -> Option<&mut [Option<Box<Remembered>>]> {
        let pairs = self.places.len() / 2;
        let at = (hash as usize).checked_rem(pairs)? * 2;
        self.places.get_mut(at..at + 2)
    }

    fn hash(&self, provenance: Provenance, address: (&[u8], &[u8])) -> u64 {
        self.hasher.hash_one((provenance, address))
    }

    fn stripe(&self, first: &[u8]) -> usize {
        self.hasher.hash_one(first) as usize % STRIPES
    }

    fn version(&self, first: &[u8]) -> (u64, u32) {
        let stripe = self.versions.get(self.stripe(first));
        (self.shared, stripe.copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::{PLACES_MAX, RouteCache};
    use crate::api::{Provenance, TopicId};
    use crate::state::routes::Route;
    use std::sync::Arc;

    const MQTT: Provenance = Provenance::Mqtt;

    fn route(topic: u64) -> Arc<Route> {
        Arc::new(Route {
            topic: Some(TopicId(topic)),
            ..Route::default()
        })
    }

    fn get(cache: &mut RouteCache, topic: &str, first: &str) -> Option<u64> {
        let found = cache.get(MQTT, (topic.as_bytes(), b""), first.as_bytes());
        found.and_then(|route| route.topic).map(|topic| topic.0)
    }

    #[test]
    fn a_route_holds_until_its_first_level_is_touched() {
        let mut cache = RouteCache::default();
        assert_eq!(get(&mut cache, "a/b", "a"), None);
        cache.touch(b"a");
        cache.put(MQTT, (b"a/b", b""), b"a", route(1));
        cache.put(MQTT, (b"c/b", b""), b"c", route(2));
        assert_eq!(get(&mut cache, "a/b", "a"), Some(1));
        cache.touch(b"a");
        assert_eq!(get(&mut cache, "a/b", "a"), None);
        assert_eq!(get(&mut cache, "c/b", "c"), Some(2));
        cache.touch_all();
        assert_eq!(get(&mut cache, "c/b", "c"), None);
        cache.put(MQTT, (b"c/b", b""), b"c", route(3));
        assert_eq!(get(&mut cache, "c/b", "c"), Some(3));
        let amqp = cache.get(Provenance::AmqpTopic, (b"c/b", b""), b"c");
        assert_eq!(amqp, None);
    }

    #[test]
    fn many_addresses_take_no_more_than_the_places() {
        let mut cache = RouteCache::default();
        for number in 0..PLACES_MAX as u64 * 2 {
            let topic = format!("d{number}/x");
            cache.put(MQTT, (topic.as_bytes(), b""), b"d", route(number));
            assert_eq!(get(&mut cache, &topic, "d"), Some(number));
        }
        assert_eq!(cache.places.len(), PLACES_MAX);
        assert!(cache.used > PLACES_MAX / 2);
    }
}
