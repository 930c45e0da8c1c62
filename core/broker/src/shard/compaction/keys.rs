//! Key compaction: of each key only the last record stays, as Kafka's log cleaner does it.

use crate::api::CleanupPolicy;
use crate::shard::compaction::judge::retain;
use crate::shard::compaction::number;
use crate::state::partition::{Partition, Topic};
use crate::state::transactions::Aborted;
use omnilog_ledger::Section;
use omnilog_ledger::format::Entry;
use omnilog_record::RecordBatch;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;

/// Keys that one round can tell apart; a log with more is cleaned in several.
const KEYS_MAX: usize = 4 << 20;
/// Tombstones that one round can take away; the others stay until a later one.
const TOMBSTONES_MAX: usize = KEYS_MAX / 4;
/// A batch expands to at most this.
const EXPANDED_BYTES_MAX: usize = 64 << 20;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A log whose keys are to be compacted.
#[derive(Debug)]
pub(crate) struct Cleaning {
    pub(super) partition: u64,
    pub(super) log_start: i64,
    /// Everything below was cleaned before.
    pub(super) cleaned: i64,
    /// Up to here it may be cleaned: what is beyond is too new, not stable, or not read by every link yet.
    pub(super) until: i64,
    /// It is cleaned when this share of it is dirty.
    pub(super) ratio: f64,
    /// A record stays this long at the least.
    pub(super) lag_ms_min: i64,
    /// A record that is as old makes the log be cleaned, however little of it is dirty.
    pub(super) lag_ms_max: i64,
    /// From here on batches are those of the log's raw view, and copied before they are cleaned.
    pub(super) raw_from: i64,
    /// A tombstone stays this long after it was cleaned first.
    tombstone_ms: i64,
    /// Offsets up to which it was cleaned, and when.
    points: Vec<(i64, i64)>,
    /// Aborted transactions: their records go, whatever their keys.
    aborted: Vec<Aborted>,
    /// Batches of which the header stays: the last of each producer.
    last_batches: BTreeSet<i64>,
    /// The newest offset of each dirty key, and of each tombstone that may go: two hashes with secrets of their own, so
    /// that nobody can make keys collide.
    newest: HashMap<(u64, u64), i64>,
    /// Keys of which an older record stays only because something holds it: their tombstones stay, too, or who reads
    /// the log would see them with a value again.
    outlived: HashSet<(u64, u64)>,
    secrets: (RandomState, RandomState),
}

impl Cleaning {
    /// How this log is to be cleaned, if it is a compacted one.
    pub(super) fn of(topic: &Topic, partition: &Partition) -> Option<Self> {
        if !matches!(
            topic.settings.cleanup,
            Some(CleanupPolicy::Compact | CleanupPolicy::CompactDelete)
        ) {
            return None;
        }
        let settings = &topic.settings;
        let ratio = settings
            .others
            .iter()
            .find(|(name, _)| name == "min.cleanable.dirty.ratio")
            .and_then(|(_, value)| value.parse().ok());
        Some(Self {
            partition: partition.key,
            log_start: partition.log_start,
            cleaned: partition.cleaned_until(),
            until: partition.last_stable_offset(),
            ratio: ratio.unwrap_or(0.5),
            lag_ms_min: number(settings, "min.compaction.lag.ms").unwrap_or(0),
            lag_ms_max: number(settings, "max.compaction.lag.ms").unwrap_or(i64::MAX),
            raw_from: i64::MAX,
            tombstone_ms: number(settings, "delete.retention.ms").unwrap_or(DAY_MS),
            points: partition.compacted.cleaned.clone(),
            aborted: partition.aborted().to_vec(),
            last_batches: partition
                .producers
                .values()
                .filter_map(|producer| producer.batches.back())
                .map(|batch| batch.base_offset)
                .collect(),
            newest: HashMap::new(),
            outlived: HashSet::new(),
            secrets: (RandomState::new(), RandomState::new()),
        })
    }

    /// Is there anything that was not cleaned yet?
    pub(super) fn worth_a_look(&self) -> bool {
        self.until > self.cleaned.max(self.log_start)
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.secrets.0.hash_one(key), self.secrets.1.hash_one(key))
    }

    /// Does a batch belong to an aborted transaction? All that may be cleaned is decided.
    fn is_aborted(&self, section: &Section, batch: &RecordBatch) -> bool {
        let header = batch.header();
        header.attributes.is_transactional()
            && Aborted::any_covers(&self.aborted, header.producer_id, section.base_offset)
    }

    /// May the tombstones of what ends here go? They have been there for as long as they are to stay.
    fn tombstones_go(&self, end: i64, now_ms: i64) -> bool {
        let cleaned = self.points.iter().find(|(until, _)| end < *until);
        cleaned.is_some_and(|(_, at)| now_ms >= at.saturating_add(self.tombstone_ms))
    }

    fn is_dirty(&self, end: i64) -> bool {
        end >= self.cleaned.max(self.log_start)
    }

    pub(super) fn studies(&self, entry: &Entry, now_ms: i64) -> bool {
        let end = entry.base_offset + i64::from(entry.last_delta);
        self.is_dirty(end) || self.tombstones_go(end, now_ms)
    }

    /// Notes the keys of a batch, or those of its tombstones if it was cleaned before. Batches come in offset order.
    pub(super) fn study(&mut self, section: &Section) -> io::Result<()> {
        let end = section.base_offset + i64::from(section.last_delta);
        let dirty = self.is_dirty(end);
        let no_room = !dirty && self.newest.len() >= TOMBSTONES_MAX;
        if section.base_offset >= self.until || no_room {
            return Ok(());
        }
        let batch = RecordBatch::parse(section.batch.clone()).map_err(io::Error::other)?;
        if batch.header().attributes.is_control() || self.is_aborted(section, &batch) {
            return Ok(());
        }
        let records = batch
            .records(EXPANDED_BYTES_MAX)
            .map_err(io::Error::other)?;
        for record in records.iter() {
            let record = record.map_err(io::Error::other)?;
            let Some(key) = record.key.filter(|_| dirty || record.value.is_none()) else {
                continue;
            };
            let offset = section.base_offset + i64::from(record.offset_delta);
            self.newest.insert(self.hash(key), offset);
        }
        if self.newest.len() >= KEYS_MAX {
            self.until = self.until.min(end + 1);
        }
        Ok(())
    }

    /// Is there an older record of this key that something holds? Of too many keys it is not known.
    fn outlives(&self, key: &(u64, u64)) -> bool {
        self.outlived.len() >= KEYS_MAX || self.outlived.contains(key)
    }

    /// What stays of a batch. Batches come in offset order, from the log's start on.
    pub(super) fn clean(
        &mut self,
        section: &Section,
        now_ms: i64,
        held: &dyn Fn(i32) -> bool,
    ) -> io::Result<Option<Section>> {
        let batch = RecordBatch::parse(section.batch.clone()).map_err(io::Error::other)?;
        let end = section.base_offset + i64::from(section.last_delta);
        // A batch that is cut by the border waits for the next round.
        if end >= self.until {
            return Ok(Some(section.clone()));
        }
        let tombstones_go = self.tombstones_go(end, now_ms);
        if batch.header().attributes.is_control() {
            // A marker stays as long as a tombstone, and as long as readers are told of what it ended.
            let at = self
                .aborted
                .binary_search_by_key(&end, |known| known.last_offset);
            let told = at.is_ok();
            return Ok((told || !tombstones_go).then(|| section.clone()));
        }
        let aborted = self.is_aborted(section, &batch);
        let kept = retain(section, &batch, &mut |record| {
            let held = held(record.offset_delta);
            let Some(key) = record.key.filter(|_| !aborted) else {
                return held;
            };
            let key = self.hash(key);
            let offset = section.base_offset + i64::from(record.offset_delta);
            let newest = self.newest.get(&key).copied();
            if held && record.value.is_some() && self.outlived.len() < KEYS_MAX {
                self.outlived.insert(key);
            }
            // Only one that was looked for goes: then what it deletes goes, too, if nothing holds that any more.
            let may_go =
                record.value.is_none() && tombstones_go && newest.is_some() && !self.outlives(&key);
            held || newest.is_none_or(|newest| newest <= offset) && !may_go
        })?;
        if kept.is_some() || !self.last_batches.contains(&section.base_offset) {
            return Ok(kept);
        }
        // Nothing but the header: it says how far the producer came.
        let empty = batch
            .retain(EXPANDED_BYTES_MAX, |_| false)
            .map_err(io::Error::other)?;
        Ok(Some(Section {
            batch: empty.to_bytes(),
            ..section.clone()
        }))
    }
}
