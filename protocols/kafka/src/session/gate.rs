//! Who a connection's client is: SASL (KIP-43, KIP-152), and what may be asked before.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use omnilog_auth::sasl::{Exchange, Mechanism, Step};
use omnilog_auth::{Denied, Principal};
use omnilog_wire::ConnectionError;

use super::slots::Request;
use super::{Context, Signal};
use crate::codec::{Api, CodecError, Reply};
use crate::rescue;

/// The mechanisms on offer.
const MECHANISMS: [Mechanism; 3] = [
    Mechanism::Plain,
    Mechanism::ScramSha256,
    Mechanism::ScramSha512,
];

/// How long a failure is kept from the client, so that guessing is slow
/// (`connection.failed.authentication.delay.ms`).
const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// A response that is told later.
struct Held {
    slot: u64,
    reply: Reply,
    at: Instant,
}

/// Where a connection stands with its authentication.
pub(super) struct Gate {
    /// The exchange that SaslHandshake chose and SaslAuthenticate carries on.
    exchange: Option<Exchange>,
    /// A password is being checked for this request.
    checking: Option<Request>,
    /// The client failed to say who it is: it is told so, and nothing else is taken from it.
    failed: bool,
    /// The response that tells it.
    held: Option<Held>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            exchange: None,
            checking: None,
            failed: false,
            held: None,
        }
    }

    /// May requests as large as an authenticated client's come in?
    pub(super) fn is_open(&self, context: &Context) -> bool {
        context.principal.is_some()
            || context
                .authenticator
                .authority()
                .anonymous(&context.origin)
                .is_ok()
    }

    /// Is the outcome of a check awaited?
    pub(super) fn is_busy(&self) -> bool {
        self.checking.is_some() || self.held.is_some()
    }

    /// When a response that is held is to be told.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.at)
    }

    /// The slot and the response whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(u64, Reply)> {
        let held = self.held.take_if(|held| held.at <= now)?;
        Some((held.slot, held.reply))
    }

    /// Lets a request other than SASL's pass; a client that has not said who it is may be let in
    /// without a name.
    pub(super) fn pass(&self, context: &mut Context) -> Result<(), ConnectionError> {
        if context.principal.is_some() {
            return Ok(());
        }
        if self.exchange.is_some() || self.failed {
            return Err(ConnectionError::refused("request before authentication"));
        }
        match context.authenticator.authority().anonymous(&context.origin) {
            Ok(principal) => {
                context.principal = Some(principal);
                Ok(())
            }
            Err(denied) => Err(ConnectionError::refused(denied.to_string())),
        }
    }

    /// Takes a SaslHandshake or SaslAuthenticate; `None`: the response comes later.
    pub(super) fn sasl(
        &mut self,
        context: &mut Context,
        request: &Request,
        body: &Bytes,
        now: Instant,
    ) -> Result<Option<Reply>, ConnectionError> {
        if self.failed {
            return Err(ConnectionError::refused("authentication failed"));
        }
        match request.api {
            Api::SaslHandshake => {
                let handshake: SaslHandshakeRequest = decode(request, body)?;
                self.handshake(context, request, &handshake).map(Some)
            }
            _ => {
                let authenticate: SaslAuthenticateRequest = decode(request, body)?;
                self.authenticate(context, request, &authenticate.auth_bytes, now)
            }
        }
    }

    fn handshake(
        &mut self,
        context: &Context,
        request: &Request,
        handshake: &SaslHandshakeRequest,
    ) -> Result<Reply, ConnectionError> {
        let names = MECHANISMS.map(|mechanism| StrBytes::from_static_str(mechanism.name()));
        let mut response = SaslHandshakeResponse::default().with_mechanisms(names.to_vec());
        let asked = Mechanism::named(handshake.mechanism.as_bytes());
        let chosen = asked.filter(|mechanism| MECHANISMS.contains(mechanism));
        match chosen {
            _ if context.principal.is_some() => {
                response.error_code = ResponseError::IllegalSaslState.code();
            }
            // Version 0 goes on with tokens outside of any request, which we do not read.
            Some(_) if request.version == 0 => {
                response.error_code = ResponseError::UnsupportedSaslMechanism.code();
            }
            Some(mechanism) => {
                let authority = context.authenticator.authority().clone();
                self.exchange = Some(Exchange::new(mechanism, authority, context.origin.clone()));
            }
            None => response.error_code = ResponseError::UnsupportedSaslMechanism.code(),
        }
        encode(request, &response)
    }

    fn authenticate(
        &mut self,
        context: &mut Context,
        request: &Request,
        message: &[u8],
        now: Instant,
    ) -> Result<Option<Reply>, ConnectionError> {
        let Some(exchange) = &mut self.exchange else {
            let error = ResponseError::IllegalSaslState;
            let text = "SaslHandshake must come first".to_owned();
            return failed(request, error, text).map(Some);
        };
        match exchange.step(message) {
            Step::Challenge(challenge) => {
                let response =
                    SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from(challenge));
                encode(request, &response).map(Some)
            }
            Step::Check(check) => {
                self.checking = Some(request.clone());
                let signals = context.signals.clone();
                context.authenticator.run(check, move |outcome| {
                    // A session that is gone needs no outcome.
                    let _gone = signals.send(Signal::Authenticated(outcome));
                });
                Ok(None)
            }
            Step::Done { principal, last } => {
                self.admit(context, request, principal, last).map(Some)
            }
            Step::Denied(denied) => self.deny(request, denied, now).map(|()| None),
        }
    }

    /// Takes the outcome of a check; the slot whose response it is and the response, unless that
    /// is held.
    pub(super) fn authenticated(
        &mut self,
        context: &mut Context,
        outcome: Result<Principal, Denied>,
        now: Instant,
    ) -> Result<Option<(u64, Reply)>, ConnectionError> {
        let Some(request) = self.checking.take() else {
            return Err(ConnectionError::failure("outcome of no check"));
        };
        match outcome {
            Ok(principal) => {
                let reply = self.admit(context, &request, principal, Vec::new())?;
                Ok(Some((request.number, reply)))
            }
            Err(denied) => self.deny(&request, denied, now).map(|()| None),
        }
    }

    fn admit(
        &mut self,
        context: &mut Context,
        request: &Request,
        principal: Principal,
        last: Vec<u8>,
    ) -> Result<Reply, ConnectionError> {
        self.exchange = None;
        context.principal = Some(principal);
        encode(
            request,
            &SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from(last)),
        )
    }

    /// The client hears that it failed, not why; after it, nothing more is taken.
    fn deny(
        &mut self,
        request: &Request,
        denied: Denied,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        self.exchange = None;
        self.failed = true;
        tracing::info!(%denied, "authentication failed");
        let text = "Authentication failed: invalid credentials".to_owned();
        let reply = failed(request, ResponseError::SaslAuthenticationFailed, text)?;
        self.held = Some(Held {
            slot: request.number,
            reply,
            at: now + FAILURE_DELAY,
        });
        Ok(())
    }
}

fn failed(request: &Request, error: ResponseError, text: String) -> Result<Reply, ConnectionError> {
    let response = SaslAuthenticateResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_string(text)));
    encode(request, &response)
}

fn decode<M: Decodable>(request: &Request, body: &Bytes) -> Result<M, ConnectionError> {
    M::decode(&mut body.clone(), request.version)
        .map_err(|_| rescue::codec(CodecError::Malformed(request.api.key())))
}

fn encode<M: Encodable>(request: &Request, message: &M) -> Result<Reply, ConnectionError> {
    Reply::encode(
        request.api,
        request.version,
        request.correlation_id,
        message,
    )
    .map_err(ConnectionError::failure)
}
