//! Every kind of failure as the error code that Kafka's clients know for it.

use kafka_protocol::ResponseError;
use omnilog_broker::{Noun, Refusal};
use omnilog_wire::ConnectionError;

use crate::codec::CodecError;
use crate::group::GroupError;

/// The code of a broker's refusal.
///
/// Full disks and lost shards are told as codes that clients retry: the first as an error of
/// storage, the second as a leader that is elsewhere.
pub(crate) fn refusal(refusal: &Refusal) -> ResponseError {
    match refusal {
        Refusal::NotFound(Noun::Topic, _) => ResponseError::UnknownTopicOrPartition,
        Refusal::NotFound(Noun::Transaction, _) => ResponseError::TransactionalIdNotFound,
        Refusal::NotFound(Noun::Group, _) => ResponseError::GroupIdNotFound,
        Refusal::NotFound(_, _) => ResponseError::UnknownTopicOrPartition,
        Refusal::Exists(_, _) => ResponseError::TopicAlreadyExists,
        Refusal::Inequivalent { .. } => ResponseError::InvalidConfig,
        Refusal::InvalidArgument { .. } => ResponseError::InvalidConfig,
        Refusal::Locked(_) => ResponseError::PolicyViolation,
        Refusal::ExclusiveUse(_) => ResponseError::PolicyViolation,
        Refusal::NotPermitted(_, _) => ResponseError::PolicyViolation,
        Refusal::ReadOnly(_) => ResponseError::PolicyViolation,
        Refusal::InUse(_, _) => ResponseError::PolicyViolation,
        Refusal::NotEmpty(_) => ResponseError::PolicyViolation,
        Refusal::WrongKind(_) => ResponseError::PolicyViolation,
        Refusal::NoPartition => ResponseError::UnknownTopicOrPartition,
        Refusal::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        Refusal::FencedEpoch => ResponseError::FencedLeaderEpoch,
        Refusal::UnknownEpoch => ResponseError::UnknownLeaderEpoch,
        Refusal::OutOfOrderSequence => ResponseError::OutOfOrderSequenceNumber,
        Refusal::DuplicateSequence => ResponseError::DuplicateSequenceNumber,
        Refusal::InvalidProducerEpoch => ResponseError::InvalidProducerEpoch,
        Refusal::TooLarge { .. } => ResponseError::MessageTooLarge,
        Refusal::InvalidRecord(_) => ResponseError::InvalidRecord,
        Refusal::InvalidSetting(_) => ResponseError::InvalidConfig,
        Refusal::InvalidPartitions => ResponseError::InvalidPartitions,
        Refusal::DiskFull => ResponseError::KafkaStorageError,
        Refusal::Limit(_) => ResponseError::PolicyViolation,
        Refusal::Conflict(_) => ResponseError::InvalidRequest,
        Refusal::BadPattern(_) => ResponseError::InvalidTopicException,
        Refusal::InvalidProducerMapping => ResponseError::InvalidProducerIdMapping,
        Refusal::ProducerFenced => ResponseError::ProducerFenced,
        Refusal::InvalidTransactionState => ResponseError::InvalidTxnState,
        Refusal::InvalidTransactionTimeout => ResponseError::InvalidTransactionTimeout,
        Refusal::ShardLost => ResponseError::NotLeaderOrFollower,
    }
}

/// The code of a no to who writes records: a topic that nobody may write to is told as Kafka tells it of its internal
/// ones (`ReplicaManager.appendToLocalLog`).
pub(crate) fn write(no: &Refusal) -> ResponseError {
    match no {
        Refusal::ReadOnly(_) => ResponseError::InvalidTopicException,
        no => refusal(no),
    }
}

/// The code of a coordinator's no, of groups and transactions: what a broker's storage can't do now, its coordinator
/// can't (as `GroupMetadataManager` has it), and clients try again.
pub(crate) fn coordinator(no: &Refusal) -> ResponseError {
    match no {
        Refusal::DiskFull => ResponseError::CoordinatorNotAvailable,
        Refusal::ShardLost => ResponseError::NotCoordinator,
        no => refusal(no),
    }
}

/// The code of a group's no.
pub(crate) fn group(error: GroupError) -> ResponseError {
    match error {
        GroupError::InvalidGroup => ResponseError::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::GroupFull => ResponseError::GroupMaxSizeReached,
        GroupError::NotEmpty => ResponseError::NonEmptyGroup,
        GroupError::NotFound => ResponseError::GroupIdNotFound,
        GroupError::NotStored => ResponseError::CoordinatorNotAvailable,
    }
}

/// Bytes that are no request end the connection, as in Apache Kafka: there is nothing to answer.
pub(crate) fn codec(error: CodecError) -> ConnectionError {
    ConnectionError::violation(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Refusal, ResponseError, coordinator, refusal};

    #[test]
    fn a_position_that_waits_for_space_is_committed_again() {
        assert_eq!(
            refusal(&Refusal::DiskFull),
            ResponseError::KafkaStorageError
        );
        assert_eq!(
            coordinator(&Refusal::DiskFull),
            ResponseError::CoordinatorNotAvailable
        );
        assert!(coordinator(&Refusal::DiskFull).is_retriable());
        assert_eq!(
            coordinator(&Refusal::NoPartition),
            refusal(&Refusal::NoPartition)
        );
    }
}
