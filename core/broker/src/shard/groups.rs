//! What is kept of consumer groups: committed offsets and the coordinator's own state.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use bytes::Bytes;

/// Positions with their topics' incarnations.
type Positions = Vec<(TopicId, GroupOffset)>;

impl Shard {
    pub(crate) fn commit_offsets(
        &mut self,
        namespace: NamespaceId,
        group: Name,
        offsets: Vec<GroupOffset>,
    ) -> Result<Reply, Refusal> {
        let (results, kept) = self.positions(namespace, offsets);
        if !kept.is_empty() {
            self.record(&Decision::OffsetsCommitted {
                namespace,
                group,
                offsets: kept,
            });
        }
        Ok(Reply::Committed(results))
    }

    /// Positions with their topics' incarnations; and for each given whether there is such a partition.
    pub(crate) fn positions(
        &self,
        namespace: NamespaceId,
        offsets: Vec<GroupOffset>,
    ) -> (Vec<Result<(), Refusal>>, Positions) {
        let mut results = Vec::with_capacity(offsets.len());
        let mut kept = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let topic = TopicRef::Name(offset.topic.clone());
            let found = self.readable_key(namespace, &topic, offset.partition);
            results.push(found.map(|(topic, ..)| kept.push((topic, offset))));
        }
        (results, kept)
    }

    pub(crate) fn fetch_offsets(
        &self,
        namespace: NamespaceId,
        group: &Name,
        wanted: Option<Vec<(Name, i32)>>,
    ) -> Result<Reply, Refusal> {
        let Some(names) = self.state.namespace(namespace) else {
            return Err(Refusal::ShardLost);
        };
        let Some(known) = names.groups.get(group) else {
            return Ok(Reply::GroupOffsets(Vec::new()));
        };
        let offsets = match wanted {
            None => known.offsets.values().cloned().collect(),
            Some(wanted) => wanted
                .iter()
                .filter_map(|(topic, partition)| {
                    let topic = TopicRef::Name(topic.clone());
                    let topic = self.state.readable(namespace, &topic)?.id();
                    known.offsets.get(&(topic, *partition)).cloned()
                })
                .collect(),
        };
        Ok(Reply::GroupOffsets(offsets))
    }

    pub(crate) fn put_group(
        &mut self,
        namespace: NamespaceId,
        group: Name,
        state: Option<Bytes>,
    ) -> Result<Reply, Refusal> {
        self.record(&Decision::GroupPut {
            namespace,
            group,
            state,
        });
        Ok(Reply::Done)
    }

    pub(crate) fn list_groups(&self, namespace: NamespaceId) -> Result<Reply, Refusal> {
        let Some(names) = self.state.namespace(namespace) else {
            return Err(Refusal::ShardLost);
        };
        let groups = names
            .groups
            .iter()
            .map(|(name, group)| (name.clone(), group.state.clone()));
        Ok(Reply::Groups(groups.collect()))
    }
}
