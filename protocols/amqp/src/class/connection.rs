//! `connection` on an open connection: update-secret. Opening and closing are the connection's own.

use crate::codec::{Method, MethodId, Writer};
use crate::connection::AmqpSession;
use crate::rescue::{Code, Fault};
use omnilog_wire::Outbox;

impl AmqpSession {
    pub(crate) fn on_connection_method(
        &mut self,
        id: MethodId,
        method: &Method,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        match method {
            // The mechanisms served here have no secret that runs out: the new one is acknowledged.
            Method::ConnectionUpdateSecret { .. } => {
                Writer::method(
                    out.buffer(),
                    0,
                    MethodId::CONNECTION_UPDATE_SECRET_OK,
                    |_| {},
                );
                Ok(())
            }
            Method::ConnectionBlocked | Method::ConnectionUnblocked => Ok(()),
            Method::ChannelOpen => Err(Fault::new(
                Code::ChannelError,
                id,
                "channel 0 can't be opened",
            )),
            _ => Err(Fault::new(
                Code::CommandInvalid,
                id,
                format!("{id} is not expected on channel 0"),
            )),
        }
    }
}
