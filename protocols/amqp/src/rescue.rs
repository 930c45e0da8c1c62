//! The one place where what went wrong becomes AMQP's reply codes, with RabbitMQ's texts.

use crate::codec::{FrameError, Malformed, MethodError, MethodId};
use omnilog_broker::{Noun, Refusal};
use std::borrow::Cow;

/// The reply codes (section 1.4 of the generated reference), as far as a server sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Code {
    NoRoute = 312,
    ConnectionForced = 320,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl Code {
    pub(crate) fn number(self) -> u16 {
        self as u16
    }

    fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Does it close the connection, rather than the channel?
    fn is_hard(self) -> bool {
        match self {
            Self::NoRoute
            | Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => false,
            Self::ConnectionForced
            | Self::FrameError
            | Self::CommandInvalid
            | Self::ChannelError
            | Self::UnexpectedFrame
            | Self::ResourceError
            | Self::NotAllowed
            | Self::NotImplemented
            | Self::InternalError => true,
        }
    }
}

/// An error that closes a channel or the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) explanation: String,
    /// What caused it.
    pub(crate) method: MethodId,
}

impl Fault {
    pub(crate) fn new(code: Code, method: MethodId, explanation: impl Into<String>) -> Self {
        Self {
            code,
            explanation: explanation.into(),
            method,
        }
    }

    /// Does it close the connection, rather than the channel?
    pub(crate) fn is_hard(&self) -> bool {
        self.code.is_hard()
    }

    /// The reply text: what fits into a shortstr of it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.explanation);
        let end = text.floor_char_boundary(text.len().min(255));
        text.truncate(end);
        text
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::new(Code::FrameError, MethodId::NONE, error.to_string())
    }
}

impl From<MethodError> for Fault {
    fn from(error: MethodError) -> Self {
        let (code, method) = match error {
            MethodError::Short => (Code::FrameError, MethodId::NONE),
            MethodError::Unknown(method) => (Code::CommandInvalid, method),
            MethodError::Arguments(method, _) => (Code::FrameError, method),
        };
        Self::new(code, method, error.to_string())
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::new(Code::FrameError, MethodId::BASIC_PUBLISH, error.to_string())
    }
}

/// What a refused publish means for its channel.
#[derive(Debug)]
pub(crate) enum PublishRefusal {
    /// The channel is closed.
    Fault(Fault),
    /// The message is not taken now: nack it, where the publisher wants to know.
    Nack,
}

/// A refused publish.
pub(crate) fn publish_fault(refusal: &Refusal, vhost: &[u8]) -> PublishRefusal {
    match refusal {
        Refusal::DiskFull | Refusal::Limit(_) | Refusal::ShardLost => PublishRefusal::Nack,
        Refusal::NotPermitted(Noun::Exchange, name) => PublishRefusal::Fault(Fault::new(
            Code::AccessRefused,
            MethodId::BASIC_PUBLISH,
            format!(
                "cannot publish to internal {}",
                named(Noun::Exchange, name, vhost)
            ),
        )),
        other => PublishRefusal::Fault(fault(other, MethodId::BASIC_PUBLISH, vhost)),
    }
}

/// `queue 'q' in vhost '/'`
pub(crate) fn named(noun: Noun, name: &[u8], vhost: &[u8]) -> String {
    format!(
        "{noun} '{}' in vhost '{}'",
        String::from_utf8_lossy(name),
        String::from_utf8_lossy(vhost)
    )
}

/// What a refusal of this method's command is in AMQP's terms.
pub(crate) fn fault(refusal: &Refusal, method: MethodId, vhost: &[u8]) -> Fault {
    let named = |noun: &Noun, name: &[u8]| named(*noun, name, vhost);
    let (code, text): (Code, Cow<'static, str>) = match refusal {
        Refusal::NotFound(noun, name) => (
            Code::NotFound,
            format!("no {}", named(noun, name)).into(),
        ),
        Refusal::Inequivalent {
            noun,
            name,
            argument,
            received,
            current,
        } => (
            Code::PreconditionFailed,
            format!(
                "inequivalent arg '{argument}' for {}: received {received} but current is {current}",
                named(noun, name)
            )
            .into(),
        ),
        Refusal::InvalidArgument {
            noun,
            name,
            argument,
            reason,
        } => (
            Code::PreconditionFailed,
            format!("invalid arg '{argument}' for {}: {reason}", named(noun, name)).into(),
        ),
        Refusal::Locked(name) => (
            Code::ResourceLocked,
            format!(
                "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or \
                 the exclusive property value does not match that of the original declaration.",
                named(&Noun::Queue, name)
            )
            .into(),
        ),
        Refusal::ExclusiveUse(name) => (
            Code::AccessRefused,
            format!("{} in exclusive use", named(&Noun::Queue, name)).into(),
        ),
        Refusal::NotPermitted(noun, name) => (
            Code::AccessRefused,
            not_permitted(*noun, name, method, vhost).into(),
        ),
        Refusal::ReadOnly(name) => (
            Code::AccessRefused,
            not_permitted(Noun::Topic, name, method, vhost).into(),
        ),
        Refusal::InUse(noun, name) => (
            Code::PreconditionFailed,
            format!("{} in use", named(noun, name)).into(),
        ),
        Refusal::NotEmpty(name) => (
            Code::PreconditionFailed,
            format!("{} not empty", named(&Noun::Queue, name)).into(),
        ),
        Refusal::TooLarge { limit } => (
            Code::PreconditionFailed,
            format!("message size is larger than configured max size {limit}").into(),
        ),
        Refusal::Exists(..)
        | Refusal::WrongKind(_)
        | Refusal::InvalidRecord(_)
        | Refusal::InvalidSetting(_)
        | Refusal::BadPattern(_)
        | Refusal::DiskFull => (Code::PreconditionFailed, refusal.to_string().into()),
        Refusal::Limit(_) => (Code::ResourceError, refusal.to_string().into()),
        Refusal::Conflict(_) => (Code::NotAllowed, refusal.to_string().into()),
        Refusal::ShardLost => (
            Code::ConnectionForced,
            "virtual host is not served here".into(),
        ),
        Refusal::NoPartition
        | Refusal::OffsetOutOfRange { .. }
        | Refusal::FencedEpoch
        | Refusal::UnknownEpoch
        | Refusal::OutOfOrderSequence
        | Refusal::DuplicateSequence
        | Refusal::InvalidProducerEpoch
        | Refusal::InvalidProducerMapping
        | Refusal::ProducerFenced
        | Refusal::InvalidTransactionState
        | Refusal::InvalidTransactionTimeout
        | Refusal::InvalidPartitions => (Code::InternalError, refusal.to_string().into()),
    };
    Fault::new(code, method, text)
}

fn not_permitted(noun: Noun, name: &[u8], method: MethodId, vhost: &[u8]) -> String {
    let shown = String::from_utf8_lossy(name);
    match (noun, method) {
        (Noun::Exchange, _) if name.is_empty() => {
            "operation not permitted on the default exchange".to_owned()
        }
        (Noun::Exchange, MethodId::EXCHANGE_DELETE) => format!(
            "deletion of system {} not allowed",
            named(noun, name, vhost)
        ),
        (Noun::Exchange | Noun::Queue, MethodId::EXCHANGE_DECLARE | MethodId::QUEUE_DECLARE) => {
            format!("{noun} name '{shown}' contains reserved prefix 'amq.*'")
        }
        _ => format!("operation not permitted on {}", named(noun, name, vhost)),
    }
}
