//! Logs: topics and their partitions.

use crate::api::*;
use crate::state::changes::Mark;
use crate::state::label::Label;
use crate::state::rare::{Empty, Rare};
use crate::state::raw::{RawLog, RawView};
use crate::state::transactions::PartitionTransactions;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};

/// A log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) uuid: u128,
    pub(crate) namespace: NamespaceId,
    pub(crate) name: Label,
    /// The keys of its partitions, by number.
    pub(crate) partitions: SmallVec<[u64; 2]>,
    pub(crate) settings: Rare<LogSettings>,
    pub(crate) provisional: bool,
    /// Its raw view, if it has one. Saved beside it.
    #[serde(skip)]
    pub(crate) raw: Option<Box<RawView>>,
    #[serde(skip)]
    pub(crate) mark: Mark,
}

/// A partition of a log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Partition {
    pub(crate) key: u64,
    pub(crate) topic: TopicId,
    pub(crate) index: i32,
    /// The next record's offset.
    pub(crate) next_offset: i64,
    /// The first log-live offset.
    pub(crate) log_start: i64,
    /// A Kafka client has appended to it.
    pub(crate) kafka_written: bool,
    /// Where each leader epoch began.
    pub(crate) epochs: SmallVec<[(u32, i64); 1]>,
    /// The files it occurs in, oldest first.
    pub(crate) spans: SmallVec<[Span; 1]>,
    /// Idempotent producers.
    pub(crate) producers: Rare<BTreeMap<i64, Producer>>,
    /// The greatest timestamp so far.
    pub(crate) max_timestamp: i64,
    /// What a compacted log has besides. Saved beside it.
    #[serde(skip)]
    pub(crate) compacted: Rare<Compacted>,
    /// The end of what is released to readers.
    #[serde(skip)]
    pub(crate) high_watermark: i64,
    /// Links read it.
    #[serde(skip)]
    pub(crate) linked: bool,
    /// Fetches that wait for more.
    #[serde(skip)]
    pub(crate) waiters: Rare<Vec<u64>>,
    /// Transactions, where there were any. Saved beside it.
    #[serde(skip)]
    pub(crate) transactions: Option<Box<PartitionTransactions>>,
    #[serde(skip)]
    pub(crate) mark: Mark,
}

/// What few logs have: those whose keys are compacted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// Up to where they were, and when, oldest first.
    pub(crate) cleaned: Vec<(i64, i64)>,
    /// The raw view, if there is one.
    pub(crate) raw: Option<RawLog>,
}

impl Empty for Compacted {
    const EMPTY: &'static Self = &Self {
        cleaned: Vec::new(),
        raw: None,
    };
    fn nothing(&self) -> bool {
        self.cleaned.is_empty() && self.raw.is_none()
    }
}

/// A file in which a partition occurs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) first_offset: i64,
    pub(crate) bytes: u64,
    pub(crate) max_timestamp: i64,
}

/// What is kept of an idempotent producer: its last five batches (KIP-98).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    pub(crate) batches: VecDeque<ProducedBatch>,
}

/// One batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProducedBatch {
    pub(crate) first: i32,
    pub(crate) last: i32,
    pub(crate) base_offset: i64,
}

/// How many rounds of compaction are remembered, to know how long tombstones have been there.
const CLEANED: usize = 32;
/// How many batches of a producer are told apart.
const PRODUCER_BATCHES: usize = 5;

/// Files named to one read: it returns what is in them, and the next goes on from there.
const FILES_MAX: usize = 4;

/// What an idempotent producer's batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequenced {
    /// The next one.
    New,
    /// One that was appended at this offset.
    Repeated(i64),
}

impl Partition {
    /// An empty partition.
    pub(crate) fn new(key: u64, topic: TopicId, index: i32) -> Self {
        Self {
            key,
            topic,
            index,
            next_offset: 0,
            log_start: 0,
            kafka_written: false,
            epochs: SmallVec::new(),
            spans: SmallVec::new(),
            producers: Rare::default(),
            max_timestamp: -1,
            compacted: Rare::default(),
            high_watermark: 0,
            linked: false,
            waiters: Rare::default(),
            transactions: None,
            mark: Mark::default(),
        }
    }

    /// Judges an idempotent producer's batch by its sequence numbers, as `ProducerAppendInfo` does.
    pub(crate) fn judge(
        &self,
        producer_id: i64,
        epoch: i16,
        first: i32,
        count: i32,
    ) -> Result<Sequenced, Refusal> {
        let Some(producer) = self.producers.get(&producer_id) else {
            return Ok(Sequenced::New);
        };
        if epoch < producer.epoch {
            return Err(Refusal::InvalidProducerEpoch);
        }
        if epoch > producer.epoch {
            return if first == 0 {
                Ok(Sequenced::New)
            } else {
                Err(Refusal::OutOfOrderSequence)
            };
        }
        let last = add_sequence(first, count - 1);
        if let Some(batch) = producer
            .batches
            .iter()
            .find(|batch| batch.first == first && batch.last == last)
        {
            return Ok(Sequenced::Repeated(batch.base_offset));
        }
        let Some(newest) = producer.batches.back() else {
            // Nothing but a transaction's end is known of this epoch.
            return match first {
                0 => Ok(Sequenced::New),
                _ => Err(Refusal::OutOfOrderSequence),
            };
        };
        if add_sequence(newest.last, 1) == first {
            Ok(Sequenced::New)
        } else if first <= newest.last && newest.last - first < i32::MAX / 2 {
            Err(Refusal::DuplicateSequence)
        } else {
            Err(Refusal::OutOfOrderSequence)
        }
    }

    /// Notes an idempotent producer's batch.
    pub(crate) fn produced(&mut self, producer_id: i64, epoch: i16, batch: ProducedBatch) {
        let producer = self
            .producers
            .entry(producer_id)
            .or_insert_with(|| Producer {
                epoch,
                batches: VecDeque::with_capacity(PRODUCER_BATCHES),
            });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
    }

    /// Notes that a batch of this size lies in this file.
    pub(crate) fn stored_in(&mut self, file: u32, base_offset: i64, bytes: u64, timestamp: i64) {
        note(&mut self.spans, file, base_offset, bytes, timestamp);
        // Asked first: to change what is not there makes room for it.
        if self.compacted.raw.is_some()
            && let Some(raw) = &mut self.compacted.raw
        {
            note(&mut raw.spans, file, base_offset, bytes, timestamp);
        }
    }

    /// The files that a read from this offset on begins with.
    pub(crate) fn files_from(&self, offset: i64) -> Vec<u32> {
        Span::files_from(&self.spans, offset)
    }

    /// The log starts here from now on.
    pub(crate) fn start_at(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset);
        self.forget_aborted(offset);
        drop_passed(&mut self.spans, self.log_start, self.next_offset);
    }

    /// Up to where its keys were compacted.
    pub(crate) fn cleaned_until(&self) -> i64 {
        let last = self.compacted.cleaned.last();
        last.map_or(0, |(until, _)| *until)
    }

    /// Notes that keys were compacted below this offset.
    pub(crate) fn cleaned_below(&mut self, until: i64, at_ms: i64) {
        let cleaned = &mut self.compacted.cleaned;
        cleaned.push((until, at_ms));
        if cleaned.len() > CLEANED {
            // The oldest counts from the time of the next: its tombstones stay a little longer.
            cleaned.remove(0);
        }
    }

    /// The epoch in which the record at this offset was written.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<u32> {
        let after = self.epochs.partition_point(|(_, start)| *start <= offset);
        self.epochs
            .get(after.checked_sub(1)?)
            .map(|(epoch, _)| *epoch)
    }
}

impl Span {
    /// The files that a read from this offset on begins with.
    pub(crate) fn files_from(spans: &[Self], offset: i64) -> Vec<u32> {
        let after = spans.partition_point(|span| span.first_offset <= offset);
        let spans = spans.iter().skip(after.saturating_sub(1));
        spans.take(FILES_MAX).map(|span| span.file).collect()
    }
}

/// Notes that a batch of this size lies in this file.
fn note(spans: &mut SmallVec<[Span; 1]>, file: u32, base_offset: i64, bytes: u64, timestamp: i64) {
    match spans.last_mut() {
        Some(span) if span.file == file => {
            span.bytes += bytes;
            span.max_timestamp = span.max_timestamp.max(timestamp);
        }
        _ => spans.push(Span {
            file,
            first_offset: base_offset,
            bytes,
            max_timestamp: timestamp,
        }),
    }
}

/// Files that lie before a log's start are none of its any more.
pub(crate) fn drop_passed(spans: &mut SmallVec<[Span; 1]>, offset: i64, next_offset: i64) {
    let passed = |pair: &[Span]| pair.get(1).is_some_and(|next| next.first_offset <= offset);
    let dead = spans.windows(2).take_while(|pair| passed(pair)).count();
    spans.drain(..dead);
    if offset >= next_offset {
        spans.clear();
    }
}

/// Producer sequence numbers wrap from `i32::MAX` to 0.
pub(crate) fn add_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    let modulus = i64::from(i32::MAX) + 1;
    // The remainder is below 2^31.
    i32::try_from(sum.rem_euclid(modulus)).unwrap_or(0)
}
