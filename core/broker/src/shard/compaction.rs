//! Compaction: the sequencer gathers what lives, a job clusters the files with it, and what became of it is journaled.
//!
//! What is dead stays dead, so facts may be gathered over several steps, sources before what is fed from them: log
//! starts, retained messages, aliases, queues. A job is begun when all that the facts rest on is durable; nothing that
//! it leaves out can come back after that.

mod job;
mod judge;
mod keys;
mod views;

pub(crate) use job::CompactionJob;

use crate::api::*;
use crate::event::Event as Decision;
use crate::sequence_set::SequenceSet;
use crate::shard::Shard;
use crate::shard::release::Effect;
use job::Done;
use judge::Facts;
use keys::Cleaning;
use omnilog_ledger::{Lsn, Space};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long the next look at the files waits for, where nothing presses.
const PAUSE_MS: u64 = 10_000;
/// Delayed messages looked at in one step.
const DELAYED_AT_ONCE: usize = if cfg!(test) { 3 } else { 4096 };
/// Replaced files that one round deletes.
const RECLAIM: usize = 4;

/// Where a job leaves what became of it.
type Outcome = Arc<Mutex<Option<Result<Done, String>>>>;

/// How compaction stands.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// When the files are looked at next.
    next_ms: u64,
    gathering: Option<Gathering>,
    /// Facts, and the frame that must be durable first.
    waiting: Option<(Lsn, Box<CompactionJob>)>,
    running: Option<Outcome>,
    /// The file that was weighed last.
    weighed: u32,
    /// Partitions that are being cleaned, and up to where: links don't read below until it is over.
    cleaning: BTreeMap<u64, i64>,
    /// Partitions that may have been cleaned without that having been journaled, and up to where.
    doubtful: BTreeMap<u64, i64>,
}

impl Progress {
    /// Nothing of a partition was cleaned, or is being cleaned, from here on, whatever was journaled.
    pub(crate) fn cleaned_at_most(&self, partition: u64) -> i64 {
        let known = [&self.cleaning, &self.doubtful].map(|known| known.get(&partition));
        known.into_iter().flatten().copied().max().unwrap_or(0)
    }
}

/// Facts that are not complete yet.
#[derive(Debug)]
struct Gathering {
    files: Vec<u32>,
    /// The newest sequence in any of the files.
    until: u64,
    facts: Facts,
    /// The next partition to look at, and where those of the beginning end.
    partitions: (u64, u64),
    /// Delayed messages from this sequence on are to be looked at.
    delayed: u64,
    /// The same as of partitions of queues; `None` before everything but them was looked at.
    queues: Option<(u64, u64)>,
}

impl Shard {
    /// A job that may be begun, for whoever drives the shard.
    pub(crate) fn take_compaction_job(&mut self) -> Option<Box<CompactionJob>> {
        let durable = self.durable;
        let (_, job) = self.compaction.waiting.take_if(|(at, _)| *at <= durable)?;
        self.compaction.running = Some(job.outcome());
        Some(job)
    }

    /// Is there something to gather at once?
    pub(crate) fn compaction_presses(&self) -> bool {
        self.compaction.gathering.is_some()
    }

    /// A job may have ended without that having been journaled: what of compacted logs lies in clustered files then?
    pub(crate) fn doubt_clusters(&mut self) {
        let ends = self.journal.clusters().map(|clusters| clusters.take_ends());
        for (key, end) in ends.into_iter().flatten() {
            let Some(partition) = self.state.partitions.get(&key) else {
                continue;
            };
            let cleaned = partition.cleaned_until();
            if end > cleaned && (cleaned > 0 || self.compacts(partition.topic)) {
                self.compaction.doubtful.insert(key, end);
            }
        }
    }

    /// Links wait below this offset of a partition: records there may be on their way out.
    pub(crate) fn cleaned_below(&self, partition: u64) -> i64 {
        let cleaning = self.compaction.cleaning.get(&partition);
        cleaning.copied().unwrap_or(i64::MIN)
    }

    /// One round: journals what a job did, deletes what it replaced, and looks whether there is more to do.
    pub(crate) fn compact_if_due(&mut self) {
        self.end_compaction();
        for _ in 0..RECLAIM {
            match self.journal.reclaim() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.fail(&format!(
                        "a replaced journal file can't be deleted: {error}"
                    ));
                    return;
                }
            }
        }
        let now = self.now.monotonic_ms;
        let idle = self.compaction.gathering.is_none()
            && self.compaction.waiting.is_none()
            && self.compaction.running.is_none();
        if idle && now >= self.compaction.next_ms {
            self.begin_gathering();
        }
    }

    fn begin_gathering(&mut self) {
        let Some(clusters) = self.journal.clusters() else {
            return;
        };
        if self.journal.space() == Space::Reserve {
            return;
        }
        let passed = self.journal.checkpoints().oldest_lsn();
        let mut files = Vec::new();
        let mut until = 0;
        let mut behind = false;
        for file in self.journal.files() {
            if !file.sealed || file.last_lsn > passed {
                behind |= file.sealed;
                continue;
            }
            let mine = file.sequences.iter().find(|(shard, ..)| *shard == self.id);
            until = mine.map_or(until, |(_, _, last)| until.max(*last));
            files.push(file.id);
        }
        if behind && self.all_checkpointed() {
            // A checkpoint is due again: the older one is to pass the files.
            self.write_nothing();
        }
        // Clustered files hold nothing newer than a checkpoint's journal files did.
        let clustered = !clusters.files().is_empty();
        let presses = files.len() > self.config.unclustered_files_max || self.blocked;
        let pause = if presses { PAUSE_MS / 10 } else { PAUSE_MS };
        self.compaction.next_ms = self.now.monotonic_ms + pause;
        if files.is_empty() && !clustered {
            return;
        }
        if clustered {
            until = self.state.next_sequence;
        }
        self.compaction.gathering = Some(Gathering {
            files,
            until,
            facts: Facts::new(self.id, self.now.unix_ms),
            partitions: (0, self.state.next_partition),
            delayed: 0,
            queues: None,
        });
    }

    /// Gathers a part of what lives.
    pub(crate) fn gather_facts(&mut self) {
        let Some(mut gathering) = self.compaction.gathering.take() else {
            return;
        };
        let (next, end) = &mut gathering.partitions;
        if let Some(part) = self.state.partitions.part(next, *end) {
            let complete = *next >= *end;
            for key in part {
                self.gather_log(key, &mut gathering.facts);
            }
            if !complete {
                self.compaction.gathering = Some(gathering);
                return;
            }
        }
        if gathering.queues.is_none() {
            // One that is published meanwhile is a new record, in none of the files.
            let from = gathering.delayed;
            let mut left = DELAYED_AT_ONCE;
            for sequence in self.state.delayed.held_from(from).take(DELAYED_AT_ONCE) {
                gathering.facts.held.insert(sequence);
                gathering.delayed = sequence + 1;
                left -= 1;
            }
            if left == 0 {
                self.compaction.gathering = Some(gathering);
                return;
            }
        }
        let until = gathering.until;
        let held = &mut gathering.facts.held;
        let (next, end) = gathering.queues.get_or_insert_with(|| {
            for names in &self.state.namespaces {
                for (_, kept) in names.retained.all() {
                    held.insert(kept.sequence);
                }
            }
            for (first, last) in self.state.sets.listed(until) {
                held.insert_run(first, last);
            }
            for alias in self.state.aliases.values() {
                held.insert_run(alias.original, alias.original + alias.count - 1);
            }
            for pending in &self.effects {
                if let Effect::RetainedCold(_, kept, _) = pending.effect {
                    held.insert(kept.sequence);
                }
            }
            (0, self.state.next_queue)
        });
        let part = self.state.queues.part(next, *end);
        let complete = *next >= *end;
        for id in part.unwrap_or_default() {
            let Some(queue) = self.state.queues.get(&id) else {
                continue;
            };
            // Entries in memory may stand for records that are read when they are delivered.
            let leased = queue
                .leases
                .values()
                .filter_map(|lease| lease.memory.as_deref());
            let waiting = leased.chain(queue.deferred_memory());
            for entry in queue.memory.values().chain(waiting) {
                if let Some(kept) = entry.original {
                    held.insert(kept.sequence);
                }
            }
            if !queue.durable() {
                continue;
            }
            let runs = queue.ready.iter_runs().chain(queue.acked.iter_runs());
            for (first, last) in runs.take_while(|(first, _)| *first <= until) {
                held.insert_run(first, last);
            }
            for (entry, lease) in queue.leases.iter() {
                if lease.memory.is_none() {
                    held.insert(entry.0);
                }
            }
            for entry in queue.deferred_from(0) {
                held.insert(entry);
            }
        }
        if !complete {
            self.compaction.gathering = Some(gathering);
            return;
        }
        self.facts_gathered(gathering);
    }

    fn gather_log(&mut self, key: u64, facts: &mut Facts) {
        let Some(partition) = self.state.partitions.get(&key) else {
            return;
        };
        facts.logs.insert(key, partition.log_start);
        if let (Some(raw), Some(clusters)) = (&partition.compacted.raw, self.journal.clusters()) {
            facts.views.add(key, raw, clusters.copied(raw.key));
        }
        let Some(topic) = self.state.topics.get(&partition.topic) else {
            return;
        };
        if let Some(mut cleaning) = Cleaning::of(topic, partition) {
            let links = (key, QueueId(0))..=(key, QueueId(u64::MAX));
            for (_, link) in self.state.links.range(links) {
                cleaning.until = cleaning.until.min(link.next_offset);
            }
            cleaning.raw_from = facts.views.from(key);
            if cleaning.worth_a_look() {
                self.compaction.cleaning.insert(key, cleaning.until);
                facts.cleanings.push(cleaning);
            }
        }
    }

    fn facts_gathered(&mut self, gathering: Gathering) {
        let Some(clusters) = self.journal.clusters() else {
            return;
        };
        // Acknowledgements that are gathered and not journaled count as not made; everything else must be durable.
        let job = CompactionJob::new(
            gathering.facts,
            gathering.files,
            clusters,
            self.config.unclustered_files_max,
            self.compaction.weighed,
        );
        self.urgent |= self.head > self.durable;
        self.compaction.waiting = Some((self.head, Box::new(job)));
    }

    /// Of transactions that were aborted below an offset no record is left in the files. Readers need not be told of
    /// them any more, unless they lie in memory yet.
    fn forget_aborted(&mut self, key: u64, cleaned: i64) {
        let Some(partition) = self.state.partitions.get(&key) else {
            return;
        };
        let here = self.tail.log_begins(key);
        let raw = partition.compacted.raw.as_ref().map(|raw| raw.log_start);
        let below = cleaned
            .min(here.unwrap_or(partition.next_offset))
            .min(raw.unwrap_or(i64::MAX));
        if partition
            .aborted()
            .first()
            .is_some_and(|first| first.last_offset < below)
        {
            self.record(&Decision::AbortedForgotten {
                partition: key,
                below,
            });
        }
    }

    fn end_compaction(&mut self) {
        let done = self
            .compaction
            .running
            .as_ref()
            .and_then(|outcome| outcome.lock().take());
        let Some(done) = done else {
            return;
        };
        self.compaction.running = None;
        let cleaning = std::mem::take(&mut self.compaction.cleaning);
        self.link_reads.news.extend(cleaning.keys().copied());
        if done.is_err() {
            self.compaction.doubtful.extend(cleaning);
        }
        match done {
            Ok(done) => {
                self.compaction.weighed = done.weighed;
                if done.more {
                    self.compaction.next_ms = self.now.monotonic_ms;
                }
                for (partition, until) in done.cleaned {
                    self.record(&Decision::LogCleaned {
                        partition,
                        until,
                        at_ms: self.now.unix_ms,
                    });
                    self.forget_aborted(partition, until);
                }
                self.finish_frame();
            }
            // Nothing is lost: it is tried again in its time.
            Err(error) => tracing::error!(error, "journal files can't be compacted"),
        }
    }
}

/// The number that a topic's setting has, in Kafka's spelling.
pub(crate) fn number(settings: &LogSettings, name: &str) -> Option<i64> {
    let (_, value) = settings.others.iter().find(|(known, _)| known == name)?;
    value.parse().ok()
}

/// Does any of these sequences live?
fn any(held: &SequenceSet, first: u64, last: u64) -> bool {
    held.first_at_or_after(first).is_some_and(|at| at <= last)
}

#[cfg(test)]
mod tests;
