//! Topics, queues and sessions get their names, lose them, and are found by them.

use crate::api::*;
use crate::state::State;
use crate::state::index::Index;
use crate::state::names::Called;
use crate::state::partition::Topic;
use crate::state::queue::Queue;
use crate::state::session::Session;

impl Called for Topic {
    fn called(&self) -> &[u8] {
        &self.name
    }
}

impl Called for Queue {
    fn called(&self) -> &[u8] {
        &self.declared.name
    }
}

impl Called for Session {
    fn called(&self) -> &[u8] {
        &self.client_id
    }
}

/// Gives an object its name, or takes it away. While a checkpoint is loaded, names are put in order at the end only.
macro_rules! named {
    ($give:ident, $take:ident, $kind:ident, $objects:ident) => {
        impl State {
            pub(crate) fn $give(&mut self, namespace: NamespaceId, id: $kind) {
                if let Some(names) = self.namespaces.get_mut(namespace.0 as usize) {
                    match self.changes.off {
                        true => names.$objects.load(&self.$objects, id),
                        false => names.$objects.insert(&self.$objects, id),
                    }
                }
            }

            pub(crate) fn $take(&mut self, namespace: NamespaceId, id: $kind) {
                if let Some(names) = self.namespaces.get_mut(namespace.0 as usize) {
                    names.$objects.remove(&self.$objects, id);
                }
            }
        }
    };
}

named!(name_queue, unname_queue, QueueId, queues);
named!(name_session, unname_session, SessionId, sessions);
named!(name_log, unname_log, TopicId, topics);

impl State {
    /// A topic is found by its name and its id from now on.
    pub(crate) fn name_topic(&mut self, namespace: NamespaceId, id: TopicId) {
        self.name_log(namespace, id);
        let topics = &self.topics;
        if let Some(names) = self.namespaces.get_mut(namespace.0 as usize)
            && let Some(topic) = topics.get(&id)
        {
            let hash = names.topic_uuids.hash(&topic.uuid.to_le_bytes());
            let uuid = |id: &TopicId| topics.get(id).map_or(0, |topic| topic.uuid).to_le_bytes();
            names.topic_uuids.insert(hash, id, uuid);
        }
    }

    /// A topic is about to go.
    pub(crate) fn unname_topic(&mut self, namespace: NamespaceId, id: TopicId) {
        self.unname_log(namespace, id);
        if let Some(names) = self.namespaces.get_mut(namespace.0 as usize)
            && let Some(topic) = self.topics.get(&id)
        {
            let hash = names.topic_uuids.hash(&topic.uuid.to_le_bytes());
            names.topic_uuids.remove(hash, id);
        }
    }

    /// Finishes the names of what was loaded. Those of topics are made here, all at once: they may be a million.
    pub(crate) fn sort_names(&mut self) {
        let topics = self.topics.values();
        let mut topics: Vec<_> = topics.map(|topic| (topic.namespace, topic.id)).collect();
        topics.sort_unstable();
        for of_one in topics.chunk_by(|(one, _), (other, _)| one == other) {
            if let Some((namespace, _)) = of_one.first()
                && let Some(names) = self.namespaces.get_mut(namespace.0 as usize)
            {
                names.topics.expect(of_one.len());
                names.topic_uuids = Index::of_capacity(of_one.len());
            }
            for (namespace, topic) in of_one {
                self.name_topic(*namespace, *topic);
            }
        }
        for names in &mut self.namespaces {
            names.topics.sort(&self.topics);
            names.queues.sort(&self.queues);
            names.sessions.sort(&self.sessions);
        }
    }

    /// The topic of this name.
    pub(crate) fn topic_id(&self, namespace: NamespaceId, name: &[u8]) -> Option<TopicId> {
        self.namespace(namespace)?.topics.get(&self.topics, name)
    }

    pub(crate) fn topic_of_uuid(&self, namespace: NamespaceId, uuid: u128) -> Option<TopicId> {
        let uuids = &self.namespace(namespace)?.topic_uuids;
        let hash = uuids.hash(&uuid.to_le_bytes());
        uuids.find(hash, |id| {
            self.topics.get(id).is_some_and(|topic| topic.uuid == uuid)
        })
    }

    /// The queue of this name.
    pub(crate) fn queue_id(&self, namespace: NamespaceId, name: &[u8]) -> Option<QueueId> {
        self.namespace(namespace)?.queues.get(&self.queues, name)
    }
}
