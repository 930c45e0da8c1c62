//! A connection's mailbox: events in order, taken in batches, bounded by what the shard knows of its size.

use crate::api::{Delivery, Event, Fetched, Name, OffsetAt, Refusal, SessionOpened};
use crate::link::Origin;
use crate::server::Taken;
use bytes::Bytes;
use omnilog_ledger::ShardId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// What lies in a mailbox: an event, or one whose payload is yet to be read from the journal's files.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// Ready to hand out.
    Event(Event),
    /// A delivery: in place, for there are more of these than of anything else.
    Delivery(Delivery),
    /// A delivery whose record has left the tail.
    ColdDelivery(Box<Delivery>, Box<ColdRecord>),
    /// A message got (for this correlation number), whose record has left the tail, and how many remain.
    ColdGot(u64, Box<Delivery>, u64, Box<ColdRecord>),
    /// A session of whose deliveries in flight some have left the tail.
    ColdSession(u64, Box<ColdSession>),
    /// A fetch of which some batches have left the tail.
    ColdFetch(u64, Vec<Result<ColdFetched, Refusal>>),
    /// A look-up of an offset by time.
    ColdOffset(u64, Box<ColdOffset>),
}

/// A session of whose deliveries in flight some must be read: their places in `outgoing`, and where they lie.
#[derive(Debug)]
pub(crate) struct ColdSession {
    pub(crate) opened: Box<SessionOpened>,
    pub(crate) records: Vec<(usize, ColdRecord)>,
}

/// An offset that is looked for by time.
#[derive(Debug)]
pub(crate) struct ColdOffset {
    /// What is looked for.
    pub(crate) at: OffsetAt,
    /// The partition's key.
    pub(crate) partition: u64,
    /// Where copies of what was cleaned are, for its raw view.
    pub(crate) copies: Option<u64>,
    /// The files to begin with; empty: all.
    pub(crate) files: Vec<u32>,
    /// The first log-live offset.
    pub(crate) from: i64,
    /// The end.
    pub(crate) until: i64,
    /// The batches still in memory; older ones are read.
    pub(crate) here: Vec<ColdBatch>,
    /// The present leader epoch.
    pub(crate) leader_epoch: i32,
}

/// A record that has left the tail.
#[derive(Debug, Clone)]
pub(crate) struct ColdRecord {
    pub(crate) shard: ShardId,
    pub(crate) sequence: u64,
    /// Its topic, for the envelope of what a Kafka client wrote.
    pub(crate) origin: Origin,
    /// How its queue is reached, where that tells how the record came.
    pub(crate) reached: Option<Box<Reached>>,
}

/// How a queue with a binding of `amq.topic` is reached otherwise: by its name, and from these exchanges.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(crate) queue: Name,
    pub(crate) exchanges: Vec<Name>,
}

/// One partition of a fetch, with batches that may be cold.
#[derive(Debug)]
pub(crate) struct ColdFetched {
    /// The batches in offset order.
    pub(crate) batches: Vec<ColdBatch>,
    /// Everything but the batches.
    pub(crate) fetched: Fetched,
}

impl ColdFetched {
    /// Is any of it in the files?
    pub(crate) fn is_cold(&self) -> bool {
        self.batches
            .iter()
            .any(|batch| matches!(batch, ColdBatch::Cold { .. }))
    }
}

/// A batch in memory, or some in the files.
#[derive(Debug, Clone)]
pub(crate) enum ColdBatch {
    /// In memory.
    Here(Bytes),
    /// In the files: from the batch that contains an offset up to another, within a bound.
    Cold {
        /// The partition's key.
        partition: u64,
        /// Where copies of what was cleaned are, for its raw view.
        copies: Option<u64>,
        /// The files to begin with.
        files: Vec<u32>,
        /// From where.
        offset: i64,
        /// Up to where, exclusively.
        until: i64,
        /// How much.
        bytes_max: u64,
        /// The first batch whatever its size.
        at_least_one: bool,
    },
}

impl ColdBatch {
    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Here(batch) => batch.len() as u64,
            // A guess that keeps further partitions' shares honest; it is at least one byte.
            Self::Cold { bytes_max, .. } => (*bytes_max).max(1),
        }
    }
}

/// Events on their way to one connection.
#[derive(Debug)]
pub(crate) struct Mailbox {
    parcels: Mutex<Vec<Parcel>>,
    /// Payload bytes of deliveries not taken yet, and of those taken but not reported drained.
    bytes: AtomicU64,
    /// The shard has paused this connection's deliveries until it has drained.
    paused: AtomicBool,
    /// The connection has a backlog, or has just come.
    catches_up: Arc<AtomicBool>,
    /// Where it says what it has taken while it does so.
    taken: Arc<Taken>,
    notify: Notify,
}

/// Of a connection whose taking nobody waits for.
impl Default for Mailbox {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Mailbox {
    /// Of a connection that has just come.
    pub(crate) fn new(taken: Arc<Taken>) -> Self {
        Self {
            parcels: Mutex::default(),
            bytes: AtomicU64::default(),
            paused: AtomicBool::default(),
            catches_up: Arc::new(AtomicBool::new(true)),
            taken,
            notify: Notify::default(),
        }
    }

    /// Puts parcels in and wakes the connection.
    pub(crate) fn put(&self, parcels: &mut Vec<Parcel>, bytes: u64) {
        if parcels.is_empty() {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let was_empty = {
            let mut held = self.parcels.lock();
            let was_empty = held.is_empty();
            if was_empty {
                std::mem::swap(&mut *held, parcels);
            } else {
                held.append(parcels);
            }
            was_empty
        };
        if was_empty {
            self.notify.notify_one();
        }
    }

    /// Payload bytes waiting.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes what is there; waits until there is something.
    pub(crate) async fn take(&self, into: &mut VecDeque<Parcel>) {
        loop {
            if self.try_take(into) {
                return;
            }
            self.notify.notified().await;
        }
    }

    /// Takes what is there, if anything.
    pub(crate) fn try_take(&self, into: &mut VecDeque<Parcel>) -> bool {
        let mut held = self.parcels.lock();
        if held.is_empty() {
            return false;
        }
        if self.catches_up.load(Ordering::Relaxed) {
            self.taken.add(held.len());
        }
        if into.is_empty() {
            // Neither way copies what is inside.
            let room = Vec::from(std::mem::take(into));
            *into = VecDeque::from(std::mem::replace(&mut *held, room));
        } else {
            into.extend(held.drain(..));
        }
        true
    }

    /// Notes that deliveries are paused. Parcels put in after it carry the news to the reader.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    /// Notes whether the connection is behind. Who no longer is moves now, not when there is next something for it.
    pub(crate) fn set_catching_up(&self, catches_up: bool) {
        self.catches_up.store(catches_up, Ordering::Relaxed);
        if !catches_up {
            self.notify.notify_one();
        }
    }

    /// Whether the connection is behind, for its reader.
    pub(crate) fn catches_up(&self) -> &Arc<AtomicBool> {
        &self.catches_up
    }

    /// Forgets the size of what was taken; says whether the shard waits to hear of it.
    pub(crate) fn drained(&self) -> bool {
        self.bytes.store(0, Ordering::Relaxed);
        self.paused.swap(false, Ordering::AcqRel)
    }
}
