//! One channel: its content being assembled, its consumers and unsettled deliveries, and what waits behind an answer.
//!
//! A channel does one thing at a time, as RabbitMQ's does: while a method waits for the broker's answer, the frames
//! behind it wait in [`Channel::pending`]. Publishes and settlements do not wait.

mod confirms;
mod content;
mod deliveries;

pub(crate) use confirms::Confirms;
pub(crate) use content::Assembly;
pub(crate) use deliveries::Unsettled;

use crate::codec::{Frame, FrameKind, Method, MethodId};
use crate::connection::Core;
use crate::gather::Gather;
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_broker::{Command, ConsumerKey, CreditGroup, EntryId, QueueId, Settle, Settlement};
use omnilog_wire::Outbox;
use std::collections::{HashMap, HashSet, VecDeque};

/// A channel of an open connection.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: u16,
    /// Tells this use of the channel's number from earlier ones.
    pub(crate) epoch: u64,
    /// We have sent `channel.close`: all but close and close-ok is discarded.
    pub(crate) closing: bool,
    /// A method waits for the broker's answer.
    pub(crate) waiting: bool,
    /// Frames behind that method.
    pub(crate) pending: VecDeque<Frame>,
    pub(crate) assembly: Option<Assembly>,
    /// The queue declared last, which an empty queue name means.
    pub(crate) last_queue: Bytes,
    pub(crate) deliveries: Unsettled,
    /// By tag.
    pub(crate) consumers: HashMap<Bytes, Consumer>,
    /// The prefetch of consumers to come; 0: no limit.
    pub(crate) prefetch: u16,
    /// The limit that the channel's consumers share.
    pub(crate) group: CreditGroup,
    /// The broker knows the group.
    pub(crate) group_set: bool,
    /// Consumers that the broker ended while an answer was awaited: told after it, as RabbitMQ does.
    pub(crate) cancelled: Vec<Bytes>,
    /// The queue behind `amq.rabbitmq.reply-to`.
    pub(crate) replies: Option<Replies>,
    pub(crate) confirms: Option<Confirms>,
    pub(crate) tx: Option<Tx>,
}

/// A consumer of a channel.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub(crate) key: ConsumerKey,
}

/// A channel's direct reply-to.
#[derive(Debug, Clone)]
pub(crate) struct Replies {
    /// The queue that replies come by.
    pub(crate) queue: Bytes,
    /// Its consumer's tag.
    pub(crate) tag: Bytes,
}

/// A transaction under way.
#[derive(Debug, Default)]
pub(crate) struct Tx {
    /// Exchanges that it publishes to and that are there.
    pub(crate) known: HashSet<Bytes>,
    pub(crate) gather: Gather,
    pub(crate) commands: Vec<Command>,
    /// Settled within the transaction, by their tags: a rollback undoes that.
    pub(crate) settled: Vec<(u64, QueueId, EntryId, Settlement)>,
}

impl Channel {
    pub(crate) fn new(id: u16, epoch: u64) -> Self {
        Self {
            id,
            epoch,
            closing: false,
            waiting: false,
            pending: VecDeque::new(),
            assembly: None,
            last_queue: Bytes::new(),
            deliveries: Unsettled::default(),
            consumers: HashMap::new(),
            prefetch: 0,
            group: CreditGroup(epoch),
            group_set: false,
            cancelled: Vec::new(),
            replies: None,
            confirms: None,
            tx: None,
        }
    }

    /// Serves a frame, when nothing is waited for.
    pub(crate) fn on_frame(
        &mut self,
        frame: Frame,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        match frame.kind {
            FrameKind::Method if self.assembly.is_none() => {
                let (id, method) = Method::decode(frame.payload)?;
                self.on_method(id, method, core, out)
            }
            FrameKind::Header | FrameKind::Body if self.assembly.is_some() => {
                self.on_content(frame, core, out)
            }
            FrameKind::Method | FrameKind::Header | FrameKind::Body => {
                let expected = match &self.assembly {
                    None => "expected method frame, got non method frame instead",
                    Some(assembly) => assembly.expected(),
                };
                let method = if self.assembly.is_some() {
                    MethodId::BASIC_PUBLISH
                } else {
                    MethodId::NONE
                };
                Err(Fault::new(Code::UnexpectedFrame, method, expected))
            }
            FrameKind::Heartbeat => Err(Fault::new(
                Code::UnexpectedFrame,
                MethodId::NONE,
                "heartbeat on a channel other than 0",
            )),
        }
    }

    /// Gives back all that this channel holds of the broker: its consumers end, its deliveries return.
    pub(crate) fn release(&mut self, core: &mut Core, out: &mut Outbox) {
        core.flush(out);
        // At once, so that nobody gets a later delivery before those that return.
        let mut commands = Vec::new();
        for (_, consumer) in self.consumers.drain() {
            core.consumers.remove(&consumer.key);
            commands.push(Command::Cancel(consumer.key));
        }
        let mut returned = self.deliveries.take_all();
        if let Some(tx) = self.tx.take() {
            returned.extend(
                tx.settled
                    .into_iter()
                    .map(|(_, queue, entry, _)| (queue, entry)),
            );
        }
        if !returned.is_empty() {
            commands.push(Command::Settle(Settle {
                entries: returned,
                settlement: Settlement::Fail,
            }));
        }
        match commands.len() {
            0 => {}
            1 => commands
                .into_iter()
                .for_each(|command| out.command(0, command)),
            _ => out.command(0, Command::Atomic(commands)),
        }
        self.confirms = None;
        self.replies = None;
        self.cancelled.clear();
        self.assembly = None;
    }
}
