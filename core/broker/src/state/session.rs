//! An MQTT session's state beside its queue.

use crate::api::*;
use crate::state::changes::Mark;
use crate::state::rare::Rare;
use crate::state::subscriptions::Subscriptions;
use std::collections::BTreeSet;

/// A session.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) namespace: NamespaceId,
    pub(crate) client_id: Name,
    pub(crate) queue: QueueId,
    pub(crate) durable: bool,
    pub(crate) expiry: SessionExpiry,
    /// When it ends by itself, once its connection has ended.
    pub(crate) expires_at_ms: Option<i64>,
    pub(crate) will: Option<Box<Will>>,
    /// By filter and group: the queue that takes it, and the subscription.
    pub(crate) subscriptions: Subscriptions,
    /// Incoming QoS 2 packet ids not yet released.
    pub(crate) incoming: Rare<BTreeSet<u16>>,
    /// Outgoing QoS 2 packet ids, in the order they were assigned.
    pub(crate) outgoing: Rare<Vec<(u16, OutgoingState)>>,
    /// The connection that holds it.
    #[serde(skip)]
    pub(crate) client: Option<ClientId>,
    /// QoS 1 deliveries handed back by the connection before.
    #[serde(skip)]
    pub(crate) handed_back: Rare<Vec<InFlight>>,
    /// When the pending will fires.
    #[serde(skip)]
    pub(crate) will_at_ms: Option<i64>,
    /// When the present holder is cut off for the next.
    #[serde(skip)]
    pub(crate) cut_off_at_ms: Option<i64>,
    /// Connections that wait for the present one to let go.
    #[serde(skip)]
    pub(crate) waiting: Rare<Vec<Waiting>>,
    #[serde(skip)]
    pub(crate) mark: Mark,
}

/// An outgoing QoS 2 exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum OutgoingState {
    /// PUBLISH under way.
    Published(QueueId, EntryId),
    /// PUBREC came.
    Received,
}

/// An [`OpenSession`] that waits for the present holder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) client: ClientId,
    pub(crate) correlation: u64,
    pub(crate) open: OpenSession,
}

impl Session {
    /// Is it journaled? That is settled when it is made.
    pub(crate) fn durable(&self) -> bool {
        self.durable
    }
}
