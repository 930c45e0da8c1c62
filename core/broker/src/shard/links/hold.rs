//! `omnilog.hold=links`: a topic whose log keeps what its links have not read, whatever its window says.

use crate::api::*;
use crate::shard::Shard;
use crate::state::partition::{Partition, Topic};

impl Shard {
    /// The log of this partition may not start beyond this offset: links of a topic that holds for them want what
    /// follows.
    pub(crate) fn held_from(&self, topic: &Topic, partition: &Partition) -> i64 {
        if !partition.linked || !self.config.holds_for_links(&topic.name, &topic.settings) {
            return i64::MAX;
        }
        let key = partition.key;
        let links = (key, QueueId(0))..=(key, QueueId(u64::MAX));
        let offsets = self
            .state
            .links
            .range(links)
            .map(|(_, link)| link.next_offset);
        offsets.min().unwrap_or(i64::MAX)
    }
}
