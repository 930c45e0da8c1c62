//! What lives: inside a log's window, or held.

use crate::api::{Envelope, StoredBatch};
use crate::sequence_set::SequenceSet;
use crate::shard::compaction::any;
use crate::shard::compaction::keys::Cleaning;
use crate::shard::compaction::views::Views;
use crate::state::IdMap;
use bytes::Bytes;
use omnilog_ledger::format::Entry;
use omnilog_ledger::{Judge, Plan, Section, ShardId, holds_copies};
use omnilog_record::{HEADER_BYTES, RecordBatch};
use std::io;

/// A batch expands to at most this.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// What was known to live when it was gathered. What is newer than the files does not count.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(super) shard: ShardId,
    pub(super) now_ms: i64,
    /// Where each log begins.
    pub(super) logs: IdMap<u64, i64>,
    pub(super) held: SequenceSet,
    /// Logs that keys are to be compacted in.
    pub(super) cleanings: Vec<Cleaning>,
    /// Raw views of logs.
    pub(super) views: Views,
}

impl Facts {
    pub(super) fn new(shard: ShardId, now_ms: i64) -> Self {
        Self {
            shard,
            now_ms,
            logs: IdMap::default(),
            held: SequenceSet::default(),
            cleanings: Vec::new(),
            views: Views::default(),
        }
    }

    /// Where among the logs that keys are compacted in this one is.
    fn cleaning(&self, entry: &Entry) -> Option<usize> {
        if self.cleanings.is_empty() {
            return None;
        }
        let at = self
            .cleanings
            .binary_search_by_key(&entry.partition, |cleaning| cleaning.partition);
        let cleaning = self.cleanings.get(at.ok()?)?;
        (entry.base_offset < cleaning.until).then_some(at.ok()?)
    }

    fn log_live(&self, entry: &Entry) -> bool {
        let last = entry.base_offset + i64::from(entry.last_delta);
        self.logs
            .get(&entry.partition)
            .is_some_and(|start| last >= *start)
    }

    fn held_of(&self, entry: &Entry) -> u64 {
        let last = entry.base_sequence + u64::from(entry.last_delta);
        self.held
            .runs_from(entry.base_sequence)
            .take_while(|(first, _)| *first <= last)
            .map(|(first, end)| end.min(last) - first + 1)
            .sum()
    }
}

impl Judge for Facts {
    fn weigh(&mut self, entry: &Entry) -> u32 {
        if entry.shard != self.shard || self.log_live(entry) || self.views.want(entry) {
            return entry.length;
        }
        if holds_copies(entry.partition) {
            return if self.views.keep(entry) {
                entry.length
            } else {
                0
            };
        }
        let records = u64::from(entry.last_delta) + 1;
        let live = u64::from(entry.length) * self.held_of(entry) / records;
        u32::try_from(live).unwrap_or(entry.length)
    }

    fn plan(&mut self, entry: &Entry, places: &mut Vec<Plan>) {
        let mut plan = Plan {
            partition: entry.partition,
            whole: true,
        };
        if entry.shard != self.shard {
            places.push(plan);
            return;
        }
        if holds_copies(entry.partition) {
            places.extend(self.views.keep(entry).then_some(plan));
            return;
        }
        let until = self
            .cleaning(entry)
            .and_then(|at| self.cleanings.get(at))
            .map_or(i64::MIN, |cleaning| cleaning.until);
        if let Some(copies) = self.views.copy_to(entry, until) {
            places.push(Plan {
                partition: copies,
                whole: true,
            });
        } else if self.views.want(entry) {
            places.push(plan);
            return;
        }
        if self.log_live(entry) {
            plan.whole = self.cleaning(entry).is_none();
            places.push(plan);
            return;
        }
        let held = self.held_of(entry);
        if held > 0 {
            plan.whole = held == u64::from(entry.last_delta) + 1;
            places.push(plan);
        }
    }

    fn rewrite(
        &mut self,
        _: ShardId,
        plan: &Plan,
        section: Section,
    ) -> io::Result<Option<Section>> {
        let entry = Entry {
            partition: plan.partition,
            base_offset: section.base_offset,
            base_sequence: section.base_sequence,
            last_delta: section.last_delta,
            max_timestamp: section.max_timestamp,
            shard: self.shard,
            position: 0,
            length: 0,
        };
        let cleaning = self.cleaning(&entry);
        let is_live = self.log_live(&entry);
        let all_held = &self.held;
        let held = |delta: i32| {
            u64::try_from(delta).is_ok_and(|delta| all_held.contains(section.base_sequence + delta))
        };
        if is_live {
            return match cleaning.and_then(|at| self.cleanings.get_mut(at)) {
                Some(cleaning) => cleaning.clean(&section, self.now_ms, &held),
                None => Ok(Some(section)),
            };
        }
        // A Kafka client's batch is kept as a whole.
        if section.envelope.is_empty() {
            let last = section.base_sequence + u64::from(section.last_delta);
            return Ok(any(&self.held, section.base_sequence, last).then_some(section));
        }
        let batch = RecordBatch::parse(section.batch.clone()).map_err(io::Error::other)?;
        retain(&section, &batch, &mut |record| held(record.offset_delta))
    }

    fn sound(&self, section: &Section) -> bool {
        RecordBatch::parse(section.batch.clone()).is_ok_and(|batch| batch.verify_crc().is_ok())
    }

    fn studies(&mut self, entry: &Entry) -> bool {
        let cleaning = self.cleaning(entry);
        let cleaning = cleaning.and_then(|at| self.cleanings.get(at));
        cleaning.is_some_and(|cleaning| cleaning.studies(entry, self.now_ms))
    }

    fn study(&mut self, entry: &Entry, section: &Section) -> io::Result<()> {
        let at = self
            .cleanings
            .binary_search_by_key(&entry.partition, |cleaning| cleaning.partition);
        match at.ok().and_then(|at| self.cleanings.get_mut(at)) {
            Some(cleaning) => cleaning.study(section),
            None => Ok(()),
        }
    }
}

/// A section with those records only that `keep` says, envelopes and all; `None` if that is none.
pub(super) fn retain(
    section: &Section,
    batch: &RecordBatch,
    keep: &mut dyn FnMut(&omnilog_record::Record<'_>) -> bool,
) -> io::Result<Option<Section>> {
    let mut kept = Vec::new();
    let rest = batch
        .retain(EXPANDED_BYTES_MAX, |record| {
            let stays = keep(record);
            kept.push(stays);
            stays
        })
        .map_err(io::Error::other)?;
    if !kept.contains(&true) {
        return Ok(None);
    }
    let mut section = section.clone();
    if !section.envelope.is_empty() && kept.contains(&false) {
        section.envelope = envelopes(&section.envelope, &kept, &rest)?;
    }
    section.max_timestamp = rest.header().max_timestamp.max(-1);
    section.batch = rest.to_bytes();
    Ok(Some(section))
}

/// The envelopes of the records that stay, each with the place that its record has now.
fn envelopes(bytes: &Bytes, kept: &[bool], rest: &RecordBatch) -> io::Result<Bytes> {
    let all = StoredBatch::decode(Bytes::new(), bytes);
    if all.envelopes.len() != kept.len() {
        return Err(io::Error::other(
            "a batch without an envelope for each record",
        ));
    }
    let records = rest.records(EXPANDED_BYTES_MAX).map_err(io::Error::other)?;
    let table = records.table().map_err(io::Error::other)?;
    let mut stay: Vec<Envelope> = all
        .envelopes
        .into_iter()
        .zip(kept)
        .filter_map(|(envelope, kept)| kept.then_some(envelope))
        .collect();
    for (index, envelope) in stay.iter_mut().enumerate() {
        let body = table.body(index).unwrap_or_default();
        let position = u32::try_from(HEADER_BYTES + body.start).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        envelope.range = (position, length);
    }
    // Histories and hints move with their records.
    let moved = |index: u32| {
        let stays = kept.get(index as usize).copied().unwrap_or(false);
        let before = kept.iter().take(index as usize).filter(|kept| **kept);
        stays.then(|| u32::try_from(before.count()).unwrap_or(u32::MAX))
    };
    let deaths = all.deaths.into_iter();
    let deaths = deaths.filter_map(|(index, deaths)| Some((moved(index)?, deaths)));
    let hints = all.hints.into_iter();
    let hints = hints.filter_map(|(index, hints)| Some((moved(index)?, hints)));
    let rest = StoredBatch {
        batch: Bytes::new(),
        envelopes: stay,
        deaths: deaths.collect(),
        hints: hints.collect(),
    };
    Ok(rest.encode_beside())
}
