//! `confirm`: RabbitMQ's publisher confirms.

use super::unless;
use crate::channel::{Channel, Confirms};
use crate::codec::{Method, MethodId};
use crate::rescue::{Code, Fault};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_confirm_method(
        &mut self,
        id: MethodId,
        method: &Method,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Method::ConfirmSelect { nowait } = method else {
            return Ok(());
        };
        if self.tx.is_some() {
            return Err(Fault::new(
                Code::PreconditionFailed,
                id,
                "cannot switch from tx to confirm mode",
            ));
        }
        self.confirms.get_or_insert_with(Confirms::new);
        self.answer(unless(*nowait, MethodId::CONFIRM_SELECT_OK), out);
        Ok(())
    }
}
