//! Which topics are compacted: their records need keys, and only connections look into batches.

use crate::api::{Append, NamespaceId, TopicRef};
use omnilog_record::RecordBatch;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A batch expands to at most this.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// The compacted topics, by what requests call them. The sequencer keeps it, connections look.
#[derive(Debug, Default)]
pub(crate) struct Compacted {
    known: RwLock<HashSet<(NamespaceId, TopicRef)>>,
    count: AtomicUsize,
}

impl Compacted {
    /// Are there any?
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// A topic is compacted, or is not (any more).
    pub(crate) fn note(&self, namespace: NamespaceId, names: [TopicRef; 2], compacted: bool) {
        if !compacted && !self.any() {
            return;
        }
        let mut known = self.known.write();
        for name in names {
            if compacted {
                known.insert((namespace, name));
            } else {
                known.remove(&(namespace, name));
            }
        }
        self.count.store(known.len(), Ordering::Relaxed);
    }

    /// Looks whether every record of a batch that is to be appended to a compacted topic has a key.
    pub(crate) fn check(&self, namespace: NamespaceId, append: &mut Append) {
        if !self.any() {
            return;
        }
        let topic = (namespace, append.topic.clone());
        if self.known.read().contains(&topic) {
            append.keyless = !all_keyed(append);
        }
    }
}

fn all_keyed(append: &Append) -> bool {
    let Ok(batch) = RecordBatch::parse(append.batch.clone()) else {
        return false;
    };
    if batch.header().attributes.is_control() {
        return true;
    }
    let Ok(records) = batch.records(EXPANDED_BYTES_MAX) else {
        return false;
    };
    let keyed = |record: Result<omnilog_record::Record<'_>, _>| {
        record.is_ok_and(|record| record.key.is_some())
    };
    records.iter().all(keyed)
}
