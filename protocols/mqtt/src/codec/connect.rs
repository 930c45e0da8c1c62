//! CONNECT (MQTT 5 section 3.1).

use super::property::allowed;
use super::read::Reader;
use super::{FixedHeader, Properties, Property, ReasonCode, Version, Violation};
use bytes::Bytes;
use thiserror::Error;

/// A CONNECT packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// The version it speaks.
    pub version: Version,
    /// The bit 0x80 of the level: a bridge, whose subscriptions don't echo and keep RETAIN (a custom of Mosquitto's).
    pub bridge: bool,
    /// Clean start (MQTT 5) or clean session (MQTT 3).
    pub clean_start: bool,
    /// Seconds; 0: off.
    pub keep_alive: u16,
    /// The client id, perhaps empty.
    pub client_id: Bytes,
    /// The will.
    pub will: Option<LastWill>,
    /// The user name.
    pub user_name: Option<Bytes>,
    /// The password: any bytes.
    pub password: Option<Bytes>,
    /// Seconds; `u32::MAX`: for ever. `None`: not given, or MQTT 3.
    pub session_expiry: Option<u32>,
    /// Unacknowledged publishes that the client takes.
    pub receive_maximum: Option<u16>,
    /// Bytes of a packet that the client takes.
    pub packet_size_max: Option<u32>,
    /// Topic aliases that the client takes.
    pub topic_alias_max: u16,
    /// The client would like response information.
    pub request_response: bool,
    /// The client wants reason strings and user properties in replies.
    pub request_problem: bool,
    /// The extended authentication method.
    pub authentication_method: Option<Bytes>,
    /// Its first data.
    pub authentication_data: Option<Bytes>,
}

/// The will of a CONNECT packet.
#[derive(Debug, Clone, PartialEq)]
pub struct LastWill {
    /// Where to.
    pub topic: Bytes,
    /// What.
    pub payload: Bytes,
    /// 0 to 2.
    pub qos: u8,
    /// Retained.
    pub retain: bool,
    /// Seconds between the loss of the connection and the publishing.
    pub delay: u32,
    /// Seconds the message lives, from its publishing on.
    pub message_expiry: Option<u32>,
    /// The properties that go out with it: without delay and expiry.
    pub properties: Properties,
}

/// Why a CONNECT was not accepted by the codec, and in which version's words to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// Not MQTT, or not parseable before the version is known: close without a word.
    #[error("not an MQTT CONNECT: {0}")]
    Silent(&'static str),
    /// MQTT of a level below 5 that is not served, or a bridge's: CONNACK 0x01 in MQTT 3's form.
    #[error("unacceptable protocol version")]
    VersionOld,
    /// MQTT of a level above 5: CONNACK 0x84 in MQTT 5's form.
    #[error("unsupported protocol version")]
    VersionNew,
    /// The version is known, and the peer broke its rules. Version 3 closes, version 5 sends CONNACK.
    #[error("{1}")]
    Violation(Version, Violation),
}

const FLAG_USER_NAME: u8 = 0x80;
const FLAG_PASSWORD: u8 = 0x40;
const FLAG_WILL_RETAIN: u8 = 0x20;
const FLAG_WILL: u8 = 0x04;
const FLAG_CLEAN: u8 = 0x02;

impl Connect {
    /// Decodes the body.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn decode(header: FixedHeader, body: &Bytes) -> Result<Self, ConnectError> {
        let mut reader = Reader::new(body);
        let silent = |violation: Violation| ConnectError::Silent(violation.what);
        let name = reader.binary().map_err(silent)?;
        let level = reader.u8().map_err(silent)?;
        // A bridge says so in the level's highest bit; there is no level above 0x80 else.
        let bridge = level & 0x80 != 0;
        let version = match (name.as_ref(), level & 0x7F) {
            (b"MQIsdp", 3) => Version::V31,
            (b"MQTT", 4) => Version::V311,
            (b"MQTT", 5) if !bridge => Version::V5,
            (b"MQTT" | b"MQIsdp", level) if level < 5 || bridge => {
                return Err(ConnectError::VersionOld);
            }
            (b"MQTT" | b"MQIsdp", _) => return Err(ConnectError::VersionNew),
            _ => return Err(ConnectError::Silent("protocol name")),
        };
        Self::decode_rest(header, version, bridge, &mut reader)
            .map_err(|violation| ConnectError::Violation(version, violation))
    }

    fn decode_rest(
        header: FixedHeader,
        version: Version,
        bridge: bool,
        reader: &mut Reader<'_>,
    ) -> Result<Self, Violation> {
        if version.is_v5() && !header.minimal {
            return Err(Violation::malformed("over-long remaining length"));
        }
        let flags = reader.u8()?;
        check_flags(version, flags)?;
        let mut connect = Self {
            version,
            bridge,
            clean_start: flags & FLAG_CLEAN != 0,
            keep_alive: reader.u16()?,
            client_id: Bytes::new(),
            will: None,
            user_name: None,
            password: None,
            session_expiry: None,
            receive_maximum: None,
            packet_size_max: None,
            topic_alias_max: 0,
            request_response: false,
            request_problem: true,
            authentication_method: None,
            authentication_data: None,
        };
        if version.is_v5() {
            connect.read_properties(reader)?;
        }
        connect.client_id = reader.string()?;
        if flags & FLAG_WILL != 0 {
            connect.will = Some(LastWill::decode(version, flags, reader)?);
        }
        if flags & FLAG_USER_NAME != 0 {
            connect.user_name = Some(reader.string()?);
        }
        if flags & FLAG_PASSWORD != 0 {
            connect.password = Some(reader.binary()?);
        }
        if !reader.is_empty() {
            return Err(Violation::malformed("bytes after the CONNECT payload"));
        }
        Ok(connect)
    }

    fn read_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), Violation> {
        Properties::read(reader, allowed::CONNECT, |property, _| {
            match property {
                Property::SessionExpiry(seconds) => self.session_expiry = Some(seconds),
                Property::ReceiveMaximum(maximum) => self.receive_maximum = Some(maximum),
                Property::MaximumPacketSize(bytes) => self.packet_size_max = Some(bytes),
                Property::TopicAliasMaximum(maximum) => self.topic_alias_max = maximum,
                Property::RequestResponseInformation(wanted) => self.request_response = wanted,
                Property::RequestProblemInformation(wanted) => self.request_problem = wanted,
                Property::AuthenticationMethod(method) => self.authentication_method = Some(method),
                Property::AuthenticationData(data) => self.authentication_data = Some(data),
                _ => {}
            }
            Ok(())
        })?;
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(Violation::protocol("authentication data without a method"));
        }
        Ok(())
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), Violation> {
    if flags & 0x01 != 0 {
        return Err(Violation::malformed("reserved CONNECT flag"));
    }
    let will_qos = (flags >> 3) & 0x03;
    if will_qos == 3 {
        return Err(Violation::malformed("will QoS 3"));
    }
    if flags & FLAG_WILL == 0 && (will_qos != 0 || flags & FLAG_WILL_RETAIN != 0) {
        return Err(Violation::malformed("will QoS or retain without a will"));
    }
    if !version.is_v5() && flags & FLAG_PASSWORD != 0 && flags & FLAG_USER_NAME == 0 {
        return Err(Violation::malformed("password without user name"));
    }
    Ok(())
}

impl LastWill {
    fn decode(version: Version, flags: u8, reader: &mut Reader<'_>) -> Result<Self, Violation> {
        let mut delay = 0;
        let mut message_expiry = None;
        let mut properties = Properties::default();
        if version.is_v5() {
            let mut cut = Vec::new();
            properties = Properties::read(reader, allowed::WILL, |property, range| {
                match property {
                    Property::WillDelay(seconds) => {
                        delay = seconds;
                        cut.push(range);
                    }
                    Property::MessageExpiry(seconds) => {
                        message_expiry = Some(seconds);
                        cut.push(range);
                    }
                    Property::ResponseTopic(topic) => super::publish::check_response_topic(&topic)?,
                    _ => {}
                }
                Ok(())
            })?;
            properties = super::publish::without(properties, &cut);
        }
        let topic = reader.string()?;
        if !super::is_topic_name(&topic) {
            return Err(Violation::new(
                ReasonCode::TopicNameInvalid,
                "will topic is empty or holds a wildcard",
            ));
        }
        Ok(Self {
            topic,
            payload: reader.binary()?,
            qos: (flags >> 3) & 0x03,
            retain: flags & FLAG_WILL_RETAIN != 0,
            delay,
            message_expiry,
            properties,
        })
    }
}
