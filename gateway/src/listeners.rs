//! Listeners: binding addresses, accepting connections, and finding the protocol each is for.

use crate::config::{ListenerSettings, ProtocolName};
use crate::metrics::{Connections, OpenGuard};
use crate::shutdown::Shutdown;
use crate::tls::Tls;
use anyhow::Context;
use bytes::BytesMut;
use omnilog_broker::Broker;
use omnilog_wire::sniff::{self, Foreign, Found, SniffError};
use omnilog_wire::{
    Address, Connection, ConnectionError, ConnectionInfo, Listener, Protocol, Stream, TlsPeer,
};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span, warn};

/// Connections that wait for being accepted.
const BACKLOG: i32 = 4096;

/// A pause after the system could not hand out a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// So many connections are accepted in a row.
const ACCEPT_TOGETHER: u64 = 8;

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A host and port, as in `advertised`.
pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    let bad = || format!("'{text}' is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| bad())?;
    if host.is_empty() || port == 0 {
        return Err(bad());
    }
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// A listener with its address bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    socket: TcpListener,
    protocol: ProtocolName,
    tls: Option<Arc<Tls>>,
    listener: Arc<Listener>,
    connections: Arc<Connections>,
}

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) protocols: Arc<Vec<Arc<dyn Protocol>>>,
    pub(crate) broker: Broker,
    pub(crate) shutdown: Shutdown,
    pub(crate) handshake_max: Duration,
}

/// Binds a TCP address so that many clients can come at once.
pub(crate) fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().with_context(|| format!("cannot listen on {address} ({key})"))
}

impl Bound {
    /// Binds a listener's address.
    pub(crate) fn open(
        name: &str,
        settings: &ListenerSettings,
        connections: Arc<Connections>,
    ) -> anyhow::Result<Self> {
        let bind_to = settings.bind.context("no address")?;
        let socket = bind(&format!("listeners.{name}.bind"), bind_to)?;
        let tls = match &settings.tls {
            None => None,
            Some(tls) => Some(Arc::new(
                Tls::open(tls).with_context(|| format!("listeners.{name}.tls"))?,
            )),
        };
        let advertised = match &settings.advertised {
            None => None,
            Some(text) => Some(parse_address(text).map_err(anyhow::Error::msg)?),
        };
        Ok(Self {
            name: name.to_owned(),
            address: socket.local_addr()?,
            socket,
            protocol: settings.protocol.unwrap_or(ProtocolName::Auto),
            tls,
            listener: Arc::new(Listener {
                name: name.to_owned(),
                advertised,
                anonymous: settings.anonymous,
                meter: connections.meter(),
            }),
            connections,
        })
    }

    /// The listener's TLS, for reloading.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Accepts connections until the server stops.
    pub(crate) async fn run(self, common: Common) {
        let this = Arc::new(self);
        for accepted in 1u64.. {
            // Thousands that come at once are let in between others' work.
            if accepted.is_multiple_of(ACCEPT_TOGETHER) {
                tokio::task::yield_now().await;
            }
            let accepted = tokio::select! {
                () = common.shutdown.token.cancelled() => return,
                accepted = this.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => this.clone().accept(stream, peer, &common),
                Err(error) => {
                    warn!(listener = this.name, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn accept(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, common: &Common) {
        let Some(open) = self.connections.open() else {
            debug!(listener = self.name, %peer, "too many connections");
            return;
        };
        let span = debug_span!("connection", listener = self.name, %peer);
        let common = common.clone();
        let shutdown = common.shutdown.clone();
        shutdown.spawn(
            async move {
                match self.serve(stream, peer, open, common).await {
                    Ok(()) => debug!("closed"),
                    Err(error) if error.is_ours() => warn!(%error, "connection failed"),
                    Err(error) => debug!(%error, "connection ended"),
                }
            }
            .instrument(span),
        );
    }

    /// From the first byte to the last.
    async fn serve(
        self: Arc<Self>,
        tcp: TcpStream,
        peer: SocketAddr,
        mut open: OpenGuard,
        common: Common,
    ) -> Result<(), ConnectionError> {
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        let (of, with) = (self.clone(), common.clone());
        // Handshakes are most of the work that thousands make who come at once.
        let place = common.broker.newcomer();
        let identify = place.run(async move {
            let identify = of.identify(tcp, &with);
            timeout(with.handshake_max, identify).await
        });
        let identified = tokio::select! {
            () = common.shutdown.token.cancelled() => return Ok(()),
            identified = identify => identified,
        };
        // None: the server's end was overdue.
        let Some(identified) = identified else {
            return Ok(());
        };
        let identified = identified
            .map_err(|_| ConnectionError::Silent("no handshake, or no sign of a protocol"))??;
        open.speaks(identified.protocol.name());
        let connection = Connection {
            stream: identified.stream,
            prefix: identified.prefix,
            info: Arc::new(ConnectionInfo {
                peer,
                local,
                listener: self.listener.clone(),
                tls: identified.tls,
            }),
            shutdown: common.shutdown.token.child_token(),
        };
        identified.protocol.serve(connection, common.broker).await
    }

    /// TLS first, where configured; then the protocol, by configuration or by its first bytes.
    async fn identify(
        &self,
        tcp: TcpStream,
        common: &Common,
    ) -> Result<Identified, ConnectionError> {
        let mut prefix = BytesMut::new();
        let (mut stream, tls) = match &self.tls {
            None => (Stream::Tcp(tcp), None),
            // On a port for everything, clients with and without TLS are told apart; elsewhere TLS is a must.
            Some(_) if self.protocol == ProtocolName::Auto && !opens_tls(&tcp).await? => {
                (Stream::Tcp(tcp), None)
            }
            Some(tls) => {
                let (stream, peer) = tls.accept(tcp).await?;
                (stream, Some(peer))
            }
        };
        let configured = common
            .protocols
            .iter()
            .find(|protocol| protocol.name() == self.protocol.as_str());
        let protocol = match configured {
            Some(protocol) => protocol.clone(),
            None if self.protocol != ProtocolName::Auto => {
                return Err(ConnectionError::failure(
                    "the listener's protocol is not served",
                ));
            }
            None => sniff_protocol(&mut stream, &mut prefix, common).await?,
        };
        Ok(Identified {
            stream,
            prefix,
            tls,
            protocol,
        })
    }
}

/// A connection whose protocol is known.
struct Identified {
    stream: Stream,
    prefix: BytesMut,
    tls: Option<TlsPeer>,
    protocol: Arc<dyn Protocol>,
}

async fn sniff_protocol(
    stream: &mut Stream,
    prefix: &mut BytesMut,
    common: &Common,
) -> Result<Arc<dyn Protocol>, ConnectionError> {
    match sniff::sniff(stream, prefix, &common.protocols, common.handshake_max).await {
        Ok(Found::Protocol(protocol)) => Ok(protocol),
        Ok(Found::Foreign(foreign)) => Err(ConnectionError::refused(match foreign {
            Foreign::Tls => "a TLS handshake, but this listener has no certificate",
            Foreign::Proxy => "a PROXY header, which is not supported",
            Foreign::Http => "an HTTP request; the admin interface has a port of its own",
        })),
        Err(SniffError::Io(error)) => Err(error.into()),
        Err(SniffError::Closed) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        Err(error @ SniffError::Silent) => Err(ConnectionError::refused(error.to_string())),
        Err(error @ SniffError::Unknown) => Err(ConnectionError::violation(error.to_string())),
    }
}

/// Looks, without taking anything, whether a client opens with a TLS handshake: no protocol of ours begins with its
/// first byte.
async fn opens_tls(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let count = tcp.peek(&mut first).await?;
    Ok(count == 1 && first == [TLS_HANDSHAKE])
}
