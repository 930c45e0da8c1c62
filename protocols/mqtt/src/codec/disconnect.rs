//! DISCONNECT and AUTH (MQTT 5 sections 3.14 and 3.15).

use super::property::{allowed, block_length, put_block};
use super::read::Reader;
use super::write::put_header;
use super::{PacketType, Properties, Property, ReasonCode, Version, Violation};
use bytes::{BufMut, Bytes, BytesMut};

/// A DISCONNECT packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; [`ReasonCode::Success`] in MQTT 3.
    pub reason: ReasonCode,
    /// From a client: the new session expiry, seconds.
    pub session_expiry: Option<u32>,
    /// From a server: for people.
    pub reason_string: Option<Bytes>,
}

impl Disconnect {
    pub(super) fn decode(version: Version, body: &Bytes) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let mut disconnect = Self {
            reason: ReasonCode::Success,
            session_expiry: None,
            reason_string: None,
        };
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = ReasonCode::from_u8(reader.u8()?)
                .filter(|&reason| from_client(reason))
                .ok_or(Violation::protocol(
                    "reason code is not of a client's DISCONNECT",
                ))?;
            if !reader.is_empty() {
                Properties::read(&mut reader, allowed::DISCONNECT, |property, _| {
                    match property {
                        Property::SessionExpiry(seconds) => {
                            disconnect.session_expiry = Some(seconds);
                        }
                        Property::ReasonString(text) => disconnect.reason_string = Some(text),
                        _ => {}
                    }
                    Ok(())
                })?;
            }
        }
        if !reader.is_empty() {
            return Err(Violation::malformed("bytes after DISCONNECT"));
        }
        Ok(disconnect)
    }

    /// Appends it, as a server sends it in MQTT 5. Earlier versions have none from the server.
    pub fn put(&self, into: &mut BytesMut) {
        let properties: Vec<Property> = self
            .reason_string
            .iter()
            .map(|text| Property::ReasonString(text.clone()))
            .collect();
        put_header(
            into,
            PacketType::Disconnect,
            0,
            1 + block_length(&properties),
        );
        into.put_u8(self.reason as u8);
        put_block(into, &properties);
    }
}

/// The codes that a client's DISCONNECT may carry (MQTT 5 table 3-13).
fn from_client(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::DisconnectWithWill
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::TopicNameInvalid
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::AdministrativeAction
            | ReasonCode::PayloadFormatInvalid
            // The server's alone by table 3-13, but clients of today send them on their own time-outs and shutdowns.
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::ServerShuttingDown
    )
}

/// An AUTH packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue, or authenticate again.
    pub reason: ReasonCode,
    /// The method.
    pub method: Option<Bytes>,
    /// Its data.
    pub data: Option<Bytes>,
}

impl Auth {
    pub(super) fn decode(body: &Bytes) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let mut auth = Self {
            reason: ReasonCode::Success,
            method: None,
            data: None,
        };
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = ReasonCode::from_u8(reader.u8()?)
            .filter(|reason| {
                matches!(
                    reason,
                    ReasonCode::Success
                        | ReasonCode::ContinueAuthentication
                        | ReasonCode::ReAuthenticate
                )
            })
            .ok_or(Violation::protocol("reason code is not of AUTH"))?;
        Properties::read(&mut reader, allowed::AUTH, |property, _| {
            match property {
                Property::AuthenticationMethod(method) => auth.method = Some(method),
                Property::AuthenticationData(data) => auth.data = Some(data),
                _ => {}
            }
            Ok(())
        })?;
        if !reader.is_empty() {
            return Err(Violation::malformed("bytes after AUTH"));
        }
        Ok(auth)
    }
}
