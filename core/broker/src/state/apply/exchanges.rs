//! Applying decisions about exchanges and bindings.

use crate::api::*;
use crate::event::Event;
use crate::state::State;
use crate::state::apply::first_level;
use crate::state::exchange::Exchange;
use crate::state::routes::{PatternKind, Target};

impl State {
    pub(super) fn apply_exchange(&mut self, event: &Event) {
        match event {
            Event::ExchangeDeclared {
                namespace,
                exchange,
            } => {
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.routes.touch_all();
                names
                    .exchanges
                    .insert(exchange.name.clone(), Exchange::new(exchange.clone()));
            }
            Event::ExchangeDeleted { namespace, name } => {
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.routes.touch_all();
                names.exchanges.remove(name);
                for exchange in names.exchanges.values_mut() {
                    let gone: Vec<Binding> = exchange
                        .bindings
                        .iter()
                        .filter(|binding| {
                            binding.destination == Destination::Exchange(name.clone())
                        })
                        .cloned()
                        .collect();
                    for binding in gone {
                        exchange.unbind(&binding);
                    }
                }
            }
            Event::Bound { namespace, binding } => {
                let id = *namespace;
                let queue = match &binding.destination {
                    Destination::Queue(name) => self.queue_id(id, name),
                    Destination::Exchange(_) => None,
                };
                if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(&queue)) {
                    queue.bound_to.insert(binding.source.clone());
                }
                let Some(names) = self.namespace_mut(id) else {
                    return;
                };
                let Some(exchange) = names.exchanges.get_mut(&binding.source) else {
                    return;
                };
                // The pattern was checked when it was decided.
                let new = exchange.bind(binding.clone()).unwrap_or(false);
                if new && binding.source == b"amq.topic"[..] {
                    let target = Target::Bound(binding.destination.clone());
                    let _ = names.routes.filters.insert(
                        PatternKind::Amqp,
                        &binding.routing_key,
                        target,
                    );
                    names
                        .routes
                        .touch_pattern(first_level(&binding.routing_key, b'.'));
                }
                // Another exchange may lead to this one, or have it as its alternate.
                names.routes.touch_all();
            }
            Event::Unbound { namespace, binding } => {
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                let Some(exchange) = names.exchanges.get_mut(&binding.source) else {
                    return;
                };
                let gone = exchange.unbind(binding);
                if gone && binding.source == b"amq.topic"[..] {
                    let target = Target::Bound(binding.destination.clone());
                    names
                        .routes
                        .filters
                        .remove(PatternKind::Amqp, &binding.routing_key, &target);
                    names
                        .routes
                        .touch_pattern(first_level(&binding.routing_key, b'.'));
                }
                // Another exchange may lead to this one, or have it as its alternate.
                names.routes.touch_all();
            }
            _ => {}
        }
    }
}
