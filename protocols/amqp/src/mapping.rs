//! Records as AMQP messages and AMQP messages as records: the only place that knows other protocols' names.
//!
//! | AMQP property | record header | as |
//! |---|---|---|
//! | content-type, content-encoding, correlation-id, reply-to, message-id, type, user-id, app-id, expiration | the same name | as it is |
//! | timestamp, priority, delivery-mode | the same name | decimal digits |
//! | headers | a header of each name, behind the others, in order, duplicates kept | text as it is, numbers and truth values in words, tables as JSON, void as null |
//!
//! What AMQP wrote goes to AMQP as the bytes it was. What others wrote is turned the other way round; headers become
//! long strings.
//!
//! | written to | exchange | routing key |
//! |---|---|---|
//! | Kafka topic `orders`, key `eu/created` | `orders` | `eu.created` |
//! | MQTT topic `orders/eu/created` | `orders` | `eu.created` |
//!
//! A dot within a level is spelled `%2E` in a routing key, a slash within a word `%2F` in a record's key.

mod history;

use crate::codec::{Properties, encode_table};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use omnilog_broker::path::put_level;
use omnilog_broker::{Address, Delivery, Envelope, Provenance, Table, Value};
use omnilog_record::{Record, RecordBase};
use std::fmt::Write;

/// A record's headers, made of a message's properties.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// Names and values, mapped properties first.
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
    /// How many of them are mapped properties.
    pub(crate) properties: u16,
}

/// The headers that a publish's properties become.
pub(crate) fn headers_of(properties: &Properties, headers: &Table) -> Mapped {
    let mut mapped = Mapped::default();
    let number = |value: u64| Bytes::from(value.to_string());
    let known: [(&'static [u8], Option<Bytes>); 12] = [
        (b"content-type", properties.content_type.clone()),
        (b"content-encoding", properties.content_encoding.clone()),
        (b"correlation-id", properties.correlation_id.clone()),
        (b"reply-to", properties.reply_to.clone()),
        (b"message-id", properties.message_id.clone()),
        (b"timestamp", properties.timestamp.map(number)),
        (b"type", properties.kind.clone()),
        (b"user-id", properties.user_id.clone()),
        (b"app-id", properties.app_id.clone()),
        (b"expiration", properties.expiration.clone()),
        (b"priority", properties.priority.map(|p| number(p.into()))),
        (
            b"delivery-mode",
            properties.delivery_mode.map(|mode| number(mode.into())),
        ),
    ];
    for (name, value) in known {
        if value.is_some() {
            mapped.headers.push((Bytes::from_static(name), value));
            mapped.properties += 1;
        }
    }
    for (name, value) in headers {
        mapped.headers.push((name.clone(), text_of(value)));
    }
    mapped
}

/// A header's value as text; `None`: null.
fn text_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Void => None,
        Value::Bytes(bytes) => Some(bytes.clone()),
        other => {
            let mut text = String::new();
            put_json(other, &mut text);
            Some(text.into())
        }
    }
}

fn put_json(value: &Value, into: &mut String) {
    // Writing to a string does not fail.
    let _ = match value {
        Value::Void => write!(into, "null"),
        Value::Bool(value) => write!(into, "{value}"),
        Value::Int(value) | Value::Timestamp(value) => write!(into, "{value}"),
        Value::Float(value) if value.is_finite() => write!(into, "{value}"),
        Value::Float(_) => write!(into, "null"),
        Value::Decimal(scale, value) => {
            let digits = format!(
                "{:0width$}",
                value.unsigned_abs(),
                width = usize::from(*scale) + 1
            );
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(*scale));
            let sign = if *value < 0 { "-" } else { "" };
            let dot = if fraction.is_empty() { "" } else { "." };
            write!(into, "{sign}{whole}{dot}{fraction}")
        }
        Value::Bytes(value) => {
            put_json_string(value, into);
            Ok(())
        }
        Value::Table(fields) => {
            into.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                put_json_string(name, into);
                into.push(':');
                put_json(value, into);
            }
            into.push('}');
            Ok(())
        }
        Value::List(values) => {
            into.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                put_json(value, into);
            }
            into.push(']');
            Ok(())
        }
    };
}

fn put_json_string(bytes: &[u8], into: &mut String) {
    into.push('"');
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            control if control < ' ' => {
                let _ = write!(into, "\\u{:04x}", u32::from(control));
            }
            other => into.push(other),
        }
    }
    into.push('"');
}

/// The road of a publish to this exchange.
pub(crate) fn provenance_of(exchange: &[u8]) -> Provenance {
    match exchange {
        b"" => Provenance::AmqpDefault,
        b"amq.topic" => Provenance::AmqpTopic,
        other if other.starts_with(b"amq.") => Provenance::AmqpPredeclared,
        _ => Provenance::AmqpExchange,
    }
}

/// The record's key: the address's levels below the first, joined by slashes.
pub(crate) fn key_of(exchange: &[u8], routing_key: &[u8]) -> Option<Bytes> {
    let below = match exchange {
        b"" => return None,
        b"amq.topic" => {
            let dot = routing_key.iter().position(|&byte| byte == b'.')?;
            routing_key.get(dot + 1..)?
        }
        _ if routing_key.is_empty() => return None,
        _ => routing_key,
    };
    let mut key = BytesMut::with_capacity(below.len());
    for (index, word) in below.split(|&byte| byte == b'.').enumerate() {
        if index > 0 {
            key.put_u8(b'/');
        }
        put_level(&mut key, word, |byte| byte == b'/');
    }
    Some(key.freeze())
}

/// A record as an AMQP client is to see it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    /// Property flags and list.
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

/// A message as a client is to see it; `None` if its record can't be read.
pub(crate) fn view(delivery: &Delivery) -> Option<View> {
    let message = &delivery.message;
    let envelope = message.envelope()?;
    let body = message.record_bytes()?;
    let base = RecordBase {
        offset: 0,
        timestamp: message.base_timestamp_ms(),
        log_append_time: None,
    };
    let record = Record::parse(body, &base).ok()?;
    let (exchange, routing_key) = match address_of(&envelope.address) {
        // By a binding of the root view it has its whole path.
        (first, rest) if delivery.by_root => {
            let mut path = BytesMut::with_capacity(first.len() + 1 + rest.len());
            put_level(&mut path, &first, |byte| byte == b'.');
            if !rest.is_empty() {
                path.put_u8(b'.');
                path.put_slice(&rest);
            }
            (Bytes::from_static(b"amq.topic"), path.freeze())
        }
        own => own,
    };
    let deaths = message.deaths();
    let origin = deaths.map_or(envelope.provenance, |deaths| deaths.origin);
    let mut properties = match origin {
        Provenance::Kafka | Provenance::Mqtt => properties_of(&record, envelope, origin),
        _ => envelope.properties.clone(),
    };
    if let Some(deaths) = deaths {
        properties = history::with_deaths(&properties, deaths)?;
    }
    if let Some(count) = delivery.delivery_count {
        properties = history::with_delivery_count(&properties, count, delivery.acquired_count)?;
    }
    Some(View {
        exchange,
        routing_key,
        properties,
        body: record
            .value
            .map_or_else(Bytes::new, |value| message.stored.batch.slice_ref(value)),
    })
}

/// Exchange and routing key of an address.
pub(crate) fn address_of(address: &Address) -> (Bytes, Bytes) {
    match address {
        Address::Amqp {
            exchange,
            routing_key,
        } => (exchange.clone(), routing_key.clone()),
        Address::Mqtt { topic } => match topic.iter().position(|&byte| byte == b'/') {
            Some(slash) => {
                let mut below = topic.slice(slash..);
                below.advance(1);
                (topic.slice(..slash), dotted(&below))
            }
            None => (topic.clone(), Bytes::new()),
        },
        Address::Kafka { topic, key } => (
            topic.clone(),
            key.as_ref().map_or_else(Bytes::new, |key| dotted(key)),
        ),
    }
}

fn dotted(path: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(path.len());
    for (index, level) in path.split(|&byte| byte == b'/').enumerate() {
        if index > 0 {
            key.put_u8(b'.');
        }
        put_level(&mut key, level, |byte| byte == b'.');
    }
    key.freeze()
}

/// The properties that another protocol's headers become.
fn properties_of(record: &Record<'_>, envelope: &Envelope, origin: Provenance) -> Bytes {
    let mut properties = Properties::default();
    let mut others = Table::new();
    // Kafka has no properties beside headers, so its headers of these names count as such.
    let is_kafka = origin == Provenance::Kafka;
    let mapped = usize::from(envelope.property_headers);
    for (index, header) in record.headers().enumerate() {
        if (is_kafka || index < mapped)
            && let Some(value) = header.value
            && take_property(&mut properties, header.key, value)
        {
            continue;
        }
        let value = header.value.map_or(Value::Void, |value| {
            Value::Bytes(Bytes::copy_from_slice(value))
        });
        // A longer name does not fit into a table.
        if header.key.len() <= usize::from(u8::MAX) {
            others.push((Bytes::copy_from_slice(header.key), value));
        }
    }
    if !others.is_empty() {
        let mut table = BytesMut::new();
        encode_table(&others, &mut table);
        table.advance(4);
        properties.headers = Some(table.freeze());
    }
    properties.delivery_mode.get_or_insert(2);
    if properties.timestamp.is_none() {
        properties.timestamp = u64::try_from(record.timestamp / 1000).ok();
    }
    let mut encoded = BytesMut::new();
    properties.encode(&mut encoded);
    encoded.freeze()
}

/// Puts a well-known header into its property; says whether it was one that fits.
fn take_property(properties: &mut Properties, name: &[u8], value: &[u8]) -> bool {
    fn number<T: std::str::FromStr>(slot: &mut Option<T>, value: &[u8]) -> bool {
        let parsed = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        let fits = slot.is_none() && parsed.is_some();
        if fits {
            *slot = parsed;
        }
        fits
    }
    let slot = match name {
        b"content-type" => &mut properties.content_type,
        b"content-encoding" => &mut properties.content_encoding,
        b"correlation-id" => &mut properties.correlation_id,
        b"reply-to" => &mut properties.reply_to,
        b"message-id" => &mut properties.message_id,
        b"type" => &mut properties.kind,
        b"user-id" => &mut properties.user_id,
        b"app-id" => &mut properties.app_id,
        b"expiration" => &mut properties.expiration,
        b"timestamp" => return number(&mut properties.timestamp, value),
        b"priority" => return number(&mut properties.priority, value),
        b"delivery-mode" => return number(&mut properties.delivery_mode, value),
        _ => return false,
    };
    if slot.is_some() || value.len() > usize::from(u8::MAX) {
        return false;
    }
    *slot = Some(Bytes::copy_from_slice(value));
    true
}
