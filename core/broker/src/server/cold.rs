//! Reading records that have left the in-memory tail, off the sequencer and off the runtime's threads.

use crate::api::*;
use crate::link::{stored_batch, take_apart};
use crate::server::{ColdBatch, ColdFetched, ColdRecord, Parcel};
use crate::shard::published_qos;
use bytes::Bytes;
use omnilog_ledger::format::Entry;
use omnilog_ledger::{Section, SectionReader};
use omnilog_record::RecordBatch;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Work for a reader thread.
type Work = Box<dyn FnOnce(&dyn SectionReader) + Send>;

/// Batches expand to at most this when they are searched by time.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// The reader threads and what waits for them.
#[derive(Clone)]
pub(crate) struct ColdReads {
    reader: Arc<dyn SectionReader>,
    queue: Arc<(Mutex<Waiting>, Condvar)>,
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

    /// Starts reading what a parcel needs, if it needs anything.
    pub(crate) fn begin(&self, parcel: Parcel) -> Begun {
        let parcel = match parcel {
            Parcel::Event(event) => return Begun::Ready(event),
            Parcel::ColdFetch(correlation, parts) if !parts.iter().flatten().any(is_cold) => {
                return Begun::Ready(read(Parcel::ColdFetch(correlation, parts), &Nothing));
            }
            parcel => parcel,
        };
        let (done, event) = oneshot::channel();
        self.submit(Box::new(move |reader| {
            // The connection may be gone by now.
            let _ = done.send(read(parcel, reader));
        }));
        Begun::Reading(event)
    }
}

/// How a parcel stands.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It needed nothing.
    Ready(Event),
    /// It is being read.
    Reading(oneshot::Receiver<Event>),
}

fn is_cold(part: &ColdFetched) -> bool {
    part.batches
        .iter()
        .any(|batch| matches!(batch, ColdBatch::Cold { .. }))
}

/// A reader for parcels of which nothing is cold.
#[derive(Debug)]
struct Nothing;

impl SectionReader for Nothing {
    fn by_sequence(&self, _: omnilog_ledger::ShardId, _: u64) -> io::Result<Option<Section>> {
        Ok(None)
    }
    fn by_offset(&self, _: u64, _: i64, _: i64, _: u64, _: bool) -> io::Result<Vec<Section>> {
        Ok(Vec::new())
    }
    fn by_time(&self, _: u64, _: i64, _: i64, _: i64) -> io::Result<Option<Section>> {
        Ok(None)
    }
    fn walk(&self, _: u64, _: i64, _: i64, _: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what a parcel needs. Blocks.
pub(crate) fn read(parcel: Parcel, reader: &dyn SectionReader) -> Event {
    match parcel {
        Parcel::Event(event) => event,
        Parcel::ColdDelivery(mut delivery, record) => {
            if let Some(message) = read_record(&record, reader) {
                delivery.qos = delivery
                    .qos
                    .max(message.envelope().map_or(0, published_qos));
                delivery.message = message;
            }
            Event::Delivery(delivery)
        }
        Parcel::ColdGot(correlation, mut delivery, remaining, record) => {
            if let Some(message) = read_record(&record, reader) {
                delivery.message = message;
            }
            Event::Reply {
                correlation,
                result: Ok(Reply::Got(Some((delivery, remaining)))),
            }
        }
        Parcel::ColdSession(correlation, mut opened, records) => {
            for (at, record) in records {
                if let Some(Outgoing {
                    stage: OutgoingStage::Publish { message, .. },
                    ..
                }) = opened.outgoing.get_mut(at)
                {
                    *message = read_record(&record, reader);
                }
            }
            Event::Reply {
                correlation,
                result: Ok(Reply::Session(opened)),
            }
        }
        Parcel::ColdFetch(correlation, parts) => {
            let parts = parts
                .into_iter()
                .map(|part| part.map(|part| read_batches(part, reader)));
            Event::Reply {
                correlation,
                result: Ok(Reply::Fetched(parts.collect())),
            }
        }
        Parcel::ColdOffset {
            correlation,
            at,
            partition,
            from,
            until,
            here,
            leader_epoch,
        } => {
            let found = find_time(at, partition, from, until, &here, reader);
            let result = Ok(Reply::Offset(OffsetFound {
                leader_epoch,
                ..found
            }));
            Event::Reply {
                correlation,
                result,
            }
        }
    }
}

fn read_record(record: &ColdRecord, reader: &dyn SectionReader) -> Option<Message> {
    let section = match reader.by_sequence(record.shard, record.sequence) {
        Ok(section) => section?,
        Err(error) => {
            tracing::error!(sequence = record.sequence, %error, "a record can't be read");
            return None;
        }
    };
    let delta = record.sequence - section.base_sequence;
    let stored = stored_batch(&section);
    let apart = take_apart(
        &stored,
        (section.base_offset, section.base_sequence),
        &record.topic,
    )?;
    let index = apart
        .records
        .iter()
        .position(|(_, sequence)| *sequence == record.sequence)?;
    let position = (section.partition != 0 && section.base_offset >= 0)
        .then(|| (0, section.base_offset + delta.cast_signed()));
    Some(Message {
        stored: apart.stored,
        index: u32::try_from(index).ok()?,
        position,
    })
}

fn read_batches(part: ColdFetched, reader: &dyn SectionReader) -> Fetched {
    let mut fetched = part.fetched;
    for batch in part.batches {
        match batch {
            ColdBatch::Here(batch) => fetched.batches.push(batch),
            ColdBatch::Cold {
                partition,
                offset,
                until,
                bytes_max,
                at_least_one,
            } => {
                match reader.by_offset(partition, offset, until, bytes_max, at_least_one) {
                    Ok(sections) if sections.is_empty() => {
                        // A hole: an empty batch leads the reader over it.
                        fetched
                            .batches
                            .push(RecordBatch::empty(offset, until - 1).to_bytes());
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
    fetched
}

/// The first record at or after a time, or the one with the greatest timestamp.
fn find_time(
    at: OffsetAt,
    partition: u64,
    from: i64,
    until: i64,
    here: &[ColdBatch],
    reader: &dyn SectionReader,
) -> OffsetFound {
    let none = OffsetFound {
        offset: -1,
        timestamp_ms: -1,
        leader_epoch: -1,
    };
    let mut best = none;
    if let OffsetAt::Time(time) = at {
        match reader.by_time(partition, from, until, time) {
            Ok(Some(section)) => {
                if let Some(found) = first_at(&section.batch, from, time) {
                    return found;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(partition, %error, "a log can't be searched"),
        }
    } else {
        // Batches of the whole log, by their headers; records of the best one.
        let mut next = from;
        while next < until {
            let Ok(sections) = reader.by_offset(partition, next, until, 1 << 20, true) else {
                break;
            };
            let Some(last) = sections.last() else { break };
            next = last.base_offset + i64::from(last.last_delta) + 1;
            for section in &sections {
                if section.max_timestamp > best.timestamp_ms {
                    best = greatest(&section.batch).unwrap_or(best);
                }
            }
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
