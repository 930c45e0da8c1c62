//! MQTT 3.1.1: PUBLISH of QoS 0 and 1, and what answers it.

use super::{due_ns, payload};
use crate::bench::book::Book;
use crate::bench::engine::Peer;
use crate::raw::mqtt::{put_puback, put_publish};
use anyhow::{Context as _, bail, ensure};

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const CONNACK: u8 = 2;

/// A prepared packet, and where the time and the packet id go.
#[derive(Debug)]
struct Prepared {
    packet: Vec<u8>,
    id_at: usize,
    stamp_at: usize,
}

/// Publishes to its topics in turn.
#[derive(Debug)]
pub(in crate::bench) struct Publisher {
    qos: u8,
    prepared: Vec<Prepared>,
    next: usize,
    window: usize,
    in_flight: usize,
    /// By packet id: when the message was due, or nothing if the id is free.
    due: Vec<Option<u64>>,
    next_id: u16,
}

impl Publisher {
    pub(in crate::bench) fn new(topics: &[String], bytes: usize, qos: u8, window: usize) -> Self {
        let prepare = |topic: &String| {
            let body = payload(bytes);
            let mut packet = Vec::new();
            put_publish(&mut packet, topic, qos, 1, &body);
            let stamp_at = packet.len() - body.len();
            Prepared {
                id_at: stamp_at - 2,
                stamp_at,
                packet,
            }
        };
        Self {
            qos,
            prepared: topics.iter().map(prepare).collect(),
            next: 0,
            window: window.clamp(1, 60_000),
            in_flight: 0,
            due: if qos == 0 { vec![] } else { vec![None; 65_536] },
            next_id: 0,
        }
    }
}

impl Peer for Publisher {
    fn has_room(&self) -> bool {
        self.qos == 0 || self.in_flight < self.window
    }

    fn publish(&mut self, due_ns: u64, out: &mut Vec<u8>) {
        let prepared = &self.prepared[self.next];
        self.next = (self.next + 1) % self.prepared.len();
        let start = out.len();
        out.extend_from_slice(&prepared.packet);
        let at = start + prepared.stamp_at;
        out[at..at + 8].copy_from_slice(&due_ns.to_be_bytes());
        if self.qos > 0 {
            let id = loop {
                self.next_id = self.next_id.checked_add(1).unwrap_or(1);
                if self.due[usize::from(self.next_id)].is_none() {
                    break self.next_id;
                }
            };
            self.due[usize::from(id)] = Some(due_ns);
            self.in_flight += 1;
            let at = start + prepared.id_at;
            out[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
    }

    fn take(&mut self, input: &[u8], _: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some(packet) = next_packet(&input[taken..])? {
            taken += packet.size;
            let kind = packet.kind;
            ensure!(kind == PUBACK, "packet type {kind} instead of PUBACK");
            let id = packet.body.get(..2).context("a short PUBACK")?;
            let id = u16::from_be_bytes([id[0], id[1]]);
            let due = self.due[usize::from(id)].take();
            book.ack(due.with_context(|| format!("PUBACK of {id}, which is not in flight"))?);
            self.in_flight -= 1;
        }
        Ok(taken)
    }
}

/// Receives, and acknowledges what wants it.
#[derive(Debug, Default)]
pub(in crate::bench) struct Subscriber {
    acks: Vec<u8>,
    /// Of a session that comes back: what it gets counts as background load, without latencies.
    comes_back: bool,
}

impl Subscriber {
    /// Takes up a session, which must be there still.
    pub(in crate::bench) fn come_back() -> Self {
        Self {
            comes_back: true,
            ..Self::default()
        }
    }
}

impl Peer for Subscriber {
    fn take(&mut self, input: &[u8], _: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some(packet) = next_packet(&input[taken..])? {
            taken += packet.size;
            let body = packet.body;
            match packet.kind {
                PUBLISH => {
                    let topic = body.get(..2).context("a short PUBLISH")?;
                    let mut at = 2 + usize::from(u16::from_be_bytes([topic[0], topic[1]]));
                    if packet.flags & 6 != 0 {
                        let id = body.get(at..at + 2).context("a short PUBLISH")?;
                        put_puback(&mut self.acks, u16::from_be_bytes([id[0], id[1]]));
                        at += 2;
                    }
                    if self.comes_back {
                        book.background += 1;
                    } else {
                        book.deliver(due_ns(body.get(at..).context("a short PUBLISH")?)?);
                    }
                }
                CONNACK if self.comes_back => {
                    ensure!(
                        body == [1, 0],
                        "the session was refused or forgotten: {body:?}"
                    );
                }
                CONNACK | SUBACK => {}
                other => bail!("packet type {other} instead of PUBLISH"),
            }
        }
        Ok(taken)
    }

    fn flush(&mut self, out: &mut Vec<u8>, _: bool) {
        out.append(&mut self.acks);
    }
}

/// A whole packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// What follows the fixed header.
    pub(super) body: &'a [u8],
    /// With the fixed header.
    pub(super) size: usize,
}

/// The next whole packet, if it is there.
pub(super) fn next_packet(input: &[u8]) -> anyhow::Result<Option<Packet<'_>>> {
    let Some(&first) = input.first() else {
        return Ok(None);
    };
    let mut rest = 0usize;
    for at in 1..=4 {
        let Some(&byte) = input.get(at) else {
            return Ok(None);
        };
        rest |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte < 0x80 {
            let size = at + 1 + rest;
            return Ok(input.get(at + 1..size).map(|body| Packet {
                kind: first >> 4,
                flags: first & 0x0f,
                body,
                size,
            }));
        }
    }
    bail!("a remaining length of more than four bytes")
}
