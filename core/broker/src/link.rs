//! Reading for links: what Kafka clients wrote, taken apart away from the sequencer.

use crate::api::{Address, Envelope, Name, Provenance, StoredBatch};
use crate::shard::BatchFields;
use crate::state::transactions::Aborted;
use crate::table::{Change, changes};
use crate::template::PathTemplate;
use bytes::{Bytes, BytesMut};
use omnilog_ledger::{LogRange, Section, SectionReader};
use omnilog_record::{HEADER_BYTES, RecordBatch};
use std::sync::Arc;

/// A batch may expand to this much.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// The topic that Kafka clients wrote to, as far as it makes their records' paths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) topic: Name,
    /// None: the default one.
    pub(crate) template: Option<Arc<PathTemplate>>,
}

/// A read that links of a partition want done.
#[derive(Debug)]
pub(crate) struct LinkJob {
    pub(crate) partition: u64,
    pub(crate) origin: Origin,
    /// From this offset.
    pub(crate) from: i64,
    /// Up to this one, exclusively.
    pub(crate) until: i64,
    /// The files it lies in, if it must be read.
    pub(crate) files: Vec<u32>,
    /// Batches that are in memory, with base offset and base sequence; empty: they must be read.
    pub(crate) here: Vec<(i64, u64, Arc<StoredBatch>)>,
    /// Aborted transactions: their batches are passed over.
    pub(crate) aborted: Vec<Aborted>,
    /// Its records are retained messages.
    pub(crate) table: bool,
}

/// What a link's reader found.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) partition: u64,
    pub(crate) from: i64,
    /// Everything below this has been looked at.
    pub(crate) next_offset: i64,
    pub(crate) batches: Vec<PulledBatch>,
    /// The files could not be read; it is tried again when there is more to read.
    pub(crate) failed: bool,
    /// How long it took, in nanoseconds.
    pub(crate) spent_ns: u64,
    /// What the records do to retained messages, where they are such.
    pub(crate) table: Vec<Change>,
}

/// A batch taken apart: uncompressed, each record with its envelope and offset.
#[derive(Debug)]
pub(crate) struct PulledBatch {
    /// Another protocol wrote it: its records were routed when they were published.
    pub(crate) routed: bool,
    pub(crate) stored: Arc<StoredBatch>,
    /// Each record's offset, and its sequence.
    pub(crate) records: Vec<(i64, u64)>,
}

/// Bytes read at a time.
const READ_BYTES: u64 = 1 << 20;

impl LinkJob {
    /// Reads and takes apart. Blocks.
    pub(crate) fn run(self, reader: &dyn SectionReader) -> Pulled {
        let mut pulled = Pulled {
            partition: self.partition,
            from: self.from,
            next_offset: self.until,
            batches: Vec::new(),
            failed: false,
            spent_ns: 0,
            table: Vec::new(),
        };
        if !self.here.is_empty() {
            for (base_offset, base_sequence, stored) in &self.here {
                if self.is_aborted(*base_offset, &stored.batch) {
                    continue;
                }
                let base = (*base_offset, *base_sequence);
                pulled
                    .batches
                    .extend(take_apart(stored, base, &self.origin));
            }
            self.find_changes(&mut pulled);
            return pulled;
        }
        if self.from >= self.until {
            // The log begins within a batch that is not decided yet, which a reader would find.
            return pulled;
        }
        let range = LogRange {
            partition: self.partition,
            from: self.from,
            until: self.until,
            files: &self.files,
            copies: None,
        };
        match reader.by_offset(range, READ_BYTES, true) {
            Ok(sections) => {
                if let Some(last) = sections.last() {
                    pulled.next_offset = last.base_offset + i64::from(last.last_delta) + 1;
                }
                for section in &sections {
                    if self.is_aborted(section.base_offset, &section.batch) {
                        continue;
                    }
                    let stored = stored_batch(section);
                    let base = (section.base_offset, section.base_sequence);
                    pulled
                        .batches
                        .extend(take_apart(&stored, base, &self.origin));
                }
            }
            Err(error) => {
                tracing::error!(partition = self.partition, %error, "a link can't read");
                pulled.next_offset = self.from;
                pulled.failed = true;
            }
        }
        self.find_changes(&mut pulled);
        pulled
    }

    fn find_changes(&self, pulled: &mut Pulled) {
        if self.table {
            pulled.table = pulled.batches.iter().flat_map(changes).collect();
        }
    }

    /// Does a batch belong to an aborted transaction?
    fn is_aborted(&self, base_offset: i64, batch: &[u8]) -> bool {
        if self.aborted.is_empty() {
            return false;
        }
        let Some(fields) = BatchFields::read(batch).filter(BatchFields::is_transactional) else {
            return false;
        };
        self.aborted
            .iter()
            .any(|aborted| aborted.covers(fields.producer_id, base_offset))
    }
}

/// A section as a stored batch.
pub(crate) fn stored_batch(section: &Section) -> StoredBatch {
    StoredBatch::decode(section.batch.clone(), &section.envelope)
}

/// Takes a batch apart; a control batch, or one that can't be read, yields nothing.
pub(crate) fn take_apart(
    stored: &StoredBatch,
    (base_offset, base_sequence): (i64, u64),
    origin: &Origin,
) -> Option<PulledBatch> {
    if !stored.envelopes.is_empty() {
        let numbers = |delta: i32| {
            let sequence = base_sequence + u64::try_from(delta).ok()?;
            Some((base_offset + i64::from(delta), sequence))
        };
        let records = deltas(stored)?.into_iter().map(numbers);
        return Some(PulledBatch {
            routed: true,
            records: records.collect::<Option<_>>()?,
            stored: Arc::new(stored.clone()),
        });
    }
    let batch = RecordBatch::parse(stored.batch.clone()).ok()?;
    if batch.header().attributes.is_control() {
        return None;
    }
    let header_bytes = batch.header_bytes();
    let records = match batch.records(EXPANDED_BYTES_MAX) {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(%error, "a produced batch can't be taken apart for other protocols");
            return None;
        }
    };
    let table = records.table().ok()?;
    let section: Bytes = records.section().clone();
    let mut expanded = BytesMut::with_capacity(HEADER_BYTES + section.len());
    expanded.extend_from_slice(&header_bytes);
    expanded.extend_from_slice(&section);
    let base = *records.base();
    let mut envelopes = Vec::with_capacity(table.len());
    let mut numbers = Vec::with_capacity(table.len());
    // A batch keeps the base offset it was produced with; its place in the log is the section's.
    let produced = batch.header().base_offset;
    for index in 0..table.len() {
        let range = table.body(index)?;
        let record = omnilog_record::Record::parse(section.get(range.clone())?, &base).ok()?;
        let delta = record.offset - produced;
        numbers.push((
            base_offset + delta,
            base_sequence + u64::try_from(delta).ok()?,
        ));
        let position = u32::try_from(HEADER_BYTES + range.start).ok()?;
        let length = u32::try_from(range.len()).ok()?;
        envelopes.push(kafka_envelope(
            origin,
            record.key.map(Bytes::copy_from_slice),
            (position, length),
        ));
    }
    let stored = StoredBatch::new(expanded.freeze(), envelopes);
    Some(PulledBatch {
        routed: false,
        stored: Arc::new(stored),
        records: numbers,
    })
}

/// How far each record of a gathered batch is from the first: one after another, but for those that compaction left out.
fn deltas(stored: &StoredBatch) -> Option<Vec<i32>> {
    let count = i32::try_from(stored.envelopes.len()).ok()?;
    let last = i32::from_be_bytes(stored.batch.get(23..27)?.try_into().ok()?);
    if last == count - 1 {
        return Some((0..count).collect());
    }
    let batch = RecordBatch::parse(stored.batch.clone()).ok()?;
    let records = batch.records(EXPANDED_BYTES_MAX).ok()?;
    let deltas = records
        .iter()
        .map(|record| record.ok().map(|record| record.offset_delta));
    deltas.collect()
}

/// The envelope of a record that a Kafka client wrote: its headers are all the user's. A key that the topic's template
/// does not fit has the default path.
fn kafka_envelope(origin: &Origin, key: Option<Bytes>, range: (u32, u32)) -> Envelope {
    let path = origin
        .template
        .as_ref()
        .and_then(|template| template.path(key.as_deref()));
    let address = match path {
        Some(topic) => Address::Mqtt { topic },
        None => Address::Kafka {
            topic: origin.topic.clone(),
            key,
        },
    };
    Envelope::new(address, Provenance::Kafka, range)
}
