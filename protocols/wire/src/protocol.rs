//! The seam that a protocol implements towards the gateway.

use crate::{Connection, ConnectionError};
use omnilog_broker::Broker;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A wire protocol. A new one is one crate and one line in the gateway.
pub trait Protocol: Send + Sync + 'static {
    /// The protocol's name in configuration, logs and metrics: `kafka`, `amqp`, `mqtt`.
    fn name(&self) -> &'static str;

    /// Do a connection's first bytes look like this protocol's? One port can serve all protocols.
    fn sniff(&self, prefix: &[u8]) -> Sniff;

    /// Serves a connection to its end.
    ///
    /// # Errors
    /// What ended it, unless it ended as the protocol foresees.
    fn serve(
        self: Arc<Self>,
        connection: Connection,
        broker: Broker,
    ) -> BoxFuture<'static, Result<(), ConnectionError>>;
}

/// What a protocol says about a connection's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// Mine.
    Yes,
    /// Not mine, whatever follows.
    No,
    /// Can't tell yet.
    NeedMore,
}
