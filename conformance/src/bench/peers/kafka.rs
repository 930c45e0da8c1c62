//! Kafka: Produce of prepared batches, Fetch of one or many partitions.

use super::{due_ns, payload};
use crate::bench::book::Book;
use crate::bench::engine::Peer;
use crate::raw::kafka::{Cursor, batch, produce_body, put_string, request};
use anyhow::{Context as _, ensure};
use std::collections::VecDeque;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
/// Bytes before a batch's checksummed part, and of its header.
const CHECKED_AT: usize = 21;
const HEADER_BYTES: usize = 61;

/// A Produce request for one batch with so many records.
#[derive(Debug)]
struct Prepared {
    frame: Vec<u8>,
    batch_at: usize,
    /// Where the records' times go.
    stamps_at: Vec<usize>,
}

/// Produces to partition 0 of its topics in turn, one batch per request.
#[derive(Debug)]
pub(in crate::bench) struct Producer {
    topics: Vec<String>,
    next: usize,
    acks: i16,
    bytes: usize,
    batch: usize,
    /// Send what is there, or wait for whole batches?
    is_lingering: bool,
    requests_max: usize,
    /// By topic and number of records: made when first wanted.
    prepared: Vec<Vec<Option<Prepared>>>,
    pending: Vec<u64>,
    /// When the records of each request in flight were due.
    in_flight: VecDeque<Vec<u64>>,
    spare: Vec<Vec<u64>>,
}

impl Producer {
    pub(in crate::bench) fn new(
        topics: &[String],
        bytes: usize,
        batch: usize,
        acks: i16,
        requests_max: usize,
        is_lingering: bool,
    ) -> Self {
        let batch = batch.max(1);
        Self {
            topics: topics.to_vec(),
            next: 0,
            acks,
            bytes,
            batch,
            is_lingering,
            requests_max: requests_max.max(1),
            prepared: topics
                .iter()
                .map(|_| (0..=batch).map(|_| None).collect())
                .collect(),
            pending: Vec::new(),
            in_flight: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    fn prepare(topic: &str, bytes: usize, count: usize, acks: i16) -> Prepared {
        let body = payload(bytes);
        let batch = batch(&vec![&body[..]; count]);
        let request = request(PRODUCE, 7, 0, &produce_body(topic, acks, &batch));
        let batch_at = request.len() - batch.len();
        // Record by record from the end, where sizes are known: each ends with its value and an empty header count.
        let mut stamps_at: Vec<usize> = Vec::with_capacity(count);
        let mut at = batch_at + HEADER_BYTES;
        for _ in 0..count {
            let mut cursor = Cursor(&request[at..]);
            let before = cursor.0.len();
            let length = cursor.varint().unwrap_or(0).max(0) as usize;
            at += before - cursor.0.len() + length;
            stamps_at.push(at - 1 - body.len());
        }
        Prepared {
            frame: request,
            batch_at,
            stamps_at,
        }
    }

    fn send(&mut self, out: &mut Vec<u8>) {
        let topic = self.next;
        self.next = (self.next + 1) % self.topics.len();
        let count = self.pending.len();
        let prepared = self.prepared[topic][count].get_or_insert_with(|| {
            Self::prepare(&self.topics[topic], self.bytes, count, self.acks)
        });
        let start = out.len();
        out.extend_from_slice(&prepared.frame);
        for (&at, due_ns) in prepared.stamps_at.iter().zip(&self.pending) {
            out[start + at..start + at + 8].copy_from_slice(&due_ns.to_be_bytes());
        }
        let batch = start + prepared.batch_at;
        let checksum = crc32c::crc32c(&out[batch + CHECKED_AT..]);
        out[batch + CHECKED_AT - 4..batch + CHECKED_AT].copy_from_slice(&checksum.to_be_bytes());
        let empty = self.spare.pop().unwrap_or_default();
        let sent = std::mem::replace(&mut self.pending, empty);
        if self.acks == 0 {
            self.recycle(sent);
        } else {
            self.in_flight.push_back(sent);
        }
    }

    fn recycle(&mut self, mut sent: Vec<u64>) {
        sent.clear();
        self.spare.push(sent);
    }
}

impl Peer for Producer {
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.requests_max && self.pending.len() < self.batch
    }

    fn publish(&mut self, due_ns: u64, out: &mut Vec<u8>) {
        self.pending.push(due_ns);
        if self.pending.len() == self.batch {
            self.send(out);
        }
    }

    fn take(&mut self, input: &[u8], _: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some((body, size)) = next_answer(&input[taken..])? {
            taken += size;
            crate::raw::kafka::produced(body)?;
            let sent = self.in_flight.pop_front();
            let sent = sent.context("an answer to no request")?;
            for &due_ns in &sent {
                book.ack(due_ns);
            }
            self.recycle(sent);
        }
        Ok(taken)
    }

    fn flush(&mut self, out: &mut Vec<u8>, is_last: bool) {
        let may_send = self.in_flight.len() < self.requests_max;
        if !self.pending.is_empty() && may_send && (is_last || !self.is_lingering) {
            self.send(out);
        }
    }
}

/// Fetches partition 0 of its topics from the start, one request at a time.
#[derive(Debug)]
pub(in crate::bench) struct Fetcher {
    /// Topic and next offset.
    topics: Vec<(String, i64)>,
    is_waiting: bool,
    /// Counts as background load, without latencies.
    is_background: bool,
}

/// How long the broker may wait for a first record, as Java's consumer asks ...
const WAIT_MS: i32 = 500;
/// ... and how much it wants of a partition and in all.
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const FETCH_BYTES_MAX: i32 = 50 << 20;

impl Fetcher {
    pub(in crate::bench) fn new(
        topics: impl IntoIterator<Item = String>,
        is_background: bool,
    ) -> Self {
        Self {
            topics: topics.into_iter().map(|topic| (topic, 0)).collect(),
            is_waiting: false,
            is_background,
        }
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        let mut body = (-1i32).to_be_bytes().to_vec();
        body.extend(WAIT_MS.to_be_bytes());
        body.extend(1i32.to_be_bytes());
        body.extend(FETCH_BYTES_MAX.to_be_bytes());
        body.push(0);
        body.extend((self.topics.len() as i32).to_be_bytes());
        for (topic, offset) in &self.topics {
            put_string(&mut body, topic);
            body.extend(1i32.to_be_bytes());
            body.extend(0i32.to_be_bytes());
            body.extend(offset.to_be_bytes());
            body.extend(PARTITION_BYTES_MAX.to_be_bytes());
        }
        out.extend(request(FETCH, 4, 0, &body));
        self.is_waiting = true;
    }

    fn answer(&mut self, body: &[u8], book: &mut Book) -> anyhow::Result<()> {
        let mut at = Cursor(body);
        at.skip(4)?;
        let mut index = 0;
        for _ in 0..at.i32()? {
            let name = at.text()?;
            for _ in 0..at.i32()? {
                let partition = at.i32()?;
                let error = at.i16()?;
                ensure!(error == 0, "Fetch error {error} of partition {partition}");
                at.skip(16)?;
                for _ in 0..at.i32()?.max(0) {
                    at.skip(16)?;
                }
                let size = at.i32()?.max(0) as usize;
                let records = at.bytes(size)?;
                // Answers come in the order of the question, mostly: else it is looked for.
                let asked = |(topic, _): &(String, i64)| topic.as_bytes() == name;
                if !self.topics.get(index).is_some_and(asked) {
                    index = self
                        .topics
                        .iter()
                        .position(asked)
                        .context("Fetch answers for a topic that was not asked for")?;
                }
                let next = &mut self.topics[index].1;
                *next = take_batches(records, *next, self.is_background, book)?;
                index += 1;
            }
        }
        Ok(())
    }
}

impl Peer for Fetcher {
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some((body, size)) = next_answer(&input[taken..])? {
            taken += size;
            self.answer(body, book)?;
            self.is_waiting = false;
        }
        if !self.is_waiting {
            self.ask(out);
        }
        Ok(taken)
    }
}

/// Counts the records of uncompressed batches from an offset on; says the next offset.
pub(super) fn take_batches(
    mut records: &[u8],
    mut next: i64,
    is_background: bool,
    book: &mut Book,
) -> anyhow::Result<i64> {
    while records.len() >= HEADER_BYTES {
        let mut at = Cursor(records);
        let base = at.i64()?;
        let size = at.i32()?.max(0) as usize + 12;
        // A batch that was cut off at the answer's size comes whole with the next one.
        let Some(whole) = records.get(..size) else {
            break;
        };
        let mut at = Cursor(whole);
        at.skip(16)?;
        ensure!(at.bytes(1)? == [2], "a batch of another format");
        at.skip(4)?;
        let attributes = at.i16()?;
        ensure!(attributes & 7 == 0, "a compressed batch");
        let is_control = attributes & 32 != 0;
        let last = base + i64::from(at.i32()?);
        at.skip(30)?;
        let count = if is_control { 0 } else { at.i32()? };
        for _ in 0..count {
            let length = at.varint()?.max(0) as usize;
            let mut record = Cursor(at.bytes(length)?);
            record.skip(1)?;
            record.varint()?;
            let offset = base + record.varint()?;
            let key = record.varint()?.max(0) as usize;
            record.skip(key)?;
            let value = record.varint()?.max(0) as usize;
            if offset < next {
                continue;
            }
            if is_background {
                book.background += 1;
            } else {
                book.deliver(due_ns(record.bytes(value)?)?);
            }
        }
        next = next.max(last + 1);
        records = &records[size..];
    }
    Ok(next)
}

/// The next whole answer's body, and its size with the header.
fn next_answer(input: &[u8]) -> anyhow::Result<Option<(&[u8], usize)>> {
    let Some(head) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    ensure!(
        (4..1 << 28).contains(&length),
        "an answer of {length} bytes"
    );
    let size = length + 4;
    Ok(input.get(8..size).map(|body| (body, size)))
}
