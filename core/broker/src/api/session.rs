//! MQTT sessions: a queue, its subscriptions and the state of QoS 2, durable or not.

use crate::api::{EntryId, Message, Name, QueueId, SessionId, Will};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How long a session outlives its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionExpiry {
    /// It ends with the connection: nothing of it is journaled.
    AtClose,
    /// Milliseconds after the connection's end.
    AfterMs(u64),
    /// It never ends by itself.
    Never,
}

/// Opening a session (MQTT CONNECT). If another connection holds it, that one hears [`crate::Event::SessionTakenOver`]
/// and the reply waits until it has closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenSession {
    /// The client id.
    pub client_id: Name,
    /// End an earlier session of this client id first.
    pub clean_start: bool,
    /// How long it outlives the connection.
    pub expiry: SessionExpiry,
    /// Unsettled deliveries at the most (receive maximum).
    pub credit: u16,
    /// The will.
    pub will: Option<Will>,
}

/// A session, as it stands when it is opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// Its incarnation.
    pub session: SessionId,
    /// Its queue: deliveries come from here.
    pub queue: QueueId,
    /// There was a session to resume.
    pub present: bool,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Outgoing deliveries in flight, oldest first: send these before any new one. They hold credit.
    pub outgoing: Vec<Outgoing>,
    /// Incoming QoS 2 packet ids not yet released.
    pub incoming: Vec<u16>,
}

/// One subscription of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The filter without a `$share` prefix, validated.
    pub filter: Bytes,
    /// The group of a shared subscription.
    pub share: Option<Name>,
    /// The QoS granted.
    pub qos: u8,
    /// Not what this client publishes itself.
    pub no_local: bool,
    /// RETAIN as published.
    pub retain_as_published: bool,
    /// 0: send retained messages; 1: only if the subscription is new; 2: don't.
    pub retain_handling: u8,
    /// The subscription identifier.
    pub identifier: Option<u32>,
}

/// An outgoing delivery in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The packet id.
    pub packet_id: u16,
    /// How far its exchange has come.
    pub stage: OutgoingStage,
}

/// How far an outgoing QoS 1 or 2 exchange has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum OutgoingStage {
    /// PUBLISH was sent: send it again with DUP.
    Publish {
        /// Its queue.
        queue: QueueId,
        /// Its entry.
        entry: EntryId,
        /// The QoS it was sent with.
        qos: u8,
        /// It was a retained message sent because of a new subscription.
        retained: bool,
        /// The message; `None` where it has gone meanwhile (expired, purged): forget the packet id.
        message: Option<Message>,
    },
    /// PUBREC came: send PUBREL.
    Release,
}

/// An outgoing delivery that the connection hands back when it closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The packet id.
    pub packet_id: u16,
    /// Its queue.
    pub queue: QueueId,
    /// Its entry.
    pub entry: EntryId,
    /// The QoS it was sent with.
    pub qos: u8,
}

/// Closing a session's connection (MQTT DISCONNECT, or the loss of the connection).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloseSession {
    /// Which.
    pub session: SessionId,
    /// A new expiry, as MQTT 5's DISCONNECT may give.
    pub expiry: Option<SessionExpiry>,
    /// Publish the will (true: abnormal end, takeover, reason 0x04) or forget it.
    pub publish_will: bool,
    /// QoS 1 deliveries sent and not yet acknowledged, oldest first, to be sent again with the same packet ids.
    /// Those of QoS 2 are known to the broker already.
    pub in_flight: Vec<InFlight>,
}

/// Subscribing. The reply lists each filter's outcome in order; retained messages follow it as deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// The session.
    pub session: SessionId,
    /// What to subscribe to; an equal filter (and group) replaces the earlier subscription.
    pub subscriptions: Vec<Subscription>,
}

/// Unsubscribing: filters (and groups) compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The session.
    pub session: SessionId,
    /// Filter and group of each.
    pub filters: Vec<(Bytes, Option<Name>)>,
}

/// A step of an exchange at QoS 2 that must be journaled before the next packet may leave (MQTT 4.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionStep {
    /// Before PUBLISH leaves at QoS 2: this entry goes out under this packet id.
    Assign {
        /// The packet id.
        packet_id: u16,
        /// The queue.
        queue: QueueId,
        /// The entry.
        entry: EntryId,
    },
    /// PUBREC came: the entry is done with, the packet id waits for PUBCOMP. The reply allows PUBREL.
    Received {
        /// The packet id.
        packet_id: u16,
    },
    /// PUBCOMP came (or PUBREC with an error): the packet id is free. No reply is waited for.
    Completed {
        /// The packet id.
        packet_id: u16,
    },
    /// PUBREL came: the incoming packet id is free. The reply allows PUBCOMP.
    Released {
        /// The packet id.
        packet_id: u16,
    },
}
