//! Records as MQTT messages and MQTT messages as records: the only place that knows other protocols' names.
//!
//! | MQTT 5 | record header |
//! |---|---|
//! | Content Type | `content-type` |
//! | Correlation Data | `correlation-id` |
//! | Response Topic | `reply-to` |
//! | Payload Format Indicator 1 | `content-encoding: utf-8` |
//! | User Property | a header of that name, behind the others, in order, duplicates kept |
//! | Message Expiry Interval | none: the envelope's expiry |
//!
//! What MQTT wrote goes to MQTT as the bytes it was. What others wrote is turned the other way round; their properties
//! without an MQTT counterpart (`message-id`, `timestamp`, `type`, `app-id`, ...) become user properties of these names.
//!
//! | written to | MQTT topic |
//! |---|---|
//! | Kafka topic `orders`, key `eu/created` | `orders/eu/created` |
//! | Kafka topic `orders`, no key / empty key | `orders` / `orders/` |
//! | Kafka topic `orders`, key of bytes that no topic can have | `orders/~b64...`, base64 for URLs of the key |
//! | AMQP exchange `orders`, routing key `eu.created` / empty | `orders/eu/created` / `orders` |
//! | AMQP `amq.topic`, routing key `orders.eu` | `orders/eu` |
//! | AMQP default exchange, routing key `orders.eu` | `orders.eu` |
//!
//! In a name or an AMQP word the bytes that MQTT can't have in a level (`+`, `#`, U+0000, what is no UTF-8, `/`, a
//! leading `$`) are spelled `%HH`; so is a `%` that would read as the start of such a spelling. A key that starts with
//! `~b64` by itself is spelled in base64, too, so that an MQTT client that publishes to a spelled topic writes that key.

use crate::codec::{Properties, Property, Version, is_topic_name};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use omnilog_broker::path::{BASE64_KEY, is_plain_key, mqtt_topic, put_first_level, put_text_level};
use omnilog_broker::{Address, Envelope, Message, Provenance};
use omnilog_record::{Record, RecordBase};
use std::borrow::Cow;

const CONTENT_TYPE: &[u8] = b"content-type";
const CONTENT_ENCODING: &[u8] = b"content-encoding";
const CORRELATION_ID: &[u8] = b"correlation-id";
const REPLY_TO: &[u8] = b"reply-to";
const EXPIRATION: &[u8] = b"expiration";
const DELIVERY_MODE: &[u8] = b"delivery-mode";

/// A record's headers, made of MQTT properties.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// Names and values, mapped properties first.
    pub(crate) headers: Vec<(Bytes, Bytes)>,
    /// How many of them are mapped properties.
    pub(crate) properties: u16,
}

/// The headers that a publish's properties become.
pub(crate) fn headers_of(properties: &Properties) -> Mapped {
    let mut mapped = Mapped::default();
    if properties.block().is_empty() {
        return mapped;
    }
    let mut user = Vec::new();
    for property in properties.iter() {
        let (name, value) = match property {
            Property::User(name, value) => {
                user.push((name, value));
                continue;
            }
            Property::ContentType(value) => (CONTENT_TYPE, value),
            Property::CorrelationData(value) => (CORRELATION_ID, value),
            Property::ResponseTopic(value) => (REPLY_TO, value),
            Property::PayloadFormat(true) => (CONTENT_ENCODING, Bytes::from_static(b"utf-8")),
            _ => continue,
        };
        mapped.headers.push((Bytes::from_static(name), value));
        mapped.properties += 1;
    }
    mapped.headers.append(&mut user);
    mapped
}

/// A record as an MQTT client is to see it.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) topic: Cow<'a, [u8]>,
    /// MQTT 5: the property block without expiry, alias and identifiers. Empty in MQTT 3.
    pub(crate) forward: Cow<'a, [u8]>,
    /// A part of the message's batch.
    pub(crate) payload: &'a [u8],
    /// RETAIN as published.
    pub(crate) retain: bool,
    expires_at_ms: Option<i64>,
}

impl View<'_> {
    /// The seconds that are left, rounded up; 0 when it has expired.
    pub(crate) fn expiry_s(&self, now_ms: i64) -> Option<u32> {
        let left_ms = self.expires_at_ms?.saturating_sub(now_ms).max(0);
        let left_s = left_ms.unsigned_abs().div_ceil(1000);
        Some(u32::try_from(left_s).unwrap_or(u32::MAX))
    }
}

/// Did this MQTT client publish it?
pub(crate) fn is_published_by(envelope: &Envelope, client_id: &Bytes) -> bool {
    envelope.provenance == Provenance::Mqtt && envelope.publisher == client_id
}

/// A message as a client of this version is to see it; `None` if its record can't be read.
pub(crate) fn view(message: &Message, version: Version) -> Option<View<'_>> {
    let envelope = message.envelope()?;
    let body = message.record_bytes()?;
    let base = RecordBase {
        offset: 0,
        timestamp: message.base_timestamp_ms(),
        log_append_time: None,
    };
    let record = Record::parse(body, &base).ok()?;
    let is_mqtt = envelope.provenance == Provenance::Mqtt;
    let forward = match (version.is_v5(), is_mqtt) {
        (false, _) => Cow::Borrowed(&[][..]),
        (true, true) => Cow::Borrowed(&envelope.properties[..]),
        (true, false) => Cow::Owned(properties_of(&record, envelope).into()),
    };
    Some(View {
        topic: topic_of(&envelope.address),
        forward,
        payload: record.value.unwrap_or_default(),
        retain: envelope.retain,
        expires_at_ms: envelope.expires_at_ms,
    })
}

/// The property block that another protocol's headers become.
fn properties_of(record: &Record<'_>, envelope: &Envelope) -> Bytes {
    let mut block = BytesMut::new();
    let mut user = BytesMut::new();
    // Kafka has no properties beside headers, so its headers of these names count as such.
    let is_kafka = envelope.provenance == Provenance::Kafka;
    let mapped = usize::from(envelope.property_headers);
    let mut seen: Vec<&[u8]> = Vec::new();
    for (index, header) in record.headers().enumerate() {
        let value = header.value.unwrap_or_default();
        if (is_kafka || index < mapped) && !seen.contains(&header.key) {
            match property(header.key, value) {
                Known::Property(property) => {
                    seen.push(header.key);
                    property.put(&mut block);
                    continue;
                }
                Known::Nothing if !is_kafka => continue,
                Known::Nothing | Known::No => {}
            }
        }
        let name = text(header.key);
        let value = text(value);
        if name.len() <= usize::from(u16::MAX) && value.len() <= usize::from(u16::MAX) {
            Property::User(name, value).put(&mut user);
        }
    }
    block.unsplit(user);
    block.freeze()
}

/// What a well-known header is in MQTT 5.
enum Known {
    Property(Property),
    /// It travels otherwise: as the message expiry, as the QoS.
    Nothing,
    No,
}

fn property(name: &[u8], value: &[u8]) -> Known {
    let is_text = || {
        value.len() <= usize::from(u16::MAX)
            && !value.contains(&0)
            && std::str::from_utf8(value).is_ok()
    };
    let owned = || Bytes::copy_from_slice(value);
    match name {
        CONTENT_TYPE if is_text() => Known::Property(Property::ContentType(owned())),
        CORRELATION_ID if value.len() <= usize::from(u16::MAX) => {
            Known::Property(Property::CorrelationData(owned()))
        }
        REPLY_TO if is_text() && is_topic_name(value) => {
            Known::Property(Property::ResponseTopic(owned()))
        }
        CONTENT_ENCODING if value == b"utf-8" => Known::Property(Property::PayloadFormat(true)),
        EXPIRATION | DELIVERY_MODE => Known::Nothing,
        _ => Known::No,
    }
}

/// Bytes as MQTT text: as they are where they are text, spelled where they are not.
fn text(bytes: &[u8]) -> Bytes {
    if std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0) {
        return Bytes::copy_from_slice(bytes);
    }
    let mut spelled = BytesMut::with_capacity(bytes.len() + 16);
    put_text_level(&mut spelled, bytes, |byte| byte == 0);
    spelled.freeze()
}

/// The MQTT topic of an address.
pub(crate) fn topic_of(address: &Address) -> Cow<'_, [u8]> {
    let mut topic = BytesMut::new();
    match address {
        Address::Mqtt { topic } => return Cow::Borrowed(topic),
        Address::Kafka { topic: name, key } => {
            return Cow::Owned(mqtt_topic(name, key.as_deref()).into());
        }
        Address::Amqp {
            exchange,
            routing_key,
        } => match exchange.as_ref() {
            b"" => put_first_level(&mut topic, routing_key),
            b"amq.topic" => {
                let mut words = routing_key.split(|&byte| byte == b'.');
                put_first_level(&mut topic, words.next().unwrap_or_default());
                words.for_each(|word| put_word(&mut topic, word));
            }
            exchange => {
                put_first_level(&mut topic, exchange);
                if !routing_key.is_empty() {
                    routing_key
                        .split(|&byte| byte == b'.')
                        .for_each(|word| put_word(&mut topic, word));
                }
            }
        },
    }
    Cow::Owned(topic.into())
}

/// The key of what is published to this topic: the levels below the first. None is not the same as an empty one.
pub(crate) fn key_of(topic: &[u8]) -> Option<Cow<'_, [u8]>> {
    let slash = topic.iter().position(|&byte| byte == b'/')?;
    let levels = topic.get(slash + 1..)?;
    let spelled = levels
        .strip_prefix(BASE64_KEY)
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        // Only what would be spelled like this is a spelling; anything else is itself.
        .filter(|key| !is_plain_key(key));
    Some(spelled.map_or(Cow::Borrowed(levels), Cow::Owned))
}

fn put_word(topic: &mut BytesMut, word: &[u8]) {
    topic.put_u8(b'/');
    put_text_level(topic, word, |byte| b"+#\0/".contains(&byte));
}

#[cfg(test)]
mod tests;
