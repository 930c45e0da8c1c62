//! Applying decisions about exchanges and bindings.

use crate::api::*;
use crate::event::Event;
use crate::state::State;
use crate::state::apply::first_level;
use crate::state::changes::Named;
use crate::state::exchange::Exchange;
use crate::state::namespace::Namespace;
use crate::state::routes::{PatternKind, Target};

impl State {
    pub(super) fn apply_exchange(&mut self, event: &Event) {
        match event {
            Event::ExchangeDeclared {
                namespace,
                exchange,
            } => {
                self.touch(Named::Exchange(*namespace, exchange.name.clone()));
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                let made = Exchange::new(exchange.clone());
                if let Some(alternate) = made.alternate() {
                    names.lead(&exchange.name, alternate);
                }
                names.exchanges.insert(exchange.name.clone(), made);
                names.touch_exchange(&exchange.name);
            }
            Event::ExchangeDeleted { namespace, name } => {
                self.touch_exchange(*namespace, name);
                let Some(names) = self.namespace_mut(*namespace) else {
                    return;
                };
                names.touch_exchange(name);
                if let Some(gone) = names.exchanges.remove(name) {
                    if let Some(alternate) = gone.alternate() {
                        names.unlead(name, alternate);
                    }
                    for binding in gone.bindings() {
                        names.binding_gone(&binding);
                    }
                }
                let to_it = Destination::Exchange(name.clone());
                let gone: Vec<Binding> = names
                    .exchanges
                    .values()
                    .flat_map(|exchange| exchange.bindings_to(&to_it))
                    .collect();
                for binding in gone {
                    names.unbind(&binding);
                }
            }
            Event::Bound { namespace, binding } => {
                self.touch(Named::bindings(*namespace, binding));
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
                // The pattern was checked when it was decided.
                names.bind(binding);
            }
            Event::Unbound { namespace, binding } => {
                self.touch(Named::bindings(*namespace, binding));
                if let Some(names) = self.namespace_mut(*namespace) {
                    names.unbind(binding);
                }
            }
            _ => {}
        }
    }

    /// An exchange goes, with the bindings from it and to it.
    fn touch_exchange(&mut self, namespace: NamespaceId, name: &Name) {
        let Some(names) = self.namespace(namespace) else {
            return;
        };
        let to_it = Destination::Exchange(name.clone());
        let from_it = names.exchanges.get(name).into_iter();
        let mut gone: Vec<Named> = from_it
            .flat_map(|exchange| exchange.bindings())
            .chain(
                names
                    .exchanges
                    .values()
                    .flat_map(|exchange| exchange.bindings_to(&to_it)),
            )
            .map(|binding| Named::bindings(namespace, &binding))
            .collect();
        gone.push(Named::Exchange(namespace, name.clone()));
        for named in gone {
            self.touch(named);
        }
    }
}

impl Namespace {
    fn bind(&mut self, binding: &Binding) {
        let Some(exchange) = self.exchanges.get_mut(&binding.source) else {
            return;
        };
        if !exchange.bind(binding.clone()).unwrap_or(false) {
            return;
        }
        if let Destination::Exchange(name) = &binding.destination {
            self.lead(&binding.source, name);
        }
        if binding.source == "amq.topic" {
            let target = Target::Bound(Box::new(binding.destination.clone()));
            let key = &binding.routing_key;
            let _ = self.routes.filters.insert(PatternKind::Amqp, key, target);
            self.routes.touch_pattern(first_level(key, b'.'));
        }
        self.touch_exchange(&binding.source);
    }

    /// Takes a binding away, if there is one.
    pub(super) fn unbind(&mut self, binding: &Binding) {
        let Some(exchange) = self.exchanges.get_mut(&binding.source) else {
            return;
        };
        if exchange.unbind(binding) {
            self.touch_exchange(&binding.source);
            self.binding_gone(binding);
        }
    }

    /// What follows from a binding's end beside its exchange.
    fn binding_gone(&mut self, binding: &Binding) {
        if let Destination::Exchange(name) = &binding.destination {
            self.unlead(&binding.source, name);
        }
        if binding.source == "amq.topic" {
            let target = Target::Bound(Box::new(binding.destination.clone()));
            let key = &binding.routing_key;
            self.routes.filters.remove(PatternKind::Amqp, key, &target);
            self.routes.touch_pattern(first_level(key, b'.'));
        }
    }
}
