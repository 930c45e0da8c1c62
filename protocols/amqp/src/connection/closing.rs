//! A connection's end and its channels' ends.

use super::{AmqpSession, Open, Phase};
use crate::channel::Channel;
use crate::codec::{MethodId, Writer};
use crate::connection::{Awaited, Core};
use crate::rescue::Fault;
use omnilog_broker::{Command, Settle, Settlement};
use omnilog_wire::{Close, ConnectionError, Outbox};
use std::time::{Duration, Instant};

/// After close-ok a client has so long to close the socket itself.
const CLIENT_CLOSES_WITHIN: Duration = Duration::from_millis(200);

impl AmqpSession {
    /// Closes the connection for a fault: says so, and waits for close-ok.
    pub(super) fn close(&mut self, now: Instant, fault: &Fault, out: &mut Outbox) {
        tracing::debug!(peer = %self.info.peer, fault = %fault.text(), method = %fault.method, "closing");
        if let Phase::Open(open) = &mut self.phase {
            open.core.flush(out);
        }
        put_close(0, MethodId::CONNECTION_CLOSE, fault, out);
        self.phase = Phase::Closing;
        self.due = Some(now + self.shared.config.close_timeout);
        self.heartbeat.stop();
        out.pause_reading(false);
    }

    /// The client wants to go: gives back all that it held, then answers.
    pub(super) fn on_close(&mut self, now: Instant, out: &mut Outbox) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Open(mut open) => {
                open.leave(out);
                self.phase = Phase::Leaving(open);
                self.due = Some(now + self.shared.config.close_timeout);
            }
            Phase::Opening(_) | Phase::Leaving(_) | Phase::Closing | Phase::Closed => {
                self.close_ok(now, out);
            }
        }
    }

    /// Agrees to the end. The client is left to close first: some take an early end of the stream for an error.
    pub(super) fn close_ok(&mut self, now: Instant, out: &mut Outbox) {
        Writer::method(out.buffer(), 0, MethodId::CONNECTION_CLOSE_OK, |_| {});
        self.phase = Phase::Closed;
        self.due = Some(now + CLIENT_CLOSES_WITHIN);
        self.heartbeat.stop();
    }

    /// A phase took too long.
    pub(super) fn on_due(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConnectionError> {
        match &self.phase {
            Phase::Opening(handshake) if handshake.is_refused() => {
                Err(ConnectionError::refused("not authenticated"))
            }
            Phase::Opening(_) => Err(ConnectionError::Silent("handshake took too long")),
            Phase::Leaving(_) => {
                self.close_ok(now, out);
                Ok(())
            }
            Phase::Closing => {
                self.phase = Phase::Closed;
                out.close(Close::Flushed);
                Ok(())
            }
            Phase::Closed => {
                out.close(Close::Linger);
                Ok(())
            }
            Phase::Open(_) => Ok(()),
        }
    }
}

impl Open {
    /// Gives back all that the connection holds; the last answer is awaited.
    fn leave(&mut self, out: &mut Outbox) {
        let Self { core, channels } = self;
        for (_, mut channel) in channels.drain() {
            channel.release(core, out);
        }
        core.flush(out);
        for name in std::mem::take(&mut core.exclusive) {
            let delete = Command::DeleteQueue {
                name,
                if_unused: false,
                if_empty: false,
            };
            out.command(0, delete);
        }
        let last = core.await_answer(0, 0, MethodId::CONNECTION_CLOSE, Awaited::ConnectionLeft);
        out.command(last, nothing());
    }

    /// Closes a channel for a fault: says so, and discards what comes until close-ok.
    pub(super) fn close_channel(&mut self, id: u16, fault: &Fault, out: &mut Outbox) {
        let Self { core, channels } = self;
        let Some(channel) = channels.get_mut(&id) else {
            return;
        };
        tracing::debug!(channel = id, fault = %fault.text(), method = %fault.method, "closing channel");
        channel.release(core, out);
        put_close(id, MethodId::CHANNEL_CLOSE, fault, out);
        channel.closing = true;
        channel.waiting = false;
        // Answers to what it asked before are nobody's now.
        channel.epoch = core.number();
    }
}

impl Channel {
    /// The client closes the channel: gives back what it holds, then answers.
    pub(crate) fn on_close(&mut self, core: &mut Core, out: &mut Outbox) {
        self.release(core, out);
        core.ask(
            self,
            MethodId::CHANNEL_CLOSE,
            Awaited::ChannelLeft,
            nothing(),
            out,
        );
    }
}

/// A command that does nothing: its answer comes after those before it took effect.
fn nothing() -> Command {
    Command::Settle(Settle {
        entries: Vec::new(),
        settlement: Settlement::Ack,
    })
}

fn put_close(channel: u16, id: MethodId, fault: &Fault, out: &mut Outbox) {
    Writer::method(out.buffer(), channel, id, |w| {
        w.u16(fault.code.number())
            .short(fault.text().as_bytes())
            .u16(fault.method.0)
            .u16(fault.method.1);
    });
}
