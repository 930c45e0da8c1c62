//! The seam that a protocol implements towards the driver: one connection's logic.

use crate::{ConnectionError, Outbox};
use bytes::BytesMut;
use omnilog_broker::Event;
use std::time::Instant;

/// One connection's protocol logic: synchronous, no sockets, time injected.
///
/// Numbers that the peer sees (delivery tags, packet identifiers, confirm sequence) are assigned in these calls, never
/// in a completion. When a call returns an error, what it put into the outbox is still written, then the connection is
/// closed; so a session says its last word in its protocol's terms first, and then returns the error.
pub trait Session: Send {
    /// Asynchronous events of the protocol's own: an authentication's result, a group coordinator's reply.
    type Signal: Send + 'static;

    /// Bytes have come. Takes the whole frames it can off the front of `input` and leaves the rest. Not called while
    /// reading is paused; called again, perhaps without new bytes, when it no longer is.
    ///
    /// # Errors
    /// The connection can't go on.
    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError>;

    /// The broker says something.
    ///
    /// # Errors
    /// The connection can't go on.
    fn on_event(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError>;

    /// One of the protocol's own events.
    ///
    /// # Errors
    /// The connection can't go on.
    fn on_signal(
        &mut self,
        now: Instant,
        signal: Self::Signal,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError>;

    /// The moment that [`Session::deadline`] named has come. Must move the deadline.
    ///
    /// # Errors
    /// The connection can't go on (the peer was silent for too long).
    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConnectionError>;

    /// When the session next wants to be woken. Asked after every call, so it must be cheap.
    fn deadline(&self) -> Option<Instant>;

    /// The connection is over. Last commands can be given; output only matters after [`ClosedBy::Error`] and
    /// [`ClosedBy::Shutdown`], and then only best effort.
    fn on_closed(&mut self, now: Instant, cause: ClosedBy, out: &mut Outbox);

    /// The server is stopping: tell the peer in the protocol's terms and close once that is done. Called at most once.
    fn on_shutdown(&mut self, now: Instant, out: &mut Outbox);
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer closed it, or it broke.
    Peer,
    /// The session asked for it.
    Us,
    /// The server stops, and the session had not closed in time.
    Shutdown,
    /// A session's call returned an error, or the peer took nothing for too long.
    Error,
}
