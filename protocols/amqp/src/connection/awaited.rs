//! What the broker's answers answer.

use crate::codec::MethodId;
use bytes::Bytes;
use omnilog_broker::ConsumerKey;

/// An answer that is awaited, and for which channel.
#[derive(Debug)]
pub(crate) struct Awaiting {
    pub(crate) channel: u16,
    pub(crate) epoch: u64,
    /// The method that asked.
    pub(crate) method: MethodId,
    pub(crate) what: Awaited,
}

/// What is awaited.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// Nothing but success: answered by this method, unless the client does not want to hear it.
    Done {
        /// The answer; `None`: none is wanted.
        answer: Option<MethodId>,
        /// Something missing counts as success.
        missing_is_fine: bool,
    },
    /// A queue's declaration.
    Declared { nowait: bool, exclusive: bool },
    /// A number of messages.
    Counted {
        answer: Option<MethodId>,
        /// The queue, where it was to be deleted.
        deleted: Option<Bytes>,
    },
    /// A queue for direct replies; the consumer asked for follows.
    ReplyQueue(Box<crate::class::Asked>),
    /// A consumer's start.
    Consuming {
        tag: Bytes,
        key: ConsumerKey,
        nowait: bool,
    },
    /// A consumer's end.
    Cancelled { tag: Bytes, nowait: bool },
    /// A message asked for.
    Got { no_ack: bool },
    /// A batch of publishes.
    Published {
        /// The first one's confirm number; 0: the channel does not confirm.
        first: u64,
        /// How many.
        count: usize,
        /// Those to return if nobody takes them: place in the batch, and the message.
        mandatory: Vec<(usize, Returned)>,
    },
    /// An exchange that a transaction publishes to is there.
    Checked(Box<crate::gather::Incoming>),
    /// A transaction's commit.
    Committed,
    /// All that a channel held is given back.
    ChannelLeft,
    /// All that the connection held is given back.
    ConnectionLeft,
}

/// A message that may have to be returned.
#[derive(Debug, Clone)]
pub(crate) struct Returned {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    pub(crate) properties: Bytes,
    pub(crate) body: Vec<Bytes>,
}
