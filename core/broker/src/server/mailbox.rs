//! A connection's mailbox: events in order, taken in batches, bounded by what the shard knows of its size.

use crate::api::{Delivery, Event, Fetched, OffsetAt, OffsetFound, Refusal};
use crate::server::cold::Place;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// What lies in a mailbox: an event, or one whose payload is yet to be read from the journal's files.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// Ready to hand out.
    Event(Event),
    /// A delivery whose record has left the tail.
    ColdDelivery(Box<Delivery>, Place),
    /// A message got, whose record has left the tail, and how many remain.
    ColdGot(u64, Box<Delivery>, u64, Place),
    /// A fetch of which some batches have left the tail.
    ColdFetch(u64, Vec<Result<ColdFetched, Refusal>>),
    /// A look-up of an offset by time within these batches.
    ColdOffset(u64, OffsetAt, Vec<ColdBatch>, OffsetFound),
}

/// One partition of a fetch, with batches that may be cold.
#[derive(Debug)]
pub(crate) struct ColdFetched {
    /// The batches in offset order.
    pub(crate) batches: Vec<ColdBatch>,
    /// Everything but the batches.
    pub(crate) fetched: Fetched,
}

/// A batch, here or in a file.
#[derive(Debug, Clone)]
pub(crate) enum ColdBatch {
    /// In memory.
    Here(Bytes),
    /// In a file.
    There(Place),
}

/// Events on their way to one connection.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    parcels: Mutex<Vec<Parcel>>,
    /// Payload bytes of deliveries not taken yet, and of those taken but not reported drained.
    bytes: AtomicU64,
    notify: Notify,
}

impl Mailbox {
    /// Puts parcels in and wakes the connection.
    pub(crate) fn put(&self, parcels: &mut Vec<Parcel>, bytes: u64) {
        if parcels.is_empty() {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let was_empty = {
            let mut held = self.parcels.lock();
            let was_empty = held.is_empty();
            held.append(parcels);
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
    pub(crate) async fn take(&self, into: &mut Vec<Parcel>) {
        loop {
            if self.try_take(into) {
                return;
            }
            self.notify.notified().await;
        }
    }

    /// Takes what is there, if anything.
    pub(crate) fn try_take(&self, into: &mut Vec<Parcel>) -> bool {
        let mut held = self.parcels.lock();
        if held.is_empty() {
            return false;
        }
        if into.is_empty() {
            std::mem::swap(&mut *held, into);
        } else {
            into.append(&mut held);
        }
        true
    }

    /// Forgets the size of what was taken; says how much that was.
    pub(crate) fn drained(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}
