//! Who somebody is, and where they come from.

use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// An authenticated somebody. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: Arc<str>,
    anonymous: bool,
}

impl Principal {
    /// A user, or a certificate's subject.
    pub fn user(name: &str) -> Self {
        Self {
            name: name.into(),
            anonymous: false,
        }
    }

    /// Somebody who did not say who they are.
    pub fn anonymous() -> Self {
        Self {
            name: "ANONYMOUS".into(),
            anonymous: true,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Did they not say who they are?
    pub fn is_anonymous(&self) -> bool {
        self.anonymous
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Where an attempt comes from: what of it matters for whether it may succeed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The peer is on this machine.
    pub loopback: bool,
    /// The listener's own word on anonymous clients; without one they are let in from this machine only.
    pub anonymous: Option<bool>,
    /// The name in a certificate that was verified.
    pub certificate_name: Option<String>,
}

/// A normal no. What exactly was wrong is for the log, not for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// No such user, or not this password.
    #[error("unknown user or wrong password")]
    BadCredentials,
    /// The user may connect from this machine only.
    #[error("user can only connect from this machine")]
    LoopbackOnly,
    /// Anonymous clients are not let in here.
    #[error("anonymous clients are not allowed here")]
    AnonymousNotAllowed,
    /// The mechanism needs a verified client certificate.
    #[error("no verified client certificate")]
    NoCertificate,
    /// The peer's message does not follow its mechanism.
    #[error("malformed authentication message: {0}")]
    Malformed(&'static str),
    /// The peer asks to act as somebody else.
    #[error("acting for another user is not supported")]
    OtherIdentity,
}
