//! One authentication exchange, whatever its mechanism.

use super::parse_plain;
use super::scram::{Hash, Scram};
use crate::{Authority, Denied, Origin, PasswordCheck, Principal, Verdict};

/// The mechanisms that are the same in every protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Name and password (RFC 4616).
    Plain,
    /// The TLS certificate says it (RFC 4422, appendix A).
    External,
    /// No name at all (RFC 4505).
    Anonymous,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// The mechanism of this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"PLAIN" => Self::Plain,
            b"EXTERNAL" => Self::External,
            b"ANONYMOUS" => Self::Anonymous,
            b"SCRAM-SHA-256" => Self::ScramSha256,
            b"SCRAM-SHA-512" => Self::ScramSha512,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::External => "EXTERNAL",
            Self::Anonymous => "ANONYMOUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// What follows a client's message.
#[derive(Debug)]
pub enum Step {
    /// Send this and wait for the answer.
    Challenge(Vec<u8>),
    /// Run this off the runtime's threads; its outcome is the exchange's.
    Check(PasswordCheck),
    /// It is them. Send `last` with the success.
    Done {
        /// Who it is.
        principal: Principal,
        /// The mechanism's last word to the client; often empty.
        last: Vec<u8>,
    },
    /// No.
    Denied(Denied),
}

impl From<Verdict> for Step {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Now(Ok(principal)) => Self::Done {
                principal,
                last: Vec::new(),
            },
            Verdict::Now(Err(denied)) => Self::Denied(denied),
            Verdict::Slow(check) => Self::Check(check),
        }
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    authority: Authority,
    origin: Origin,
    state: State,
}

#[derive(Debug)]
enum State {
    Simple(Mechanism),
    Scram(Box<Scram>),
}

impl Exchange {
    /// Begins one.
    pub fn new(mechanism: Mechanism, authority: Authority, origin: Origin) -> Self {
        let state = match mechanism {
            Mechanism::ScramSha256 => State::Scram(Box::new(Scram::new(Hash::Sha256))),
            Mechanism::ScramSha512 => State::Scram(Box::new(Scram::new(Hash::Sha512))),
            simple => State::Simple(simple),
        };
        Self {
            authority,
            origin,
            state,
        }
    }

    /// Takes the client's next message.
    pub fn step(&mut self, message: &[u8]) -> Step {
        match &mut self.state {
            State::Simple(Mechanism::Plain) => self.plain(message),
            State::Simple(Mechanism::External) => self.external(message),
            State::Simple(_) => Verdict::Now(self.authority.anonymous(&self.origin)).into(),
            State::Scram(scram) => scram.step(message, &self.authority, &self.origin),
        }
    }

    fn plain(&self, message: &[u8]) -> Step {
        let plain = match parse_plain(message) {
            Ok(plain) => plain,
            Err(denied) => return Step::Denied(denied),
        };
        if !plain.authorization.is_empty() && plain.authorization != plain.user {
            return Step::Denied(Denied::OtherIdentity);
        }
        self.authority
            .password(plain.user, plain.password, &self.origin)
            .into()
    }

    fn external(&self, message: &[u8]) -> Step {
        let verdict = match &self.origin.certificate_name {
            None => Err(Denied::NoCertificate),
            Some(name) if message.is_empty() || message == name.as_bytes() => {
                Ok(Principal::user(name))
            }
            Some(_) => Err(Denied::OtherIdentity),
        };
        Verdict::Now(verdict).into()
    }
}
