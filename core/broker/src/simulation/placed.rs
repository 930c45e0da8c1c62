//! Where records are kept: mapping rules, path templates, and the catch-all topic for what exceeds the caps. Every
//! record is in one log, under the key that its rule says, and its path comes back from that key; who gets it is the
//! same wherever it is kept.

use crate::api::*;
use crate::simulation::facts::SESSION;
use crate::simulation::kafka::fetch_of;
use crate::simulation::messages;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// Topics of rules, and the catch-all.
pub(super) const MAPPED: &str = "mapped";
const SWAPPED: &str = "swapped";
const CAUGHT: &str = "caught";
/// More first levels than may have a log of their own.
pub(super) const HEADS: [&str; 6] = ["n0", "n1", "n2", "n3", "m", "p"];

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

/// What is known of places.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Which path a message was published to.
    paths: BTreeMap<u64, String>,
    /// Those that were acknowledged.
    kept: BTreeSet<u64>,
    /// Where each was found.
    found: BTreeMap<u64, (Name, i32, i64)>,
    /// How far each read came.
    read_end: BTreeMap<(Name, i32), i64>,
}

/// Rules and caps of a world that has some.
pub(super) fn map(config: &mut BrokerConfig) {
    config.mapping = vec![
        MappingRule {
            filter: "m/+/t/#".to_owned(),
            topic: name(MAPPED),
            key: "{1}/{rest}".to_owned(),
            partition_key: Some("{1}".to_owned()),
            partitions: Some(2),
        },
        MappingRule {
            filter: "p/+/q/+".to_owned(),
            topic: name(SWAPPED),
            key: "{2}/{1}".to_owned(),
            ..MappingRule::default()
        },
    ];
    config.catch_all = name(CAUGHT);
    config.catch_all_partitions = 2;
    config.auto_names_max = 5;
    config.auto_names_principal_max = 4;
}

/// The topic of a rule that takes a path, and the key there, with rules.
fn ruled(path: &str) -> Option<(&'static str, String)> {
    let levels: Vec<&str> = path.split('/').collect();
    match levels[..] {
        ["m", one, "t", ref rest @ ..] => {
            let key: Vec<&str> = std::iter::once(one).chain(rest.iter().copied()).collect();
            Some((MAPPED, key.join("/")))
        }
        ["p", one, "q", two] => Some((SWAPPED, format!("{two}/{one}"))),
        _ => None,
    }
}

impl World {
    /// A step was taken: publishing makes no more names than it may.
    pub(super) fn check_caps(&self) {
        let Some(life) = &self.life else { return };
        let state = &life.shard.state;
        let made = HEADS.iter().filter(|head| {
            let topic = state.topic(NamespaceId(0), &TopicRef::Name(name(head)));
            topic.is_some_and(|topic| topic.provisional)
        });
        let made = u64::try_from(made.count()).unwrap();
        let most = self.config.auto_names_principal_max;
        assert!(
            made <= most,
            "{made} logs were made by publishing, of {most}"
        );
    }

    /// An MQTT client publishes to a path that may be kept elsewhere.
    pub(super) fn publish_placed(&mut self, at: usize) {
        let count = self.random.random_range(1..4);
        let publisher = self.peers[at].publisher(0);
        let ids = self.facts.number(publisher, count);
        let paths: Vec<String> = ids.iter().map(|_| self.path()).collect();
        let (padding, now) = (self.padding() / 4, self.unix_ms());
        let address = |path: &String| Address::Mqtt {
            topic: Name::from(path.clone().into_bytes()),
        };
        let addresses: Vec<Address> = paths.iter().map(address).collect();
        let publish = messages::publish_to(&ids, padding, now, &addresses, &name("placed"), 1);
        self.facts
            .places
            .paths
            .extend(ids.iter().copied().zip(paths));
        self.ask(at, Ask::Placed(ids), Command::Publish(publish));
    }

    fn path(&mut self) -> String {
        let pick = |random: &mut rand_chacha::ChaCha8Rng, of: &[&'static str]| {
            of[random.random_range(0..of.len())]
        };
        let random = &mut self.random;
        let (one, two) = (pick(random, &["a", "b", "c"]), pick(random, &["x", "y"]));
        let head = pick(random, &HEADS);
        match random.random_range(0..8) {
            0..2 => format!("m/{one}/t/{two}"),
            2 => format!("m/{one}/t"),
            3 => format!("m/{one}/t/{two}/{one}"),
            4..6 => format!("p/{one}/q/{two}"),
            6 => format!("{head}/{one}"),
            _ => format!("{head}/{one}/{two}/t"),
        }
    }

    /// It was published, or refused.
    pub(super) fn placed(&mut self, ids: &[u64], result: Result<Reply, Refusal>) {
        match result {
            Ok(Reply::Published(published)) => {
                assert!(published.outcomes.is_empty(), "{ids:?}: {published:?}");
                self.facts.places.kept.extend(ids);
                self.facts.expect(SESSION, ids);
            }
            Err(Refusal::DiskFull) if self.tight => {}
            other => panic!("{ids:?} is refused: {other:?}"),
        }
    }

    /// A delivery has the path to which its message was published.
    pub(super) fn check_path(&self, delivery: &Delivery, id: u64) {
        let Some(path) = self.facts.places.paths.get(&id) else {
            return;
        };
        let envelope = delivery.message.envelope().expect("an envelope");
        let topic = Name::from(path.clone().into_bytes());
        assert_eq!(
            envelope.address,
            Address::Mqtt { topic },
            "the path of {id}"
        );
    }

    /// The logs that may have some of it, and where each begins.
    fn places(&self) -> Vec<(&'static str, i32, i64)> {
        let mut places = Vec::new();
        let Some(life) = &self.life else {
            return places;
        };
        let state = &life.shard.state;
        for topic in HEADS.into_iter().chain([MAPPED, SWAPPED, CAUGHT]) {
            if let Some(known) = state.topic(NamespaceId(0), &TopicRef::Name(name(topic))) {
                let starts = known
                    .partitions
                    .iter()
                    .map(|key| state.partitions[key].log_start);
                let starts = (0..).zip(starts);
                places.extend(starts.map(|(partition, start)| (topic, partition, start)));
            }
        }
        places
    }

    /// Reads all logs that may have some of it.
    pub(super) fn read_placed(&mut self, at: usize) {
        let mut open = self.places();
        while !open.is_empty() {
            for (topic, partition, from) in &open {
                let fetch = fetch_of(topic, *partition, *from, false);
                let ask = Ask::FetchPlaced(name(topic), *partition);
                self.ask(at, ask, Command::Fetch(fetch));
            }
            self.calm();
            open.retain_mut(|(topic, partition, from)| {
                let end = self
                    .facts
                    .places
                    .read_end
                    .remove(&(name(topic), *partition));
                end.is_some_and(|end| std::mem::replace(from, end) < end)
            });
        }
        // Retention has gone on meanwhile.
        let gone = |(_, _, start): &(&'static str, i32, i64)| *start > 0;
        let cut: BTreeSet<&str> = self
            .places()
            .into_iter()
            .filter(gone)
            .map(|at| at.0)
            .collect();
        let mapped = !self.config.mapping.is_empty();
        for id in &self.facts.places.kept {
            let path = &self.facts.places.paths[id];
            let head = path.split('/').next().unwrap_or_default();
            let may: Vec<&str> = match ruled(path).filter(|_| mapped) {
                Some((topic, _)) => vec![topic],
                None => vec![head, CAUGHT],
            };
            let found = self.facts.places.found.get(id);
            let must = !may.iter().any(|topic| cut.contains(topic));
            assert!(
                found.is_some() || !must,
                "{id} was published to {path}, and is in no log"
            );
        }
    }

    /// Records of a log that is one of several where they might be.
    pub(super) fn fetched_placed(
        &mut self,
        topic: &Name,
        partition: i32,
        parts: Vec<Result<Fetched, Refusal>>,
    ) {
        let Some(Ok(fetched)) = parts.into_iter().next() else {
            return;
        };
        let mapped = !self.config.mapping.is_empty();
        let places = &mut self.facts.places;
        for batch in &fetched.batches {
            let end = messages::end(batch);
            places.read_end.insert((topic.clone(), partition), end);
            for (offset, id, key) in messages::keys(batch) {
                let Some(path) = places.paths.get(&id) else {
                    continue;
                };
                let key = key.map(|key| String::from_utf8(key.to_vec()).unwrap());
                let (head, rest) = path.split_once('/').unwrap();
                let expected = match ruled(path).filter(|_| mapped) {
                    Some((own, key)) => (own.to_owned(), key),
                    None if topic == CAUGHT => (CAUGHT.to_owned(), path.clone()),
                    None => (head.to_owned(), rest.to_owned()),
                };
                let found = (
                    String::from_utf8(topic.to_vec()).unwrap(),
                    key.unwrap_or_default(),
                );
                assert_eq!(found, expected, "{id} was published to {path}");
                let place = (topic.clone(), partition, offset);
                let other = places.found.insert(id, place.clone());
                assert!(
                    other.as_ref().is_none_or(|other| *other == place),
                    "{id} is at {other:?} and at {place:?}"
                );
            }
        }
    }
}
