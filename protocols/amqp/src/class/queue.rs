//! `queue`: declare, bind, unbind, purge, delete.

use super::exchange::named;
use super::reply_to::REPLY_TO;
use super::{plain, queue_arguments, unless};
use crate::channel::Channel;
use crate::codec::{Method, MethodId};
use crate::connection::{Awaited, Core};
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_auth::Operation;
use omnilog_broker::{Binding, Command, DeclareQueue, Destination, Noun, Table};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_queue_method(
        &mut self,
        id: MethodId,
        method: Method,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let (command, what) = match method {
            Method::QueueDeclare {
                queue,
                passive: true,
                nowait,
                ..
            } if queue == REPLY_TO => {
                self.on_declare_replies(nowait, out);
                return Ok(());
            }
            Method::QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                arguments,
            } => {
                let command = if passive {
                    Command::CheckQueue(self.queue_named(&queue, id)?)
                } else {
                    let name = plain(&queue);
                    queue_arguments::check(&name, &arguments, &core.vhost)?;
                    queue_arguments::check_quorum(
                        &name,
                        (durable, exclusive),
                        &arguments,
                        &core.vhost,
                    )?;
                    if name.starts_with(b"amq.") {
                        return Err(Fault::new(
                            Code::AccessRefused,
                            id,
                            format!(
                                "queue name '{}' contains reserved prefix 'amq.*'",
                                String::from_utf8_lossy(&name)
                            ),
                        ));
                    }
                    core.check(Operation::Configure, Noun::Queue, &name, id)?;
                    Command::DeclareQueue(DeclareQueue {
                        name,
                        durable,
                        exclusive,
                        auto_delete,
                        arguments,
                    })
                };
                let exclusive = exclusive && !passive;
                (command, Awaited::Declared { nowait, exclusive })
            }
            Method::QueueBind {
                queue,
                exchange,
                routing_key,
                nowait,
                arguments,
            } => {
                let binding = self.binding(core, id, &queue, &exchange, &routing_key, arguments)?;
                let what = Awaited::Done {
                    answer: unless(nowait, MethodId::QUEUE_BIND_OK),
                    missing_is_fine: false,
                };
                (Command::Bind(binding), what)
            }
            Method::QueueUnbind {
                queue,
                exchange,
                routing_key,
                arguments,
            } => {
                let binding = self.binding(core, id, &queue, &exchange, &routing_key, arguments)?;
                let what = Awaited::Done {
                    answer: Some(MethodId::QUEUE_UNBIND_OK),
                    missing_is_fine: true,
                };
                (Command::Unbind(binding), what)
            }
            Method::QueuePurge { queue, nowait } => {
                let name = self.queue_named(&queue, id)?;
                core.check(Operation::Read, Noun::Queue, &name, id)?;
                let what = Awaited::Counted {
                    answer: unless(nowait, MethodId::QUEUE_PURGE_OK),
                    deleted: None,
                };
                (Command::PurgeQueue(name), what)
            }
            Method::QueueDelete {
                queue,
                if_unused,
                if_empty,
                nowait,
            } => {
                let name = self.queue_named(&queue, id)?;
                core.check(Operation::Configure, Noun::Queue, &name, id)?;
                let what = Awaited::Counted {
                    answer: unless(nowait, MethodId::QUEUE_DELETE_OK),
                    deleted: Some(name.clone()),
                };
                let command = Command::DeleteQueue {
                    name,
                    if_unused,
                    if_empty,
                };
                (command, what)
            }
            _ => return Ok(()),
        };
        core.ask(self, id, what, command, out);
        Ok(())
    }

    /// A binding of a queue, allowed.
    fn binding(
        &self,
        core: &Core,
        id: MethodId,
        queue: &Bytes,
        exchange: &Bytes,
        routing_key: &Bytes,
        arguments: Table,
    ) -> Result<Binding, Fault> {
        let name = self.queue_named(queue, id)?;
        let source = plain(exchange);
        named(&source, id)?;
        // Without either name the key is the queue's as well.
        let routing_key = if queue.is_empty() && routing_key.is_empty() {
            name.clone()
        } else {
            Bytes::copy_from_slice(routing_key)
        };
        core.check(Operation::Write, Noun::Queue, &name, id)?;
        core.check(Operation::Read, Noun::Exchange, &source, id)?;
        Ok(Binding {
            source,
            destination: Destination::Queue(name),
            routing_key,
            arguments,
        })
    }
}
