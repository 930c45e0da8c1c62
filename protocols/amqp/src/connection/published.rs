//! What became of publishes: confirmed, refused, returned.

use super::awaited::Returned;
use crate::channel::Channel;
use crate::codec::{Content, MethodId, Writer};
use crate::connection::Core;
use crate::rescue::{self, Code, Fault, PublishRefusal};
use bytes::{Bytes, BytesMut};
use omnilog_broker::{Refusal, Reply, Routed};
use omnilog_wire::Outbox;

impl Channel {
    /// A batch of publishes was decided.
    pub(super) fn on_published_reply(
        &mut self,
        core: &mut Core,
        first: u64,
        count: usize,
        mandatory: Vec<(usize, Returned)>,
        result: Result<Reply, Refusal>,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let taken: Vec<bool> = match result {
            Ok(Reply::Published(published)) => {
                let outcome = |index: usize| {
                    published
                        .outcomes
                        .get(index)
                        .copied()
                        .unwrap_or(Routed::Taken)
                };
                for (index, returned) in mandatory {
                    if outcome(index) == Routed::NoTaker {
                        put_return(self.id, &returned, core.frame_max, out);
                    }
                }
                (0..count)
                    .map(|index| outcome(index) != Routed::Rejected)
                    .collect()
            }
            Ok(reply) => {
                tracing::error!(?reply, "a reply of the wrong kind");
                vec![false; count]
            }
            Err(refusal) => match rescue::publish_fault(&refusal, &core.vhost) {
                PublishRefusal::Fault(fault) => return Err(fault),
                PublishRefusal::Nack => {
                    if first == 0 {
                        tracing::warn!(%refusal, count, "unconfirmed publishes were refused");
                    }
                    vec![false; count]
                }
            },
        };
        if let Some(confirms) = &mut self.confirms
            && first > 0
        {
            confirms.settle(self.id, first, &taken, out);
        }
        Ok(())
    }
}

/// Returns a message that nobody takes.
fn put_return(channel: u16, returned: &Returned, frame_max: usize, out: &mut Outbox) {
    Writer::method(out.buffer(), channel, MethodId::BASIC_RETURN, |w| {
        w.u16(Code::NoRoute.number())
            .short(b"NO_ROUTE")
            .short(&returned.exchange)
            .short(&returned.routing_key);
    });
    let body = match &returned.body[..] {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => {
            let mut whole = BytesMut::new();
            many.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    };
    let content = Content {
        properties: returned.properties.clone(),
        body,
    };
    content.put(out, channel, frame_max);
}
