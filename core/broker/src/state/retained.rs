//! Retained messages: a table from topic to the record's sequence, searched by filter.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The retained messages of a namespace, as a tree over topic levels.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    root: Node,
    count: u64,
    /// The sequences in the table.
    sequences: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Bytes, Self>,
    here: Option<(Bytes, u64)>,
}

impl Retained {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// The topic's retained message.
    pub(crate) fn get(&self, topic: &[u8]) -> Option<u64> {
        let mut node = &self.root;
        for level in topic.split(|byte| *byte == b'/') {
            node = node.children.get(level)?;
        }
        node.here.as_ref().map(|(_, sequence)| *sequence)
    }

    /// Makes this record the topic's retained message; returns the one before.
    pub(crate) fn set(&mut self, topic: &Bytes, sequence: u64) -> Option<u64> {
        let mut node = &mut self.root;
        for level in topic.split(|byte| *byte == b'/') {
            if !node.children.contains_key(level) {
                node.children
                    .insert(Bytes::copy_from_slice(level), Node::default());
            }
            node = node.children.get_mut(level)?;
        }
        let before = node.here.replace((topic.clone(), sequence));
        self.sequences.insert(sequence);
        match &before {
            Some((_, before)) if *before != sequence => {
                self.sequences.remove(before);
            }
            Some(_) => {}
            None => self.count += 1,
        }
        before.map(|(_, sequence)| sequence)
    }

    /// Takes the topic's retained message away; returns it.
    pub(crate) fn clear(&mut self, topic: &[u8]) -> Option<u64> {
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
        let (_, sequence) = node.here.as_ref()?;
        let sequence = *sequence;
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
        self.count -= 1;
        self.sequences.remove(&sequence);
        Some(sequence)
    }

    /// Topics and sequences that an MQTT filter matches, in the topics' order.
    pub(crate) fn matching(&self, filter: &[u8]) -> Vec<(Bytes, u64)> {
        let levels: Vec<&[u8]> = filter.split(|byte| *byte == b'/').collect();
        let mut found = Vec::new();
        // Nodes yet to visit, each with how many levels of the filter are used up.
        let mut open = vec![(&self.root, 0)];
        while let Some((node, depth)) = open.pop() {
            // Neither wildcard matches a first level that starts with `$` (MQTT 4.7.2-1).
            let at_root = std::ptr::eq(node, &raw const self.root);
            let shown = |level: &Bytes| !at_root || !level.starts_with(b"$");
            let children = node.children.iter().filter(|(level, _)| shown(level));
            match levels.get(depth) {
                None => found.extend(node.here.iter().cloned()),
                Some(&b"#") => {
                    // This node (`a/#` matches `a`) and all below it, under the same `#`.
                    found.extend(node.here.iter().cloned());
                    open.extend(children.map(|(_, child)| (child, depth)));
                }
                Some(&b"+") => open.extend(children.map(|(_, child)| (child, depth + 1))),
                Some(level) => {
                    open.extend(node.children.get(*level).map(|child| (child, depth + 1)));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Every topic and sequence, in order.
    pub(crate) fn all(&self) -> Vec<(Bytes, u64)> {
        let mut found = Vec::new();
        let mut open = vec![&self.root];
        while let Some(node) = open.pop() {
            found.extend(node.here.iter().cloned());
            open.extend(node.children.values());
        }
        found.sort_unstable();
        found
    }

    /// The lowest sequence at or after this one that is retained.
    pub(crate) fn first_from(&self, sequence: u64) -> Option<u64> {
        self.sequences.range(sequence..).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Retained;
    use bytes::Bytes;

    fn table(topics: &[&'static str]) -> Retained {
        let mut retained = Retained::default();
        for (topic, sequence) in topics.iter().zip(1..) {
            retained.set(&Bytes::from_static(topic.as_bytes()), sequence);
        }
        retained
    }

    fn matching(retained: &Retained, filter: &str) -> Vec<u64> {
        let mut found: Vec<u64> = retained
            .matching(filter.as_bytes())
            .into_iter()
            .map(|(_, sequence)| sequence)
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
        assert_eq!(retained.clear(b"a/b"), Some(2));
        assert_eq!(retained.clear(b"a/b"), None);
        assert_eq!(matching(&retained, "#"), [1, 3, 4]);
        assert_eq!(retained.clear(b"a/b/c"), Some(3));
        assert_eq!(retained.clear(b"a"), Some(1));
        assert_eq!(matching(&retained, "#"), [4]);
        assert_eq!(retained.clear(b"a/d"), Some(4));
        assert_eq!(retained.len(), 0);
        assert!(retained.root.children.is_empty());
    }
}
