//! What every protocol plugs into.
//!
//! A protocol is a [`Protocol`]: it recognises its connections and serves them. Inside, each connection's logic is a
//! [`Session`]: a synchronous state machine with no sockets and an injected clock, which writes into an [`Outbox`].
//! [`drive`] is the only code that awaits: it owns the socket, the broker's mailbox and the connection's one timer.

mod auth;
mod connection;
mod driver;
mod error;
mod outbox;
mod protocol;
mod session;
mod signal;
pub mod sniff;
mod stream;

pub use auth::Authenticator;
pub use connection::{Address, Connection, ConnectionInfo, Listener, Meter, TlsPeer};
pub use driver::{Client, DriverLimits, Hub, drive};
pub use error::ConnectionError;
pub use outbox::{Action, Close, Outbox};
pub use protocol::{BoxFuture, Protocol, Sniff};
pub use session::{ClosedBy, Session};
pub use signal::{SignalReceiver, SignalSender, signals};
pub use stream::Stream;
