//! The one place where what went wrong becomes MQTT's codes.
//!
//! A [`Violation`] carries its reason code already. A [`Refusal`] of the broker gets one here. MQTT 3 has a code in
//! CONNACK and, since 3.1.1, one failure code in SUBACK; elsewhere its server can only close the connection.

use crate::codec::{ConnectReturn, ReasonCode, Violation};
use omnilog_auth::Denied;
use omnilog_broker::Refusal;
use std::borrow::Cow;

/// What a client of MQTT 5 hears of a refusal.
pub(crate) fn reason_of(refusal: &Refusal) -> ReasonCode {
    match refusal {
        Refusal::NotPermitted(..)
        | Refusal::ReadOnly(_)
        | Refusal::Locked(_)
        | Refusal::ExclusiveUse(_) => ReasonCode::NotAuthorized,
        Refusal::TooLarge { .. } => ReasonCode::PacketTooLarge,
        Refusal::DiskFull | Refusal::Limit(_) => ReasonCode::QuotaExceeded,
        Refusal::BadPattern(_) => ReasonCode::TopicFilterInvalid,
        Refusal::ShardLost => ReasonCode::ServerShuttingDown,
        Refusal::Conflict(_) => ReasonCode::SessionTakenOver,
        Refusal::InvalidRecord(_) => ReasonCode::ImplementationSpecificError,
        Refusal::NotFound(..)
        | Refusal::Exists(..)
        | Refusal::Inequivalent { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::InUse(..)
        | Refusal::NotEmpty(_)
        | Refusal::WrongKind(_)
        | Refusal::NoPartition
        | Refusal::OffsetOutOfRange { .. }
        | Refusal::FencedEpoch
        | Refusal::UnknownEpoch
        | Refusal::OutOfOrderSequence
        | Refusal::DuplicateSequence
        | Refusal::InvalidProducerEpoch
        | Refusal::InvalidSetting(_)
        | Refusal::InvalidProducerMapping
        | Refusal::ProducerFenced
        | Refusal::InvalidTransactionState
        | Refusal::InvalidTransactionTimeout
        | Refusal::InvalidPartitions => ReasonCode::UnspecifiedError,
    }
}

/// What a refused publish is answered with in PUBACK or PUBREC, which take fewer codes.
pub(crate) fn publish_reason(refusal: &Refusal) -> ReasonCode {
    match reason_of(refusal) {
        reason @ (ReasonCode::NotAuthorized
        | ReasonCode::QuotaExceeded
        | ReasonCode::ImplementationSpecificError) => reason,
        ReasonCode::PacketTooLarge => ReasonCode::QuotaExceeded,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// Can a refused publish be acknowledged to a client of MQTT 3, whose PUBACK knows success only? If not, the connection
/// is closed, so that the client sends it again later.
pub(crate) fn may_drop_publish(refusal: &Refusal) -> bool {
    match refusal {
        // Sending it again would not help.
        Refusal::NotPermitted(..)
        | Refusal::ReadOnly(_)
        | Refusal::TooLarge { .. }
        | Refusal::InvalidRecord(_)
        | Refusal::BadPattern(_) => true,
        Refusal::NotFound(..)
        | Refusal::Exists(..)
        | Refusal::Inequivalent { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::Locked(_)
        | Refusal::ExclusiveUse(_)
        | Refusal::InUse(..)
        | Refusal::NotEmpty(_)
        | Refusal::WrongKind(_)
        | Refusal::NoPartition
        | Refusal::OffsetOutOfRange { .. }
        | Refusal::FencedEpoch
        | Refusal::UnknownEpoch
        | Refusal::OutOfOrderSequence
        | Refusal::DuplicateSequence
        | Refusal::InvalidProducerEpoch
        | Refusal::InvalidSetting(_)
        | Refusal::InvalidPartitions
        | Refusal::InvalidProducerMapping
        | Refusal::ProducerFenced
        | Refusal::InvalidTransactionState
        | Refusal::InvalidTransactionTimeout
        | Refusal::DiskFull
        | Refusal::Limit(_)
        | Refusal::Conflict(_)
        | Refusal::ShardLost => false,
    }
}

/// Why a CONNECT was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectRefusal {
    /// The peer broke the protocol.
    Violation(Violation),
    /// Not let in.
    Denied(Denied),
    /// Let in, but not into this namespace, or not with this will.
    NotAuthorized(&'static str),
    /// An empty client id without a clean session (MQTT 3).
    ClientId,
    /// Extended authentication, which is not served.
    AuthenticationMethod,
    /// The broker did not open the session.
    Broker(Refusal),
    /// The broker did not answer in time.
    Overdue,
}

impl ConnectRefusal {
    /// In MQTT 5's CONNACK.
    pub(crate) fn reason(&self) -> ReasonCode {
        match self {
            Self::Violation(violation) => violation.reason,
            Self::Denied(denied) => match denied {
                Denied::BadCredentials | Denied::Malformed(_) => ReasonCode::BadUserNameOrPassword,
                Denied::LoopbackOnly
                | Denied::AnonymousNotAllowed
                | Denied::NoCertificate
                | Denied::OtherIdentity => ReasonCode::NotAuthorized,
            },
            Self::NotAuthorized(_) => ReasonCode::NotAuthorized,
            Self::ClientId => ReasonCode::ClientIdentifierNotValid,
            Self::AuthenticationMethod => ReasonCode::BadAuthenticationMethod,
            Self::Broker(refusal) => match reason_of(refusal) {
                ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
                ReasonCode::SessionTakenOver => ReasonCode::ServerBusy,
                ReasonCode::TopicFilterInvalid => ReasonCode::UnspecifiedError,
                reason => reason,
            },
            Self::Overdue => ReasonCode::ServerBusy,
        }
    }

    /// In MQTT 3's CONNACK; `None`: the connection is closed without one.
    pub(crate) fn return_code(&self) -> Option<ConnectReturn> {
        Some(match self {
            Self::Violation(_) | Self::AuthenticationMethod => return None,
            Self::Denied(denied) => match denied {
                Denied::BadCredentials | Denied::Malformed(_) => {
                    ConnectReturn::BadUserNameOrPassword
                }
                Denied::LoopbackOnly
                | Denied::AnonymousNotAllowed
                | Denied::NoCertificate
                | Denied::OtherIdentity => ConnectReturn::NotAuthorized,
            },
            Self::NotAuthorized(_) => ConnectReturn::NotAuthorized,
            Self::ClientId => ConnectReturn::IdentifierRejected,
            Self::Broker(_) | Self::Overdue => ConnectReturn::ServerUnavailable,
        })
    }

    /// For the log.
    pub(crate) fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Violation(violation) => violation.what.into(),
            Self::Denied(denied) => denied.to_string().into(),
            Self::NotAuthorized(what) => (*what).into(),
            Self::ClientId => "empty client id without a clean session".into(),
            Self::AuthenticationMethod => "extended authentication is not served".into(),
            Self::Broker(refusal) => refusal.to_string().into(),
            Self::Overdue => "the session was not opened in time".into(),
        }
    }
}
