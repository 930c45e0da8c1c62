//! Assembling a publish from its method, header and body frames (section 2.3.5.2).

use super::Channel;
use crate::codec::{ContentHeader, Frame, FrameKind, MethodId};
use crate::connection::Core;
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_wire::Outbox;

/// A publish whose content is still coming.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    pub(crate) mandatory: bool,
    pub(crate) header: Option<ContentHeader>,
    /// The body frames' payloads, as they came.
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: u64,
}

impl Assembly {
    /// What a frame that does not fit is told.
    pub(crate) fn expected(&self) -> &'static str {
        if self.header.is_none() {
            "expected content header for class 60, got non content header frame instead"
        } else {
            "expected content body, got non content body frame instead"
        }
    }
}

impl Channel {
    /// A header or body frame.
    pub(super) fn on_content(
        &mut self,
        frame: Frame,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Some(assembly) = &mut self.assembly else {
            return Ok(());
        };
        let unexpected =
            |what: &str| Fault::new(Code::UnexpectedFrame, MethodId::BASIC_PUBLISH, what);
        match (frame.kind, &assembly.header) {
            (FrameKind::Header, None) => {
                let header = ContentHeader::decode(frame.payload)?;
                if header.class != 60 {
                    return Err(unexpected(
                        "expected content header for class 60, got one for another class instead",
                    ));
                }
                let limit = core.shared.config.message_bytes_max;
                if header.body_bytes > limit {
                    let size = header.body_bytes;
                    return Err(Fault::new(
                        Code::PreconditionFailed,
                        MethodId::BASIC_PUBLISH,
                        format!("message size {size} is larger than configured max size {limit}"),
                    ));
                }
                assembly.header = Some(header);
            }
            (FrameKind::Body, Some(header)) => {
                assembly.body_bytes += frame.payload.len() as u64;
                if assembly.body_bytes > header.body_bytes {
                    return Err(Fault::new(
                        Code::FrameError,
                        MethodId::BASIC_PUBLISH,
                        "content body is longer than its header says",
                    ));
                }
                if !frame.payload.is_empty() {
                    assembly.body.push(frame.payload);
                }
            }
            _ => return Err(unexpected(assembly.expected())),
        }
        let complete = assembly
            .header
            .as_ref()
            .is_some_and(|header| header.body_bytes == assembly.body_bytes);
        match self.assembly.take_if(|_| complete) {
            Some(assembly) => self.on_published(assembly, core, out),
            None => Ok(()),
        }
    }
}
