//! What Kafka clients wrote comes to queues by links: in order, once, and without a gap but where retention passed a
//! link. A gap is counted, and nothing of it comes later; a log that holds for its links has none.

use crate::api::*;
use crate::simulation::facts::{Facts, LOG, SESSION};
use crate::simulation::peer::Ask;
use crate::simulation::placed::MAPPED;
use crate::simulation::world::World;
use crate::state::State;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// A topic of two partitions with a short window, and the queue of its name.
pub(super) const WINDOW: &str = "window";
/// What is kept of each.
pub(super) const WINDOW_BYTES: u64 = 4000;

/// Which queues get what from which topics.
const LINKED: [(&str, &str); 5] = [
    (LOG, LOG),
    (SESSION, LOG),
    (SESSION, WINDOW),
    (SESSION, MAPPED),
    (WINDOW, WINDOW),
];

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

/// Offsets that passed a link by: first, first behind what is sure, and first behind what may be. A log that began
/// anew in the step in which a link went on may have passed it or not.
type Passed = (i64, i64, i64);

/// What is known of gaps.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// How far each link came: by queue and partition.
    came: BTreeMap<(QueueId, u64), i64>,
    /// Where each log began when the last step was over.
    began: BTreeMap<u64, i64>,
    /// What links were passed by.
    gaps: BTreeMap<(QueueId, u64), Vec<Passed>>,
    /// Offsets that were told to be missing, since the last start.
    counted: u64,
    /// Up to where somebody asked for a log's deletion.
    pub(super) deleted: i64,
    /// How many gaps there were.
    pub(super) count: usize,
}

impl Gaps {
    /// A start: what was decided and is lost did not happen.
    pub(super) fn started(&mut self, state: &State) {
        self.came.clear();
        self.began.clear();
        self.counted = 0;
        for ((queue, partition), gaps) in &mut self.gaps {
            let link = state.links.get(&(*partition, *queue));
            let came = link.map_or(i64::MAX, |link| link.next_offset);
            gaps.retain(|(.., end)| *end <= came);
        }
    }

    /// Did this offset pass a link by, for sure?
    fn surely_passed(&self, queue: QueueId, partition: u64, offset: i64) -> bool {
        let gaps = self.gaps.get(&(queue, partition)).into_iter().flatten();
        let mut gaps = gaps;
        gaps.any(|(first, end, _)| (*first..*end).contains(&offset))
    }

    /// May it have?
    fn passed(&self, queue: QueueId, partition: u64, offset: i64) -> bool {
        let gaps = self.gaps.get(&(queue, partition)).into_iter().flatten();
        let mut gaps = gaps;
        gaps.any(|(first, _, end)| (*first..*end).contains(&offset))
    }
}

/// The keys of a topic's partitions.
fn partitions(state: &State, topic: &'static str) -> Vec<u64> {
    let topic = state.topic(NamespaceId(0), &TopicRef::Name(name(topic)));
    topic.map_or_else(Vec::new, |topic| topic.partitions.to_vec())
}

impl World {
    pub(super) fn set_up_links(&mut self, at: usize) {
        let declare = Command::DeclareQueue(DeclareQueue {
            name: name(WINDOW),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Vec::new(),
        });
        self.ask(at, Ask::Follow(WINDOW), declare);
    }

    /// Does a log keep what its links have not read?
    fn holds(&self) -> bool {
        !self.config.hold_links.is_empty()
    }

    /// A Kafka client asks for the deletion of what lies before some offset.
    pub(super) fn delete_records(&mut self, at: usize) {
        let partition = self.random.random_range(0..2);
        let log = self.facts.logged.get(&(name(WINDOW), partition));
        let end = log.and_then(|log| log.last_key_value());
        let end = end.map_or(0, |(offset, _)| *offset);
        let offset = self.random.random_range(0..=end);
        self.facts.gaps.deleted = self.facts.gaps.deleted.max(offset);
        let topic = TopicRef::Name(name(WINDOW));
        let command = Command::DeleteRecords(topic, partition, offset);
        self.ask(at, Ask::Whatever, command);
    }

    /// A step was taken: links went on, perhaps over gaps.
    pub(super) fn check_links(&mut self) {
        let holds = self.holds();
        let Some(life) = &self.life else { return };
        let state = &life.shard.state;
        let told = life.shard.stats.link_gap_offsets;
        let gaps = &mut self.facts.gaps;
        let mut least = 0;
        let mut found = Vec::new();
        let queues: BTreeMap<&'static str, QueueId> = self
            .facts
            .followed
            .iter()
            .map(|(id, name)| (*name, *id))
            .collect();
        for (queue, topic) in LINKED {
            let Some(id) = queues.get(queue).copied() else {
                continue;
            };
            for key in partitions(state, topic) {
                let Some(link) = state.links.get(&(key, id)) else {
                    assert!(
                        !gaps.came.contains_key(&(id, key)),
                        "{queue}: the link to {topic} is gone"
                    );
                    continue;
                };
                let start = state.partitions[&key].log_start;
                let deleted = if topic == WINDOW { gaps.deleted } else { 0 };
                assert!(
                    !holds || start <= link.next_offset.max(deleted),
                    "{topic} begins at {start}, and {queue} has read up to {}",
                    link.next_offset
                );
                let Some(before) = gaps.came.insert((id, key), link.next_offset) else {
                    continue;
                };
                assert!(before <= link.next_offset, "{queue}: its link went back");
                let began = gaps.began.get(&key).copied().unwrap_or(0);
                if link.next_offset > before {
                    least += u64::try_from(began - before).unwrap_or(0);
                    if start > before {
                        let end = start.min(link.next_offset);
                        found.push(((id, key), (before, began.min(end), end)));
                    }
                }
            }
        }
        for topic in [LOG, WINDOW, MAPPED] {
            for key in partitions(state, topic) {
                gaps.began.insert(key, state.partitions[&key].log_start);
            }
        }
        assert!(
            told - gaps.counted >= least,
            "{least} offsets passed links by, and {} were counted",
            told - gaps.counted
        );
        if told > gaps.counted {
            gaps.counted = told;
            for (link, gap) in found {
                gaps.count += 1;
                gaps.gaps.entry(link).or_default().push(gap);
            }
        }
    }

    /// At the end: no log is kept beyond its window for others' sake than its own readers'.
    pub(super) fn check_windows(&self) {
        let Some(life) = &self.life else { return };
        let state = &life.shard.state;
        for key in partitions(state, WINDOW) {
            let log = &state.partitions[&key];
            let links = (key, QueueId(0))..=(key, QueueId(u64::MAX));
            let links = state.links.range(links).map(|(_, link)| link.next_offset);
            let stays = links.min().unwrap_or(i64::MAX);
            let [first, second, ..] = &log.spans[..] else {
                continue;
            };
            let rest: u64 = log.spans.iter().map(|span| span.bytes).sum::<u64>() - first.bytes;
            assert!(
                rest < WINDOW_BYTES || second.first_offset > stays.min(log.last_stable_offset()),
                "{WINDOW}: {rest} bytes are kept beside {first:?}, and {stays} is what is to be read"
            );
        }
    }

    /// At the end: each queue has what its logs had, in their order, but for the gaps.
    pub(super) fn check_linked(&self) {
        let Some(life) = &self.life else { return };
        for (id, queue) in &self.facts.followed {
            for (_, topic) in LINKED.iter().filter(|(linked, _)| linked == queue) {
                let keys = partitions(&life.shard.state, topic);
                for (key, index) in keys.into_iter().zip(0..) {
                    let place = (name(topic), index);
                    self.facts.check_linked(*id, queue, key, &place);
                }
            }
        }
    }
}

impl Facts {
    fn check_linked(&self, id: QueueId, queue: &'static str, key: u64, place: &(Name, i32)) {
        let Some(log) = self.logged.get(place) else {
            return;
        };
        let offsets: BTreeMap<u64, i64> = log.iter().map(|(offset, id)| (*id, *offset)).collect();
        let mut newest = -1;
        let mut seen = BTreeSet::new();
        for (entry, message) in self.entries_of(id) {
            let Some(offset) = offsets.get(message) else {
                continue;
            };
            seen.insert(*message);
            assert!(
                *offset > newest,
                "{queue}: offset {offset} of {place:?} at {entry} comes after {newest}"
            );
            newest = *offset;
            assert!(
                !self.gaps.surely_passed(id, key, *offset),
                "{queue}: offset {offset} of {place:?} is in a gap, and there"
            );
        }
        for (offset, message) in log {
            let must = self.transactions.must_be_visible(*message)
                && !self.gaps.passed(id, key, *offset)
                && !self.may_be_missing(queue, *message);
            assert!(
                !must || seen.contains(message),
                "{queue}: {message} at offset {offset} of {place:?} was acknowledged and never came"
            );
        }
    }
}
