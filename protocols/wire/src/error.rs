//! What ends a connection other than its regular end.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use thiserror::Error;

/// Why a connection could not go on. Every one costs its own connection only.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The peer broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(Cow<'static, str>),
    /// A normal no that ends the connection: not authenticated, not authorised, a limit.
    #[error("refused: {0}")]
    Refused(Cow<'static, str>),
    /// The peer was silent for longer than the protocol allows.
    #[error("peer silent for too long: {0}")]
    Silent(&'static str),
    /// The peer took no bytes for too long while some were waiting for it.
    #[error("peer takes no bytes: {backlog_bytes} waiting")]
    SlowPeer {
        /// Bytes that were waiting.
        backlog_bytes: usize,
    },
    /// The socket failed.
    #[error("connection broke: {0}")]
    Io(#[from] io::Error),
    /// Our fault.
    #[error("failure: {0}")]
    Failure(#[source] Box<dyn Error + Send + Sync>),
}

impl ConnectionError {
    /// The peer broke the protocol: how.
    pub fn violation(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Violation(reason.into())
    }

    /// A normal no.
    pub fn refused(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(reason.into())
    }

    /// Our fault.
    pub fn failure(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failure(cause.into())
    }

    /// Is this worth an operator's attention, rather than everyday life of a network?
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Failure(_))
    }
}
