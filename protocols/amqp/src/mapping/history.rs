//! What a queue adds to a message's headers: the history of a dead letter (`x-death`), and how often it came back.

use crate::codec::Properties;
use bytes::Bytes;
use omnilog_broker::{Death, DeathReason, Deaths, Table, Value};

/// A dead letter's properties: with its history, and without the expiration that ended with its first death.
pub(super) fn with_deaths(properties: &Bytes, deaths: &Deaths) -> Option<Bytes> {
    let mut properties = Properties::decode(properties.clone()).ok()?;
    let expiration = properties.expiration.take();
    let mut headers = properties.header_table().ok()?;
    put(&mut headers, "x-death", || {
        let entries = deaths.deaths.iter();
        Value::List(
            entries
                .map(|death| Value::Table(entry(death, expiration.as_ref())))
                .collect(),
        )
    });
    let first = &deaths.first;
    for (name, value) in [
        ("x-first-death-exchange", first.exchange.clone()),
        ("x-first-death-queue", first.queue.clone()),
        ("x-first-death-reason", reason(first.reason)),
    ] {
        put(&mut headers, name, || Value::Bytes(value));
    }
    Some(properties.with_headers(&headers).to_bytes())
}

/// Properties with the number of times that a quorum queue has had the message back; where it tells failures from other
/// returns, that of the failures, and that of all.
pub(super) fn with_delivery_count(
    properties: &Bytes,
    count: u32,
    acquired: Option<u32>,
) -> Option<Bytes> {
    let properties = Properties::decode(properties.clone()).ok()?;
    let mut headers = properties.header_table().ok()?;
    put(&mut headers, "x-delivery-count", || {
        Value::Int(count.into())
    });
    if let Some(acquired) = acquired {
        put(&mut headers, "x-acquired-count", || {
            Value::Int(acquired.into())
        });
    }
    Some(properties.with_headers(&headers).to_bytes())
}

/// Puts a header in the place of whatever had its name.
fn put(headers: &mut Table, name: &'static str, value: impl FnOnce() -> Value) {
    headers.retain(|(known, _)| known != name);
    headers.push((Bytes::from_static(name.as_bytes()), value()));
}

fn entry(death: &Death, expiration: Option<&Bytes>) -> Table {
    let text = |value: &Bytes| Value::Bytes(value.clone());
    let named = |name: &'static str, value| (Bytes::from_static(name.as_bytes()), value);
    let mut entry = vec![
        named("count", Value::Int(death.count.cast_signed())),
        named("reason", Value::Bytes(reason(death.reason))),
        named("queue", text(&death.queue)),
        named("time", Value::Timestamp(death.time_ms / 1000)),
        named("exchange", text(&death.exchange)),
        named("routing-keys", Value::List(vec![text(&death.routing_key)])),
    ];
    if death.had_expiration
        && let Some(expiration) = expiration
    {
        entry.push(named("original-expiration", text(expiration)));
    }
    entry
}

fn reason(reason: DeathReason) -> Bytes {
    Bytes::from_static(match reason {
        DeathReason::Rejected => b"rejected",
        DeathReason::Expired => b"expired",
        DeathReason::MaxLen => b"maxlen",
        DeathReason::DeliveryLimit => b"delivery_limit",
    })
}
