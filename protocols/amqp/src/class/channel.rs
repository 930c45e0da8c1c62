//! `channel`: flow, close. Opening is the connection's.

use crate::channel::Channel;
use crate::codec::{Method, MethodId, Writer};
use crate::connection::Core;
use crate::rescue::{Code, Fault};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_channel_method(
        &mut self,
        id: MethodId,
        method: &Method,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        match method {
            Method::ChannelOpen => Err(Fault::new(
                Code::ChannelError,
                id,
                "second 'channel.open' seen",
            )),
            Method::ChannelFlow { active: true } => {
                Writer::method(out.buffer(), self.id, MethodId::CHANNEL_FLOW_OK, |w| {
                    w.bit(true);
                });
                Ok(())
            }
            Method::ChannelFlow { active: false } => {
                Err(Fault::new(Code::NotImplemented, id, "active=false"))
            }
            Method::ChannelClose { code, text } => {
                if *code >= 300 {
                    let text = String::from_utf8_lossy(text);
                    tracing::debug!(channel = self.id, code, %text, "client closes the channel");
                }
                self.on_close(core, out);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
