//! `basic.publish` with its content: checks, and on to the broker's batch.

use super::plain;
use crate::channel::{Assembly, Channel};
use crate::codec::{MethodId, Properties};
use crate::connection::{Awaited, Core};
use crate::gather::Incoming;
use crate::rescue::{Code, Fault};
use bytes::Bytes;
use omnilog_auth::Operation;
use omnilog_broker::{Command, Delay, Noun, Table, Value};
use omnilog_wire::Outbox;

const ID: MethodId = MethodId::BASIC_PUBLISH;

impl Channel {
    /// A publish begins.
    pub(super) fn on_publish(
        &mut self,
        core: &Core,
        exchange: &Bytes,
        routing_key: Bytes,
        mandatory: bool,
        immediate: bool,
    ) -> Result<(), Fault> {
        if immediate {
            return Err(Fault::new(Code::NotImplemented, ID, "immediate=true"));
        }
        let exchange = plain(exchange);
        core.check(Operation::Write, Noun::Exchange, &exchange, ID)?;
        self.assembly = Some(Assembly {
            exchange,
            routing_key,
            mandatory,
            header: None,
            body: Vec::new(),
            body_bytes: 0,
        });
        Ok(())
    }

    /// A publish is complete.
    pub(crate) fn on_published(
        &mut self,
        assembly: Assembly,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Some(header) = assembly.header else {
            return Ok(());
        };
        let mut properties = Properties::decode(header.properties.clone())?;
        let mut headers = properties.header_table()?;
        check_user_id(&properties, core)?;
        let expires_at_ms = match &properties.expiration {
            Some(expiration) => {
                let after_ms = expiration_ms(expiration)?;
                Some((core.shared.clock)().saturating_add(after_ms))
            }
            None => None,
        };
        let more_routing_keys = more_routing_keys(&headers)?;
        let mut raw = header.properties;
        if headers.iter().any(|(name, _)| name == "BCC") {
            // Nobody is to see it.
            headers.retain(|(name, _)| name != "BCC");
            properties = properties.with_headers(&headers);
            raw = properties.to_bytes();
        }
        if self.reply_address(&mut properties)? {
            raw = properties.to_bytes();
        }
        let delay = delay(&properties, &headers);
        let incoming = Incoming {
            exchange: assembly.exchange,
            routing_key: assembly.routing_key,
            raw,
            properties,
            headers,
            more_routing_keys,
            body: assembly.body,
            body_bytes: usize::try_from(assembly.body_bytes).unwrap_or(usize::MAX),
            expires_at_ms,
            delay,
        };
        if let Some(tx) = &self.tx {
            if incoming.exchange.is_empty() || tx.known.contains(&incoming.exchange) {
                self.hold(incoming, core);
            } else {
                let check = Command::CheckExchange(incoming.exchange.clone());
                let what = Awaited::Checked(Box::new(incoming));
                core.ask(self, ID, what, check, out);
            }
            return Ok(());
        }
        let number = self
            .confirms
            .as_mut()
            .map_or(0, |confirms| confirms.receive());
        core.publish(self, number, incoming, assembly.mandatory, out);
        Ok(())
    }
}

/// A user id, where one is given, must be the publisher's own.
fn check_user_id(properties: &Properties, core: &Core) -> Result<(), Fault> {
    match &properties.user_id {
        Some(user_id) if *user_id != core.publisher => Err(Fault::new(
            Code::PreconditionFailed,
            ID,
            format!(
                "user_id property set to '{}' but authenticated user was '{}'",
                String::from_utf8_lossy(user_id),
                core.principal.name()
            ),
        )),
        _ => Ok(()),
    }
}

/// Milliseconds, in digits.
fn expiration_ms(expiration: &[u8]) -> Result<i64, Fault> {
    let digits = std::str::from_utf8(expiration)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse::<u32>().ok())
        .map(i64::from)
        .ok_or_else(|| {
            Fault::new(
                Code::PreconditionFailed,
                ID,
                format!(
                    "invalid expiration '{}'",
                    String::from_utf8_lossy(expiration)
                ),
            )
        })
}

/// How long the message is to wait in an exchange that delays: the header `x-delay`, in milliseconds. Numbers of any type
/// and digits in text are taken; anything else, and what is not more than 0, is no delay. Consumers see its negative, by
/// which they tell that the message has waited, and which delays it no more.
fn delay(properties: &Properties, headers: &Table) -> Option<Box<Delay>> {
    let place = headers.iter().position(|(name, _)| name == "x-delay")?;
    let (_, value) = headers.get(place)?;
    let ms = match value {
        Value::Int(ms) => *ms,
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        Value::Float(ms) => *ms as i64,
        Value::Decimal(scale, unscaled) => unscaled / 10i64.checked_pow(u32::from(*scale))?,
        Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    };
    if ms <= 0 {
        return None;
    }
    let mut seen = headers.clone();
    if let Some((_, value)) = seen.get_mut(place) {
        *value = Value::Int(-ms);
    }
    let properties = properties.clone().with_headers(&seen).to_bytes();
    Some(Box::new(Delay {
        ms,
        properties: Some(properties),
    }))
}

/// The keys in `CC` and `BCC`, which must be lists of text.
fn more_routing_keys(headers: &Table) -> Result<Vec<Bytes>, Fault> {
    let mut keys = Vec::new();
    for (name, value) in headers {
        if name != "CC" && name != "BCC" {
            continue;
        }
        let invalid = || {
            Fault::new(
                Code::PreconditionFailed,
                ID,
                format!(
                    "invalid header '{}': not a list of routing keys",
                    String::from_utf8_lossy(name)
                ),
            )
        };
        let Value::List(values) = value else {
            return Err(invalid());
        };
        for value in values {
            let key = value.as_bytes().ok_or_else(invalid)?;
            keys.push(Bytes::copy_from_slice(key));
        }
    }
    Ok(keys)
}
