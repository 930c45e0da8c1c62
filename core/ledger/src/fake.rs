//! A journal in memory with the manners of object storage: slow, completing out of order, losing replies.

use crate::checkpoint::{CheckpointStore, LocalCheckpoints};
use crate::env::Env;
use crate::format::{self, Entry};
use crate::frame::{Frame, Lsn, Place, Section, ShardId};
use crate::journal::{Class, Completion, FileInfo, Journal, JournalError, Pushed, Space};
use crate::reader::{LogRange, SectionReader};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A frame as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeFrame {
    /// Its number.
    pub lsn: Lsn,
    /// Whose it is.
    pub shard: ShardId,
    /// The decision.
    pub decision: Vec<u8>,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// A journal in memory.
#[derive(Debug)]
pub struct FakeJournal {
    env: Env,
    latency: Duration,
    next_lsn: Lsn,
    group: Vec<FakeFrame>,
    group_bytes: usize,
    /// Frames written, in order; those of groups under way included.
    store: Arc<FakeStore>,
    /// Groups under way: when news of them come, and what.
    under_way: Vec<(Duration, bool, Lsn, Lsn)>,
    checkpoints: Arc<LocalCheckpoints>,
}

impl FakeJournal {
    /// An empty journal whose groups take about `latency`: between half and one and a half of it, and, where a reply
    /// is lost and found again by a retry, twice as long on top.
    pub fn new(env: &Env, latency: Duration) -> io::Result<Self> {
        Ok(Self {
            env: env.clone(),
            latency,
            next_lsn: 1,
            group: Vec::new(),
            group_bytes: 0,
            store: Arc::default(),
            under_way: Vec::new(),
            checkpoints: Arc::new(LocalCheckpoints::open(env, Path::new("fake-checkpoints"))?),
        })
    }

    /// When there will be news next, on the environment's clock.
    pub fn next_news(&self) -> Option<Duration> {
        self.under_way.iter().map(|(due, ..)| *due).min()
    }

    /// Everything written so far.
    pub fn frames(&self) -> Vec<FakeFrame> {
        self.store.0.lock().clone()
    }
}

impl Journal for FakeJournal {
    fn push(&mut self, frame: &Frame<'_>, _: Class) -> Result<Pushed, JournalError> {
        let bytes = format::frame_bytes(frame);
        let limit = self.frame_bytes_max();
        if bytes > limit {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        let lsn = self.next_lsn;
        self.next_lsn += 1;
        self.group_bytes += bytes;
        self.group.push(FakeFrame {
            lsn,
            shard: frame.shard,
            decision: frame.decision.to_vec(),
            sections: frame.sections.to_vec(),
        });
        let places = (0..frame.sections.len()).map(|_| Place {
            file: 1,
            position: 0,
            length: 0,
        });
        Ok(Pushed {
            lsn,
            places: places.collect(),
        })
    }

    fn group_bytes(&self) -> usize {
        self.group_bytes
    }

    fn sync(&mut self) {
        // Every group is on its way already.
    }

    fn submit(&mut self) -> Result<(), JournalError> {
        let (Some(first), Some(last)) = (self.group.first(), self.group.last()) else {
            return Ok(());
        };
        let (first, last) = (first.lsn, last.lsn);
        self.store.0.lock().append(&mut self.group);
        self.group_bytes = 0;
        let dice = self.env.random.next_u64();
        let mut takes = self.latency / 2 + self.latency.mul_f64((dice % 1000) as f64 / 1000.0);
        if (dice / 1000).is_multiple_of(16) {
            takes += self.latency * 2;
        }
        let now = self.env.clock.monotonic();
        self.under_way.push((now, false, first, last));
        self.under_way.push((now + takes, true, first, last));
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let now = self.env.clock.monotonic();
        let due = |(_, entry): &(usize, &(Duration, bool, Lsn, Lsn))| entry.0 <= now;
        let (at, _) = self
            .under_way
            .iter()
            .enumerate()
            .filter(due)
            .min_by_key(|(_, e)| e.0)?;
        let (_, synced, first_lsn, last_lsn) = self.under_way.remove(at);
        Some(if synced {
            Completion::Synced {
                first_lsn,
                last_lsn,
            }
        } else {
            Completion::Written {
                first_lsn,
                last_lsn,
            }
        })
    }

    fn epoch(&self) -> u32 {
        1
    }

    fn frame_bytes_max(&self) -> usize {
        16 << 20
    }

    fn reader(&self) -> Arc<dyn SectionReader> {
        self.store.clone()
    }

    fn files(&self) -> Vec<FileInfo> {
        Vec::new()
    }

    fn delete_file(&mut self, _: u32) -> Result<bool, JournalError> {
        Ok(false)
    }

    fn space(&self) -> Space {
        Space::Plenty
    }

    fn look_at_space(&mut self) -> Space {
        Space::Plenty
    }

    fn checkpoints(&self) -> Arc<dyn CheckpointStore> {
        self.checkpoints.clone()
    }

    fn close(&mut self, _: bool) -> Result<(), JournalError> {
        self.submit()
    }
}

/// The frames of a [`FakeJournal`].
#[derive(Debug, Default)]
struct FakeStore(Mutex<Vec<FakeFrame>>);

impl FakeStore {
    fn find(&self, wanted: impl Fn(ShardId, &Section) -> bool) -> Vec<Section> {
        let frames = self.0.lock();
        let sections = frames
            .iter()
            .flat_map(|frame| frame.sections.iter().map(|s| (frame.shard, s)));
        sections
            .filter(|(shard, s)| wanted(*shard, s))
            .map(|(_, s)| s.clone())
            .collect()
    }

    fn of_partition(&self, partition: u64, from: i64, until: i64) -> Vec<Section> {
        let mut found = self.find(|_, s| {
            let last = s.base_offset + i64::from(s.last_delta);
            s.partition == partition && last >= from && s.base_offset < until
        });
        found.sort_by_key(|section| section.base_offset);
        found
    }
}

impl SectionReader for FakeStore {
    fn by_sequence(&self, shard: ShardId, sequence: u64) -> io::Result<Option<Section>> {
        let holds = |s: &Section| {
            (s.base_sequence..=s.base_sequence + u64::from(s.last_delta)).contains(&sequence)
        };
        Ok(self.find(|of, section| of == shard && holds(section)).pop())
    }

    fn by_offset(
        &self,
        range: LogRange<'_>,
        bytes_max: u64,
        at_least_one: bool,
    ) -> io::Result<Vec<Section>> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for section in self.of_partition(range.partition, range.from, range.until) {
            bytes += (format::SECTION_HEADER + section.envelope.len() + section.batch.len()) as u64;
            if bytes > bytes_max && !(at_least_one && taken.is_empty()) {
                break;
            }
            taken.push(section);
        }
        Ok(taken)
    }

    fn by_time(&self, range: LogRange<'_>, time_ms: i64) -> io::Result<Option<Section>> {
        let found = self.of_partition(range.partition, range.from, range.until);
        Ok(found
            .into_iter()
            .find(|section| section.max_timestamp >= time_ms))
    }

    fn walk(&self, range: LogRange<'_>, visit: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
        for section in self.of_partition(range.partition, range.from, range.until) {
            let length = format::SECTION_HEADER + section.envelope.len() + section.batch.len();
            let entry = Entry {
                partition: range.partition,
                base_offset: section.base_offset,
                base_sequence: section.base_sequence,
                last_delta: section.last_delta,
                max_timestamp: section.max_timestamp,
                shard: ShardId(0),
                position: 0,
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            if !visit(&entry) {
                break;
            }
        }
        Ok(())
    }
}
