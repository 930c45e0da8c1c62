//! Looking ahead: what the next commands will look at is fetched for all of them together.
//!
//! Among a million logs, a batch's topic and partition lie in no cache, and each of their lines is found by the one
//! before it. One command after the other waits for each of its lines by itself; here the processor is told to fetch those
//! of all commands' topics, then those of all partitions, and has many under way at a time. Nothing is decided by what is
//! seen.

use crate::api::{Append, Command, TopicId, TopicRef};
use crate::server::Input;
use crate::shard::Shard;
use crate::shard::release::Effect;
use crate::state::objects::{Number, Objects};
use smallvec::SmallVec;
use std::hint::black_box;

/// Commands that are looked at together: what they need lies in the processor's nearest caches until it is their turn.
pub(crate) const TOGETHER: usize = 32;

/// Few objects lie in a cache anyway.
const OBJECTS_MIN: usize = if cfg!(test) { 1 } else { 4096 };

impl Shard {
    /// Fetches what these inputs, the next to be taken, will look at first.
    pub(crate) fn look_ahead(&self, inputs: &[Input]) {
        if inputs.len() < 2 || self.state.topics.len() < OBJECTS_MIN {
            return;
        }
        let named = inputs.iter().take(TOGETHER).filter_map(|input| {
            let Input::Command {
                client, command, ..
            } = input
            else {
                return None;
            };
            let Command::Append(Append {
                topic: TopicRef::Name(name),
                partition,
                ..
            }) = command
            else {
                return None;
            };
            let namespace = self.clients.get(client)?.namespace;
            let names = self.state.namespace(namespace)?;
            Some((
                names.topics.likely(name)?,
                usize::try_from(*partition).ok()?,
            ))
        });
        let named: SmallVec<[(TopicId, usize); TOGETHER]> = named.collect();
        let topics = &self.state.topics;
        fetch_objects(topics, named.iter().map(|(topic, _)| topic));
        let keys = named.iter().filter_map(|(topic, index)| {
            let topic = topics.get(topic)?;
            topic.partitions.get(*index).copied()
        });
        let keys: SmallVec<[u64; TOGETHER]> = keys.collect();
        fetch_objects(&self.state.partitions, keys.iter());
    }

    /// Fetches what the effects that wait longest will look at.
    pub(crate) fn look_ahead_at_effects(&self) {
        if self.effects.len() < 2 || self.state.topics.len() < OBJECTS_MIN {
            return;
        }
        let next = self.effects.iter().take(TOGETHER);
        let keys = next.filter_map(|pending| match &pending.effect {
            Effect::Watermark(partition, ..) => Some(*partition),
            _ => None,
        });
        let keys: SmallVec<[u64; TOGETHER]> = keys.collect();
        fetch_objects(&self.state.partitions, keys.iter());
    }
}

/// Reads the pages in which these objects lie, and begins to fetch the objects.
fn fetch_objects<'a, K: Number + 'a, V>(
    objects: &Objects<K, V>,
    keys: impl Iterator<Item = &'a K> + Clone,
) {
    black_box(keys.clone().fold(0, |sum, key| sum ^ objects.page(key)));
    keys.for_each(|key| objects.prefetch(key));
}
