//! Reading records that have left the in-memory tail, off the sequencer and off the runtime's threads.

use crate::api::*;
use crate::link::{stored_batch, take_apart};
use crate::server::apart::{Apart, ReadBatch};
use crate::server::{ColdBatch, ColdFetched, ColdRecord, ColdSession, Parcel};
use crate::shard::published_qos;
use bytes::Bytes;
use omnilog_ledger::format::Entry;
use omnilog_ledger::{LogRange, Section, SectionReader};
use omnilog_record::{BatchHeader, RecordBatch};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Work for a reader thread.
type Work = Box<dyn FnOnce(&dyn SectionReader) + Send>;

/// Deliveries of one connection that are read in one go.
const TOGETHER_MAX: usize = 64;
/// Their bytes, but for the last.
const TOGETHER_BYTES_MAX: u64 = 1 << 20;

/// Batches expand to at most this when they are searched by time.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// The reader threads and what waits for them.
#[derive(Clone)]
pub(crate) struct ColdReads {
    reader: Arc<dyn SectionReader>,
    queue: Arc<(Mutex<Waiting>, Condvar)>,
    apart: Arc<Apart>,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    stopping: bool,
}

impl std::fmt::Debug for ColdReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdReads").finish_non_exhaustive()
    }
}

impl ColdReads {
    /// Readers over these files. [`ColdReads::run`] is their work.
    pub(crate) fn new(reader: Arc<dyn SectionReader>) -> Self {
        Self {
            reader,
            queue: Arc::default(),
            apart: Arc::default(),
        }
    }

    /// A reader thread's life.
    pub(crate) fn run(&self) {
        loop {
            let work = {
                let mut waiting = self.queue.0.lock();
                loop {
                    if let Some(work) = waiting.work.pop_front() {
                        break work;
                    }
                    if waiting.stopping {
                        return;
                    }
                    self.queue.1.wait(&mut waiting);
                }
            };
            work(&*self.reader);
        }
    }

    /// Ends the threads once they have done what waits.
    pub(crate) fn stop(&self) {
        self.queue.0.lock().stopping = true;
        self.queue.1.notify_all();
    }

    /// Hands work to a reader thread.
    pub(crate) fn submit(&self, work: Work) {
        self.queue.0.lock().work.push_back(work);
        self.queue.1.notify_one();
    }

    /// Starts reading what the first of these parcels needs, if it needs anything: and what those behind it need, if they
    /// are deliveries too.
    pub(crate) fn begin(&self, parcels: &mut VecDeque<Parcel>) -> Option<Begun> {
        let parcel = match parcels.pop_front()? {
            Parcel::Event(event) => return Some(Begun::Ready(event)),
            Parcel::Delivery(delivery) => {
                return Some(Begun::Ready(Event::Delivery(Box::new(delivery))));
            }
            Parcel::ColdFetch(correlation, parts)
                if !parts.iter().flatten().any(ColdFetched::is_cold) =>
            {
                let event = read(Parcel::ColdFetch(correlation, parts), &Nothing);
                return Some(Begun::Ready(event));
            }
            parcel => parcel,
        };
        let mut together = vec![parcel];
        while matches!(together.last(), Some(Parcel::ColdDelivery(..)))
            && together.len() < TOGETHER_MAX
            && let Some(next) =
                parcels.pop_front_if(|next| matches!(next, Parcel::ColdDelivery(..)))
        {
            together.push(next);
        }
        Some(self.begin_together(together))
    }

    /// Starts reading what these need, oldest first.
    pub(crate) fn begin_together(&self, together: Vec<Parcel>) -> Begun {
        let (done, events) = oneshot::channel();
        let apart = self.apart.clone();
        self.submit(Box::new(move |reader| {
            let mut together = together.into_iter();
            let mut events = Vec::new();
            let mut bytes = 0;
            while bytes < TOGETHER_BYTES_MAX
                && let Some(parcel) = together.next()
            {
                let event = read_with(parcel, reader, &apart);
                bytes += payload_bytes(&event);
                events.push(event);
            }
            // The connection may be gone by now.
            let _ = done.send((events, together.collect()));
        }));
        Begun::Reading(events)
    }
}

/// The size of a delivery that was read, as far as it counts.
fn payload_bytes(event: &Event) -> u64 {
    match event {
        Event::Delivery(delivery) => {
            let envelope = delivery.message.envelope();
            envelope.map_or(0, |envelope| u64::from(envelope.range.1)) + 128
        }
        _ => 0,
    }
}

/// How a parcel stands.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It needed nothing.
    Ready(Event),
    /// It is being read, and perhaps others with it: what was read, and what is to be read yet.
    Reading(oneshot::Receiver<(Vec<Event>, Vec<Parcel>)>),
}

/// A reader for parcels of which nothing is cold.
#[derive(Debug)]
struct Nothing;

impl SectionReader for Nothing {
    fn by_sequence(&self, _: omnilog_ledger::ShardId, _: u64) -> io::Result<Option<Section>> {
        Ok(None)
    }
    fn by_offset(&self, _: LogRange<'_>, _: u64, _: bool) -> io::Result<Vec<Section>> {
        Ok(Vec::new())
    }
    fn by_time(&self, _: LogRange<'_>, _: i64) -> io::Result<Option<Section>> {
        Ok(None)
    }
    fn walk(&self, _: LogRange<'_>, _: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what a parcel needs. Blocks.
pub(crate) fn read(parcel: Parcel, reader: &dyn SectionReader) -> Event {
    read_with(parcel, reader, &Apart::default())
}

/// Reads what a parcel needs, with these batches at hand. Blocks.
fn read_with(parcel: Parcel, reader: &dyn SectionReader, apart: &Apart) -> Event {
    match parcel {
        Parcel::Event(event) => event,
        Parcel::Delivery(delivery) => Event::Delivery(Box::new(delivery)),
        Parcel::ColdDelivery(mut delivery, record) => {
            if let Some(message) = read_record(&record, reader, apart) {
                delivery.qos = delivery
                    .qos
                    .max(message.envelope().map_or(0, published_qos));
                delivery.by_root = came_by_root(&record, &message);
                delivery.message = message;
            }
            Event::Delivery(delivery)
        }
        Parcel::ColdGot(correlation, mut delivery, remaining, record) => {
            if let Some(message) = read_record(&record, reader, apart) {
                delivery.by_root = came_by_root(&record, &message);
                delivery.message = message;
            }
            Event::reply(correlation, Ok(Reply::Got(Some((delivery, remaining)))))
        }
        Parcel::ColdSession(correlation, session) => {
            let ColdSession {
                mut opened,
                records,
            } = *session;
            for (at, record) in records {
                if let Some(Outgoing {
                    stage: OutgoingStage::Publish { message, .. },
                    ..
                }) = opened.outgoing.get_mut(at)
                {
                    *message = read_record(&record, reader, apart);
                }
            }
            Event::reply(correlation, Ok(Reply::Session(opened)))
        }
        Parcel::ColdFetch(correlation, parts) => {
            let parts = parts
                .into_iter()
                .map(|part| part.map(|part| read_batches(part, reader)));
            Event::reply(correlation, Ok(Reply::Fetched(parts.collect())))
        }
        Parcel::ColdOffset(correlation, job) => {
            let range = LogRange {
                partition: job.partition,
                from: job.from,
                until: job.until,
                files: &job.files,
                copies: job.copies,
            };
            let found = OffsetFound {
                leader_epoch: job.leader_epoch,
                ..find_time(job.at, range, &job.here, reader)
            };
            Event::reply(correlation, Ok(Reply::Offset(found)))
        }
    }
}

fn came_by_root(record: &ColdRecord, message: &Message) -> bool {
    let reached = record.reached.as_ref();
    reached.is_some_and(|reached| reached.by_root(message))
}

/// Reads one record. Blocks.
pub(crate) fn read_message(record: &ColdRecord, reader: &dyn SectionReader) -> Option<Message> {
    read_record(record, reader, &Apart::default())
}

fn read_record(record: &ColdRecord, reader: &dyn SectionReader, apart: &Apart) -> Option<Message> {
    let batch = match apart.get(record.shard, record.sequence) {
        Some(batch) => batch,
        None => {
            let batch = Arc::new(read_batch(record, reader)?);
            apart.put(record.shard, batch.clone());
            batch
        }
    };
    let delta = record.sequence - batch.first;
    let records = &batch.apart.records;
    let index = records.binary_search_by_key(&record.sequence, |(_, sequence)| *sequence);
    let position = (batch.partition != 0 && batch.base_offset >= 0)
        .then(|| (0, batch.base_offset + delta.cast_signed()));
    Some(Message {
        stored: batch.apart.stored.clone(),
        index: u32::try_from(index.ok()?).ok()?,
        position,
    })
}

/// Reads the batch that a record lies in, and takes it apart.
fn read_batch(record: &ColdRecord, reader: &dyn SectionReader) -> Option<ReadBatch> {
    let section = match reader.by_sequence(record.shard, record.sequence) {
        Ok(section) => section?,
        Err(error) => {
            tracing::error!(sequence = record.sequence, %error, "a record can't be read");
            return None;
        }
    };
    let base = (section.base_offset, section.base_sequence);
    Some(ReadBatch {
        first: section.base_sequence,
        last: section.base_sequence + u64::from(section.last_delta),
        partition: section.partition,
        base_offset: section.base_offset,
        apart: take_apart(&stored_batch(&section), base, &record.origin)?,
    })
}

fn read_batches(part: ColdFetched, reader: &dyn SectionReader) -> Fetched {
    let mut fetched = part.fetched;
    for batch in part.batches {
        match batch {
            ColdBatch::Here(batch) => fetched.batches.push(batch),
            ColdBatch::Cold {
                partition,
                copies,
                files,
                offset,
                until,
                bytes_max,
                at_least_one,
            } => {
                let range = LogRange {
                    partition,
                    from: offset,
                    until,
                    files: &files,
                    copies,
                };
                match reader.by_offset(range, bytes_max, at_least_one) {
                    // A raw view has no holes: it went while this was on its way.
                    Ok(sections) if copies.is_some() => {
                        let batches = sections.into_iter().map(|section| section.batch);
                        fetched.batches.extend(as_written(batches, offset));
                    }
                    Ok(sections) if sections.is_empty() => {
                        // A hole: an empty batch leads the reader over it. What is only too large is none.
                        if at_least_one || is_hole(reader, range) {
                            let empty = RecordBatch::empty(offset, until - 1);
                            fetched.batches.push(empty.to_bytes());
                        }
                    }
                    Ok(sections) => {
                        fetched
                            .batches
                            .extend(sections.into_iter().map(|section| section.batch));
                    }
                    Err(error) => tracing::error!(partition, offset, %error, "a log can't be read"),
                }
            }
        }
    }
    if !fetched.aborted.is_empty() {
        tell_aborted(&mut fetched);
    }
    fetched
}

/// Of what was read from an offset of a raw view on, what is as it was written, up to the first that is not. A view that
/// has gone, or begins later, since the read was decided may have lost its copies: what is left of the log is cleaned.
fn as_written(batches: impl Iterator<Item = Bytes>, offset: i64) -> impl Iterator<Item = Bytes> {
    let mut next = offset;
    batches.take_while(move |batch| {
        BatchHeader::peek(batch).is_ok_and(|header| {
            let (first, count) = (header.base_offset, i64::from(header.record_count));
            let whole = count == i64::from(header.last_offset_delta) + 1;
            let follows = first <= next;
            next = first + count;
            whole && follows
        })
    })
}

/// Leaves those aborted transactions of which there is something in the batches. A reader drops its producer's records
/// from the first offset of one to its marker: of what retention took away meanwhile the marker would never come.
fn tell_aborted(fetched: &mut Fetched) {
    let headers = fetched
        .batches
        .iter()
        .flat_map(|batch| BatchHeader::peek(batch));
    let written: BTreeSet<(i64, i64)> = headers
        .map(|header| (header.producer_id, header.base_offset))
        .collect();
    fetched.aborted.retain(|aborted| {
        let first = (aborted.producer, aborted.first_offset);
        let last = (aborted.producer, aborted.last_offset);
        written.range(first..=last).next().is_some()
    });
}

/// Is there nothing in this part of a log?
fn is_hole(reader: &dyn SectionReader, range: LogRange<'_>) -> bool {
    let mut hole = true;
    let walked = reader.walk(range, &mut |_| {
        hole = false;
        false
    });
    hole && walked.is_ok()
}

/// The first record at or after a time, or the one with the greatest timestamp.
fn find_time(
    at: OffsetAt,
    range: LogRange<'_>,
    here: &[ColdBatch],
    reader: &dyn SectionReader,
) -> OffsetFound {
    let none = OffsetFound {
        offset: -1,
        timestamp_ms: -1,
        leader_epoch: -1,
    };
    let (from, partition) = (range.from, range.partition);
    let mut best = none;
    if let OffsetAt::Time(time) = at {
        match reader.by_time(range, time) {
            Ok(Some(section)) => {
                if let Some(found) = first_at(&section.batch, from, time) {
                    return found;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(partition, %error, "a log can't be searched"),
        }
    } else {
        // By what the files say of their batches; only the best one is read.
        let mut greatest_batch = None;
        let walked = reader.walk(range, &mut |entry| {
            if greatest_batch.is_none_or(|(greatest, _)| entry.max_timestamp > greatest) {
                greatest_batch = Some((entry.max_timestamp, entry.base_offset));
            }
            true
        });
        let read = walked.and_then(|()| match greatest_batch {
            Some((_, from)) => reader.by_offset(LogRange { from, ..range }, 1, true),
            None => Ok(Vec::new()),
        });
        match read {
            Ok(sections) => {
                if let Some(section) = sections.first() {
                    best = greatest(&section.batch).unwrap_or(best);
                }
            }
            Err(error) => tracing::error!(partition, %error, "a log can't be searched"),
        }
    }
    for batch in here {
        let ColdBatch::Here(batch) = batch else {
            continue;
        };
        match at {
            OffsetAt::Time(time) => {
                if let Some(found) = first_at(batch, from, time) {
                    return found;
                }
            }
            _ => {
                if let Some(found) =
                    greatest(batch).filter(|found| found.timestamp_ms > best.timestamp_ms)
                {
                    best = found;
                }
            }
        }
    }
    best
}

/// Each record's offset and timestamp.
fn timestamps(batch: &Bytes) -> Option<Vec<(i64, i64)>> {
    let batch = RecordBatch::parse(batch.clone()).ok()?;
    let records = batch.records(EXPANDED_BYTES_MAX).ok()?;
    records
        .iter()
        .map(|record| record.ok().map(|record| (record.offset, record.timestamp)))
        .collect()
}

fn first_at(batch: &Bytes, from: i64, time: i64) -> Option<OffsetFound> {
    timestamps(batch)?
        .into_iter()
        .find(|(offset, timestamp)| *offset >= from && *timestamp >= time)
        .map(|(offset, timestamp_ms)| OffsetFound {
            offset,
            timestamp_ms,
            leader_epoch: -1,
        })
}

fn greatest(batch: &Bytes) -> Option<OffsetFound> {
    timestamps(batch)?
        .into_iter()
        .rev()
        .max_by_key(|(_, timestamp)| *timestamp)
        .map(|(offset, timestamp_ms)| OffsetFound {
            offset,
            timestamp_ms,
            leader_epoch: -1,
        })
}
