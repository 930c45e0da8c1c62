//! `basic`: consuming, getting, settling, prefetch. Publishing is next door.

use super::reply_to::REPLY_TO;
use crate::channel::Channel;
use crate::codec::{Method, MethodId, Writer};
use crate::connection::{Awaited, Core};
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_auth::Operation;
use omnilog_broker::{Command, Consume, ConsumerKey, Noun, Settlement, Table};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_basic_method(
        &mut self,
        id: MethodId,
        method: Method,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        match method {
            Method::BasicPublish {
                exchange,
                routing_key,
                mandatory,
                immediate,
            } => self.on_publish(core, &exchange, routing_key, mandatory, immediate),
            Method::BasicAck {
                delivery_tag,
                multiple,
            } => self.settle(id, delivery_tag, multiple, Settlement::Ack, core, out),
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue,
            } => self.settle(
                id,
                delivery_tag,
                multiple,
                back(requeue, Settlement::Requeue),
                core,
                out,
            ),
            Method::BasicReject {
                delivery_tag,
                requeue,
            } => self.settle(
                id,
                delivery_tag,
                false,
                back(requeue, Settlement::Fail),
                core,
                out,
            ),
            Method::BasicQos {
                prefetch_size,
                prefetch_count,
                global,
            } => self.on_qos(prefetch_size, prefetch_count, global, out),
            Method::BasicConsume {
                queue,
                consumer_tag,
                no_ack,
                exclusive,
                nowait,
                arguments,
                ..
            } => {
                let asked = Asked {
                    queue,
                    tag: consumer_tag,
                    no_ack,
                    exclusive,
                    nowait,
                    arguments,
                };
                self.on_consume(asked, core, out)
            }
            Method::BasicCancel {
                consumer_tag,
                nowait,
            } => {
                self.on_cancel(&consumer_tag, nowait, core, out);
                Ok(())
            }
            Method::BasicGet { queue, no_ack } => {
                let name = self.queue_named(&queue, id)?;
                core.check(Operation::Read, Noun::Queue, &name, id)?;
                let command = Command::Get(name, no_ack);
                core.ask(self, id, Awaited::Got { no_ack }, command, out);
                Ok(())
            }
            Method::BasicRecover { requeue } => {
                self.on_recover(id, requeue, core, out)?;
                self.answer(Some(MethodId::BASIC_RECOVER_OK), out);
                Ok(())
            }
            Method::BasicRecoverAsync { requeue } => self.on_recover(id, requeue, core, out),
            _ => Ok(()),
        }
    }

    /// Settles deliveries: at once, or with the transaction.
    fn settle(
        &mut self,
        id: MethodId,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Some(taken) = self.deliveries.take(tag, multiple) else {
            return Err(Fault::new(
                Code::PreconditionFailed,
                id,
                format!("unknown delivery tag {tag}"),
            ));
        };
        if let Some(tx) = &mut self.tx {
            let held = taken
                .into_iter()
                .map(|(tag, queue, entry)| (tag, queue, entry, settlement));
            tx.settled.extend(held);
        } else {
            let entries = taken.into_iter().map(|(_, queue, entry)| (queue, entry));
            core.settle(entries, settlement, out);
        }
        Ok(())
    }

    /// RabbitMQ's reading: without `global` for consumers to come, each; with it for the channel.
    fn on_qos(
        &mut self,
        prefetch_size: u32,
        prefetch_count: u16,
        global: bool,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if prefetch_size != 0 {
            return Err(Fault::new(
                Code::NotImplemented,
                MethodId::BASIC_QOS,
                format!("prefetch_size!=0 ({prefetch_size})"),
            ));
        }
        if global {
            self.group_set = true;
            out.command(0, Command::SetCredit(self.group, prefetch_count.into()));
        } else {
            self.prefetch = prefetch_count;
        }
        self.answer(Some(MethodId::BASIC_QOS_OK), out);
        Ok(())
    }

    fn on_consume(&mut self, asked: Asked, core: &mut Core, out: &mut Outbox) -> Result<(), Fault> {
        let id = MethodId::BASIC_CONSUME;
        let tag = self.new_tag(&asked.tag)?;
        let asked = Asked { tag, ..asked };
        if asked.queue == REPLY_TO {
            return self.on_consume_replies(asked, core, out);
        }
        let queue = self.queue_named(&asked.queue, id)?;
        core.check(Operation::Read, Noun::Queue, &queue, id)?;
        priority_of(&asked.arguments)?;
        self.consume(asked, queue, core, out);
        Ok(())
    }

    /// A consumer's tag: the client's, which must be new, or one of ours.
    fn new_tag(&self, tag: &Bytes) -> Result<Bytes, Fault> {
        if tag.is_empty() {
            let made = format!("amq.ctag-{}", uuid::Uuid::new_v4().simple());
            return Ok(made.into());
        }
        if self.consumers.contains_key(tag) {
            return Err(Fault::new(
                Code::NotAllowed,
                MethodId::BASIC_CONSUME,
                format!(
                    "attempt to reuse consumer tag '{}'",
                    String::from_utf8_lossy(tag)
                ),
            ));
        }
        Ok(Bytes::copy_from_slice(tag))
    }

    /// Starts a consumer.
    pub(super) fn consume(
        &mut self,
        asked: Asked,
        queue: Bytes,
        core: &mut Core,
        out: &mut Outbox,
    ) {
        if !self.group_set {
            self.group_set = true;
            out.command(0, Command::SetCredit(self.group, 0));
        }
        let key = ConsumerKey(core.number());
        core.consumers
            .insert(key, (self.id, self.epoch, asked.tag.clone()));
        let command = Command::Consume(Consume {
            queue,
            consumer: key,
            no_ack: asked.no_ack,
            exclusive: asked.exclusive,
            credit: self.prefetch.into(),
            credit_group: Some(self.group),
            priority: priority_of(&asked.arguments).unwrap_or(0),
            arguments: asked.arguments,
        });
        let what = Awaited::Consuming {
            tag: asked.tag,
            key,
            nowait: asked.nowait,
        };
        core.ask(self, MethodId::BASIC_CONSUME, what, command, out);
    }

    fn on_cancel(&mut self, tag: &Bytes, nowait: bool, core: &mut Core, out: &mut Outbox) {
        let id = MethodId::BASIC_CANCEL;
        match self.consumers.get(tag) {
            Some(consumer) => {
                let command = Command::Cancel(consumer.key);
                let tag = Bytes::copy_from_slice(tag);
                core.ask(self, id, Awaited::Cancelled { tag, nowait }, command, out);
            }
            None if nowait => {}
            None => Writer::method(out.buffer(), self.id, MethodId::BASIC_CANCEL_OK, |w| {
                w.short(tag);
            }),
        }
    }

    /// Puts all unsettled deliveries back.
    fn on_recover(
        &mut self,
        id: MethodId,
        requeue: bool,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::new(Code::NotImplemented, id, "requeue=false"));
        }
        core.settle(self.deliveries.take_all(), Settlement::Requeue, out);
        Ok(())
    }
}

/// What `basic.consume` asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) queue: Bytes,
    pub(super) tag: Bytes,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) nowait: bool,
    pub(super) arguments: Table,
}

/// As in RabbitMQ 4.3, `basic.reject` says that the consumer failed, and `basic.nack` doesn't.
fn back(requeue: bool, how: Settlement) -> Settlement {
    if requeue { how } else { Settlement::Reject }
}

/// `x-priority`: an integer.
fn priority_of(arguments: &Table) -> Result<i32, Fault> {
    let Some((_, value)) = arguments.iter().find(|(name, _)| name == "x-priority") else {
        return Ok(0);
    };
    value
        .as_int()
        .map(|priority| {
            i32::try_from(priority).unwrap_or(if priority < 0 { i32::MIN } else { i32::MAX })
        })
        .ok_or_else(|| {
            Fault::new(
                Code::PreconditionFailed,
                MethodId::BASIC_CONSUME,
                "invalid arg 'x-priority': not an integer",
            )
        })
}
