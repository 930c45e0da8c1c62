//! Finding out what a connection speaks from its first bytes, for listeners that serve several protocols.

use crate::{Protocol, Sniff};
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// A connection that has not shown what it is after this many bytes is none of ours.
pub const PREFIX_BYTES_MAX: usize = 64;

/// The signature of version 2 of the PROXY protocol.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a connection's first bytes are, below any protocol of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A TLS handshake.
    Tls,
    /// A load balancer's PROXY header, version 1 or 2.
    Proxy,
    /// An HTTP request.
    Http,
}

/// Do these first bytes open something other than one of our protocols?
pub fn foreign(prefix: &[u8]) -> Result<Foreign, Sniff> {
    let mut undecided = false;
    let mut test = |is: Sniff, what: Foreign| {
        undecided |= is == Sniff::NeedMore;
        (is == Sniff::Yes).then_some(what)
    };
    let found = test(client_hello(prefix), Foreign::Tls)
        .or_else(|| test(opens(prefix, PROXY_V2), Foreign::Proxy))
        .or_else(|| test(opens(prefix, b"PROXY "), Foreign::Proxy))
        .or_else(|| test(http(prefix), Foreign::Http));
    match found {
        Some(found) => Ok(found),
        None if undecided => Err(Sniff::NeedMore),
        None => Err(Sniff::No),
    }
}

/// A handshake record of TLS 1.x with a ClientHello in it.
fn client_hello(prefix: &[u8]) -> Sniff {
    match prefix {
        [] | [0x16] | [0x16, 3] | [0x16, 3, 0..=4] => Sniff::NeedMore,
        [0x16, 3, 0..=4, _] | [0x16, 3, 0..=4, _, _] => Sniff::NeedMore,
        [0x16, 3, 0..=4, _, _, 1, ..] => Sniff::Yes,
        _ => Sniff::No,
    }
}

fn http(prefix: &[u8]) -> Sniff {
    const METHODS: [&[u8]; 7] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"OPTIONS ",
        b"DELETE ",
        b"PRI * HTTP/2",
    ];
    let mut answer = Sniff::No;
    for method in METHODS {
        match opens(prefix, method) {
            Sniff::Yes => return Sniff::Yes,
            Sniff::NeedMore => answer = Sniff::NeedMore,
            Sniff::No => {}
        }
    }
    answer
}

/// Does `prefix` start with `signature`?
pub fn opens(prefix: &[u8], signature: &[u8]) -> Sniff {
    let common = prefix.len().min(signature.len());
    if prefix.get(..common) != signature.get(..common) {
        Sniff::No
    } else if common == signature.len() {
        Sniff::Yes
    } else {
        Sniff::NeedMore
    }
}

/// What a connection turned out to be.
#[derive(Clone)]
pub enum Found {
    /// One of ours: the number of the protocol in the list.
    Protocol(Arc<dyn Protocol>),
    /// Something else.
    Foreign(Foreign),
}

/// Why it could not be found out.
#[derive(Debug, Error)]
pub enum SniffError {
    /// The peer sent too little for too long.
    #[error("peer did not say what it speaks in time")]
    Silent,
    /// The peer closed first.
    #[error("peer closed before saying what it speaks")]
    Closed,
    /// The bytes are no protocol of ours.
    #[error("unknown protocol")]
    Unknown,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Decides from the bytes so far. `None`: more are needed.
pub fn decide(prefix: &[u8], protocols: &[Arc<dyn Protocol>]) -> Option<Result<Found, SniffError>> {
    let mut undecided = prefix.is_empty();
    match foreign(prefix) {
        Ok(found) => return Some(Ok(Found::Foreign(found))),
        Err(Sniff::NeedMore) => undecided = true,
        Err(_) => {}
    }
    for protocol in protocols {
        match protocol.sniff(prefix) {
            // Another may yet turn out to fit better, but the first that is certain is taken.
            Sniff::Yes => return Some(Ok(Found::Protocol(protocol.clone()))),
            Sniff::NeedMore => undecided = true,
            Sniff::No => {}
        }
    }
    if undecided && prefix.len() < PREFIX_BYTES_MAX {
        None
    } else {
        Some(Err(SniffError::Unknown))
    }
}

/// Reads until the connection has shown what it is. What was read stays in `prefix`.
///
/// # Errors
/// See [`SniffError`].
pub async fn sniff(
    stream: &mut (impl AsyncRead + Unpin),
    prefix: &mut BytesMut,
    protocols: &[Arc<dyn Protocol>],
    patience: Duration,
) -> Result<Found, SniffError> {
    let read = async {
        loop {
            if let Some(decision) = decide(prefix, protocols) {
                return decision;
            }
            prefix.reserve(PREFIX_BYTES_MAX);
            if stream.read_buf(prefix).await? == 0 {
                return Err(SniffError::Closed);
            }
        }
    };
    match timeout(patience, read).await {
        Ok(decision) => decision,
        Err(_) => Err(SniffError::Silent),
    }
}

#[cfg(test)]
mod tests;
