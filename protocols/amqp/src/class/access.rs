//! `access`: deprecated; every realm is granted with ticket 1, which nothing looks at.

use crate::channel::Channel;
use crate::codec::{MethodId, Writer};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_access_request(&self, out: &mut Outbox) {
        Writer::method(out.buffer(), self.id, MethodId::ACCESS_REQUEST_OK, |w| {
            w.u16(1);
        });
    }
}
