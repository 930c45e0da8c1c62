//! What the broker says: answers, deliveries, cancellations, blocking.

use super::awaited::{Awaited, Awaiting};
use super::{AmqpSession, Open, Phase};
use crate::channel::{Channel, Consumer};
use crate::codec::{Content, MethodId, Writer};
use crate::connection::Core;
use crate::mapping;
use crate::rescue::{self, Code, Fault};
use omnilog_broker::{
    BlockReason, Command, ConsumerKey, Delivery, Event, Refusal, Reply, Settlement,
};
use omnilog_wire::{ConnectionError, Outbox};
use std::time::Instant;

impl AmqpSession {
    pub(super) fn take_event(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        match event {
            Event::Reply {
                correlation,
                result,
            } => self.on_answer(now, correlation, *result, out),
            Event::Delivery(delivery) => {
                if let Phase::Open(open) = &mut self.phase {
                    open.deliver(&delivery, out);
                }
            }
            Event::ConsumerCancelled(key) => {
                if let Phase::Open(open) = &mut self.phase {
                    open.on_consumer_cancelled(key, out);
                }
            }
            Event::Blocked(reason) => {
                if let Phase::Open(open) = &mut self.phase {
                    open.core.blocked = Some(match reason {
                        BlockReason::Disk => "low on disk",
                        BlockReason::Memory => "low on memory",
                    });
                }
            }
            Event::Unblocked => {
                if let Phase::Open(open) = &mut self.phase {
                    open.core.blocked = None;
                    if std::mem::take(&mut open.core.blocked_told)
                        && open.core.capabilities.connection_blocked
                    {
                        Writer::method(out.buffer(), 0, MethodId::CONNECTION_UNBLOCKED, |_| {});
                    }
                    self.heartbeat.deaf(now, false);
                    out.pause_reading(false);
                }
            }
            Event::ShardLost => {
                let fault = Fault::new(
                    Code::ConnectionForced,
                    MethodId::NONE,
                    "virtual host is not served here any more",
                );
                if matches!(self.phase, Phase::Open(_) | Phase::Leaving(_)) {
                    self.close(now, &fault, out);
                }
            }
            // AMQP has no sessions.
            Event::SessionTakenOver(_) | Event::SessionEnded(_) => {}
        }
        Ok(())
    }

    /// While publishers are blocked, a connection that has published is read no further.
    pub(super) fn pause_if_blocked(&mut self, now: Instant, out: &mut Outbox) {
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        let core = &mut open.core;
        let Some(reason) = core.blocked else {
            return;
        };
        if core.blocked_told || !open.channels.values().any(|c| c.assembly.is_some()) {
            return;
        }
        core.blocked_told = true;
        if core.capabilities.connection_blocked {
            Writer::method(out.buffer(), 0, MethodId::CONNECTION_BLOCKED, |w| {
                w.short(reason.as_bytes());
            });
        }
        out.pause_reading(true);
        self.heartbeat.deaf(now, true);
    }

    fn on_answer(
        &mut self,
        now: Instant,
        correlation: u64,
        result: Result<Reply, Refusal>,
        out: &mut Outbox,
    ) {
        match &mut self.phase {
            Phase::Open(open) => {
                let Some(awaiting) = open.core.answered(correlation) else {
                    if let Err(refusal) = result {
                        // Nobody waits for it: the settlement of something gone.
                        tracing::debug!(%refusal, "refused");
                    }
                    return;
                };
                let channel = awaiting.channel;
                let mut result = open.on_reply(awaiting, result, out);
                if result.is_ok() {
                    result = open.pump(channel, out);
                }
                self.conclude(now, channel, result, out);
                self.pause_if_blocked(now, out);
            }
            Phase::Leaving(open) => {
                let left = open.core.answered(correlation);
                if left.is_some_and(|awaiting| matches!(awaiting.what, Awaited::ConnectionLeft)) {
                    self.close_ok(now, out);
                }
            }
            Phase::Opening(_) | Phase::Closing | Phase::Closed => {}
        }
    }
}

impl Open {
    fn on_reply(
        &mut self,
        awaiting: Awaiting,
        result: Result<Reply, Refusal>,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Self { core, channels } = self;
        let Awaiting {
            channel,
            epoch,
            method,
            what,
        } = awaiting;
        if let Awaited::Declared {
            exclusive: true, ..
        } = what
            && let Ok(Reply::Queue(info)) = &result
        {
            core.exclusive.insert(info.name.clone());
        }
        let channel = channels
            .get_mut(&channel)
            .filter(|channel| channel.epoch == epoch && !channel.closing);
        let Some(channel) = channel else {
            // Its channel is gone: what was taken for it goes back.
            match result {
                Ok(Reply::Got(Some((delivery, _)))) if delivery.unsettled => {
                    core.settle(
                        [(delivery.queue, delivery.entry)],
                        Settlement::Undelivered,
                        out,
                    );
                }
                Ok(Reply::Queue(_)) => {
                    if let Awaited::Consuming { key, .. } = what {
                        out.command(0, Command::Cancel(key));
                    }
                }
                _ => {}
            }
            return Ok(());
        };
        if let Awaited::Published {
            first,
            count,
            mandatory,
        } = what
        {
            return channel.on_published_reply(core, first, count, mandatory, result, out);
        }
        channel.waiting = false;
        let result = match result {
            Ok(reply) => channel.on_done(core, method, what, reply, out),
            Err(refusal) => channel.on_refused(core, method, what, &refusal, out),
        };
        if core.capabilities.consumer_cancel_notify && !channel.waiting {
            for tag in std::mem::take(&mut channel.cancelled) {
                put_cancel(channel.id, &tag, out);
            }
        }
        if method == MethodId::CHANNEL_CLOSE {
            let id = channel.id;
            channels.remove(&id);
        }
        result
    }

    /// A message for a consumer.
    fn deliver(&mut self, delivery: &Delivery, out: &mut Outbox) {
        let Self { core, channels } = self;
        let known = core
            .consumers
            .get(&delivery.consumer)
            .and_then(|(channel, epoch, tag)| {
                let channel = channels.get_mut(channel)?;
                (channel.epoch == *epoch && !channel.closing).then_some((channel, tag.clone()))
            });
        let Some((channel, consumer_tag)) = known else {
            // The consumer went while the message was on its way.
            if delivery.unsettled {
                core.settle(
                    [(delivery.queue, delivery.entry)],
                    Settlement::Undelivered,
                    out,
                );
            }
            return;
        };
        let Some(view) = mapping::view(delivery) else {
            unreadable(core, delivery, out);
            return;
        };
        let tag = if delivery.unsettled {
            channel.deliveries.hold(delivery.queue, delivery.entry)
        } else {
            channel.deliveries.pass()
        };
        Writer::method(out.buffer(), channel.id, MethodId::BASIC_DELIVER, |w| {
            w.short(&consumer_tag)
                .u64(tag)
                .bit(delivery.redelivered)
                .short(&view.exchange)
                .short(&view.routing_key);
        });
        let content = Content {
            properties: view.properties,
            body: view.body,
        };
        content.put(out, channel.id, core.frame_max);
    }

    /// The broker ended a consumer.
    fn on_consumer_cancelled(&mut self, key: ConsumerKey, out: &mut Outbox) {
        let Self { core, channels } = self;
        let Some((id, epoch, tag)) = core.consumers.remove(&key) else {
            return;
        };
        let Some(channel) = channels.get_mut(&id).filter(|c| c.epoch == epoch) else {
            return;
        };
        channel.consumers.remove(&tag);
        if channel.waiting {
            channel.cancelled.push(tag);
        } else if core.capabilities.consumer_cancel_notify && !channel.closing {
            put_cancel(id, &tag, out);
        }
    }
}

fn put_cancel(channel: u16, tag: &[u8], out: &mut Outbox) {
    Writer::method(out.buffer(), channel, MethodId::BASIC_CANCEL, |w| {
        w.short(tag).bit(true);
    });
}

/// A record that can't be read is our fault; it must not come again and again.
fn unreadable(core: &mut Core, delivery: &Delivery, out: &mut Outbox) {
    tracing::error!(queue = %delivery.queue, entry = %delivery.entry, "a record can't be read");
    if delivery.unsettled {
        core.settle([(delivery.queue, delivery.entry)], Settlement::Reject, out);
    }
}

impl Channel {
    /// Something asked for was done.
    fn on_done(
        &mut self,
        core: &mut Core,
        method: MethodId,
        what: Awaited,
        reply: Reply,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let id = self.id;
        match (what, reply) {
            (Awaited::Done { answer, .. }, _) => self.answer(answer, out),
            (Awaited::Declared { nowait, .. }, Reply::Queue(info)) => {
                self.last_queue = info.name.clone();
                if !nowait {
                    Writer::method(out.buffer(), id, MethodId::QUEUE_DECLARE_OK, |w| {
                        w.short(&info.name)
                            .u32(u32::try_from(info.ready).unwrap_or(u32::MAX))
                            .u32(info.consumers);
                    });
                }
            }
            (Awaited::Counted { answer, deleted }, Reply::Count(count)) => {
                if let Some(queue) = deleted {
                    core.exclusive.remove(&queue);
                }
                if let Some(answer) = answer {
                    Writer::method(out.buffer(), id, answer, |w| {
                        w.u32(u32::try_from(count).unwrap_or(u32::MAX));
                    });
                }
            }
            (Awaited::Consuming { tag, key, nowait }, Reply::Queue(_)) => {
                self.consumers.insert(tag.clone(), Consumer { key });
                if !nowait {
                    Writer::method(out.buffer(), id, MethodId::BASIC_CONSUME_OK, |w| {
                        w.short(&tag);
                    });
                }
            }
            (Awaited::Cancelled { tag, nowait }, _) => {
                if let Some(consumer) = self.consumers.remove(&tag) {
                    core.consumers.remove(&consumer.key);
                }
                self.replies.take_if(|replies| replies.tag == tag);
                if !nowait {
                    Writer::method(out.buffer(), id, MethodId::BASIC_CANCEL_OK, |w| {
                        w.short(&tag);
                    });
                }
            }
            (Awaited::ReplyQueue(asked), Reply::Queue(info)) => {
                self.on_reply_queue(*asked, info.name, core, out);
            }
            (Awaited::Got { no_ack }, Reply::Got(got)) => self.on_got(core, got, no_ack, out),
            (Awaited::Checked(incoming), Reply::Done) => self.hold(*incoming, core),
            (Awaited::Committed, _) => self.answer(Some(MethodId::TX_COMMIT_OK), out),
            (Awaited::ChannelLeft, _) => self.answer(Some(MethodId::CHANNEL_CLOSE_OK), out),
            (what, reply) => {
                tracing::error!(?what, ?reply, "a reply of the wrong kind");
                return Err(Fault::new(
                    Code::InternalError,
                    method,
                    "unexpected reply of the broker",
                ));
            }
        }
        Ok(())
    }

    /// Something asked for was refused.
    fn on_refused(
        &mut self,
        core: &mut Core,
        method: MethodId,
        what: Awaited,
        refusal: &Refusal,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        match (what, refusal) {
            (
                Awaited::Done {
                    answer,
                    missing_is_fine: true,
                },
                Refusal::NotFound(..),
            ) => {
                self.answer(answer, out);
                return Ok(());
            }
            (Awaited::Counted { answer, deleted }, Refusal::NotFound(..)) if deleted.is_some() => {
                if let Some(answer) = answer {
                    Writer::method(out.buffer(), self.id, answer, |w| {
                        w.u32(0);
                    });
                }
                return Ok(());
            }
            (Awaited::Cancelled { tag, nowait }, _) => {
                if !nowait {
                    Writer::method(out.buffer(), self.id, MethodId::BASIC_CANCEL_OK, |w| {
                        w.short(&tag);
                    });
                }
                return Ok(());
            }
            (Awaited::ChannelLeft, _) => {
                self.answer(Some(MethodId::CHANNEL_CLOSE_OK), out);
                return Ok(());
            }
            (Awaited::Consuming { key, .. }, _) => {
                core.consumers.remove(&key);
            }
            _ => {}
        }
        Err(rescue::fault(refusal, method, &core.vhost))
    }

    /// Answers with a method that has no arguments, if it is wanted.
    pub(crate) fn answer(&self, answer: Option<MethodId>, out: &mut Outbox) {
        if let Some(answer) = answer {
            Writer::method(out.buffer(), self.id, answer, |_| {});
        }
    }

    fn on_got(
        &mut self,
        core: &mut Core,
        got: Option<(Box<Delivery>, u64)>,
        no_ack: bool,
        out: &mut Outbox,
    ) {
        let viewed = got.and_then(|(delivery, left)| match mapping::view(&delivery) {
            Some(view) => Some((delivery, left, view)),
            None => {
                unreadable(core, &delivery, out);
                None
            }
        });
        let Some((delivery, left, view)) = viewed else {
            Writer::method(out.buffer(), self.id, MethodId::BASIC_GET_EMPTY, |w| {
                w.short(b"");
            });
            return;
        };
        let tag = if no_ack {
            self.deliveries.pass()
        } else {
            self.deliveries.hold(delivery.queue, delivery.entry)
        };
        Writer::method(out.buffer(), self.id, MethodId::BASIC_GET_OK, |w| {
            w.u64(tag)
                .bit(delivery.redelivered)
                .short(&view.exchange)
                .short(&view.routing_key)
                .u32(u32::try_from(left).unwrap_or(u32::MAX));
        });
        let content = Content {
            properties: view.properties,
            body: view.body,
        };
        content.put(out, self.id, core.frame_max);
    }
}
