//! What the apis of transactions share (KIP-98): who asks, and what a no means.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ProducerId, TransactionalId};
use omnilog_auth::{Operation, Resource};
use omnilog_broker::{Name, Refusal, TransactionPhase, Transactor};

use super::{ANY_OF, Call};
use crate::rescue;

/// The producer that a request names.
pub(super) fn transactor(id: &TransactionalId, producer: ProducerId, epoch: i16) -> Transactor {
    Transactor {
        id: Name::copy_from_slice(id.as_bytes()),
        producer: producer.0,
        epoch,
    }
}

impl Call<'_> {
    /// May the client use this transactional id?
    pub(super) fn may_transact(&self, id: &[u8]) -> bool {
        let resource = Resource::Transaction(&self.context.namespace_name, id);
        self.context.allows(Operation::Write, resource)
    }

    /// May the client know of this transactional id (Kafka's Describe)?
    pub(super) fn may_know_transaction(&self, id: &[u8]) -> bool {
        let resource = Resource::Transaction(&self.context.namespace_name, id);
        ANY_OF
            .into_iter()
            .any(|any| self.context.allows(any, resource))
    }

    /// Why a transactional id can't be used at all.
    pub(super) fn transactional_id_error(&self, id: &[u8]) -> Option<ResponseError> {
        if id.is_empty() {
            return Some(ResponseError::InvalidRequest);
        }
        (!self.may_transact(id)).then_some(ResponseError::TransactionalIdAuthorizationFailed)
    }
}

/// The code of a transaction coordinator's no, in a version of an api of which `PRODUCER_FENCED` is understood from
/// another on (KIP-588).
pub(super) fn error(refusal: &Refusal, version: i16, fenced_from: i16) -> ResponseError {
    match refusal {
        Refusal::ProducerFenced if version < fenced_from => ResponseError::InvalidProducerEpoch,
        refusal => rescue::coordinator(refusal),
    }
}

/// The states that Apache Kafka knows. A transaction's end is one step here: it is never being prepared.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// Is there such a state?
pub(super) fn is_state(name: &str) -> bool {
    STATES.contains(&name)
}

/// A state as Apache Kafka spells it.
pub(super) fn phase_name(phase: TransactionPhase) -> &'static str {
    match phase {
        TransactionPhase::Empty => "Empty",
        TransactionPhase::Ongoing => "Ongoing",
        TransactionPhase::Committed => "CompleteCommit",
        TransactionPhase::Aborted => "CompleteAbort",
    }
}
