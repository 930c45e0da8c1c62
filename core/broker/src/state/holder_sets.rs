//! Sets of queues that hold the same records, and what those of them that sleep have yet to take over.
//!
//! A queue sleeps in a set while it has no consumers: what is published to the set is then written down once, in the
//! set's list, however many sleep. Each takes over what came since its own mark when somebody looks at it: when it gets a
//! consumer, when something of it is removed, ahead of a checkpoint. What a queue holds is the same either way, so
//! replay, in which every queue sleeps, comes to the same state.

use crate::api::{QueueId, QueueKind};
use crate::state::State;
use crate::state::queue::Queue;
use crate::state::routes::Crowd;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Members of smaller sets are always told at once.
pub(crate) const MEMBERS_MIN: usize = if cfg!(test) { 1 } else { 64 };
/// Sets in which one queue sleeps, at the most.
const SETS_MAX: usize = 64;
/// Crowds whose sets are remembered.
const CROWDS: usize = 16;

/// The sets, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct HolderSets {
    sets: super::IdMap<u32, HolderSet>,
    ids: BTreeMap<Vec<QueueId>, u32>,
    next: u32,
    /// Those in which somebody sleeps.
    sleepy: BTreeSet<u32>,
    /// The first that was put into a list.
    listed_from: u64,
    /// A checkpoint is about to begin: nobody falls asleep any more.
    closing: bool,
    /// Crowds whose sets were asked for last.
    crowds: VecDeque<(Crowd, u32)>,
    /// Queues that took over entries which expire, and are to be looked after.
    pub(crate) expiring: Vec<QueueId>,
}

/// Queues that hold the same records.
#[derive(Debug)]
struct HolderSet {
    queues: Arc<[QueueId]>,
    /// It was published to before.
    used: bool,
    /// Members that are told at once.
    awake: Vec<QueueId>,
    /// How many of the others sleep.
    asleep: usize,
    /// How many of all were looked at to wake them ahead of a checkpoint.
    woken: usize,
    list: List,
}

/// A queue sleeps in a set: what came since is in the set's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asleep {
    set: u32,
    /// What is at or after this sequence was not taken over.
    from: u64,
}

/// What was published to a set while members slept.
#[derive(Debug, Default)]
struct List {
    /// Runs: first, last, and how many there are before it.
    runs: Vec<(u64, u64, u64)>,
    /// What of it expires: first, last, when.
    deadlines: Vec<(u64, u64, i64)>,
}

impl List {
    fn add(&mut self, first: u64, last: u64) {
        match self.runs.last_mut() {
            Some((_, end, _)) if *end + 1 == first => *end = last,
            _ => self.runs.push((first, last, self.len())),
        }
    }

    fn len(&self) -> u64 {
        let last = self.runs.last();
        last.map_or(0, |(first, last, before)| before + (last - first) + 1)
    }

    /// What comes next is at or after this sequence.
    fn end(&self) -> u64 {
        self.runs.last().map_or(0, |(_, last, _)| last + 1)
    }

    /// Runs of what is at or after this sequence.
    fn runs_from(&self, from: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let at = self.runs.partition_point(|(_, last, _)| *last < from);
        let runs = self.runs.get(at..).unwrap_or_default();
        runs.iter()
            .map(move |(first, last, _)| ((*first).max(from), *last))
    }

    fn len_from(&self, from: u64) -> u64 {
        let at = self.runs.partition_point(|(_, last, _)| *last < from);
        self.runs.get(at).map_or(0, |(first, _, before)| {
            self.len() - before - from.saturating_sub(*first)
        })
    }

    fn deadlines_from(&self, from: u64) -> impl Iterator<Item = (u64, u64, i64)> + '_ {
        let at = self.deadlines.partition_point(|(_, last, _)| *last < from);
        let deadlines = self.deadlines.get(at..).unwrap_or_default();
        deadlines
            .iter()
            .map(move |(first, last, at)| ((*first).max(from), *last, *at))
    }
}

impl HolderSets {
    /// The number of the set of these queues, if it has one; else the number it is to get.
    pub(crate) fn number(&self, queues: &[QueueId]) -> Result<u32, u32> {
        self.ids.get(queues).copied().ok_or(self.next)
    }

    /// The same of a crowd, which is told by where it lies.
    pub(crate) fn number_of_crowd(&mut self, crowd: &Crowd) -> Result<u32, u32> {
        let mut known = self.crowds.iter();
        if let Some((_, id)) = known.find(|(known, _)| Arc::ptr_eq(known, crowd)) {
            return Ok(*id);
        }
        let id = self.number(crowd)?;
        self.crowds.truncate(CROWDS - 1);
        self.crowds.push_front((crowd.clone(), id));
        Ok(id)
    }

    /// Members of the set of a crowd that may have consumers, as far as is known.
    pub(crate) fn awake_of_crowd<'a>(&'a self, crowd: &'a Crowd) -> &'a [QueueId] {
        let known = self.crowds.iter();
        let mut known = known.filter(|(known, _)| Arc::ptr_eq(known, crowd));
        let awake = known.next().and_then(|(_, id)| self.awake(*id));
        awake.unwrap_or(crowd)
    }

    /// The members of a set.
    pub(crate) fn queues(&self, id: u32) -> Option<&Arc<[QueueId]>> {
        self.sets.get(&id).map(|set| &set.queues)
    }

    /// The members of a set that don't sleep: only they may have consumers.
    fn awake(&self, id: u32) -> Option<&[QueueId]> {
        self.sets.get(&id).map(|set| &set.awake[..])
    }

    /// The same, if there are others; none if the number stands for other queues by now.
    pub(crate) fn awake_where_others_sleep(
        &self,
        id: u32,
        queues: &Arc<[QueueId]>,
    ) -> Option<&[QueueId]> {
        let set = self.sets.get(&id)?;
        let others = set.asleep > 0 && Arc::ptr_eq(&set.queues, queues);
        others.then_some(&set.awake[..])
    }

    /// Bytes that the sets take, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        let sets = self.sets.values();
        // The members, as named, as looked for, and as awake; a list's runs.
        sets.map(|set| 3 * 8 * set.queues.len() as u64 + 24 * set.list.runs.len() as u64)
            .sum()
    }

    /// How much a queue has yet to take over.
    pub(crate) fn waiting_for(&self, queue: &Queue) -> u64 {
        let sleeps = queue.asleep.iter();
        sleeps
            .filter_map(|asleep| Some(self.sets.get(&asleep.set)?.list.len_from(asleep.from)))
            .sum()
    }

    /// What all lists hold, in runs, up to a sequence: what queues that sleep may have yet to take over.
    pub(crate) fn listed(&self, until: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.lists().flat_map(move |list| {
            let runs = list.runs_from(0);
            runs.take_while(move |(first, _)| *first <= until)
        })
    }

    /// The lowest that any list holds at or after this sequence; of what is older than all lists, the lowest that one
    /// held since the last checkpoint.
    pub(crate) fn first_listed_from(&self, sequence: u64) -> Option<u64> {
        if self.sleepy.is_empty() || sequence < self.listed_from {
            return (!self.sleepy.is_empty()).then_some(self.listed_from);
        }
        let first = |list: &List| list.runs_from(sequence).next().map(|(first, _)| first);
        self.lists().filter_map(first).min()
    }

    fn lists(&self) -> impl Iterator<Item = &List> {
        let sleepy = self.sleepy.iter();
        sleepy.filter_map(|id| self.sets.get(id).map(|set| &set.list))
    }

    /// Adds what a queue has yet to take over to what it holds, and to when that expires.
    #[cfg(test)]
    pub(crate) fn add_to(
        &self,
        queue: &Queue,
        held: &mut crate::sequence_set::SequenceSet,
        expiring: &mut crate::state::deadlines::Deadlines,
    ) {
        for asleep in &queue.asleep {
            let Some(set) = self.sets.get(&asleep.set) else {
                continue;
            };
            for (first, last) in set.list.runs_from(asleep.from) {
                held.insert_run(first, last);
            }
            for (first, last, at_ms) in set.list.deadlines_from(asleep.from) {
                expiring.set(first, last, at_ms);
            }
        }
    }
}

impl State {
    /// A set of holders is defined.
    pub(crate) fn define_set(&mut self, id: u32, queues: &[QueueId]) {
        // An older checkpoint may stand behind the definitions that this one replaces.
        self.wake_set(id);
        let sets = &mut self.sets;
        sets.next = sets.next.max(id + 1);
        let set = HolderSet {
            queues: Arc::from(queues),
            used: false,
            awake: queues.to_vec(),
            asleep: 0,
            woken: 0,
            list: List::default(),
        };
        if let Some(before) = sets.sets.insert(id, set) {
            sets.ids.remove(&before.queues[..]);
            sets.crowds.clear();
        }
        sets.ids.insert(queues.to_vec(), id);
    }

    /// The queues of a set hold these records.
    pub(crate) fn held_by_set(&mut self, id: u32, first: u64, last: u64) {
        let Some(set) = self.sets.sets.get_mut(&id) else {
            return;
        };
        let sleeps = set.used && !self.sets.closing && set.queues.len() >= MEMBERS_MIN;
        set.used = true;
        let (queues, changes, asleep) = (&mut self.queues, &mut self.changes, &mut set.asleep);
        set.awake.retain(|member| {
            let Some(queue) = queues.get_mut(member) else {
                return false;
            };
            if sleeps && queue.may_sleep() {
                queue.asleep.push(Asleep {
                    set: id,
                    from: first,
                });
                *asleep += 1;
                return false;
            }
            changes.touch(queue);
            queue.ready.insert_run(first, last);
            true
        });
        if set.asleep > 0 {
            set.list.add(first, last);
            if self.sets.sleepy.is_empty() {
                self.sets.listed_from = first;
            }
            self.sets.sleepy.insert(id);
        }
    }

    /// Records that the queues of a set hold expire then.
    pub(crate) fn set_expires(&mut self, id: u32, first: u64, last: u64, at_ms: i64) {
        let Some(set) = self.sets.sets.get_mut(&id) else {
            return;
        };
        for member in &set.awake {
            if let Some(queue) = self.queues.get_mut(member) {
                self.changes.touch(queue);
                queue.expires(first, last, at_ms);
            }
        }
        if set.asleep > 0 {
            set.list.deadlines.push((first, last, at_ms));
        }
    }

    /// A queue takes over what was published to sets in which it sleeps. It sleeps on.
    pub(crate) fn take_over(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        if queue.asleep.is_empty() || self.sets.waiting_for(queue) == 0 {
            return;
        }
        self.changes.touch(queue);
        let mut expires = false;
        let mut sleeps = queue.asleep.take();
        for asleep in &mut sleeps {
            let Some(set) = self.sets.sets.get(&asleep.set) else {
                continue;
            };
            for (first, last) in set.list.runs_from(asleep.from) {
                queue.ready.insert_run(first, last);
            }
            for (first, last, at_ms) in set.list.deadlines_from(asleep.from) {
                queue.expires(first, last, at_ms);
                expires = true;
            }
            asleep.from = asleep.from.max(set.list.end());
        }
        queue.asleep = sleeps.into();
        if expires {
            self.sets.expiring.push(id);
        }
    }

    /// A queue that is about to change, and has taken over what it had yet to.
    pub(crate) fn awake_queue(&mut self, id: QueueId) -> Option<&mut Queue> {
        if !self.queues.get(&id)?.asleep.is_empty() {
            self.take_over(id);
        }
        let queue = self.queues.get_mut(&id)?;
        self.changes.touch(queue);
        Some(queue)
    }

    /// A queue takes over what it has yet to, and is told at once from now on.
    pub(crate) fn wake(&mut self, id: QueueId) {
        self.take_over(id);
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        if queue.asleep.is_empty() {
            return;
        }
        for asleep in queue.asleep.take() {
            let Some(set) = self.sets.sets.get_mut(&asleep.set) else {
                continue;
            };
            set.awake.push(id);
            set.asleep -= 1;
            if set.asleep == 0 {
                set.list = List::default();
                self.sets.sleepy.remove(&asleep.set);
            }
        }
    }

    /// Wakes all that sleep in a set.
    fn wake_set(&mut self, id: u32) {
        let Some(set) = self.sets.sets.get(&id).filter(|set| set.asleep > 0) else {
            return;
        };
        for member in set.queues.clone().iter() {
            self.wake(*member);
        }
    }

    /// Wakes some of all that sleep, ahead of a checkpoint; `false`: there are more.
    pub(crate) fn wake_some(&mut self, members: usize) -> bool {
        self.sets.closing = true;
        let mut left = members;
        while let Some(id) = self.sets.sleepy.first().copied() {
            let Some(set) = self.sets.sets.get_mut(&id) else {
                self.sets.sleepy.remove(&id);
                continue;
            };
            let queues = set.queues.clone();
            let from = set.woken;
            set.woken = from.saturating_add(left);
            let part = queues.get(from..).unwrap_or_default();
            for member in part.iter().take(left) {
                self.wake(*member);
            }
            // All of it was looked at.
            if part.len() <= left {
                self.sets.sleepy.remove(&id);
            }
            left = left.saturating_sub(part.len());
            if left == 0 {
                return self.sets.sleepy.is_empty();
            }
        }
        true
    }

    /// Forgets the sets: the frames after a checkpoint define their own.
    pub(crate) fn forget_sets(&mut self) {
        self.wake_some(usize::MAX);
        self.sets.sets.clear();
        self.sets.ids.clear();
        self.sets.crowds.clear();
        self.sets.closing = false;
    }
}

impl Queue {
    /// Is it one of many of its kind, to which nothing can be told but that they hold a record?
    pub(crate) fn may_be_crowded(&self) -> bool {
        self.kind != QueueKind::Shared
            && self.durable()
            && self.policy.is_none()
            && self.order.is_none()
    }

    /// May it sleep? Nobody looks at such a queue before it has a consumer.
    fn may_sleep(&self) -> bool {
        self.kind == QueueKind::Session
            && self.may_be_crowded()
            && self.consumers.is_empty()
            && self.asleep.len() < SETS_MAX
    }
}

#[cfg(test)]
mod tests;
