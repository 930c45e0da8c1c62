//! Topic aliases (MQTT 5 section 3.3.2.3.4), both ways. They live as long as the connection.

use crate::codec::{ReasonCode, Violation};
use bytes::Bytes;
use std::collections::HashMap;

/// The aliases that the client has set.
#[derive(Debug, Default)]
pub(super) struct IncomingAliases {
    topics: Vec<Option<Bytes>>,
    maximum: u16,
}

impl IncomingAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self {
            topics: Vec::new(),
            maximum,
        }
    }

    /// The topic of a PUBLISH with this topic field and this alias.
    pub(super) fn resolve(&mut self, topic: Bytes, alias: Option<u16>) -> Result<Bytes, Violation> {
        let Some(alias) = alias else {
            return Ok(topic);
        };
        if alias > self.maximum {
            return Err(Violation::new(
                ReasonCode::TopicAliasInvalid,
                "topic alias above the maximum",
            ));
        }
        let index = usize::from(alias);
        if topic.is_empty() {
            return self
                .topics
                .get(index)
                .and_then(Clone::clone)
                .ok_or(Violation::protocol("unknown topic alias"));
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(index)
            && slot.as_ref() != Some(&topic)
        {
            // A copy: the packet's buffer must not live as long as the alias.
            *slot = Some(Bytes::copy_from_slice(&topic));
        }
        Ok(topic)
    }
}

/// The aliases that we have set.
#[derive(Debug, Default)]
pub(super) struct OutgoingAliases {
    topics: HashMap<Bytes, u16>,
    maximum: u16,
}

/// How a topic goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutgoingAlias {
    /// By its name alone.
    None,
    /// By its name, setting this alias.
    Set(u16),
    /// By this alias alone.
    Known(u16),
}

impl OutgoingAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self {
            topics: HashMap::new(),
            maximum,
        }
    }

    /// How this topic would go out now. The first topics get the aliases there are, and keep them.
    pub(super) fn look_up(&self, topic: &[u8]) -> OutgoingAlias {
        if self.maximum == 0 {
            return OutgoingAlias::None;
        }
        if let Some(&alias) = self.topics.get(topic) {
            return OutgoingAlias::Known(alias);
        }
        match u16::try_from(self.topics.len() + 1) {
            Ok(next) if next <= self.maximum => OutgoingAlias::Set(next),
            _ => OutgoingAlias::None,
        }
    }

    /// The packet that sets the alias goes out.
    pub(super) fn set(&mut self, topic: &[u8], alias: u16) {
        self.topics.insert(Bytes::copy_from_slice(topic), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn an_alias_stands_for_the_topic_it_was_last_set_to() {
        let mut aliases = IncomingAliases::new(2);
        assert_eq!(aliases.resolve(topic("a"), Some(1)), Ok(topic("a")));
        assert_eq!(aliases.resolve(topic(""), Some(1)), Ok(topic("a")));
        assert_eq!(aliases.resolve(topic("b"), Some(1)), Ok(topic("b")));
        assert_eq!(aliases.resolve(topic(""), Some(1)), Ok(topic("b")));
    }

    #[test]
    fn aliases_unknown_or_above_the_maximum_are_refused() {
        let mut aliases = IncomingAliases::new(2);
        let unknown = aliases.resolve(topic(""), Some(2)).unwrap_err();
        assert_eq!(unknown.reason, ReasonCode::ProtocolError);
        let above = aliases.resolve(topic("a"), Some(3)).unwrap_err();
        assert_eq!(above.reason, ReasonCode::TopicAliasInvalid);
    }

    #[test]
    fn no_alias_is_set_beyond_what_the_client_takes() {
        let mut aliases = OutgoingAliases::new(1);
        assert_eq!(aliases.look_up(b"a"), OutgoingAlias::Set(1));
        aliases.set(b"a", 1);
        assert_eq!(aliases.look_up(b"a"), OutgoingAlias::Known(1));
        assert_eq!(aliases.look_up(b"b"), OutgoingAlias::None);
        assert_eq!(OutgoingAliases::new(0).look_up(b"a"), OutgoingAlias::None);
    }
}
