//! Reading for links that have fallen behind: of one partition at a time for all its links, the partitions in turn, within
//! a share of a core's time.

use crate::api::*;
use crate::link::LinkJob;
use crate::shard::Shard;
use crate::shard::links::budget::Budget;
use crate::state::TABLE;
use crate::state::partition::Partition;
use crate::state::queue::Queue;
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

/// A queue with more ready entries than this is not read for ...
pub(super) const READY_MAX: u64 = if cfg!(test) { 12 } else { 1000 };
/// ... nor one with more bytes of them in memory.
pub(super) const MEMORY_BYTES_MAX: u64 = 1 << 20;

/// Batches handed to a link's reader at a time, and their bytes, but for the first.
const BATCHES_MAX: usize = 64;
const BATCHES_BYTES_MAX: usize = 1 << 20;

/// Reads under way at the same time: what they cost is not known before they come back.
const READS_MAX: usize = 4;

/// What is to be read, and what is being read.
#[derive(Debug)]
pub(crate) struct LinkReads {
    /// Partitions whose links may have something to read.
    pub(crate) news: BTreeSet<u64>,
    /// Reads to be started, taken by whoever drives the shard.
    jobs: Vec<LinkJob>,
    under_way: usize,
    /// The partition that was read last: the next one's turn is next.
    turn: u64,
    budget: Budget,
}

impl LinkReads {
    pub(crate) fn new(config: &BrokerConfig, now_ms: u64) -> Self {
        Self {
            news: BTreeSet::new(),
            jobs: Vec::new(),
            under_way: 0,
            turn: 0,
            budget: Budget::new(config.links_cpu_percent, now_ms),
        }
    }

    /// When reading may go on, if it waits for time.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let waits = !self.news.is_empty() && self.under_way < READS_MAX;
        waits.then(|| self.budget.due_ms()).flatten()
    }

    /// The next partition in turn with news.
    fn next(&mut self) -> Option<u64> {
        let after = self.news.range((Excluded(self.turn), Unbounded)).next();
        let next = *after.or_else(|| self.news.first())?;
        self.news.remove(&next);
        self.turn = next;
        Some(next)
    }

    /// A read came back, after so long.
    pub(super) fn came_back(&mut self, ns: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        self.budget.take(ns);
    }
}

/// May more be read for a queue?
pub(super) fn has_room(queue: &Queue) -> bool {
    queue.ready_count() < READY_MAX && queue.memory_bytes < MEMORY_BYTES_MAX
}

impl Shard {
    /// Reads that links want done; results come back as [`crate::server::Input::Pulled`].
    pub(crate) fn take_link_jobs(&mut self) -> Vec<LinkJob> {
        std::mem::take(&mut self.link_reads.jobs)
    }

    /// A queue that has room, perhaps again, is read for where its links have fallen behind.
    pub(crate) fn read_on(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        if queue.linked_to.is_empty() || !has_room(queue) {
            return;
        }
        for partition in &queue.linked_to {
            let link = self.state.links.get(&(*partition, id));
            if link.is_some_and(|link| self.link_lag(*partition, link) > 0) {
                self.link_reads.news.insert(*partition);
            }
        }
    }

    /// Starts reads for links that have fallen behind and whose queues have room.
    pub(crate) fn pump_links(&mut self) {
        while !self.link_reads.news.is_empty()
            && self.link_reads.under_way < READS_MAX
            && self.link_reads.budget.any(self.now.monotonic_ms)
        {
            let Some(partition) = self.link_reads.next() else {
                return;
            };
            self.pump_partition(partition);
        }
    }

    fn pump_partition(&mut self, partition: u64) {
        let links = (partition, QueueId(0))..=(partition, QueueId(u64::MAX));
        let stable = self
            .state
            .partitions
            .get(&partition)
            .map_or(0, Partition::last_stable_offset);
        let mut from: Option<i64> = None;
        for ((_, queue), link) in self.state.links.range(links) {
            if link.reading {
                // It looks again when it comes back.
                return;
            }
            let room = *queue == TABLE || self.state.queues.get(queue).is_some_and(has_room);
            if link.next_offset < stable && room {
                from = Some(from.map_or(link.next_offset, |from| from.min(link.next_offset)));
            }
        }
        // What may be on its way out is not read before that is over.
        if let Some(from) = from.filter(|from| *from >= self.cleaned_below(partition)) {
            self.start_read(partition, from);
        }
    }

    fn start_read(&mut self, key: u64, from: i64) {
        let Some(partition) = self.state.partitions.get(&key) else {
            return;
        };
        let from = from.max(partition.log_start);
        let (aborted, stable) = partition.aborted_between(from, partition.last_stable_offset());
        let mut job = LinkJob {
            partition: key,
            origin: self.state.origin_of(key),
            from,
            until: stable,
            files: partition.files_from(from),
            here: Vec::new(),
            aborted,
            table: self.state.links.contains_key(&(key, TABLE)),
        };
        let oldest = self.tail.log_begins(key).unwrap_or(i64::MAX);
        if from < oldest {
            job.until = job.until.min(oldest);
        } else {
            let mut bytes = 0;
            for (base, sequence) in self.tail.log_from(key, from) {
                if base >= stable {
                    break;
                }
                if job.here.len() == BATCHES_MAX || bytes >= BATCHES_BYTES_MAX {
                    job.until = base;
                    break;
                }
                if let Some(entry) = self.tail.get(sequence) {
                    bytes += entry.stored.batch.len();
                    job.here.push((base, sequence, entry.stored.clone()));
                }
            }
        }
        for (_, link) in self
            .state
            .links
            .range_mut((key, QueueId(0))..=(key, QueueId(u64::MAX)))
        {
            link.reading = true;
        }
        self.link_reads.under_way += 1;
        self.link_reads.jobs.push(job);
    }
}
