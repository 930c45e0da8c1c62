//! What the driver needs of the broker: so little that tests can be it.

use omnilog_broker::{Broker, ClientInfo, Command, Event, NamespaceId, Place};
use std::future::Future;

/// Where sessions become clients.
pub trait Hub: Send {
    /// A connection's membership; dropping it is the loss of the connection.
    type Client: Client;

    /// Where a connection is served before that.
    fn newcomer(&self) -> Place;

    /// Joins a connection to its namespace's shard.
    fn connect(&self, namespace: NamespaceId, info: ClientInfo) -> Self::Client;
}

/// A connection's membership of a shard.
pub trait Client: Send + Sync {
    /// Adds a command to those that `flush` sends; never blocks.
    fn add(&self, correlation: u64, command: Command);

    /// Sends what was added; never blocks.
    fn flush(&self);

    /// May more be read from this connection's socket?
    fn can_send(&self) -> bool;

    /// Waits until more may be read from this connection's socket.
    fn room(&self) -> impl Future<Output = ()> + Send + use<Self>;

    /// Where this connection is served.
    fn place(&self) -> Place;

    /// Waits for events and takes all there are. Cancel safe.
    fn recv(&mut self, into: &mut Vec<Event>) -> impl Future<Output = ()> + Send;
}

impl Hub for Broker {
    type Client = omnilog_broker::Client;

    fn newcomer(&self) -> Place {
        self.newcomer()
    }

    fn connect(&self, namespace: NamespaceId, info: ClientInfo) -> Self::Client {
        self.connect(namespace, info)
    }
}

impl Client for omnilog_broker::Client {
    fn add(&self, correlation: u64, command: Command) {
        self.add(correlation, command);
    }

    fn flush(&self) {
        self.flush();
    }

    fn can_send(&self) -> bool {
        self.can_send()
    }

    fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        self.room()
    }

    fn place(&self) -> Place {
        self.place()
    }

    fn recv(&mut self, into: &mut Vec<Event>) -> impl Future<Output = ()> + Send {
        self.recv(into)
    }
}
