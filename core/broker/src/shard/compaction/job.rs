//! A compaction as a job beside the sequencer: which files, then clustering them.

use crate::shard::compaction::Outcome;
use crate::shard::compaction::judge::Facts;
use crate::shard::compaction::keys::Cleaning;
use omnilog_ledger::{Clustering, Clusters, LogRange, is_clustered};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Files of which one job looks how much lives.
const WEIGHED: usize = 8;
/// Files that one job takes because there are too many.
const TAKEN: usize = 16;
/// Clustered files that are small are gathered when there are this many.
const SMALL_MAX: usize = 8;
/// Batches of which one job can be made.
const ENTRIES_MAX: usize = 2 << 20;

/// What became of a job.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The file that was weighed last.
    pub(super) weighed: u32,
    /// Logs whose keys were compacted, and up to where.
    pub(super) cleaned: Vec<(u64, i64)>,
    /// There was something to do: there may be more.
    pub(super) more: bool,
}

/// A compaction to be done, step by step.
#[derive(Debug)]
pub(crate) struct CompactionJob {
    facts: Facts,
    /// Journal files that may be clustered, oldest first.
    files: Vec<u32>,
    clusters: Arc<Clusters>,
    unclustered_max: usize,
    weighed: u32,
    clustering: Option<Clustering>,
    outcome: Outcome,
}

impl CompactionJob {
    pub(super) fn new(
        facts: Facts,
        files: Vec<u32>,
        clusters: Arc<Clusters>,
        unclustered_max: usize,
        weighed: u32,
    ) -> Self {
        Self {
            facts,
            files,
            clusters,
            unclustered_max,
            weighed,
            clustering: None,
            outcome: Outcome::default(),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Does a part, of about so many bytes. Returns whether there is more to do. Blocks.
    pub(crate) fn step(&mut self, bytes_max: u64) -> bool {
        let stepped = self.try_step(bytes_max);
        if let Ok(true) = stepped {
            return true;
        }
        let worked = self.clustering.take().is_some();
        let done = stepped.map(|_| Done {
            weighed: self.weighed,
            cleaned: if worked {
                let cleaned = self.facts.cleanings.iter();
                cleaned.map(|log| (log.partition, log.until)).collect()
            } else {
                Vec::new()
            },
            more: worked,
        });
        *self.outcome.lock() = Some(done.map_err(|error| error.to_string()));
        false
    }

    fn try_step(&mut self, bytes_max: u64) -> io::Result<bool> {
        if let Some(clustering) = &mut self.clustering {
            return clustering.step(&mut self.facts, bytes_max);
        }
        let chosen = self.choose()?;
        if chosen.is_empty() {
            return Ok(false);
        }
        tracing::debug!(files = chosen.len(), "journal files are compacted");
        self.clustering = Some(self.clusters.cluster(&chosen)?);
        Ok(true)
    }

    fn choose(&mut self) -> io::Result<Vec<u32>> {
        let replaced = self.clusters.replaced();
        self.files.retain(|id| !replaced.contains(id));
        let mut chosen: BTreeSet<u32> = BTreeSet::new();
        self.choose_dirty(&mut chosen)?;
        if self.files.len() > self.unclustered_max {
            chosen.extend(self.files.iter().take(TAKEN));
        }
        let clusters = self.clusters.files();
        self.choose_dead(&clusters, &mut chosen)?;
        let small: Vec<u32> = clusters
            .iter()
            .filter(|(_, bytes)| **bytes < self.clusters.file_bytes() / 4)
            .map(|(id, _)| *id)
            .collect();
        if small.len() >= SMALL_MAX {
            chosen.extend(small);
        }
        self.limit(chosen)
    }

    /// Files of which less than half lives, among the few that are looked at in turn.
    fn choose_dead(
        &mut self,
        clusters: &BTreeMap<u32, u64>,
        chosen: &mut BTreeSet<u32>,
    ) -> io::Result<()> {
        let all: Vec<u32> = self.files.iter().chain(clusters.keys()).copied().collect();
        let after = all.partition_point(|id| *id <= self.weighed);
        let turn = all.iter().cycle().skip(after).take(all.len().min(WEIGHED));
        for id in turn.copied().collect::<Vec<u32>>() {
            self.weighed = id;
            if let Some((live, bytes)) = self.clusters.live_bytes(id, &mut self.facts)?
                && live < bytes / 2
            {
                chosen.insert(id);
            }
        }
        Ok(())
    }

    /// Files of logs that are dirty enough. A log is cleaned from its start on, so all its files take part.
    fn choose_dirty(&mut self, chosen: &mut BTreeSet<u32>) -> io::Result<()> {
        let mut cleanings = std::mem::take(&mut self.facts.cleanings);
        cleanings.sort_unstable_by_key(|log| log.partition);
        let mut entries = 0;
        for mut log in cleanings {
            let Some((files, count)) = self.dirty_files(&mut log)? else {
                continue;
            };
            entries += count;
            if entries > ENTRIES_MAX && !self.facts.cleanings.is_empty() {
                break;
            }
            chosen.extend(files);
            self.facts.cleanings.push(log);
        }
        Ok(())
    }

    /// The files that hold what of a log may be cleaned, if that is worth it.
    fn dirty_files(&self, log: &mut Cleaning) -> io::Result<Option<(BTreeSet<u32>, usize)>> {
        let now = self.facts.now_ms;
        let may: BTreeSet<u32> = self.files.iter().copied().collect();
        let mut files = BTreeSet::new();
        let (mut clean, mut dirty, mut entries) = (0, 0, 0);
        let mut oldest = i64::MAX;
        let mut until = log.log_start;
        // What lies before the log's start and was not copied yet is copied with the rest.
        let (from, limit) = (log.log_start.min(log.raw_from), log.until);
        let range = LogRange::anywhere(log.partition, from, limit);
        self.clusters.visit(range, &mut |file, entry| {
            let end = entry.end();
            let young = entry.max_timestamp > now.saturating_sub(log.lag_ms_min);
            if !(may.contains(&file) || is_clustered(file)) || end > limit {
                return false;
            }
            if end <= log.log_start {
                // It costs nothing but a place among the copies.
            } else if entry.base_offset >= log.cleaned {
                if log.lag_ms_min > 0 && young {
                    return false;
                }
                dirty += u64::from(entry.length);
                oldest = oldest.min(entry.max_timestamp);
            } else {
                clean += u64::from(entry.length);
            }
            entries += 1;
            files.insert(file);
            until = end;
            true
        })?;
        log.until = until;
        let share = dirty as f64 / (clean + dirty).max(1) as f64;
        let overdue = dirty > 0 && now.saturating_sub(oldest) > log.lag_ms_max;
        let worth = dirty > 0 && (share >= log.ratio || overdue);
        Ok(worth.then_some((files, entries)))
    }

    /// As many of the files as one job can take.
    fn limit(&mut self, chosen: BTreeSet<u32>) -> io::Result<Vec<u32>> {
        if !self.facts.cleanings.is_empty() {
            return Ok(chosen.into_iter().collect());
        }
        let mut taken = Vec::new();
        let mut entries = 0;
        for id in chosen {
            entries += self.clusters.entries(id)?;
            if entries > ENTRIES_MAX && !taken.is_empty() {
                break;
            }
            taken.push(id);
        }
        Ok(taken)
    }
}
