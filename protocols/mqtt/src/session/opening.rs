//! From CONNECT to CONNACK (MQTT 5 section 3.1.4): who is it, may they, and is there a session to resume?

use super::closing::expiry_of;
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::subscribing::Subscribing;
use super::{Awaited, MqttSession, Open, PeerLimits, Phase, Signal};
use crate::codec::{
    ConnAck, Connect, ConnectError, ConnectReturn, FixedHeader, LastWill, Property, ReasonCode,
    Version, Violation,
};
use crate::gather;
use crate::rescue::ConnectRefusal;
use bytes::Bytes;
use omnilog_auth::{Denied, Operation, Principal, Resource, Verdict};
use omnilog_broker::{
    ClientInfo, Command, Name, NamespaceId, OpenSession, Publish, Refusal, Reply, SessionExpiry,
    SessionOpened, Will,
};
use omnilog_wire::{ConnectionError, Outbox};
use std::time::Duration;

/// A connection between CONNECT and CONNACK.
pub(super) struct Opening {
    connect: Connect,
    namespace: NamespaceId,
    namespace_name: Name,
    /// The client id was empty, and this one was made.
    assigned: bool,
    client_id: Bytes,
    expiry: SessionExpiry,
    principal: Option<Principal>,
}

impl MqttSession {
    pub(super) fn on_connect(
        &mut self,
        header: FixedHeader,
        body: &Bytes,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let connect = match Connect::decode(header, body) {
            Ok(connect) => connect,
            Err(error) => return refuse_connect(error, out),
        };
        let opening = Box::new(self.prepare(connect));
        let refusal = self.check(&opening);
        self.phase = Phase::Authenticating(opening);
        out.pause_reading(true);
        match refusal {
            Some(refusal) => self.refuse(&refusal, out),
            None => self.authenticate(out),
        }
    }

    /// Works out what CONNECT asks for.
    fn prepare(&self, mut connect: Connect) -> Opening {
        let (namespace, namespace_name) = self.split_namespace(&mut connect);
        let assigned = connect.client_id.is_empty();
        let client_id = if assigned {
            Bytes::from(format!("auto-{}", uuid::Uuid::new_v4().simple()))
        } else {
            // A copy: the name outlives the packet.
            Bytes::copy_from_slice(&connect.client_id)
        };
        let asked = match (connect.version, connect.session_expiry) {
            (Version::V5, seconds) => seconds.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        Opening {
            expiry: expiry_of(asked, self.shared.config.session_expiry_s_max),
            connect,
            namespace,
            namespace_name,
            assigned,
            client_id,
            principal: None,
        }
    }

    /// `namespace:user` as user name names a namespace, where there is one of that name.
    fn split_namespace(&self, connect: &mut Connect) -> (NamespaceId, Name) {
        if let Some(user) = &connect.user_name
            && let Some(colon) = user.iter().rposition(|&byte| byte == b':')
            && let Some(namespace) = (self.namespaces)(&user[..colon])
            && colon > 0
        {
            let name = Bytes::copy_from_slice(&user[..colon]);
            connect.user_name = Some(user.slice(colon + 1..));
            return (namespace, name);
        }
        let namespace = (self.namespaces)(b"").unwrap_or_default();
        (namespace, Bytes::from_static(b"/"))
    }

    /// What can be refused without looking at credentials.
    fn check(&self, opening: &Opening) -> Option<ConnectRefusal> {
        let connect = &opening.connect;
        if connect.authentication_method.is_some() {
            return Some(ConnectRefusal::AuthenticationMethod);
        }
        let needs_id = match connect.version {
            Version::V31 => true,
            Version::V311 => !connect.clean_start,
            Version::V5 => false,
        };
        if opening.assigned && needs_id {
            return Some(ConnectRefusal::ClientId);
        }
        let will = connect.will.as_ref()?;
        if super::incoming::is_reserved(&will.topic) {
            return Some(ConnectRefusal::NotAuthorized("will to a reserved topic"));
        }
        super::incoming::check_topic(&self.shared.config, &will.topic)
            .err()
            .map(ConnectRefusal::Violation)
    }

    fn authenticate(&mut self, out: &mut Outbox) -> Result<(), ConnectionError> {
        let Phase::Authenticating(opening) = &self.phase else {
            return Ok(());
        };
        let origin = self.info.origin();
        let authenticator = &self.shared.authenticator;
        let authority = authenticator.authority();
        let verdict = match (&opening.connect.user_name, &opening.connect.password) {
            (Some(user), password) => {
                let password = password.as_deref().unwrap_or_default();
                authority.password(user, password, &origin)
            }
            (None, Some(_)) => Verdict::Now(Err(Denied::BadCredentials)),
            (None, None) => Verdict::Now(authority.anonymous(&origin)),
        };
        match verdict {
            Verdict::Now(outcome) => self.on_authenticated(outcome, out),
            Verdict::Slow(check) => {
                let signals = self.signals.clone();
                authenticator.run(check, move |outcome| {
                    signals.send(Signal::Authenticated(outcome));
                });
                Ok(())
            }
        }
    }

    pub(super) fn on_authenticated(
        &mut self,
        outcome: Result<Principal, Denied>,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let Phase::Authenticating(_) = &self.phase else {
            return Ok(());
        };
        let principal = match outcome {
            Ok(principal) => principal,
            Err(denied) => return self.refuse(&ConnectRefusal::Denied(denied), out),
        };
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Authenticating(mut opening) = phase else {
            return Ok(());
        };
        let rules = self.shared.authenticator.authority().rules();
        let namespace = Resource::Namespace(&opening.namespace_name);
        let allowed = rules.allows(&principal, Operation::Read, namespace);
        opening.principal = Some(principal.clone());
        if !allowed {
            self.phase = Phase::Opening(opening);
            return self.refuse(&ConnectRefusal::NotAuthorized("namespace"), out);
        }
        out.connect(
            opening.namespace,
            ClientInfo {
                principal: Bytes::copy_from_slice(principal.name().as_bytes()),
                protocol: "mqtt".to_owned(),
                peer: self.info.peer.to_string(),
            },
        );
        out.command(
            Awaited::Session.encode(),
            Command::OpenSession(self.open_session(&opening, &principal)),
        );
        self.phase = Phase::Opening(opening);
        Ok(())
    }

    fn open_session(&self, opening: &Opening, principal: &Principal) -> OpenSession {
        let connect = &opening.connect;
        let will = connect.will.as_ref().and_then(|will| {
            Some(Will {
                publish: will_publish(will, &opening.client_id, (self.shared.clock)())?,
                delay_ms: u64::from(will.delay) * 1000,
                message_expiry_ms: will.message_expiry.map(|seconds| u64::from(seconds) * 1000),
                principal: Bytes::copy_from_slice(principal.name().as_bytes()),
            })
        });
        OpenSession {
            client_id: opening.client_id.clone(),
            clean_start: connect.clean_start,
            expiry: opening.expiry,
            credit: self.credit(connect),
            will,
        }
    }

    fn credit(&self, connect: &Connect) -> u16 {
        let taken = connect.receive_maximum.unwrap_or(u16::MAX);
        taken.min(self.shared.config.inflight_max)
    }

    /// Answers CONNECT with a no and closes.
    pub(super) fn refuse(
        &mut self,
        refusal: &ConnectRefusal,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        if let Phase::Authenticating(opening) | Phase::Opening(opening) = phase {
            put_refusal(
                opening.connect.version,
                opening.connect.packet_size_max,
                refusal,
                out,
            );
        }
        Err(match refusal {
            ConnectRefusal::Violation(violation) => ConnectionError::violation(violation.what),
            refusal => ConnectionError::refused(refusal.text()),
        })
    }

    /// The broker's answer to opening the session.
    pub(super) fn on_opened(
        &mut self,
        result: Result<Reply, Refusal>,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        let opened = match result {
            Ok(Reply::Session(opened)) => opened,
            Ok(_) => return Err(ConnectionError::failure("no session in the broker's reply")),
            Err(refusal) => return self.refuse(&ConnectRefusal::Broker(refusal), out),
        };
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Opening(opening) = phase else {
            return Ok(());
        };
        self.put_accepted(&opening, opened.present, out);
        let mut open = self.open(*opening, *opened);
        open.send_waiting((self.shared.clock)(), out);
        self.phase = Phase::Open(Box::new(open));
        out.pause_reading(false);
        Ok(())
    }

    fn open(&self, opening: Opening, opened: SessionOpened) -> Open {
        let config = &self.shared.config;
        let connect = &opening.connect;
        let keep_alive = self.keep_alive(connect);
        let receive_max = self.credit(connect);
        let aliases = config.topic_alias_out_max.min(connect.topic_alias_max);
        Open {
            peer: PeerLimits {
                version: connect.version,
                bridge: connect.bridge,
                packet_bytes_max: connect
                    .packet_size_max
                    .map_or(usize::MAX, |bytes| bytes as usize),
                receive_max,
                request_problem: connect.request_problem,
            },
            incoming: Incoming::new(config, opened.incoming),
            outgoing: Outgoing::new(opened.outgoing, aliases),
            subscribing: Subscribing::new(opened.subscriptions),
            ends_at_close: opening.expiry == SessionExpiry::AtClose,
            silence_max: (keep_alive > 0)
                .then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
            client_id: opening.client_id,
            principal: opening.principal.unwrap_or_else(Principal::anonymous),
            namespace: opening.namespace_name,
            session: opened.session,
            queue: opened.queue,
        }
    }

    /// The keep alive in force, seconds. Clients of MQTT 3 can't be told of another than their own.
    fn keep_alive(&self, connect: &Connect) -> u16 {
        let maximum = self.shared.config.keep_alive_s_max;
        let asked = connect.keep_alive;
        if maximum == 0 || !connect.version.is_v5() || (1..=maximum).contains(&asked) {
            asked
        } else {
            maximum
        }
    }

    fn put_accepted(&self, opening: &Opening, present: bool, out: &mut Outbox) {
        let connect = &opening.connect;
        let connack = match connect.version {
            Version::V31 | Version::V311 => ConnAck::V3 {
                session_present: present && connect.version == Version::V311,
                code: ConnectReturn::Accepted,
            },
            Version::V5 => ConnAck::V5 {
                session_present: present,
                reason: ReasonCode::Success,
                properties: self.server_properties(opening),
            },
        };
        connack.put(out.buffer());
    }

    /// What a client of MQTT 5 is told of this server, as far as it differs from the defaults.
    fn server_properties(&self, opening: &Opening) -> Vec<Property> {
        let config = &self.shared.config;
        let connect = &opening.connect;
        let mut properties = Vec::new();
        if let SessionExpiry::AfterMs(milliseconds) = opening.expiry
            && let Ok(seconds) = u32::try_from(milliseconds / 1000)
            && connect.session_expiry != Some(seconds)
        {
            properties.push(Property::SessionExpiry(seconds));
        }
        if config.receive_max < u16::MAX {
            properties.push(Property::ReceiveMaximum(config.receive_max));
        }
        if let Ok(bytes) = u32::try_from(config.packet_bytes_max) {
            properties.push(Property::MaximumPacketSize(bytes));
        }
        if opening.assigned {
            properties.push(Property::AssignedClientId(opening.client_id.clone()));
        }
        if config.topic_alias_max > 0 {
            properties.push(Property::TopicAliasMaximum(config.topic_alias_max));
        }
        let keep_alive = self.keep_alive(connect);
        if keep_alive != connect.keep_alive {
            properties.push(Property::ServerKeepAlive(keep_alive));
        }
        properties
    }
}

/// A CONNECT that could not be decoded.
fn refuse_connect(error: ConnectError, out: &mut Outbox) -> Result<(), ConnectionError> {
    match error {
        ConnectError::Silent(_) => {}
        ConnectError::VersionOld => ConnAck::V3 {
            session_present: false,
            code: ConnectReturn::UnacceptableProtocolVersion,
        }
        .put(out.buffer()),
        ConnectError::VersionNew => ConnAck::V5 {
            session_present: false,
            reason: ReasonCode::UnsupportedProtocolVersion,
            properties: Vec::new(),
        }
        .put(out.buffer()),
        ConnectError::Violation(version, violation) => {
            put_refusal(version, None, &ConnectRefusal::Violation(violation), out);
        }
    }
    Err(ConnectionError::violation(error.to_string()))
}

fn put_refusal(
    version: Version,
    packet_bytes_max: Option<u32>,
    refusal: &ConnectRefusal,
    out: &mut Outbox,
) {
    if version.is_v5() {
        // What exactly was wrong with credentials is for the log alone.
        let text = match refusal {
            ConnectRefusal::Denied(_) => None,
            refusal => Some(Property::ReasonString(Bytes::from(
                refusal.text().into_owned(),
            ))),
        };
        let mut properties: Vec<Property> = text.into_iter().collect();
        // Left out where the packet would be larger than the client takes [3.2.2-19].
        let length = 8 + properties.iter().map(Property::length).sum::<usize>();
        if packet_bytes_max.is_some_and(|maximum| length > maximum as usize) {
            properties.clear();
        }
        let connack = ConnAck::V5 {
            session_present: false,
            reason: refusal.reason(),
            properties,
        };
        connack.put(out.buffer());
    } else if let Some(code) = refusal.return_code() {
        let connack = ConnAck::V3 {
            session_present: false,
            code,
        };
        connack.put(out.buffer());
    }
}

fn will_publish(will: &LastWill, client_id: &Bytes, now_ms: i64) -> Option<Publish> {
    gather::single(
        &gather::Incoming {
            topic: &will.topic,
            payload: &will.payload,
            forward: &will.properties,
            qos: will.qos,
            retain: will.retain,
            expires_at_ms: None,
            delay_ms: None,
        },
        client_id,
        now_ms,
    )
}

impl From<Violation> for ConnectRefusal {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}
