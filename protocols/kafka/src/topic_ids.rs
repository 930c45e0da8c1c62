//! Which topic an id is: what this server's connections have been told, so that access to a topic that a request
//! names by its id (KIP-516) is asked about by its name.

use std::collections::HashMap;

use omnilog_broker::{Name, NamespaceId, TopicInfo};
use parking_lot::RwLock;

/// Ids kept. Beyond that all are asked about again.
const IDS_MAX: usize = 100_000;

/// Names by ids, of each namespace: in others they are nobody's. An id never names another topic, so nothing of it is
/// ever wrong; what is deleted may stay in it.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    known: RwLock<HashMap<(NamespaceId, u128), Name, foldhash::fast::RandomState>>,
}

impl TopicIds {
    pub(crate) fn name(&self, namespace: NamespaceId, id: u128) -> Option<Name> {
        self.known.read().get(&(namespace, id)).cloned()
    }

    pub(crate) fn learn(&self, namespace: NamespaceId, topic: &TopicInfo) {
        let key = (namespace, topic.uuid);
        if self.known.read().contains_key(&key) {
            return;
        }
        let mut known = self.known.write();
        if known.len() >= IDS_MAX {
            known.clear();
        }
        known.insert(key, topic.name.clone());
    }

    pub(crate) fn forget(&self, namespace: NamespaceId, id: u128) {
        self.known.write().remove(&(namespace, id));
    }
}

#[cfg(test)]
mod tests {
    use super::TopicIds;
    use omnilog_broker::{LogSettings, Name, NamespaceId, TopicId, TopicInfo};

    #[test]
    fn an_id_is_known_in_its_own_namespace_until_it_is_forgotten() {
        let ids = TopicIds::default();
        let (own, other) = (NamespaceId(0), NamespaceId(1));
        let name = Name::from_static(b"orders");
        ids.learn(
            own,
            &TopicInfo {
                topic: TopicId(1),
                uuid: 7,
                name: name.clone(),
                partitions: 1,
                settings: LogSettings::default(),
                provisional: false,
                leader_epoch: 1,
                path_template: None,
                raw_of: None,
            },
        );
        assert_eq!(ids.name(own, 7), Some(name.clone()));
        assert_eq!((ids.name(other, 7), ids.name(own, 8)), (None, None));
        ids.forget(other, 7);
        assert_eq!(ids.name(own, 7), Some(name));
        ids.forget(own, 7);
        assert_eq!(ids.name(own, 7), None);
    }
}
