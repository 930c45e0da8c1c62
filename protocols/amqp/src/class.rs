//! The methods of an open channel, one file for each class.

mod access;
mod basic;
mod channel;
mod confirm;
mod connection;
mod exchange;
mod publish;
mod queue;
mod queue_arguments;
mod reply_to;
mod tx;

pub(crate) use basic::Asked;

use crate::channel::Channel;
use crate::codec::{Method, MethodId};
use crate::connection::Core;
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_wire::Outbox;

impl Channel {
    /// A method on this channel.
    pub(crate) fn on_method(
        &mut self,
        id: MethodId,
        method: Method,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if !matches!(method, Method::BasicPublish { .. }) {
            // What was published before takes effect before.
            core.flush(out);
        }
        match id {
            MethodId(20, _) => self.on_channel_method(id, &method, core, out),
            MethodId(30, _) => {
                self.on_access_request(out);
                Ok(())
            }
            MethodId(40, _) => self.on_exchange_method(id, method, core, out),
            MethodId(50, _) => self.on_queue_method(id, method, core, out),
            MethodId(60, _) => self.on_basic_method(id, method, core, out),
            MethodId(85, _) => self.on_confirm_method(id, &method, out),
            MethodId(90, _) => self.on_tx_method(id, core, out),
            _ => Err(Fault::new(
                Code::CommandInvalid,
                id,
                format!("{id} is not for this channel"),
            )),
        }
    }

    /// The queue that a name means: an empty one is the queue declared last.
    fn queue_named(&self, name: &Bytes, method: MethodId) -> Result<Bytes, Fault> {
        if !name.is_empty() {
            return Ok(plain(name));
        }
        if self.last_queue.is_empty() {
            return Err(Fault::new(
                Code::NotFound,
                method,
                "no previously declared queue",
            ));
        }
        Ok(self.last_queue.clone())
    }
}

/// A name of an exchange or a queue: a copy of its own without line ends, as RabbitMQ takes it.
fn plain(name: &Bytes) -> Bytes {
    if name.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        name.iter()
            .copied()
            .filter(|byte| !matches!(byte, b'\r' | b'\n'))
            .collect()
    } else {
        Bytes::copy_from_slice(name)
    }
}

/// The answer, unless the client does not want one.
fn unless(nowait: bool, answer: MethodId) -> Option<MethodId> {
    (!nowait).then_some(answer)
}
