//! An exchange and its bindings.

use crate::api::*;
use crate::state::routes::{PatternKind, Patterns};
use bytes::Bytes;
use std::collections::BTreeMap;

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) declared: DeclareExchange,
    /// Every binding, for listing, comparing and checkpoints.
    pub(crate) bindings: Vec<Binding>,
    /// Direct and fanout: destinations by routing key (fanout: all under the empty key).
    keys: BTreeMap<Bytes, Vec<Destination>>,
    /// Topic: destinations by pattern.
    patterns: Patterns<Destination>,
    /// It had a binding once, so that auto-delete may strike.
    pub(crate) had_binding: bool,
}

impl Exchange {
    /// An exchange without bindings.
    pub(crate) fn new(declared: DeclareExchange) -> Self {
        Self {
            declared,
            bindings: Vec::new(),
            keys: BTreeMap::new(),
            patterns: Patterns::default(),
            had_binding: false,
        }
    }

    /// Is it one that every namespace has from the start?
    pub(crate) fn predeclared(&self) -> bool {
        self.declared.name.starts_with(b"amq.")
    }

    /// The exchange that takes what has no binding here.
    pub(crate) fn alternate(&self) -> Option<&Name> {
        argument(&self.declared.arguments, b"alternate-exchange")?.as_bytes()
    }

    /// Adds a binding; `false` if there is an equal one.
    pub(crate) fn bind(&mut self, binding: Binding) -> Result<bool, Refusal> {
        if self.bindings.contains(&binding) {
            return Ok(false);
        }
        match self.declared.kind {
            ExchangeKind::Direct => self
                .keys
                .entry(binding.routing_key.clone())
                .or_default()
                .push(binding.destination.clone()),
            ExchangeKind::Fanout => {
                self.keys
                    .entry(Bytes::new())
                    .or_default()
                    .push(binding.destination.clone());
            }
            ExchangeKind::Topic => self.patterns.insert(
                PatternKind::Amqp,
                &binding.routing_key,
                binding.destination.clone(),
            )?,
            ExchangeKind::Headers => {}
        }
        self.bindings.push(binding);
        self.had_binding = true;
        Ok(true)
    }

    /// Takes a binding away; `false` if there was none.
    pub(crate) fn unbind(&mut self, binding: &Binding) -> bool {
        let Some(position) = self.bindings.iter().position(|known| known == binding) else {
            return false;
        };
        let binding = self.bindings.remove(position);
        let key = match self.declared.kind {
            ExchangeKind::Direct => binding.routing_key,
            ExchangeKind::Fanout => Bytes::new(),
            ExchangeKind::Topic => {
                self.patterns.remove(
                    PatternKind::Amqp,
                    &binding.routing_key,
                    &binding.destination,
                );
                return true;
            }
            ExchangeKind::Headers => return true,
        };
        if let Some(destinations) = self.keys.get_mut(&key) {
            if let Some(at) = destinations
                .iter()
                .position(|known| *known == binding.destination)
            {
                destinations.swap_remove(at);
            }
            if destinations.is_empty() {
                self.keys.remove(&key);
            }
        }
        true
    }

    /// The destinations of a message with this key, in words and spelled out, and these headers; one may come several
    /// times.
    pub(crate) fn route(
        &self,
        words: &[&[u8]],
        key: &[u8],
        headers: &Table,
        found: &mut dyn FnMut(&Destination),
    ) {
        match self.declared.kind {
            ExchangeKind::Direct => self.keys.get(key).into_iter().flatten().for_each(found),
            ExchangeKind::Fanout => self
                .keys
                .get(&b""[..])
                .into_iter()
                .flatten()
                .for_each(found),
            ExchangeKind::Topic => self.patterns.matches(words, found),
            ExchangeKind::Headers => self
                .bindings
                .iter()
                .filter(|binding| headers_match(&binding.arguments, headers))
                .for_each(|binding| found(&binding.destination)),
        }
    }
}

/// An argument's value.
pub(crate) fn argument<'a>(arguments: &'a Table, name: &[u8]) -> Option<&'a Value> {
    arguments
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

/// Does a headers binding match? `x-match`: all (default), any, all-with-x, any-with-x; without `-with-x` arguments
/// whose name starts with `x-` are not compared. A void value asks only whether the header is there.
fn headers_match(arguments: &Table, headers: &Table) -> bool {
    let mode = argument(arguments, b"x-match")
        .and_then(Value::as_bytes)
        .map_or(&b"all"[..], |v| v);
    let with_x = mode.ends_with(b"-with-x");
    let any = mode.starts_with(b"any");
    let mut asked = arguments
        .iter()
        .filter(|(name, _)| name != &b"x-match"[..] && (with_x || !name.starts_with(b"x-")));
    let has = |(name, value): &(Bytes, Value)| {
        headers
            .iter()
            .any(|(known, held)| known == name && (matches!(value, Value::Void) || held == value))
    };
    if any { asked.any(has) } else { asked.all(has) }
}
