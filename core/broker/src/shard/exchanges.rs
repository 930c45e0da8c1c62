//! Exchanges and bindings: declared once, equal when declared again.

use crate::api::*;
use crate::event::Event as Decision;
use crate::route::{check_amqp_pattern, check_arguments};
use crate::shard::Shard;
use crate::state::apply::first_level;
use crate::state::exchange::argument;
use bytes::Bytes;

impl Shard {
    pub(crate) fn declare_exchange(
        &mut self,
        namespace: NamespaceId,
        declare: DeclareExchange,
    ) -> Result<Reply, Refusal> {
        let Some(names) = self.state.namespace(namespace) else {
            return Err(Refusal::ShardLost);
        };
        if let Some(known) = names.exchanges.get(&declare.name) {
            compare_exchanges(&declare, &known.declared)?;
            return Ok(Reply::Done);
        }
        if declare.name.is_empty() || declare.name.starts_with(b"amq.") {
            return Err(Refusal::NotPermitted(Noun::Exchange, declare.name));
        }
        if let Some(alternate) = argument(&declare.arguments, b"alternate-exchange")
            && alternate.as_bytes().is_none()
        {
            return Err(Refusal::InvalidArgument {
                noun: Noun::Exchange,
                name: declare.name,
                argument: "alternate-exchange".to_owned(),
                reason: "not a name".to_owned(),
            });
        }
        if declare.routing().is_none() {
            return Err(Refusal::InvalidArgument {
                noun: Noun::Exchange,
                name: declare.name,
                argument: "x-delayed-type".to_owned(),
                reason: "not an exchange type that routes".to_owned(),
            });
        }
        let alternate = argument(&declare.arguments, b"alternate-exchange")
            .and_then(Value::as_bytes)
            .cloned();
        let durable = declare.durable;
        if durable {
            self.may_grow()?;
        }
        let named = declare.name.clone();
        let internal = declare.internal;
        self.record_if(
            durable,
            &Decision::ExchangeDeclared {
                namespace,
                exchange: declare,
            },
        );
        if !internal {
            self.give_log(namespace, named.clone());
        }
        if let Some(alternate) = alternate {
            self.link_behind(namespace, &named, None, &Destination::Exchange(alternate));
        }
        Ok(Reply::Done)
    }

    /// Adds the default log role to a name that has none and may have one.
    pub(crate) fn give_log(&mut self, namespace: NamespaceId, name: Name) {
        let names = self.state.namespace(namespace);
        let free = names.is_some_and(|names| {
            !names.topics.contains(&self.state.topics, &name) && self.may_have_log(names, &name)
        });
        if free {
            self.add_provisional_log(namespace, name);
        }
    }

    pub(crate) fn check_exchange(
        &self,
        namespace: NamespaceId,
        name: &Name,
    ) -> Result<Reply, Refusal> {
        let known = self
            .state
            .namespace(namespace)
            .is_some_and(|names| names.exchanges.contains_key(name));
        if known || name.is_empty() {
            Ok(Reply::Done)
        } else {
            Err(Refusal::NotFound(Noun::Exchange, name.clone()))
        }
    }

    pub(crate) fn delete_exchange(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
        if_unused: bool,
    ) -> Result<Reply, Refusal> {
        let Some(names) = self.state.namespace(namespace) else {
            return Err(Refusal::ShardLost);
        };
        let Some(known) = names.exchanges.get(name) else {
            return Ok(Reply::Done);
        };
        if known.predeclared() {
            return Err(Refusal::NotPermitted(Noun::Exchange, name.clone()));
        }
        if if_unused && known.bindings_count() > 0 {
            return Err(Refusal::InUse(Noun::Exchange, name.clone()));
        }
        self.drop_exchange(namespace, name.clone());
        Ok(Reply::Done)
    }

    fn drop_exchange(&mut self, namespace: NamespaceId, name: Name) {
        let Some(names) = self.state.namespace(namespace) else {
            return;
        };
        let Some(known) = names.exchanges.get(&name) else {
            return;
        };
        let durable = known.declared.durable;
        let to_it = Destination::Exchange(name.clone());
        let sources: Vec<Name> = names
            .exchanges
            .values()
            .filter(|exchange| exchange.leads_to(&to_it))
            .map(|exchange| exchange.declared.name.clone())
            .collect();
        self.record_if(durable, &Decision::ExchangeDeleted { namespace, name });
        for source in sources {
            self.auto_delete_exchange(namespace, &source);
        }
    }

    /// An auto-delete exchange goes when its last binding has gone.
    pub(crate) fn auto_delete_exchange(&mut self, namespace: NamespaceId, name: &Name) {
        let goes = self
            .state
            .namespace(namespace)
            .and_then(|names| names.exchanges.get(name))
            .is_some_and(|exchange| {
                exchange.declared.auto_delete
                    && exchange.had_binding
                    && exchange.bindings_count() == 0
            });
        if goes {
            self.drop_exchange(namespace, name.clone());
        }
    }

    pub(crate) fn bind(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        binding: Binding,
    ) -> Result<Reply, Refusal> {
        let durable = self.check_ends(client, namespace, &binding)?;
        let Some(names) = self.state.namespace(namespace) else {
            return Err(Refusal::ShardLost);
        };
        let Some(source) = names.exchanges.get(&binding.source) else {
            return Err(Refusal::NotFound(Noun::Exchange, binding.source));
        };
        let checked = match source.routing {
            ExchangeKind::Topic => {
                check_amqp_pattern(&binding.routing_key).map_err(|error| error.to_string())
            }
            ExchangeKind::Headers => check_arguments(&binding.arguments),
            _ => Ok(()),
        };
        checked.map_err(Refusal::BadPattern)?;
        if source.has_binding(&binding) {
            return Ok(Reply::Done);
        }
        if durable {
            self.may_grow()?;
        }
        self.record_if(
            durable,
            &Decision::Bound {
                namespace,
                binding: binding.clone(),
            },
        );
        let head = (binding.source == "amq.topic")
            .then(|| Bytes::copy_from_slice(first_level(&binding.routing_key, b'.')));
        self.link_behind(namespace, &binding.source, head, &binding.destination);
        Ok(Reply::Done)
    }

    pub(crate) fn unbind(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        binding: &Binding,
    ) -> Result<Reply, Refusal> {
        let durable = match self.check_ends(client, namespace, binding) {
            Ok(durable) => durable,
            // There is nothing to unbind where an end is missing.
            Err(Refusal::NotFound(..)) => return Ok(Reply::Done),
            Err(refusal) => return Err(refusal),
        };
        self.record_if(
            durable,
            &Decision::Unbound {
                namespace,
                binding: binding.clone(),
            },
        );
        if let Destination::Queue(name) = &binding.destination
            && let Some(queue) = self.state.queue_id(namespace, name)
        {
            self.unlink_unwanted(queue);
        }
        self.auto_delete_exchange(namespace, &binding.source);
        Ok(Reply::Done)
    }

    /// Both ends are there and this client's to bind; says whether a binding between them is durable.
    fn check_ends(
        &self,
        client: ClientId,
        namespace: NamespaceId,
        binding: &Binding,
    ) -> Result<bool, Refusal> {
        let Some(names) = self.state.namespace(namespace) else {
            return Err(Refusal::ShardLost);
        };
        let to_durable = match &binding.destination {
            Destination::Queue(name) => {
                let queue = self.usable_queue(client, namespace, name)?;
                self.state
                    .queues
                    .get(&queue)
                    .is_some_and(|queue| queue.durable())
            }
            Destination::Exchange(name) => {
                let known = names.exchanges.get(name);
                known
                    .ok_or_else(|| Refusal::NotFound(Noun::Exchange, name.clone()))?
                    .declared
                    .durable
            }
        };
        let source = names.exchanges.get(&binding.source);
        let source =
            source.ok_or_else(|| Refusal::NotFound(Noun::Exchange, binding.source.clone()))?;
        Ok(to_durable && source.declared.durable)
    }
}

/// Is a declaration equal to what is there (RabbitMQ's `precondition_failed` texts)?
fn compare_exchanges(declare: &DeclareExchange, known: &DeclareExchange) -> Result<(), Refusal> {
    let differs = |argument: &str, received: String, current: String| Refusal::Inequivalent {
        noun: Noun::Exchange,
        name: declare.name.clone(),
        argument: argument.to_owned(),
        received,
        current,
    };
    let kind = |kind: ExchangeKind| match kind {
        ExchangeKind::Delayed => "'x-delayed-message'".to_owned(),
        kind => format!("'{kind:?}'").to_lowercase(),
    };
    if declare.kind != known.kind {
        return Err(differs("type", kind(declare.kind), kind(known.kind)));
    }
    let (received, current) = (declare.routing(), known.routing());
    if let (Some(received), Some(current)) = (received, current)
        && received != current
    {
        return Err(differs("x-delayed-type", kind(received), kind(current)));
    }
    let flags = [
        ("durable", declare.durable, known.durable),
        ("auto_delete", declare.auto_delete, known.auto_delete),
        ("internal", declare.internal, known.internal),
    ];
    for (argument, received, current) in flags {
        if received != current {
            return Err(differs(
                argument,
                format!("'{received}'"),
                format!("'{current}'"),
            ));
        }
    }
    let alternate = |declared: &DeclareExchange| {
        argument(&declared.arguments, b"alternate-exchange")
            .and_then(Value::as_bytes)
            .cloned()
    };
    let (received, current) = (alternate(declare), alternate(known));
    if received != current {
        return Err(differs(
            "alternate-exchange",
            spelled(received),
            spelled(current),
        ));
    }
    Ok(())
}

fn spelled(value: Option<Bytes>) -> String {
    match value {
        Some(value) => {
            format!(
                "the value '{}' of type 'longstr'",
                String::from_utf8_lossy(&value)
            )
        }
        None => "none".to_owned(),
    }
}
