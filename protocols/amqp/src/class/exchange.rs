//! `exchange`: declare, delete, bind, unbind.

use super::{plain, unless};
use crate::channel::Channel;
use crate::codec::{Method, MethodId};
use crate::connection::{Awaited, Core};
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_auth::Operation;
use omnilog_broker::{Binding, Command, DeclareExchange, Destination, ExchangeKind, Noun, Table};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_exchange_method(
        &mut self,
        id: MethodId,
        method: Method,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let (command, answer, missing_is_fine) = match method {
            Method::ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                arguments,
            } => {
                let name = plain(&exchange);
                let command = if passive {
                    named(&name, id)?;
                    Command::CheckExchange(name)
                } else {
                    let kind = kind_of(&kind)?;
                    named(&name, id)?;
                    core.check(Operation::Configure, Noun::Exchange, &name, id)?;
                    check_alternate(core, &name, &arguments)?;
                    Command::DeclareExchange(DeclareExchange {
                        name,
                        kind,
                        durable,
                        auto_delete,
                        internal,
                        arguments,
                    })
                };
                (
                    command,
                    unless(nowait, MethodId::EXCHANGE_DECLARE_OK),
                    false,
                )
            }
            Method::ExchangeDelete {
                exchange,
                if_unused,
                nowait,
            } => {
                let name = plain(&exchange);
                named(&name, id)?;
                if name.starts_with(b"amq.") {
                    return Err(Fault::new(
                        Code::AccessRefused,
                        id,
                        format!(
                            "deletion of system {} not allowed",
                            crate::rescue::named(Noun::Exchange, &name, &core.vhost)
                        ),
                    ));
                }
                core.check(Operation::Configure, Noun::Exchange, &name, id)?;
                (
                    Command::DeleteExchange(name, if_unused),
                    unless(nowait, MethodId::EXCHANGE_DELETE_OK),
                    true,
                )
            }
            Method::ExchangeBind {
                destination,
                source,
                routing_key,
                nowait,
                arguments,
            } => (
                Command::Bind(binding(
                    core,
                    id,
                    &destination,
                    &source,
                    &routing_key,
                    arguments,
                )?),
                unless(nowait, MethodId::EXCHANGE_BIND_OK),
                false,
            ),
            Method::ExchangeUnbind {
                destination,
                source,
                routing_key,
                nowait,
                arguments,
            } => (
                Command::Unbind(binding(
                    core,
                    id,
                    &destination,
                    &source,
                    &routing_key,
                    arguments,
                )?),
                unless(nowait, MethodId::EXCHANGE_UNBIND_OK),
                true,
            ),
            _ => return Ok(()),
        };
        let what = Awaited::Done {
            answer,
            missing_is_fine,
        };
        core.ask(self, id, what, command, out);
        Ok(())
    }
}

/// A binding between exchanges, allowed.
fn binding(
    core: &Core,
    id: MethodId,
    destination: &Bytes,
    source: &Bytes,
    routing_key: &Bytes,
    arguments: Table,
) -> Result<Binding, Fault> {
    let (destination, source) = (plain(destination), plain(source));
    named(&destination, id)?;
    named(&source, id)?;
    core.check(Operation::Write, Noun::Exchange, &destination, id)?;
    core.check(Operation::Read, Noun::Exchange, &source, id)?;
    Ok(Binding {
        source,
        destination: Destination::Exchange(destination),
        routing_key: Bytes::copy_from_slice(routing_key),
        arguments,
    })
}

/// The default exchange can't be declared, deleted or bound.
pub(super) fn named(exchange: &[u8], id: MethodId) -> Result<(), Fault> {
    if exchange.is_empty() {
        return Err(Fault::new(
            Code::AccessRefused,
            id,
            "operation not permitted on the default exchange",
        ));
    }
    Ok(())
}

fn kind_of(kind: &[u8]) -> Result<ExchangeKind, Fault> {
    Ok(match kind {
        b"direct" => ExchangeKind::Direct,
        b"fanout" => ExchangeKind::Fanout,
        b"topic" => ExchangeKind::Topic,
        b"headers" => ExchangeKind::Headers,
        b"x-delayed-message" => ExchangeKind::Delayed,
        other => {
            return Err(Fault::new(
                Code::CommandInvalid,
                MethodId::EXCHANGE_DECLARE,
                format!("unknown exchange type '{}'", String::from_utf8_lossy(other)),
            ));
        }
    })
}

/// An alternate exchange must be text, and its declarer may write to it.
fn check_alternate(core: &Core, name: &[u8], arguments: &Table) -> Result<(), Fault> {
    let id = MethodId::EXCHANGE_DECLARE;
    let Some((_, value)) = arguments
        .iter()
        .find(|(argument, _)| argument == "alternate-exchange")
    else {
        return Ok(());
    };
    let Some(alternate) = value.as_bytes() else {
        return Err(Fault::new(
            Code::PreconditionFailed,
            id,
            format!(
                "invalid arg 'alternate-exchange' for {}: not a string",
                crate::rescue::named(Noun::Exchange, name, &core.vhost)
            ),
        ));
    };
    core.check(Operation::Read, Noun::Exchange, name, id)?;
    core.check(Operation::Write, Noun::Exchange, alternate, id)
}
