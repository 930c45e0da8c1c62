//! Which topic an id is: what this server's connections have been told, so that access to a topic that a request
//! names by its id (KIP-516) is asked about by its name.

use std::collections::HashMap;

use omnilog_broker::{Name, TopicInfo};
use parking_lot::RwLock;
use uuid::Uuid;

/// Ids kept. Beyond that all are asked about again.
const IDS_MAX: usize = 100_000;

/// Names by ids. An id never names another topic, so nothing of it is ever wrong; what is deleted may stay in it.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    known: RwLock<HashMap<u128, Name, foldhash::fast::RandomState>>,
}

impl TopicIds {
    pub(crate) fn name(&self, id: Uuid) -> Option<Name> {
        self.known.read().get(&id.as_u128()).cloned()
    }

    pub(crate) fn learn(&self, topic: &TopicInfo) {
        if self.known.read().contains_key(&topic.uuid) {
            return;
        }
        let mut known = self.known.write();
        if known.len() >= IDS_MAX {
            known.clear();
        }
        known.insert(topic.uuid, topic.name.clone());
    }

    pub(crate) fn forget(&self, id: Uuid) {
        self.known.write().remove(&id.as_u128());
    }
}
