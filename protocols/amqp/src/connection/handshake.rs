//! From the protocol header to `connection.open-ok` (section 2.2.4): who is it, what is agreed on, which vhost?

use super::core::{Capabilities, Core};
use super::{AmqpSession, Open, Phase, Signal};
use crate::codec::{
    FRAME_MIN_BYTES, Frame, FrameKind, Method, MethodId, PROTOCOL_HEADER, Writer, decode_table,
};
use crate::rescue::{Code, Fault};
use bytes::{Buf, Bytes, BytesMut};
use omnilog_auth::sasl::parse_plain;
use omnilog_auth::{Denied, Operation, Principal, Resource, Verdict};
use omnilog_broker::{ClientInfo, Name, NamespaceId, Table, Value};
use omnilog_wire::{Close, ConnectionError, Outbox};
use std::collections::HashMap;
use std::time::Instant;

/// A connection that is not open yet.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    stage: Stage,
    capabilities: Capabilities,
    mechanism: String,
    principal: Option<Principal>,
}

/// What is due next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Header,
    StartOk,
    /// A password is being checked.
    Authenticating,
    TuneOk,
    Open,
    /// They may not come in; the end of the connection is put off, so that guessing takes its time.
    Refused,
}

impl Handshake {
    pub(super) fn awaits_header(&self) -> bool {
        self.stage == Stage::Header
    }

    pub(super) fn is_refused(&self) -> bool {
        self.stage == Stage::Refused
    }
}

impl AmqpSession {
    fn handshake(&mut self) -> Option<&mut Handshake> {
        match &mut self.phase {
            Phase::Opening(handshake) => Some(handshake),
            _ => None,
        }
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(handshake) = self.handshake() {
            handshake.stage = stage;
        }
    }

    /// The protocol header: answered with `connection.start`, or with the one we speak.
    pub(super) fn on_header(
        &mut self,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<bool, ConnectionError> {
        let common = input.len().min(4);
        let foreign = input.get(..common) != PROTOCOL_HEADER.get(..common);
        let Some(header) = input.first_chunk::<8>().filter(|_| !foreign) else {
            if !foreign {
                return Ok(false);
            }
            return Err(refuse_header(out));
        };
        // 0-9-1, and what some clients of it say.
        let known = header == PROTOCOL_HEADER || header == b"AMQP\x01\x01\x00\x09";
        if !known {
            return Err(refuse_header(out));
        }
        input.advance(8);
        let properties = self.server_properties();
        Writer::method(out.buffer(), 0, MethodId::CONNECTION_START, |w| {
            w.u8(0)
                .u8(9)
                .table(&properties)
                .long(b"AMQPLAIN PLAIN")
                .long(b"en_US");
        });
        self.stage(Stage::StartOk);
        Ok(true)
    }

    fn server_properties(&self) -> Table {
        let config = &self.shared.config;
        let text = |value: &str| Value::Bytes(Bytes::copy_from_slice(value.as_bytes()));
        let capabilities = [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ];
        let capabilities = capabilities
            .iter()
            .map(|name| (Name::from_static(name.as_bytes()), Value::Bool(true)))
            .collect();
        let mut properties = vec![(
            Name::from_static(b"capabilities"),
            Value::Table(capabilities),
        )];
        for (name, value) in [
            ("cluster_name", &*config.cluster_name),
            ("copyright", "the Omnilog authors"),
            ("information", "Omnilog, a gateway for AMQP, Kafka and MQTT"),
            ("platform", "Omnilog"),
            ("product", &*config.product),
            ("version", &*config.version),
        ] {
            properties.push((Name::from_static(name.as_bytes()), text(value)));
        }
        properties
    }

    /// A frame before the connection is open.
    pub(super) fn on_handshake(
        &mut self,
        now: Instant,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let Phase::Opening(handshake) = &self.phase else {
            return Ok(());
        };
        let stage = handshake.stage;
        if frame.kind == FrameKind::Heartbeat && frame.channel == 0 {
            return Ok(());
        }
        let decoded = match frame.kind {
            FrameKind::Method if frame.channel == 0 => Method::decode(frame.payload),
            _ => {
                let fault = Fault::new(
                    Code::UnexpectedFrame,
                    MethodId::NONE,
                    "expected a method on channel 0",
                );
                self.close(now, &fault, out);
                return Ok(());
            }
        };
        let (id, method) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.close(now, &error.into(), out);
                return Ok(());
            }
        };
        match (stage, method) {
            (_, Method::ConnectionClose { .. }) => {
                self.on_close(now, out);
                Ok(())
            }
            (
                Stage::StartOk,
                Method::ConnectionStartOk {
                    client_properties,
                    mechanism,
                    response,
                    ..
                },
            ) => self.on_start_ok(now, &client_properties, &mechanism, &response, out),
            (
                Stage::TuneOk,
                Method::ConnectionTuneOk {
                    channel_max,
                    frame_max,
                    heartbeat,
                },
            ) => {
                if let Err(fault) = self.on_tune_ok(now, channel_max, frame_max, heartbeat) {
                    self.close(now, &fault, out);
                }
                Ok(())
            }
            (Stage::Open, Method::ConnectionOpen { vhost }) => {
                if let Err(fault) = self.on_open(&vhost, out) {
                    self.close(now, &fault, out);
                }
                Ok(())
            }
            _ => {
                let fault = Fault::new(
                    Code::CommandInvalid,
                    id,
                    format!("{id} is not expected at this stage"),
                );
                self.close(now, &fault, out);
                Ok(())
            }
        }
    }

    fn on_start_ok(
        &mut self,
        now: Instant,
        client_properties: &Table,
        mechanism: &[u8],
        response: &Bytes,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        if let Some(handshake) = self.handshake() {
            handshake.capabilities = Capabilities::of(client_properties);
            handshake.mechanism = String::from_utf8_lossy(mechanism).into_owned();
        }
        let credentials = match mechanism {
            b"PLAIN" => parse_plain(response).map(|message| {
                (
                    Bytes::copy_from_slice(message.user),
                    Bytes::copy_from_slice(message.password),
                )
            }),
            b"AMQPLAIN" => amqplain(response),
            _ => Err(Denied::Malformed("unknown mechanism")),
        };
        let verdict = match credentials {
            Ok((user, password)) => {
                let authority = self.shared.authenticator.authority();
                authority.password(&user, &password, &self.info.origin())
            }
            Err(denied) => Verdict::Now(Err(denied)),
        };
        self.stage(Stage::Authenticating);
        match verdict {
            Verdict::Now(outcome) => self.on_authenticated(now, outcome, out),
            Verdict::Slow(check) => {
                out.pause_reading(true);
                let signals = self.signals.clone();
                self.shared.authenticator.run(check, move |outcome| {
                    signals.send(Signal::Authenticated(outcome));
                });
                Ok(())
            }
        }
    }

    /// It is known who it is, or that they may not come in.
    pub(super) fn on_authenticated(
        &mut self,
        now: Instant,
        outcome: Result<Principal, Denied>,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let config = self.shared.config.clone();
        let peer = self.info.peer;
        let Some(handshake) = self.handshake() else {
            return Ok(());
        };
        if handshake.stage != Stage::Authenticating {
            return Ok(());
        }
        let denied = match outcome {
            Ok(principal) => {
                out.pause_reading(false);
                handshake.principal = Some(principal);
                handshake.stage = Stage::TuneOk;
                Writer::method(out.buffer(), 0, MethodId::CONNECTION_TUNE, |w| {
                    w.u16(config.channels_max)
                        .u32(config.frame_bytes_max)
                        .u16(config.heartbeat_s);
                });
                return Ok(());
            }
            Err(denied) => denied,
        };
        tracing::info!(%peer, %denied, "not authenticated");
        let mechanism = std::mem::take(&mut handshake.mechanism);
        if handshake.capabilities.authentication_failure_close {
            let fault = Fault::new(
                Code::AccessRefused,
                MethodId::NONE,
                format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                ),
            );
            self.close(now, &fault, out);
        } else {
            handshake.stage = Stage::Refused;
            self.due = Some(now + config.refusal_delay);
            out.pause_reading(true);
        }
        Ok(())
    }

    fn on_tune_ok(
        &mut self,
        now: Instant,
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    ) -> Result<(), Fault> {
        let config = &self.shared.config;
        negotiated(
            "channel_max",
            1,
            config.channels_max.into(),
            channel_max.into(),
        )?;
        negotiated(
            "frame_max",
            FRAME_MIN_BYTES,
            config.frame_bytes_max,
            frame_max,
        )?;
        self.channels_max = channel_max;
        self.frame_max = if frame_max == 0 {
            usize::MAX
        } else {
            frame_max as usize
        };
        self.heartbeat.start(now, heartbeat);
        self.stage(Stage::Open);
        Ok(())
    }

    fn on_open(&mut self, vhost: &Bytes, out: &mut Outbox) -> Result<(), Fault> {
        let frame_max = self.frame_max;
        let shared = self.shared.clone();
        let namespace = (self.namespaces)(vhost);
        let peer = self.info.peer.to_string();
        let Some(handshake) = self.handshake() else {
            return Ok(());
        };
        let principal = handshake
            .principal
            .take()
            .unwrap_or_else(Principal::anonymous);
        let capabilities = handshake.capabilities;
        let namespace: NamespaceId = enter(&shared, &principal, namespace, vhost)?;
        let info = ClientInfo {
            principal: Name::copy_from_slice(principal.name().as_bytes()),
            protocol: "amqp".to_owned(),
            peer,
        };
        out.connect(namespace, info);
        Writer::method(out.buffer(), 0, MethodId::CONNECTION_OPEN_OK, |w| {
            w.short(b"");
        });
        let vhost = Name::copy_from_slice(vhost);
        self.due = None;
        self.phase = Phase::Open(Box::new(Open {
            core: Core::new(shared, principal, vhost, frame_max, capabilities),
            channels: HashMap::new(),
        }));
        Ok(())
    }
}

/// A connection that opens with anything else hears what we speak, and is closed.
fn refuse_header(out: &mut Outbox) -> ConnectionError {
    out.put_slice(PROTOCOL_HEADER);
    out.close(Close::Linger);
    ConnectionError::violation("unsupported protocol header")
}

/// May they enter this vhost, if there is one?
fn enter(
    shared: &crate::protocol::Shared,
    principal: &Principal,
    namespace: Option<NamespaceId>,
    vhost: &[u8],
) -> Result<NamespaceId, Fault> {
    let refuse = |text: String| Fault::new(Code::NotAllowed, MethodId::CONNECTION_OPEN, text);
    let name = String::from_utf8_lossy(vhost);
    let Some(namespace) = namespace else {
        return Err(refuse(format!("vhost {name} not found")));
    };
    let rules = shared.authenticator.authority().rules();
    if !rules.allows(principal, Operation::Read, Resource::Namespace(vhost)) {
        return Err(refuse(format!(
            "access to vhost '{name}' refused for user '{}'",
            principal.name()
        )));
    }
    Ok(namespace)
}

/// Does the client's answer fit the offer? 0 means no limit.
fn negotiated(field: &str, minimum: u32, offered: u32, answered: u32) -> Result<(), Fault> {
    let fail = |is: &str, bound: &str, allowed: u32| {
        let unlimited = if answered == 0 { " (no limit)" } else { "" };
        Err(Fault::new(
            Code::NotAllowed,
            MethodId::CONNECTION_TUNE,
            format!(
                "negotiated {field} = {answered}{unlimited} is {is} than the {bound} allowed value ({allowed})"
            ),
        ))
    };
    if answered != 0 && answered < minimum {
        return fail("lower", "minimum", minimum);
    }
    if offered != 0 && (answered == 0 || answered > offered) {
        return fail("higher", "maximum", offered);
    }
    Ok(())
}

/// AMQPLAIN: a table's fields without its length.
fn amqplain(response: &Bytes) -> Result<(Bytes, Bytes), Denied> {
    let table =
        decode_table(response.clone()).map_err(|_| Denied::Malformed("AMQPLAIN is no table"))?;
    let field = |wanted: &str| {
        table
            .iter()
            .find_map(|(name, value)| (name == wanted).then(|| value.as_bytes().cloned())?)
    };
    match (field("LOGIN"), field("PASSWORD")) {
        (Some(user), Some(password)) => Ok((user, password)),
        _ => Err(Denied::Malformed("AMQPLAIN has no LOGIN or PASSWORD")),
    }
}
