//! Retention: log starts move by their windows, and files in which nothing lives give their space back.
//!
//! A sweep looks at everything that may keep a file, in slices, so that a step stays short however many names there
//! are. What is dead stays dead, so facts gathered over several steps hold, if sources come before what is fed from
//! them: logs, retained messages, aliases, queues.

use crate::api::*;
use crate::shard::Shard;
use omnilog_ledger::Class;

/// Logs, aliases or queues looked at in one slice. In tests a few, so that a sweep takes several steps.
const SLICE: usize = if cfg!(test) { 2 } else { 1024 };
/// With no more names than this a sweep is done in one step.
const SMALL: usize = if cfg!(test) { 8 } else { 4096 };
/// A sweep begins no sooner than a second for this many names after the one before.
const NAMES_PER_SECOND: usize = 50_000;

/// A look at everything that may keep a file.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Sealed files in which nothing was found to live yet: number, first and last sequence, oldest first.
    files: Vec<(u32, u64, u64)>,
    /// The file that is being written.
    newest: u32,
    partitions: Vec<u64>,
    /// The next alias, once the logs are done.
    aliases: Option<u64>,
    /// The queues, once the aliases are done.
    queues: Option<Vec<QueueId>>,
}

impl Sweep {
    /// Something of these sequences lives.
    fn lives(&mut self, first: u64, last: u64) {
        self.files
            .retain(|(_, from, to)| *to < first || *from > last);
    }

    /// Looks which files hold something of an ordered set, which says what it has at or after a sequence.
    fn lives_where(&mut self, mut next: impl FnMut(u64) -> Option<u64>) {
        self.files
            .retain(|(_, from, to)| next(*from).is_none_or(|held| held > *to));
    }
}

impl Shard {
    /// One round: deletes the files that were found to hold nothing, and looks for more of them.
    pub(crate) fn retain(&mut self) {
        let files = self.journal.files();
        self.delete_dead_files();
        let due = self.blocked || self.now.monotonic_ms >= self.next_sweep_ms;
        if self.sweep.is_some() || self.dead_files.is_some() || !due {
            return;
        }
        let sealed = files.iter().filter(|file| file.sealed);
        self.sweep = Some(Sweep {
            files: sealed
                .map(|file| {
                    let mine = file.sequences.iter().find(|(shard, ..)| *shard == self.id);
                    mine.map_or((file.id, 1, 0), |(_, first, last)| (file.id, *first, *last))
                })
                .collect(),
            newest: files.last().map_or(0, |file| file.id),
            partitions: self.state.partitions.keys().collect(),
            aliases: None,
            queues: None,
        });
        let state = &self.state;
        let names = state.partitions.len() + state.queues.len() + state.aliases.len();
        let pause = u64::try_from(names / NAMES_PER_SECOND).unwrap_or(u64::MAX);
        self.next_sweep_ms = self.now.monotonic_ms + pause.saturating_mul(1000);
        if names <= SMALL {
            while self.sweep.is_some() {
                self.sweep();
            }
        }
    }

    /// Is a sweep under way?
    pub(crate) fn sweeps(&self) -> bool {
        self.sweep.is_some()
    }

    /// One slice of a sweep.
    pub(crate) fn sweep(&mut self) {
        let Some(mut sweep) = self.sweep.take() else {
            return;
        };
        if !sweep.partitions.is_empty() {
            self.sweep_logs(&mut sweep);
        } else if sweep.files.is_empty() {
            self.swept(sweep);
            return;
        } else if let Some(queues) = &mut sweep.queues {
            let rest = queues.len().saturating_sub(SLICE);
            let slice = queues.split_off(rest);
            for id in &slice {
                self.sweep_queue(*id, &mut sweep);
            }
            if rest == 0 {
                self.swept(sweep);
                return;
            }
        } else {
            self.sweep_aliases(&mut sweep);
        }
        self.sweep = Some(sweep);
    }

    fn sweep_logs(&mut self, sweep: &mut Sweep) {
        let rest = sweep.partitions.len().saturating_sub(SLICE);
        let keys = sweep.partitions.split_off(rest);
        self.move_log_starts(&keys, sweep.newest);
        self.finish_frame();
        for partition in keys.iter().filter_map(|key| self.state.partitions.get(key)) {
            let raw = partition.compacted.raw.iter().flat_map(|raw| &raw.spans);
            for span in partition.spans.iter().chain(raw) {
                if let Ok(at) = sweep.files.binary_search_by_key(&span.file, |file| file.0) {
                    sweep.files.remove(at);
                }
            }
        }
    }

    /// Retained messages, which have an index, and then a slice of the aliases.
    fn sweep_aliases(&mut self, sweep: &mut Sweep) {
        let from = match sweep.aliases {
            Some(from) => from,
            None => {
                for names in &self.state.namespaces {
                    sweep.lives_where(|sequence| names.retained.first_from(sequence));
                }
                sweep.lives_where(|sequence| self.state.delayed.first_held_from(sequence));
                sweep.lives_where(|sequence| self.state.sets.first_listed_from(sequence));
                0
            }
        };
        let mut next = None;
        for (looked, (at, alias)) in self.state.aliases.range(from..).enumerate() {
            if looked == SLICE {
                next = Some(*at);
                break;
            }
            sweep.lives(alias.original, alias.original + alias.count - 1);
        }
        sweep.aliases = next;
        if next.is_none() {
            sweep.queues = Some(self.state.queues.keys().collect());
        }
    }

    fn sweep_queue(&self, id: QueueId, sweep: &mut Sweep) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        // Entries in memory may stand for records that are read when they are delivered.
        let leased = queue.leases.values();
        let leased = leased.filter_map(|lease| lease.memory.as_deref());
        let waiting = leased.chain(queue.deferred_memory());
        for entry in queue.memory.values().chain(waiting) {
            if let Some(kept) = entry.original {
                sweep.lives(kept.sequence, kept.sequence);
            }
        }
        if queue.durable() {
            sweep.lives_where(|sequence| queue.first_held_from(sequence));
            // What is acknowledged and not journaled yet would come back after a crash.
            sweep.lives_where(|sequence| queue.acked.first_at_or_after(sequence));
        }
    }

    /// All was looked at: what is left is dead.
    fn swept(&mut self, sweep: Sweep) {
        let dead: Vec<u32> = sweep.files.into_iter().map(|(file, ..)| file).collect();
        let any = !dead.is_empty();
        self.dead_files = Some((self.head, dead));
        // What leads to space may use what is kept for that.
        if any {
            self.write_held(Class::Upkeep);
        }
    }

    /// Deletes the files that were found dead, once what they died of is durable: a crash must not bring back an entry
    /// whose record is gone. What is dead stays dead.
    fn delete_dead_files(&mut self) {
        let Some((_, files)) = self.dead_files.take_if(|(at, _)| *at <= self.durable) else {
            return;
        };
        for file in files {
            match self.journal.delete_file(file) {
                Ok(true) => tracing::debug!(file, "a journal file's space is returned"),
                // A checkpoint still needs it, and so those after it. With a full disk the next ones come soon.
                Ok(false) => {
                    self.checkpoint.wanted = self.blocked;
                    return;
                }
                Err(error) => {
                    self.fail(&format!("a journal file can't be deleted: {error}"));
                    return;
                }
            }
        }
    }
}
