//! Every frame to where it belongs.

use super::{AmqpSession, Open, Phase};
use crate::channel::Channel;
use crate::codec::{Frame, FrameKind, Method, MethodError, MethodId, Writer, split_frame};
use crate::rescue::{Code, Fault};
use bytes::BytesMut;
use omnilog_wire::{Close, ConnectionError, Outbox};
use std::collections::hash_map::Entry;
use std::time::Instant;

/// With this many frames waiting in a channel, nothing more is read.
const PENDING_FRAMES_MAX: usize = 1024;

impl AmqpSession {
    /// Takes one frame off the input and serves it; `false` when there is no whole one, or none may be served now.
    pub(super) fn next(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<bool, ConnectionError> {
        if out.reading_paused() || out.closing().is_some() {
            return Ok(false);
        }
        if let Phase::Opening(handshake) = &self.phase
            && handshake.awaits_header()
        {
            return self.on_header(input, out);
        }
        if matches!(self.phase, Phase::Closed) {
            input.clear();
            return Ok(false);
        }
        let frame = match split_frame(input, self.frame_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(false),
            Err(error) => {
                if matches!(self.phase, Phase::Closing) {
                    return Err(ConnectionError::violation(error.to_string()));
                }
                // The stream can't be followed any further.
                input.clear();
                self.close(now, &error.into(), out);
                return Ok(false);
            }
        };
        match &mut self.phase {
            Phase::Opening(_) => self.on_handshake(now, frame, out)?,
            Phase::Open(open) if frame.channel > 0 => {
                let channel = frame.channel;
                let result = open.on_channel_frame(frame, self.channels_max, out);
                self.pause_if_blocked(now, out);
                self.conclude(now, channel, result, out);
            }
            Phase::Open(_) => self.on_connection_frame(now, frame, out),
            Phase::Closing | Phase::Leaving(_) => self.on_last_frame(frame, out),
            Phase::Closed => {}
        }
        Ok(true)
    }

    /// Carries out what a fault asks for.
    pub(super) fn conclude(
        &mut self,
        now: Instant,
        channel: u16,
        result: Result<(), Fault>,
        out: &mut Outbox,
    ) {
        let Err(fault) = result else {
            return;
        };
        match &mut self.phase {
            Phase::Open(open) if channel > 0 && !fault.is_hard() => {
                open.close_channel(channel, &fault, out);
                // Among what waited may be the client's own close.
                open.discard_pending(channel, out);
            }
            _ => self.close(now, &fault, out),
        }
    }

    /// A frame on channel 0 of an open connection.
    fn on_connection_frame(&mut self, now: Instant, frame: Frame, out: &mut Outbox) {
        let result = match frame.kind {
            FrameKind::Heartbeat => Ok(()),
            FrameKind::Header | FrameKind::Body => Err(Fault::new(
                Code::UnexpectedFrame,
                MethodId::NONE,
                "expected method frame, got non method frame instead",
            )),
            FrameKind::Method => match Method::decode(frame.payload) {
                Ok((_, Method::ConnectionClose { .. })) => {
                    self.on_close(now, out);
                    Ok(())
                }
                Ok((id, method)) => self.on_connection_method(id, &method, out),
                Err(error) => Err(error.into()),
            },
        };
        self.conclude(now, 0, result, out);
    }

    /// A frame after `connection.close`, ours or theirs.
    fn on_last_frame(&mut self, frame: Frame, out: &mut Outbox) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::decode(frame.payload) {
            Ok((_, Method::ConnectionCloseOk)) => {
                self.phase = Phase::Closed;
                self.due = None;
                out.close(Close::Flushed);
            }
            Ok((_, Method::ConnectionClose { .. })) => {
                Writer::method(out.buffer(), 0, MethodId::CONNECTION_CLOSE_OK, |_| {});
            }
            Ok(_)
            | Err(MethodError::Short | MethodError::Unknown(_) | MethodError::Arguments(..)) => {}
        }
    }
}

impl Open {
    /// A frame on a channel.
    fn on_channel_frame(
        &mut self,
        frame: Frame,
        channels_max: u16,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Self { core, channels } = self;
        let open_count = channels.len();
        match channels.entry(frame.channel) {
            Entry::Occupied(mut entry) => {
                let channel = entry.get_mut();
                if channel.closing {
                    if channel.on_discarded(&frame, out) {
                        entry.remove();
                    }
                    return Ok(());
                }
                if channel.waiting {
                    channel.pending.push_back(frame);
                    if channel.pending.len() >= PENDING_FRAMES_MAX {
                        out.pause_reading(true);
                    }
                    return Ok(());
                }
                channel.on_frame(frame, core, out)
            }
            Entry::Vacant(entry) => {
                let method = match frame.kind {
                    FrameKind::Method => Method::decode(frame.payload)?,
                    FrameKind::Heartbeat => {
                        return Err(Fault::new(
                            Code::UnexpectedFrame,
                            MethodId::NONE,
                            "heartbeat on a channel other than 0",
                        ));
                    }
                    FrameKind::Header | FrameKind::Body => {
                        return Err(Fault::new(
                            Code::ChannelError,
                            MethodId::NONE,
                            "expected 'channel.open'",
                        ));
                    }
                };
                match method {
                    (id, Method::ChannelOpen) => {
                        if channels_max > 0 && open_count >= usize::from(channels_max) {
                            return Err(Fault::new(
                                Code::NotAllowed,
                                id,
                                format!(
                                    "number of channels opened ({open_count}) has reached the negotiated channel_max \
                                     ({channels_max})"
                                ),
                            ));
                        }
                        let epoch = core.number();
                        entry.insert(Channel::new(frame.channel, epoch));
                        Writer::method(
                            out.buffer(),
                            frame.channel,
                            MethodId::CHANNEL_OPEN_OK,
                            |w| {
                                w.long(b"");
                            },
                        );
                        Ok(())
                    }
                    // A crossing answer, and acknowledgements on their way when the channel closed.
                    (_, Method::ChannelCloseOk) => Ok(()),
                    (id, _) => Err(Fault::new(
                        Code::ChannelError,
                        id,
                        "expected 'channel.open'",
                    )),
                }
            }
        }
    }

    /// Serves the frames that waited behind an answer.
    pub(super) fn pump(&mut self, id: u16, out: &mut Outbox) -> Result<(), Fault> {
        let Self { core, channels } = self;
        let Some(channel) = channels.get_mut(&id) else {
            return Ok(());
        };
        while !channel.waiting && !channel.closing {
            let Some(frame) = channel.pending.pop_front() else {
                break;
            };
            channel.on_frame(frame, core, out)?;
        }
        if channel.pending.len() < PENDING_FRAMES_MAX / 2 && core.blocked.is_none() {
            out.pause_reading(false);
        }
        Ok(())
    }

    /// Discards what waited in a channel that was closed, except for closes.
    fn discard_pending(&mut self, id: u16, out: &mut Outbox) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let mut gone = false;
        for frame in std::mem::take(&mut channel.pending) {
            gone |= channel.on_discarded(&frame, out);
        }
        if gone {
            self.channels.remove(&id);
        }
        if self.core.blocked.is_none() {
            out.pause_reading(false);
        }
    }
}

impl Channel {
    /// A frame on a channel that we have closed; `true` when that is now agreed on.
    fn on_discarded(&mut self, frame: &Frame, out: &mut Outbox) -> bool {
        if frame.kind != FrameKind::Method {
            return false;
        }
        match Method::decode(frame.payload.clone()) {
            Ok((_, Method::ChannelCloseOk)) => true,
            Ok((_, Method::ChannelClose { .. })) => {
                Writer::method(out.buffer(), self.id, MethodId::CHANNEL_CLOSE_OK, |_| {});
                false
            }
            Ok(_) | Err(_) => false,
        }
    }
}
