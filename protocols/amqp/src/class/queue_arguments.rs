//! The arguments of `queue.declare`: what each may be, and which of them the broker serves.
//!
//! An argument that is known and not served is refused by name: a queue that silently ignores its limit is worse than
//! none. Unknown arguments are kept and mean nothing, as in RabbitMQ.

use crate::codec::MethodId;
use crate::rescue::{Code, Fault, named};
use bytes::Bytes;
use omnilog_broker::{Noun, Table, Value};

/// What an argument's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// An integer from here to there.
    Int(i64, i64),
    /// A priority.
    Priority,
    /// Text.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A truth value.
    Bool,
}

/// A known argument.
struct Known {
    name: &'static str,
    shape: Shape,
    /// The broker does what it says.
    served: bool,
}

const fn served(name: &'static str, shape: Shape) -> Known {
    Known {
        name,
        shape,
        served: true,
    }
}

const fn unserved(name: &'static str, shape: Shape) -> Known {
    Known {
        name,
        shape,
        served: false,
    }
}

const RETRY_TYPE: &str = "x-delayed-retry-type";
const RETRY_MIN: &str = "x-delayed-retry-min";

const KNOWN: &[Known] = &[
    served(
        "x-queue-type",
        Shape::OneOf(&["classic", "quorum", "stream"]),
    ),
    served("x-queue-mode", Shape::OneOf(&["default", "lazy"])),
    served("x-queue-version", Shape::Int(1, 2)),
    served("x-message-ttl", Shape::Int(0, u32::MAX as i64)),
    served("x-expires", Shape::Int(1, u32::MAX as i64)),
    served("x-max-length", Shape::Int(0, i64::MAX)),
    served("x-max-length-bytes", Shape::Int(0, i64::MAX)),
    served(
        "x-overflow",
        Shape::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
    ),
    served("x-dead-letter-exchange", Shape::Text),
    served("x-dead-letter-routing-key", Shape::Text),
    unserved(
        "x-dead-letter-strategy",
        Shape::OneOf(&["at-most-once", "at-least-once"]),
    ),
    served("x-max-priority", Shape::Priority),
    served("x-single-active-consumer", Shape::Bool),
    served("x-key-shared", Shape::Bool),
    served("x-delivery-limit", Shape::Int(-1, i64::MAX)),
    served(
        RETRY_TYPE,
        Shape::OneOf(&["disabled", "all", "failed", "returned"]),
    ),
    served(RETRY_MIN, Shape::Int(0, u32::MAX as i64)),
    served("x-delayed-retry-max", Shape::Int(0, u32::MAX as i64)),
    served("x-delayed-retry-multiplier", Shape::Int(1, i32::MAX as i64)),
    unserved("x-max-age", Shape::Text),
    unserved(
        "x-stream-max-segment-size-bytes",
        Shape::Int(0, 3_000_000_000),
    ),
];

/// Queue types that are known and not served.
const TYPES_UNSERVED: [&[u8]; 1] = [b"stream"];

/// Are these arguments possible, and served?
pub(super) fn check(queue: &[u8], arguments: &Table, vhost: &[u8]) -> Result<(), Fault> {
    let id = MethodId::QUEUE_DECLARE;
    let of = |name: &str| {
        KNOWN
            .iter()
            .find(|known| known.name.as_bytes() == name.as_bytes())
    };
    let invalid = |argument: &str, reason: String| {
        Fault::new(
            Code::PreconditionFailed,
            id,
            format!(
                "invalid arg '{argument}' for {}: {reason}",
                named(Noun::Queue, queue, vhost)
            ),
        )
    };
    let has = |wanted: &str| arguments.iter().any(|(name, _)| name == wanted);
    let mut missing = None;
    for (name, value) in arguments {
        let Some(known) = std::str::from_utf8(name).ok().and_then(of) else {
            continue;
        };
        known
            .shape
            .check(value)
            .map_err(|reason| invalid(known.name, reason))?;
        if !known.served {
            missing.get_or_insert(format!("queue argument '{}'", known.name));
        }
        if known.name == "x-queue-type"
            && let Some(kind) = value.as_bytes()
            && TYPES_UNSERVED.contains(&kind.as_ref())
        {
            let kind = String::from_utf8_lossy(kind);
            missing.get_or_insert(format!("queue argument 'x-queue-type' = '{kind}'"));
        }
    }
    if has("x-dead-letter-routing-key") && !has("x-dead-letter-exchange") {
        return Err(invalid(
            "x-dead-letter-routing-key",
            "routing_key_but_no_dlx_defined".to_owned(),
        ));
    }
    let is = |(name, value): &(Bytes, Value)| {
        name == RETRY_TYPE && value.as_bytes().is_some_and(|kind| kind != "disabled")
    };
    if arguments.iter().any(is) && !has(RETRY_MIN) {
        return Err(invalid(RETRY_TYPE, format!("without '{RETRY_MIN}'")));
    }
    let given = |(name, _): &&(Bytes, Value)| name.starts_with(b"x-delayed-retry-");
    if let Some((other, _)) = arguments.iter().find(given)
        && !has(RETRY_TYPE)
    {
        let other = String::from_utf8_lossy(other);
        return Err(invalid(&other, format!("without '{RETRY_TYPE}'")));
    }
    match missing {
        Some(what) => Err(Fault::new(
            Code::NotImplemented,
            id,
            format!("{what} is not served"),
        )),
        None => Ok(()),
    }
}

/// Can a quorum queue be declared like this? It is durable, for all connections, and knows no priorities.
pub(super) fn check_quorum(
    queue: &[u8],
    (durable, exclusive): (bool, bool),
    arguments: &Table,
    vhost: &[u8],
) -> Result<(), Fault> {
    let is = |name: &str, wanted: &[u8]| {
        let mut given = arguments.iter().filter(|(given, _)| given == name);
        given.any(|(_, value)| value.as_bytes().is_some_and(|value| value == wanted))
    };
    if !is("x-queue-type", b"quorum") {
        return Ok(());
    }
    let prioritised = arguments.iter().any(|(name, _)| name == "x-max-priority");
    let wrong = if !durable {
        "invalid property 'non-durable'"
    } else if exclusive {
        "invalid property 'exclusive-owner'"
    } else if prioritised {
        "invalid arg 'x-max-priority'"
    } else if is("x-overflow", b"reject-publish-dlx") {
        "invalid arg 'x-overflow'"
    } else {
        return Ok(());
    };
    let id = MethodId::QUEUE_DECLARE;
    let text = format!("{wrong} for {}", named(Noun::Queue, queue, vhost));
    Err(Fault::new(Code::PreconditionFailed, id, text))
}

impl Shape {
    fn check(self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Priority, Value::Int(0..=255)) => Ok(()),
            (Self::Priority, Value::Int(value)) if *value < 0 => {
                Err(format!("{{value_negative,{value}}}"))
            }
            (Self::Priority, Value::Int(value)) => Err(format!("{{max_value_exceeded,{value}}}")),
            (Self::Int(least, most), Value::Int(value)) if (least..=most).contains(value) => Ok(()),
            (Self::Int(least, _), Value::Int(value)) if *value < least => {
                Err(format!("{{value_too_small,{value}}}"))
            }
            (Self::Int(..), Value::Int(value)) => Err(format!("{{value_too_big,{value}}}")),
            (Self::Text, Value::Bytes(_)) | (Self::Bool, Value::Bool(_)) => Ok(()),
            (Self::OneOf(choices), Value::Bytes(value)) => {
                if choices.iter().any(|choice| choice.as_bytes() == value) {
                    Ok(())
                } else {
                    Err(format!(
                        "invalid value '{}'",
                        String::from_utf8_lossy(value)
                    ))
                }
            }
            (_, value) => Err(format!("{{unacceptable_type,{}}}", type_of(value))),
        }
    }
}

/// A value's type as RabbitMQ calls it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Void => "void",
        Value::Bool(_) => "bool",
        Value::Int(_) => "signedint",
        Value::Float(_) => "double",
        Value::Decimal(..) => "decimal",
        Value::Timestamp(_) => "timestamp",
        Value::Bytes(_) => "longstr",
        Value::Table(_) => "table",
        Value::List(_) => "array",
    }
}
