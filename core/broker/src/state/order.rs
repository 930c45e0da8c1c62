//! What a queue's entries are told apart by, beside their place: a priority, or a lane of keys that one consumer at a
//! time has. An index over the entries; a queue that needs none has none.
//!
//! Which entry has which is a journaled decision, so that neither replay nor dispatch ever looks into a record.

use crate::api::*;
use crate::leaves::Leaves;
use crate::sequence_set::SequenceSet;
use crate::state::consumers::Who;
use crate::state::exchange::argument;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// The argument by which entries of the same key go to the same consumer while it has any of them.
pub(crate) const KEY_SHARED: &[u8] = b"x-key-shared";

/// Keys are spread over this many lanes.
pub(crate) const LANES: u16 = 1024;

/// What a lane takes beside its sets, in trees that are half full.
const LANE_BYTES: usize = 2 * size_of::<Lane>() + 64;

/// Who is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Every consumer, in turn.
    #[default]
    Shared,
    /// One consumer until it leaves (`x-single-active-consumer`).
    Failover,
    /// Every consumer, each key's entries one at a time (`x-key-shared`).
    KeyShared,
}

impl Mode {
    /// What a declaration asks for.
    pub(crate) fn of(declared: &DeclareQueue) -> Self {
        let on = |name: &[u8]| {
            argument(&declared.arguments, name)
                .and_then(Value::as_bool)
                .unwrap_or(false)
        };
        if on(b"x-single-active-consumer") {
            Self::Failover
        } else if on(KEY_SHARED) {
            Self::KeyShared
        } else {
            Self::Shared
        }
    }
}

/// The highest priority of a queue, if it has more than one.
pub(crate) fn priority_max(declared: &DeclareQueue) -> Option<u8> {
    let max = argument(&declared.arguments, b"x-max-priority")?.as_int()?;
    u8::try_from(max).ok().filter(|max| *max > 0)
}

/// The lane of a key.
pub(crate) fn lane_of(key: &[u8]) -> u16 {
    // FNV-1a, and mixed so that short keys spread; journaled with the entry, so that it may change.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    u16::try_from((mixed >> 40) % u64::from(LANES)).unwrap_or(0)
}

/// The lane of a record: by its AMQP routing key, MQTT topic or Kafka key. Records without a key are spread.
pub(crate) fn lane(address: &Address, sequence: u64) -> u16 {
    match address {
        Address::Amqp { routing_key, .. } => lane_of(routing_key),
        Address::Mqtt { topic } => lane_of(topic),
        Address::Kafka { key: Some(key), .. } => lane_of(key),
        Address::Kafka { key: None, .. } => u16::try_from(sequence % u64::from(LANES)).unwrap_or(0),
    }
}

/// The entries of one rank.
#[derive(Debug, Default)]
struct Rank {
    /// All that it holds, ready or not.
    known: SequenceSet,
    /// Those that wait for a consumer.
    ready: SequenceSet,
}

/// The index.
#[derive(Debug)]
pub(crate) enum Order {
    Priorities(Priorities),
    Keys(Keys),
}

/// Entries with a priority above 0, by it. All others are in the queue's own set.
#[derive(Debug)]
pub(crate) struct Priorities {
    max: u8,
    ranks: BTreeMap<u8, Rank>,
}

/// Entries by the lane of their key.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The lane of each entry that it holds, ready or not.
    of: Leaves<u64, u16>,
    lanes: BTreeMap<u16, Lane>,
    /// The first ready entry of each lane that may be served, by its place; none where an earlier one waits for its next
    /// try.
    heads: BTreeSet<(u64, u16)>,
    /// Lanes with ready entries whose owner can't take any.
    parked: BTreeMap<Who, BTreeSet<(u64, u16)>>,
}

/// A lane.
#[derive(Debug, Default)]
struct Lane {
    ready: SequenceSet,
    /// Entries that wait for their next try: later ones of the lane wait for them.
    deferred: SequenceSet,
    /// Who has entries of it, and how many.
    owner: Option<Who>,
    unsettled: u32,
    /// Its first ready entry, where it stands in `heads` or `parked`.
    head: Option<u64>,
    parked: bool,
}

impl Order {
    /// What a declaration needs.
    pub(crate) fn of(declared: &DeclareQueue) -> Option<Box<Self>> {
        if Mode::of(declared) == Mode::KeyShared {
            return Some(Box::new(Self::Keys(Keys::default())));
        }
        let max = priority_max(declared)?;
        let ranks = BTreeMap::new();
        Some(Box::new(Self::Priorities(Priorities { max, ranks })))
    }

    /// The rank of a message, where it is not the default.
    pub(crate) fn rank_of(&self, envelope: &Envelope, sequence: u64) -> Option<u16> {
        match self {
            Self::Priorities(priorities) => {
                let priority = envelope.priority.min(priorities.max);
                (priority > 0).then_some(u16::from(priority))
            }
            Self::Keys(_) => Some(lane(&envelope.address, sequence)),
        }
    }

    /// Ready entries with this priority; more than the queue's highest counts as that.
    pub(crate) fn prioritise(&mut self, priority: u8, first: u64, last: u64) {
        if let Self::Priorities(priorities) = self
            && priority > 0
        {
            let rank = priorities.ranks.entry(priority.min(priorities.max));
            let rank = rank.or_default();
            rank.known.insert_run(first, last);
            rank.ready.insert_run(first, last);
        }
    }

    /// Ready entries of this lane.
    pub(crate) fn key(&mut self, lane: u16, first: u64, last: u64) {
        if let Self::Keys(keys) = self {
            for entry in first..=last {
                keys.of.insert(entry, lane);
            }
            let known = keys.lanes.entry(lane).or_default();
            known.ready.insert_run(first, last);
            keys.refresh(lane);
        }
    }

    /// Ready entries of this rank: priority or lane.
    pub(crate) fn put(&mut self, rank: u16, first: u64, last: u64) {
        match self {
            Self::Priorities(_) => {
                self.prioritise(u8::try_from(rank).unwrap_or(u8::MAX), first, last);
            }
            Self::Keys(_) => self.key(rank, first, last),
        }
    }

    /// The rank of an entry that it holds, ready or not.
    pub(crate) fn rank(&self, entry: u64) -> Option<u16> {
        match self {
            Self::Priorities(priorities) => priorities
                .ranks
                .iter()
                .rev()
                .find(|(_, rank)| rank.known.contains(entry))
                .map(|(priority, _)| u16::from(*priority)),
            Self::Keys(keys) => keys.of.get(entry),
        }
    }

    /// An entry of this rank was taken out of the ready ones.
    pub(crate) fn took(&mut self, rank: Option<u16>, entry: u64) {
        match (self, rank) {
            (Self::Priorities(priorities), Some(rank)) => {
                let rank = u8::try_from(rank).unwrap_or(u8::MAX);
                if let Some(rank) = priorities.ranks.get_mut(&rank) {
                    rank.ready.remove(entry);
                }
            }
            (Self::Keys(keys), Some(lane)) => {
                if let Some(known) = keys.lanes.get_mut(&lane) {
                    known.ready.remove(entry);
                    keys.refresh(lane);
                }
            }
            (_, None) => {}
        }
    }

    /// An entry of this rank waits for its next try.
    pub(crate) fn defer(&mut self, rank: Option<u16>, entry: u64) {
        if let (Self::Keys(keys), Some(number)) = (&mut *self, rank) {
            let lane = keys.lanes.entry(number).or_default();
            lane.deferred.insert(entry);
        }
        self.took(rank, entry);
    }

    /// It is ready again.
    pub(crate) fn recall(&mut self, rank: Option<u16>, entry: u64) {
        let Some(rank) = rank else { return };
        if let Self::Keys(keys) = self
            && let Some(lane) = keys.lanes.get_mut(&rank)
        {
            lane.deferred.remove(entry);
        }
        self.put(rank, entry, entry);
    }

    /// These are done with, or gone otherwise.
    pub(crate) fn forget(&mut self, first: u64, last: u64) {
        match self {
            Self::Priorities(priorities) => priorities.ranks.retain(|_, rank| {
                rank.known.remove_run(first, last);
                rank.ready.remove_run(first, last);
                !rank.known.is_empty()
            }),
            Self::Keys(keys) => {
                let mut gone: SmallVec<[(u64, u16); 8]> = SmallVec::new();
                keys.of
                    .remove_run(first, last, |entry, lane| gone.push((entry, lane)));
                for (entry, number) in gone {
                    if let Some(lane) = keys.lanes.get_mut(&number) {
                        lane.ready.remove(entry);
                        keys.refresh(number);
                    }
                }
            }
        }
    }

    /// The ready entry of the highest priority, at most this far; `None`: no entry has one.
    pub(crate) fn first(&mut self, until: u64, there: impl Fn(u64) -> bool) -> Option<u64> {
        let Self::Priorities(priorities) = self else {
            return None;
        };
        for rank in priorities.ranks.values_mut().rev() {
            while let Some(first) = rank.ready.first() {
                if first > until {
                    break;
                }
                if there(first) {
                    return Some(first);
                }
                // It was taken away by other means.
                rank.ready.remove(first);
            }
        }
        None
    }

    /// Bytes that it takes, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Priorities(priorities) => {
                let ranks = priorities.ranks.values();
                ranks
                    .map(|rank| rank.known.memory_bytes() + rank.ready.memory_bytes())
                    .sum()
            }
            // An entry's lane, and its lane's set of a few entries each.
            Self::Keys(keys) => {
                let lanes = keys.lanes.values();
                let lanes = lanes.map(|lane| {
                    LANE_BYTES + lane.ready.memory_bytes() + lane.deferred.memory_bytes()
                });
                keys.of.memory_bytes() + lanes.sum::<usize>()
            }
        }
    }

    /// All ranks, with what they hold.
    pub(crate) fn ranks(&self) -> BTreeMap<u16, SequenceSet> {
        match self {
            Self::Priorities(priorities) => priorities
                .ranks
                .iter()
                .map(|(priority, rank)| (u16::from(*priority), rank.known.clone()))
                .collect(),
            Self::Keys(keys) => {
                let mut ranks = BTreeMap::<u16, SequenceSet>::new();
                for (entry, lane) in keys.of.iter() {
                    ranks.entry(lane).or_default().insert(entry);
                }
                ranks
            }
        }
    }
}

impl Keys {
    /// Puts a lane's first ready entry where it belongs.
    fn refresh(&mut self, number: u16) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let first = lane.ready.first();
        let waits_for = lane.deferred.first();
        let head = first.filter(|first| waits_for.is_none_or(|deferred| *first < deferred));
        let parked = lane.parked && lane.owner.is_some() && head.is_some();
        if lane.head != head || lane.parked != parked {
            if let Some(before) = lane.head.take() {
                if lane.parked {
                    unpark(&mut self.parked, lane.owner, (before, number));
                }
                self.heads.remove(&(before, number));
            }
            lane.parked = parked;
            if let Some(head) = head {
                lane.head = Some(head);
                match lane.owner.filter(|_| parked) {
                    Some(owner) => {
                        self.parked.entry(owner).or_default().insert((head, number));
                    }
                    None => {
                        self.heads.insert((head, number));
                    }
                }
            }
        }
        if first.is_none() && waits_for.is_none() && lane.unsettled == 0 {
            self.lanes.remove(&number);
        }
    }

    /// The first entry that may be served, at most this far, its lane, and who must take it, if not anybody.
    pub(crate) fn head(&self, until: u64) -> Option<(u64, u16, Option<Who>)> {
        let (entry, number) = self.heads.first().copied()?;
        let owner = self.lanes.get(&number).and_then(|lane| lane.owner);
        (entry <= until).then_some((entry, number, owner))
    }

    /// The first entry of a lane that nobody has.
    pub(crate) fn free_head(&self, until: u64) -> Option<(u64, u16)> {
        self.heads
            .iter()
            .take_while(|(entry, _)| *entry <= until)
            .find(|(_, number)| {
                self.lanes
                    .get(number)
                    .is_some_and(|lane| lane.owner.is_none())
            })
            .copied()
    }

    /// Whoever has this lane can't take more of it now.
    pub(crate) fn park(&mut self, number: u16) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let (Some(head), Some(owner)) = (lane.head, lane.owner) else {
            return;
        };
        if !lane.parked {
            lane.parked = true;
            self.heads.remove(&(head, number));
            self.parked.entry(owner).or_default().insert((head, number));
        }
    }

    /// This consumer can take so many entries again.
    pub(crate) fn resume(&mut self, owner: Who, room: usize) {
        for _ in 0..room {
            let Some(parked) = self.parked.get_mut(&owner) else {
                return;
            };
            let next = parked.pop_first();
            if parked.is_empty() {
                self.parked.remove(&owner);
            }
            let Some((head, number)) = next else {
                return;
            };
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.parked = false;
                self.heads.insert((head, number));
            }
        }
    }

    /// An entry of this lane is with this consumer now, or with nobody while its record is read: the lane stays with
    /// who has it.
    pub(crate) fn leased(&mut self, number: u16, owner: Who) {
        let lane = self.lanes.entry(number).or_default();
        lane.owner.get_or_insert(owner);
        lane.unsettled += 1;
    }

    /// An entry of this lane is with its consumer no more; with the last one the lane is free.
    pub(crate) fn settled(&mut self, number: u16) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        lane.unsettled = lane.unsettled.saturating_sub(1);
        if lane.unsettled > 0 {
            return;
        }
        if let (true, Some(head)) = (lane.parked, lane.head) {
            unpark(&mut self.parked, lane.owner, (head, number));
            self.heads.insert((head, number));
            lane.parked = false;
        }
        lane.owner = None;
        self.refresh(number);
    }
}

fn unpark(parked: &mut BTreeMap<Who, BTreeSet<(u64, u16)>>, owner: Option<Who>, at: (u64, u16)) {
    if let Some(owner) = owner
        && let Some(lanes) = parked.get_mut(&owner)
    {
        lanes.remove(&at);
        if lanes.is_empty() {
            parked.remove(&owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use crate::api::{ClientId, ConsumerKey};
    use crate::state::order::Order;

    #[test]
    fn a_lane_stays_with_its_consumer_while_a_record_of_it_is_read() {
        let mut order = Order::Keys(Keys::default());
        order.key(3, 1, 3);
        let (reader, consumer) = ((ClientId(0), ConsumerKey(0)), (ClientId(7), ConsumerKey(1)));
        order.took(Some(3), 1);
        let Order::Keys(keys) = &mut order else {
            unreachable!()
        };
        keys.leased(3, consumer);
        keys.park(3);
        assert_eq!(keys.head(9), None, "its consumer can't take more");
        // The second is read for a dead letter.
        order.took(Some(3), 2);
        let Order::Keys(keys) = &mut order else {
            unreachable!()
        };
        keys.leased(3, reader);
        keys.resume(consumer, 1);
        assert_eq!(keys.head(9), Some((3, 3, Some(consumer))));
        assert!(keys.parked.is_empty(), "nothing is left behind");
        keys.settled(3);
        assert_eq!(keys.free_head(9), None, "another entry is unsettled");
        keys.settled(3);
        assert_eq!(keys.free_head(9), Some((3, 3)));
    }
}
