//! Direct reply-to: RabbitMQ's pseudo-queue `amq.rabbitmq.reply-to`.
//!
//! Behind it is a queue of the channel's own, which the broker names and which goes with its consumer. Requests leave
//! with that queue's name as their `reply-to`, so that anybody can reply through the default exchange.

use super::Asked;
use crate::channel::{Channel, Replies};
use crate::codec::{MethodId, Properties, Writer};
use crate::connection::{Awaited, Core};
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_broker::{Command, DeclareQueue};
use omnilog_wire::Outbox;

/// The pseudo-queue's name.
pub(super) const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

impl Channel {
    /// A consumer of replies: first it needs its queue.
    pub(super) fn on_consume_replies(
        &mut self,
        asked: Asked,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let id = MethodId::BASIC_CONSUME;
        let wrong = |text: &str| Err(Fault::new(Code::PreconditionFailed, id, text));
        if !asked.no_ack {
            return wrong("reply consumer cannot acknowledge");
        }
        if self.replies.is_some() {
            return wrong("reply consumer already set");
        }
        let declare = Command::DeclareQueue(DeclareQueue {
            name: Bytes::new(),
            durable: false,
            exclusive: false,
            auto_delete: true,
            arguments: Vec::new(),
        });
        core.ask(self, id, Awaited::ReplyQueue(Box::new(asked)), declare, out);
        Ok(())
    }

    /// The queue is there.
    pub(crate) fn on_reply_queue(
        &mut self,
        asked: Asked,
        queue: Bytes,
        core: &mut Core,
        out: &mut Outbox,
    ) {
        self.replies = Some(Replies {
            queue: queue.clone(),
            tag: asked.tag.clone(),
        });
        self.consume(asked, queue, core, out);
    }

    /// A request's `reply-to`: the pseudo-queue's name becomes the real one's.
    pub(super) fn reply_address(&self, properties: &mut Properties) -> Result<bool, Fault> {
        if properties.reply_to.as_deref() != Some(REPLY_TO) {
            return Ok(false);
        }
        let Some(replies) = &self.replies else {
            return Err(Fault::new(
                Code::PreconditionFailed,
                MethodId::BASIC_PUBLISH,
                "fast reply consumer does not exist",
            ));
        };
        properties.reply_to = Some(replies.queue.clone());
        Ok(true)
    }

    /// A passive declaration of the pseudo-queue: it is always there.
    pub(super) fn on_declare_replies(&mut self, nowait: bool, out: &mut Outbox) {
        self.last_queue = Bytes::from_static(REPLY_TO);
        if !nowait {
            Writer::method(out.buffer(), self.id, MethodId::QUEUE_DECLARE_OK, |w| {
                w.short(REPLY_TO).u32(0).u32(1);
            });
        }
    }
}
