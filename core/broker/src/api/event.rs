//! What a client hears from its shard.

use crate::api::*;
use serde::{Deserialize, Serialize};

/// Something for a connection. Events of one connection keep their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The answer to a command.
    Reply {
        /// The command's correlation number.
        correlation: u64,
        /// What became of it. Boxed: most events are deliveries, and are moved from queue to queue.
        result: Box<Result<Reply, Refusal>>,
    },
    /// A message for a consumer, or for the session (consumer key [`SESSION_CONSUMER`]).
    Delivery(Box<Delivery>),
    /// The broker ended a consumer: its queue was deleted, or its shard lost (AMQP `basic.cancel` to the client).
    ConsumerCancelled(ConsumerKey),
    /// Another connection opened this session: say good-bye, send [`crate::Command::CloseSession`], and close.
    SessionTakenOver(SessionId),
    /// The session was ended under this connection by an operator or its expiry.
    SessionEnded(SessionId),
    /// Publishers are blocked (AMQP `connection.blocked`), with the reason.
    Blocked(BlockReason),
    /// They are not any more.
    Unblocked,
    /// The shard is not served here any more: tell the peer and close. All speculation is void.
    ShardLost,
}

impl Event {
    /// The answer to a command.
    pub fn reply(correlation: u64, result: Result<Reply, Refusal>) -> Self {
        Self::Reply {
            correlation,
            result: Box::new(result),
        }
    }
}

/// The consumer key of a session's own deliveries and of its shared subscriptions.
pub const SESSION_CONSUMER: ConsumerKey = ConsumerKey(u64::MAX);

/// Why publishers are blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockReason {
    /// The disk is nearly full.
    Disk,
    /// Memory is nearly full.
    Memory,
}
