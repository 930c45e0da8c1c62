//! An exchange and its bindings.

use crate::api::*;
use crate::route::{Targets, headers_match, sorted};
use crate::state::routes::{PatternKind, Patterns};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) declared: DeclareExchange,
    /// How it routes.
    pub(crate) routing: ExchangeKind,
    /// Every binding's arguments, sorted, by destination and key: for listing, comparing and checkpoints.
    bindings: BTreeMap<(Destination, Bytes), SmallVec<[Table; 1]>>,
    bindings_count: usize,
    /// Direct and fanout: destinations by routing key (fanout: all under the empty key).
    keys: BTreeMap<Bytes, Targets<Destination>>,
    /// Topic: destinations by pattern.
    patterns: Patterns<Destination>,
    /// It had a binding once, so that auto-delete may strike.
    pub(crate) had_binding: bool,
}

impl Exchange {
    /// An exchange without bindings.
    pub(crate) fn new(declared: DeclareExchange) -> Self {
        Self {
            routing: declared.routing().unwrap_or(ExchangeKind::Direct),
            declared,
            bindings: BTreeMap::new(),
            bindings_count: 0,
            keys: BTreeMap::new(),
            patterns: Patterns::default(),
            had_binding: false,
        }
    }

    /// How many bindings it has.
    pub(crate) fn bindings_count(&self) -> usize {
        self.bindings_count
    }

    /// Its bindings.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.bindings
            .iter()
            .flat_map(|(end, arguments)| self.each(end, arguments))
    }

    /// Its bindings to this destination.
    pub(crate) fn bindings_to(&self, destination: &Destination) -> Vec<Binding> {
        self.bindings
            .range((destination.clone(), Bytes::new())..)
            .take_while(|((known, _), _)| known == destination)
            .flat_map(|(end, arguments)| self.each(end, arguments))
            .collect()
    }

    /// Its bindings to this destination by this key.
    pub(crate) fn bindings_by(&self, destination: &Destination, key: &[u8]) -> Vec<Binding> {
        let end = (destination.clone(), Bytes::copy_from_slice(key));
        let known = self.bindings.get_key_value(&end);
        known
            .into_iter()
            .flat_map(|(end, arguments)| self.each(end, arguments))
            .collect()
    }

    /// Is there a binding to this destination?
    pub(crate) fn leads_to(&self, destination: &Destination) -> bool {
        self.bindings
            .range((destination.clone(), Bytes::new())..)
            .next()
            .is_some_and(|((known, _), _)| known == destination)
    }

    /// Where its bindings lead, each once for each key.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = (&Destination, &Bytes)> {
        self.bindings
            .keys()
            .map(|(destination, key)| (destination, key))
    }

    fn each<'a>(
        &'a self,
        (destination, key): &'a (Destination, Bytes),
        arguments: &'a [Table],
    ) -> impl Iterator<Item = Binding> + 'a {
        arguments.iter().map(|arguments| Binding {
            source: self.declared.name.clone(),
            destination: destination.clone(),
            routing_key: key.clone(),
            arguments: arguments.clone(),
        })
    }

    /// Is there an equal binding? The order of arguments is none of the difference.
    pub(crate) fn has_binding(&self, binding: &Binding) -> bool {
        let arguments = sorted(binding.arguments.clone());
        self.bindings
            .get(&(binding.destination.clone(), binding.routing_key.clone()))
            .is_some_and(|known| known.contains(&arguments))
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
        if self.has_binding(&binding) {
            return Ok(false);
        }
        let Binding {
            destination,
            routing_key,
            arguments,
            ..
        } = binding;
        match self.routing {
            ExchangeKind::Direct => self
                .keys
                .entry(routing_key.clone())
                .or_default()
                .add(destination.clone(), false),
            ExchangeKind::Fanout => self
                .keys
                .entry(Bytes::new())
                .or_default()
                .add(destination.clone(), false),
            ExchangeKind::Topic => {
                self.patterns
                    .insert(PatternKind::Amqp, &routing_key, destination.clone())?;
            }
            ExchangeKind::Headers | ExchangeKind::Delayed => {}
        }
        self.bindings
            .entry((destination, routing_key))
            .or_default()
            .push(sorted(arguments));
        self.bindings_count += 1;
        self.had_binding = true;
        Ok(true)
    }

    /// Takes a binding away; `false` if there was none.
    pub(crate) fn unbind(&mut self, binding: &Binding) -> bool {
        let end = (binding.destination.clone(), binding.routing_key.clone());
        let arguments = sorted(binding.arguments.clone());
        let Some(known) = self.bindings.get_mut(&end) else {
            return false;
        };
        let Some(position) = known.iter().position(|known| *known == arguments) else {
            return false;
        };
        known.remove(position);
        if known.is_empty() {
            self.bindings.remove(&end);
        }
        self.bindings_count -= 1;
        let (destination, routing_key) = end;
        let key = match self.routing {
            ExchangeKind::Direct => routing_key,
            ExchangeKind::Fanout => Bytes::new(),
            ExchangeKind::Topic => {
                self.patterns
                    .remove(PatternKind::Amqp, &routing_key, &destination);
                return true;
            }
            ExchangeKind::Headers | ExchangeKind::Delayed => return true,
        };
        if let Some(destinations) = self.keys.get_mut(&key) {
            destinations.remove(destination, false);
            if destinations.is_empty() {
                self.keys.remove(&key);
            }
        }
        true
    }

    /// The destinations of a message with this key, in words and spelled out, and these headers, sorted; one may come
    /// several times. `false`: the match was cut short.
    pub(crate) fn route(
        &self,
        words: &[&[u8]],
        key: &[u8],
        headers: &Table,
        found: &mut dyn FnMut(&Destination),
    ) -> bool {
        let mut under = |key: &[u8]| {
            if let Some(destinations) = self.keys.get(key) {
                destinations.each(&mut |destination, _| found(destination));
            }
        };
        match self.routing {
            ExchangeKind::Direct => under(key),
            ExchangeKind::Fanout => under(b""),
            ExchangeKind::Topic => return self.patterns.matches(words, found),
            ExchangeKind::Headers | ExchangeKind::Delayed => {
                for ((destination, _), arguments) in &self.bindings {
                    if arguments.iter().any(|asked| headers_match(asked, headers)) {
                        found(destination);
                    }
                }
            }
        }
        true
    }
}

/// An argument's value.
pub(crate) fn argument<'a>(arguments: &'a Table, name: &[u8]) -> Option<&'a Value> {
    arguments
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}
