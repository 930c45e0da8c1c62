//! What a queue's declaration says about the end of its entries: limits, times, and where dead letters go.

use crate::api::*;
use crate::state::exchange::argument;
use crate::state::retries::Schedule;
use bytes::Bytes;

/// What to do with a message for a full queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Overflow {
    /// The oldest goes.
    #[default]
    DropHead,
    /// The new one is refused.
    RejectPublish,
    /// The new one is refused, and dead-lettered.
    RejectPublishDlx,
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetters {
    pub(crate) exchange: Name,
    /// Instead of the message's own key.
    pub(crate) routing_key: Option<Bytes>,
}

/// The end of a queue's entries, as declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Policy {
    pub(crate) length_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) message_ttl_ms: Option<i64>,
    /// How long the queue itself may be unused.
    pub(crate) expires_ms: Option<i64>,
    pub(crate) dead_letters: Option<DeadLetters>,
    /// How often an entry may come back.
    pub(crate) delivery_limit: Option<u32>,
    /// Consumers are told how often it did (a quorum queue).
    pub(crate) counts_deliveries: bool,
    /// When what came back is tried again, if not at once.
    pub(crate) retry: Option<Schedule>,
}

impl Policy {
    /// What a declaration asks for, if anything.
    pub(crate) fn of(declared: &DeclareQueue) -> Option<Box<Self>> {
        if declared.arguments.is_empty() {
            return None;
        }
        let given = |name: &str| argument(&declared.arguments, name.as_bytes());
        let int = |name: &str| given(name).and_then(Value::as_int);
        let count = |name: &str| int(name).and_then(|count| u64::try_from(count).ok());
        let text = |name: &str| given(name).and_then(Value::as_bytes);
        let policy = Self {
            length_max: count("x-max-length"),
            bytes_max: count("x-max-length-bytes"),
            overflow: match text("x-overflow").map(|overflow| &overflow[..]) {
                Some(b"reject-publish") => Overflow::RejectPublish,
                Some(b"reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            message_ttl_ms: int("x-message-ttl"),
            expires_ms: int("x-expires"),
            dead_letters: text("x-dead-letter-exchange").map(|exchange| DeadLetters {
                exchange: exchange.clone(),
                routing_key: text("x-dead-letter-routing-key").cloned(),
            }),
            delivery_limit: count("x-delivery-limit").and_then(|limit| u32::try_from(limit).ok()),
            counts_deliveries: text("x-queue-type").is_some_and(|kind| kind == "quorum"),
            retry: Schedule::of(declared),
        };
        (policy != Self::default()).then(|| Box::new(policy))
    }
}
