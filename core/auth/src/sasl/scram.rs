//! SCRAM-SHA-256 and SCRAM-SHA-512, the server's side (RFC 5802, RFC 7677), without channel binding.

use super::Step;
use crate::{Authority, Denied, Origin, Principal};
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;

/// PBKDF2 rounds for passwords known in the clear; the least that the RFC and Kafka accept.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// Length of salts.
pub(crate) const SALT_BYTES: usize = 16;

/// Longer messages are none.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data)
            .as_ref()
            .to_vec()
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let (algorithm, bytes) = match self {
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        };
        let mut out = vec![0; bytes];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut out);
        out
    }
}

/// What the server knows of a user's password.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Keys {
    /// From the password.
    pub(crate) fn derive(hash: Hash, password: &[u8], salt: &[u8]) -> Self {
        Self::derive_with(hash, password, salt, ITERATIONS)
    }

    fn derive_with(hash: Hash, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = hash.salted(password, salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: hash.digest(&client_key),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }

    /// Keys that no password fits.
    pub(crate) fn nobody(hash: Hash, salt: &[u8]) -> Self {
        let length = hash.digest(b"").len();
        Self {
            salt: salt.to_vec(),
            iterations: ITERATIONS,
            stored_key: vec![0; length],
            server_key: vec![0; length],
        }
    }
}

/// An exchange under way.
#[derive(Debug)]
pub(crate) struct Scram {
    hash: Hash,
    state: State,
}

#[derive(Debug)]
enum State {
    First,
    Final(Box<Pending>),
    Over,
}

/// After the client's first message.
#[derive(Debug)]
struct Pending {
    keys: Keys,
    outcome: Result<Principal, Denied>,
    nonce: String,
    /// What the client has to repeat of its first message's header, in base64.
    binding: String,
    client_first_bare: String,
    server_first: String,
}

impl Scram {
    pub(crate) fn new(hash: Hash) -> Self {
        Self {
            hash,
            state: State::First,
        }
    }

    pub(crate) fn step(&mut self, message: &[u8], authority: &Authority, origin: &Origin) -> Step {
        let stepped = match std::mem::replace(&mut self.state, State::Over) {
            State::First => {
                nonce().and_then(|nonce| self.first(message, authority, origin, &nonce))
            }
            State::Final(pending) => self.last(message, *pending),
            State::Over => Err(Denied::Malformed("the exchange is over")),
        };
        stepped.unwrap_or_else(Step::Denied)
    }

    /// `n,,n=user,r=nonce` is answered by `r=nonce+ours,s=salt,i=iterations`.
    fn first(
        &mut self,
        message: &[u8],
        authority: &Authority,
        origin: &Origin,
        nonce: &str,
    ) -> Result<Step, Denied> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Denied::Malformed("no SCRAM header"));
        };
        if flag != "n" && flag != "y" {
            return Err(Denied::Malformed("channel binding is not supported"));
        }
        let mut attributes = bare.split(',');
        let user = attribute(attributes.next(), "n=")?;
        let client_nonce = attribute(attributes.next(), "r=")?;
        if client_nonce.is_empty() {
            return Err(Denied::Malformed("empty nonce"));
        }
        let user = unescape(user)?;
        if !authzid.is_empty() && unescape(attribute(Some(authzid), "a=")?)? != user {
            return Err(Denied::OtherIdentity);
        }
        let (keys, outcome) = authority.scram_keys(self.hash, &user, origin);
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&keys.salt),
            keys.iterations
        );
        self.state = State::Final(Box::new(Pending {
            keys,
            outcome,
            nonce,
            binding: STANDARD.encode(format!("{flag},{authzid},")),
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
        }));
        Ok(Step::Challenge(server_first.into_bytes()))
    }

    /// `c=binding,r=nonce,p=proof` is answered by `v=signature`.
    fn last(&self, message: &[u8], pending: Pending) -> Result<Step, Denied> {
        let message = text(message)?;
        let (without_proof, proof) = message
            .rsplit_once(",p=")
            .ok_or(Denied::Malformed("no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attribute(attributes.next(), "c=")?;
        let nonce = attribute(attributes.next(), "r=")?;
        // Older librdkafka puts its own nonce before the whole one once more, which Apache Kafka lets pass. Nothing is
        // lost by it: our part is there, and the proof covers what was sent.
        if binding != pending.binding || !nonce.ends_with(&pending.nonce) {
            return Err(Denied::Malformed("nonce or header changed"));
        }
        let proof = STANDARD
            .decode(proof)
            .map_err(|_| Denied::Malformed("proof is not base64"))?;
        let signed = format!(
            "{},{},{without_proof}",
            pending.client_first_bare, pending.server_first
        );
        let signature = self.hash.hmac(&pending.keys.stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(Denied::BadCredentials);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let fits: bool = self
            .hash
            .digest(&client_key)
            .ct_eq(&pending.keys.stored_key)
            .into();
        let principal = pending.outcome?;
        if !fits {
            return Err(Denied::BadCredentials);
        }
        let verifier = self.hash.hmac(&pending.keys.server_key, signed.as_bytes());
        Ok(Step::Done {
            principal,
            last: format!("v={}", STANDARD.encode(verifier)).into_bytes(),
        })
    }
}

fn text(message: &[u8]) -> Result<&str, Denied> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Denied::Malformed("message too long"));
    }
    std::str::from_utf8(message).map_err(|_| Denied::Malformed("not UTF-8"))
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, Denied> {
    part.and_then(|part| part.strip_prefix(name))
        .ok_or(Denied::Malformed("attribute missing"))
}

/// A name as SCRAM writes it: `=2C` is a comma, `=3D` an equals sign.
fn unescape(name: &str) -> Result<String, Denied> {
    let mut out = String::with_capacity(name.len());
    let mut parts = name.split('=');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            out.push(',');
            out.push_str(rest);
        } else if let Some(rest) = part.strip_prefix("3D") {
            out.push('=');
            out.push_str(rest);
        } else {
            return Err(Denied::Malformed("bad escape in name"));
        }
    }
    Ok(out)
}

fn nonce() -> Result<String, Denied> {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).map_err(|_| Denied::Malformed("no randomness"))?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests;
