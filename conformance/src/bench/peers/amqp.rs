//! AMQP 0-9-1: basic.publish with confirms, basic.deliver with acknowledgements.

use super::{due_ns, payload};
use crate::bench::book::Book;
use crate::bench::engine::Peer;
use crate::raw::amqp::{
    BASIC_ACK, BASIC_DELIVER, FRAME_BODY, FRAME_HEADER, FRAME_METHOD, Method, put_ack, put_message,
};
use anyhow::{Context as _, bail, ensure};

const BASIC_NACK: Method = (60, 120);

/// Publishes to its addresses in turn.
#[derive(Debug)]
pub(in crate::bench) struct Publisher {
    /// The frames of a message, with the place of its time.
    prepared: Vec<(Vec<u8>, usize)>,
    next: usize,
    /// Unconfirmed messages at most; without confirms if 0.
    window: u64,
    /// The last publish's number, and the lowest that is not confirmed.
    last: u64,
    low: u64,
    in_flight: u64,
    /// When a publish was due, by its number's low bits; nothing once it is confirmed.
    due: Vec<Option<u64>>,
}

impl Publisher {
    /// `addresses` are exchanges and routing keys.
    pub(in crate::bench) fn new(
        addresses: &[(String, String)],
        bytes: usize,
        is_persistent: bool,
        window: u64,
    ) -> Self {
        let prepare = |(exchange, key): &(String, String)| {
            let mut frames = Vec::new();
            let body = payload(bytes);
            put_message(&mut frames, exchange, key, is_persistent, &[]);
            // One body frame; larger ones than frame_max are not sent by loads.
            let stamp_at = frames.len() + 7;
            crate::raw::amqp::put_frame(&mut frames, FRAME_BODY, 1, &body);
            // The content header was written for an empty body: it says the size in its last eleven bytes but three.
            let size_at = stamp_at - 7 - 1 - 3 - 8;
            frames[size_at..size_at + 8].copy_from_slice(&(body.len() as u64).to_be_bytes());
            (frames, stamp_at)
        };
        Self {
            prepared: addresses.iter().map(prepare).collect(),
            next: 0,
            window,
            last: 0,
            low: 1,
            in_flight: 0,
            // Confirms may come out of order, so the span may be longer than the window.
            due: vec![None; (window.max(1) as usize * 8).next_power_of_two()],
        }
    }

    fn slot(&self, number: u64) -> usize {
        number as usize & (self.due.len() - 1)
    }
}

impl Peer for Publisher {
    fn has_room(&self) -> bool {
        self.window == 0
            || self.in_flight < self.window && self.last + 2 - self.low < self.due.len() as u64
    }

    fn publish(&mut self, due_ns: u64, out: &mut Vec<u8>) {
        let (frames, stamp_at) = &self.prepared[self.next];
        self.next = (self.next + 1) % self.prepared.len();
        let at = out.len() + stamp_at;
        out.extend_from_slice(frames);
        out[at..at + 8].copy_from_slice(&due_ns.to_be_bytes());
        if self.window > 0 {
            self.last += 1;
            self.in_flight += 1;
            let slot = self.slot(self.last);
            self.due[slot] = Some(due_ns);
        }
    }

    fn take(&mut self, input: &[u8], _: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some((kind, payload, size)) = next_frame(&input[taken..])? {
            taken += size;
            match method(kind, payload) {
                Some(BASIC_ACK) => {
                    let tag = number(payload.get(4..12))?;
                    ensure!(tag <= self.last, "confirm of {tag}, which was not sent");
                    let is_multiple = payload.get(12).is_some_and(|bits| bits & 1 == 1);
                    let first = if is_multiple { self.low } else { tag };
                    for tag in first..=tag {
                        let slot = self.slot(tag);
                        if let Some(due) = self.due[slot].take() {
                            book.ack(due);
                            self.in_flight -= 1;
                        }
                    }
                    while self.low <= self.last && self.due[self.slot(self.low)].is_none() {
                        self.low += 1;
                    }
                }
                Some(BASIC_NACK) => bail!("a publish was refused (basic.nack)"),
                Some(other) => bail!("method {other:?} instead of a confirm"),
                None => {}
            }
        }
        Ok(taken)
    }
}

/// Consumes, and acknowledges every message or every so many.
#[derive(Debug)]
pub(in crate::bench) struct Consumer {
    acks: Vec<u8>,
    /// One acknowledgement for so many messages; none if 0.
    ack_batch: u64,
    unacked: u64,
    tag: u64,
    /// Bytes of the present message's body that are still to come.
    left: u64,
    is_first: bool,
}

impl Consumer {
    pub(in crate::bench) fn new(ack_batch: u64) -> Self {
        Self {
            acks: Vec::new(),
            ack_batch,
            unacked: 0,
            tag: 0,
            left: 0,
            is_first: false,
        }
    }

    fn acknowledge(&mut self) {
        self.unacked += 1;
        if self.ack_batch == 1 {
            put_ack(&mut self.acks, self.tag);
            self.unacked = 0;
        } else if self.ack_batch > 0 && self.unacked >= self.ack_batch {
            self.acknowledge_all();
        }
    }

    fn acknowledge_all(&mut self) {
        put_ack(&mut self.acks, self.tag);
        // The bit that says "all up to this one" is before the frame's end.
        let at = self.acks.len() - 2;
        self.acks[at] = 1;
        self.unacked = 0;
    }
}

impl Peer for Consumer {
    fn take(&mut self, input: &[u8], _: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some((kind, payload, size)) = next_frame(&input[taken..])? {
            taken += size;
            match kind {
                FRAME_METHOD => match method(kind, payload) {
                    Some(BASIC_DELIVER) => {
                        let at = 5 + usize::from(*payload.get(4).context("a short deliver")?);
                        self.tag = number(payload.get(at..at + 8))?;
                    }
                    // What answers the last declarations of a consumer.
                    Some((60, 21)) => {}
                    other => bail!("method {other:?} instead of basic.deliver"),
                },
                FRAME_HEADER => {
                    self.left = number(payload.get(4..12))?;
                    self.is_first = true;
                    ensure!(self.left >= 8, "a message that is not of this load");
                }
                FRAME_BODY => {
                    if std::mem::take(&mut self.is_first) {
                        book.deliver(due_ns(payload)?);
                    }
                    self.left = self.left.saturating_sub(payload.len() as u64);
                    if self.left == 0 {
                        self.acknowledge();
                    }
                }
                _ => {}
            }
        }
        Ok(taken)
    }

    fn flush(&mut self, out: &mut Vec<u8>, _: bool) {
        out.append(&mut self.acks);
    }
}

fn number(bytes: Option<&[u8]>) -> anyhow::Result<u64> {
    let bytes = bytes.context("a method that is too short")?;
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

fn method(kind: u8, payload: &[u8]) -> Option<Method> {
    let id = |at: usize| {
        Some(u16::from_be_bytes([
            *payload.get(at)?,
            *payload.get(at + 1)?,
        ]))
    };
    (kind == FRAME_METHOD).then_some(())?;
    Some((id(0)?, id(2)?))
}

/// The next whole frame: its type, its payload, and its size.
pub(super) fn next_frame(input: &[u8]) -> anyhow::Result<Option<(u8, &[u8], usize)>> {
    let Some(head) = input.first_chunk::<7>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let Some(payload) = input.get(7..7 + length) else {
        return Ok(None);
    };
    let Some(&end) = input.get(7 + length) else {
        return Ok(None);
    };
    ensure!(end == 0xce, "no frame end");
    Ok(Some((head[0], payload, length + 8)))
}
