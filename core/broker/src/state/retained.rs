//! Retained messages: a table from topic to the record that it has, searched by filter.
//!
//! Most come from MQTT clients. Those of a topic with `omnilog.retain=latest` come from what Kafka clients write, and
//! name the partition: their records can be read by nobody who does not know it.

use bytes::Bytes;
use std::collections::BTreeMap;

/// The record that is a topic's retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    /// The partition that a Kafka client wrote it to, or 0: an MQTT client published it.
    pub(crate) partition: u64,
}

impl Kept {
    /// What an MQTT client published.
    pub(crate) fn published(sequence: u64) -> Self {
        Self {
            sequence,
            partition: 0,
        }
    }
}

/// The retained messages of a namespace, as a tree over topic levels.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    root: Node,
    /// Topics and partitions by their records' sequences.
    by_sequence: BTreeMap<u64, (Bytes, u64)>,
    /// How many come from what Kafka clients wrote.
    of_tables: u64,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Bytes, Self>,
    here: Option<Kept>,
}

impl Retained {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.by_sequence.len() as u64
    }

    /// Does any come from what Kafka clients wrote?
    pub(crate) fn has_tables(&self) -> bool {
        self.of_tables > 0
    }

    /// The topic's retained message.
    pub(crate) fn get(&self, topic: &[u8]) -> Option<Kept> {
        let mut node = &self.root;
        for level in topic.split(|byte| *byte == b'/') {
            node = node.children.get(level)?;
        }
        node.here
    }

    /// Makes this record the topic's retained message.
    pub(crate) fn set(&mut self, topic: &Bytes, kept: Kept) {
        let mut node = &mut self.root;
        for level in topic.split(|byte| *byte == b'/') {
            if !node.children.contains_key(level) {
                node.children
                    .insert(Bytes::copy_from_slice(level), Node::default());
            }
            let Some(child) = node.children.get_mut(level) else {
                return;
            };
            node = child;
        }
        if let Some(before) = node.here.replace(kept) {
            self.forget(before);
        }
        self.of_tables += u64::from(kept.partition != 0);
        let place = (topic.clone(), kept.partition);
        self.by_sequence.insert(kept.sequence, place);
    }

    fn forget(&mut self, kept: Kept) {
        self.of_tables -= u64::from(kept.partition != 0);
        self.by_sequence.remove(&kept.sequence);
    }

    /// Takes the topic's retained message away; returns it.
    pub(crate) fn clear(&mut self, topic: &[u8]) -> Option<Kept> {
        // Emptied nodes on the way are pruned from the deepest one that still has something else.
        let levels: Vec<&[u8]> = topic.split(|byte| *byte == b'/').collect();
        let mut keep = 0;
        let mut node = &self.root;
        for (depth, level) in levels.iter().enumerate() {
            if node.children.len() > 1 || node.here.is_some() {
                keep = depth;
            }
            node = node.children.get(*level)?;
        }
        let kept = node.here?;
        let leaf = node.children.is_empty();
        let mut node = &mut self.root;
        if leaf {
            for level in levels.get(..keep)? {
                node = node.children.get_mut(*level)?;
            }
            node.children.remove(*levels.get(keep)?);
        } else {
            for level in &levels {
                node = node.children.get_mut(*level)?;
            }
            node.here = None;
        }
        self.forget(kept);
        Some(kept)
    }

    /// Topics and records that an MQTT filter matches, in the topics' order.
    pub(crate) fn matching(&self, filter: &[u8]) -> Vec<(Bytes, Kept)> {
        let levels: Vec<&[u8]> = filter.split(|byte| *byte == b'/').collect();
        let mut found: Vec<Kept> = Vec::new();
        // Nodes yet to visit, each with how many levels of the filter are used up.
        let mut open = vec![(&self.root, 0)];
        while let Some((node, depth)) = open.pop() {
            // Neither wildcard matches a first level that starts with `$` (MQTT 4.7.2-1).
            let at_root = std::ptr::eq(node, &raw const self.root);
            let shown = |level: &Bytes| !at_root || !level.starts_with(b"$");
            let children = node.children.iter().filter(|(level, _)| shown(level));
            match levels.get(depth) {
                None => found.extend(node.here),
                Some(&b"#") => {
                    // This node (`a/#` matches `a`) and all below it, under the same `#`.
                    found.extend(node.here);
                    open.extend(children.map(|(_, child)| (child, depth)));
                }
                Some(&b"+") => open.extend(children.map(|(_, child)| (child, depth + 1))),
                Some(level) => {
                    open.extend(node.children.get(*level).map(|child| (child, depth + 1)));
                }
            }
        }
        let named = |kept: Kept| {
            let (topic, _) = self.by_sequence.get(&kept.sequence)?;
            Some((topic.clone(), kept))
        };
        let mut found: Vec<(Bytes, Kept)> = found.into_iter().filter_map(named).collect();
        found.sort_unstable();
        found
    }

    /// Every topic and its record, in the order of the records.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Bytes, Kept)> {
        self.starting_at(0)
    }

    /// The same from a sequence on.
    pub(crate) fn starting_at(&self, sequence: u64) -> impl Iterator<Item = (&Bytes, Kept)> {
        self.by_sequence
            .range(sequence..)
            .map(|(sequence, (topic, partition))| {
                let kept = Kept {
                    sequence: *sequence,
                    partition: *partition,
                };
                (topic, kept)
            })
    }

    /// The lowest sequence at or after this one that is retained.
    pub(crate) fn first_from(&self, sequence: u64) -> Option<u64> {
        let (found, _) = self.by_sequence.range(sequence..).next()?;
        Some(*found)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, Retained};
    use bytes::Bytes;

    fn table(topics: &[&'static str]) -> Retained {
        let mut retained = Retained::default();
        for (topic, sequence) in topics.iter().zip(1..) {
            let kept = Kept::published(sequence);
            retained.set(&Bytes::from_static(topic.as_bytes()), kept);
        }
        retained
    }

    fn matching(retained: &Retained, filter: &str) -> Vec<u64> {
        let mut found: Vec<u64> = retained
            .matching(filter.as_bytes())
            .into_iter()
            .map(|(_, kept)| kept.sequence)
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn filters_find_every_topic_they_match() {
        let retained = table(&["a", "a/b", "a/b/c", "/a", "$SYS/x", "b/b"]);
        assert_eq!(matching(&retained, "#"), [1, 2, 3, 4, 6]);
        assert_eq!(matching(&retained, "a/#"), [1, 2, 3]);
        assert_eq!(matching(&retained, "+/b"), [2, 6]);
        assert_eq!(matching(&retained, "+"), [1]);
        assert_eq!(matching(&retained, "/+"), [4]);
        assert_eq!(matching(&retained, "$SYS/#"), [5]);
        assert_eq!(matching(&retained, "a/b/c"), [3]);
        assert_eq!(matching(&retained, "a/b/c/d"), [0; 0]);
    }

    #[test]
    fn a_cleared_topic_leaves_its_neighbours() {
        let mut retained = table(&["a", "a/b", "a/b/c", "a/d"]);
        assert_eq!(retained.clear(b"a/b"), Some(Kept::published(2)));
        assert_eq!(retained.clear(b"a/b"), None);
        assert_eq!(matching(&retained, "#"), [1, 3, 4]);
        assert_eq!(retained.clear(b"a/b/c"), Some(Kept::published(3)));
        assert_eq!(retained.clear(b"a"), Some(Kept::published(1)));
        assert_eq!(matching(&retained, "#"), [4]);
        assert_eq!(retained.clear(b"a/d"), Some(Kept::published(4)));
        assert_eq!(retained.len(), 0);
        assert!(retained.root.children.is_empty());
    }

    #[test]
    fn records_are_found_by_their_sequence_and_tables_are_counted() {
        let mut retained = table(&["a", "a/b"]);
        let topic = Bytes::from_static(b"a/b");
        let kept = Kept {
            sequence: 7,
            partition: 3,
        };
        retained.set(&topic, kept);
        assert!(retained.has_tables());
        assert_eq!((retained.len(), retained.first_from(2)), (2, Some(7)));
        let all: Vec<_> = retained.starting_at(2).collect();
        assert_eq!(all, [(&topic, kept)]);
        retained.set(&topic, Kept::published(8));
        assert!(!retained.has_tables());
        assert_eq!(retained.get(b"a/b"), Some(Kept::published(8)));
    }
}
