//! An accepted connection, as the gateway hands it to a protocol.

use crate::Stream;
use bytes::BytesMut;
use omnilog_auth::Origin;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// The bytes.
    pub stream: Stream,
    /// What was read already to find out the protocol.
    pub prefix: BytesMut,
    /// What is known about it.
    pub info: Arc<ConnectionInfo>,
    /// Fires when the server stops.
    pub shutdown: CancellationToken,
}

/// What is known about a connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// The TLS session's facts, where there is one.
    pub tls: Option<TlsPeer>,
}

/// A TLS connection's peer.
#[derive(Debug, Clone)]
pub struct TlsPeer {
    /// The certificate that the client showed and that was verified, DER encoded.
    pub certificate: Option<Vec<u8>>,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
}

/// A listener, as its connections see it.
#[derive(Debug)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: String,
    /// The address that clients are told to use, where it differs from the one they connected to.
    pub advertised: Option<Address>,
    /// Whether clients may stay anonymous here; without a word on it, those on this machine may.
    pub anonymous: Option<bool>,
    /// What passed through it.
    pub meter: Arc<Meter>,
}

/// A host and port for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl ConnectionInfo {
    /// The address under which this client reaches this server: the configured one, else the one it used.
    pub fn advertised(&self) -> Address {
        self.listener
            .advertised
            .clone()
            .unwrap_or_else(|| self.local.into())
    }

    /// Where an attempt to authenticate comes from.
    pub fn origin(&self) -> Origin {
        Origin {
            loopback: self.is_loopback(),
            anonymous: self.listener.anonymous,
            certificate_name: None,
        }
    }

    /// Does the peer sit on this machine?
    pub fn is_loopback(&self) -> bool {
        self.peer.ip().to_canonical().is_loopback()
    }
}

/// Counts of what passed through a listener's connections.
#[derive(Debug, Default)]
pub struct Meter {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    commands: AtomicU64,
    events: AtomicU64,
}

impl Meter {
    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn commanded(&self, commands: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
    }

    pub(crate) fn heard(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    /// Bytes read from clients.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes written to clients.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Commands given to the broker.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Events that came from the broker.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// A connection over a pipe from and to an address of this machine, for tests.
    pub fn over_pipe(stream: tokio::io::DuplexStream) -> Self {
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        Self {
            stream: Stream::Pipe(stream),
            prefix: BytesMut::new(),
            info: Arc::new(ConnectionInfo {
                peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
                local,
                listener: Arc::new(Listener {
                    name: "pipe".to_owned(),
                    advertised: None,
                    anonymous: None,
                    meter: Arc::new(Meter::default()),
                }),
                tls: None,
            }),
            shutdown: CancellationToken::new(),
        }
    }
}
