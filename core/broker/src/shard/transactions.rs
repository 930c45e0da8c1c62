//! Transactions (KIP-98): who may write under a transactional id, what its transaction takes in, and how it ends.
//!
//! A transaction's batches lie in their partitions from the moment they are written; readers of committed records stop
//! before the first of them. It ends by one frame, with a marker for each of its partitions and the positions that it
//! commits: all of it counts from then on, or nothing.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::shard::append::{BatchFields, place_batch};
use crate::shard::release::Effect;
use crate::state::partition::Partition;
use crate::state::transactions::{NO_EPOCH, NO_PRODUCER, Transactional};
use bytes::Bytes;
use omnilog_ledger::Section;
use omnilog_record::{TransactionMarker, TransactionOutcome};
use std::sync::Arc;

/// What a marker takes of a frame, at the most.
const MARKER_BYTES: usize = 256;
/// Epochs that a producer id has; the one after them fences the last.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// A producer id, its epoch, and both as they were before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    producer: i64,
    epoch: i16,
    last_producer: i64,
    last_epoch: i16,
}

impl Shard {
    /// Gives a producer the epoch after all that used the transactional id before, and aborts what they left open.
    pub(crate) fn init_transactions(
        &mut self,
        namespace: NamespaceId,
        init: &InitTransactions,
    ) -> Result<Reply, Refusal> {
        let timeout_ms = u32::try_from(init.timeout_ms)
            .ok()
            .filter(|timeout| (1..=self.config.transaction_timeout_ms_max).contains(timeout))
            .ok_or(Refusal::InvalidTransactionTimeout)?;
        self.may_publish()?;
        let known = self.state.transactional(namespace, &init.id);
        let open = known.is_some_and(Transactional::is_open);
        if let (Some(known), Some((producer, epoch))) = (known, init.expected) {
            let present = (producer, epoch) == (known.producer, known.epoch);
            let repeated = !open && (producer, epoch) == (known.last_producer, known.last_epoch);
            if repeated {
                return Ok(Reply::Producer(known.producer, known.epoch));
            }
            if !present {
                return Err(Refusal::ProducerFenced);
            }
        }
        let mut expected = init.expected;
        if open {
            let epoch = self.end(namespace, &init.id, false, true);
            expected = expected.map(|(producer, _)| (producer, epoch));
        }
        let known = self.state.transactional(namespace, &init.id);
        let Identity {
            producer,
            epoch,
            last_producer,
            last_epoch,
        } = match next_identity(known, expected) {
            Some(identity) => identity,
            None => {
                let producer = self.state.next_producer;
                let next = producer + 1;
                self.record(&Decision::ProducersAllotted { next });
                Identity {
                    producer,
                    epoch: 0,
                    last_producer: expected.map_or(NO_PRODUCER, |(producer, _)| producer),
                    last_epoch: expected.map_or(NO_EPOCH, |(_, epoch)| epoch),
                }
            }
        };
        self.record(&Decision::TransactionsInitialised {
            namespace,
            id: init.id.clone(),
            producer,
            epoch,
            last_producer,
            last_epoch,
            timeout_ms,
            at_ms: self.now.unix_ms,
        });
        self.arm_transactional(namespace, &init.id);
        Ok(Reply::Producer(producer, epoch))
    }

    /// Whoever says it is this producer: is it the present one?
    fn transactor(
        &self,
        namespace: NamespaceId,
        transactor: &Transactor,
    ) -> Result<&Transactional, Refusal> {
        let known = self
            .state
            .transactional(namespace, &transactor.id)
            .filter(|known| known.producer == transactor.producer)
            .ok_or(Refusal::InvalidProducerMapping)?;
        if known.epoch != transactor.epoch {
            return Err(Refusal::ProducerFenced);
        }
        Ok(known)
    }

    /// Takes partitions or a group into a transaction, which begins with the first.
    pub(crate) fn enlist(
        &mut self,
        namespace: NamespaceId,
        transactor: &Transactor,
        what: Enlist,
    ) -> Result<Reply, Refusal> {
        self.transactor(namespace, transactor)?;
        let (partitions, groups, results) = match what {
            Enlist::Group(group) => (Vec::new(), vec![group], vec![Ok(())]),
            Enlist::Partitions(named) => {
                let mut keys = Vec::with_capacity(named.len());
                let mut results = Vec::with_capacity(named.len());
                for (topic, partition) in named {
                    let found = self.partition_key(namespace, &TopicRef::Name(topic), partition);
                    results.push(found.map(|(_, key)| keys.push(key)));
                }
                (keys, Vec::new(), results)
            }
        };
        if results.iter().any(Result::is_err) {
            return Ok(Reply::Committed(results));
        }
        let known = self.transactor(namespace, transactor)?;
        let new: Vec<u64> = partitions
            .into_iter()
            .filter(|key| !known.partitions.contains(key))
            .collect();
        let groups: Vec<Name> = groups
            .into_iter()
            .filter(|group| !known.groups.contains_key(group))
            .collect();
        let limit = self.journal.frame_bytes_max() / 2 / MARKER_BYTES;
        if known.partitions.len() + new.len() > limit {
            return Err(Refusal::Limit("partitions in a transaction".to_owned()));
        }
        if !new.is_empty() || !groups.is_empty() {
            self.record(&Decision::TransactionJoined {
                namespace,
                id: transactor.id.clone(),
                partitions: new,
                groups,
                at_ms: self.now.unix_ms,
            });
            self.arm_transactional(namespace, &transactor.id);
        }
        Ok(Reply::Committed(results))
    }

    /// Keeps positions that count when the transaction is committed.
    pub(crate) fn offsets_in_transaction(
        &mut self,
        namespace: NamespaceId,
        commit: OffsetsInTransaction,
    ) -> Result<Reply, Refusal> {
        let known = self.transactor(namespace, &commit.transactor)?;
        if !known.is_open() || !known.groups.contains_key(&commit.group) {
            return Err(Refusal::InvalidTransactionState);
        }
        let (results, offsets) = self.positions(namespace, commit.offsets);
        if !offsets.is_empty() {
            self.record(&Decision::TransactionOffsets {
                namespace,
                id: commit.transactor.id,
                group: commit.group,
                offsets,
            });
        }
        Ok(Reply::Committed(results))
    }

    /// Commits or aborts. Asked again, it answers as before.
    pub(crate) fn end_transaction(
        &mut self,
        namespace: NamespaceId,
        transactor: &Transactor,
        commit: bool,
    ) -> Result<Reply, Refusal> {
        let known = self.transactor(namespace, transactor)?;
        match (known.phase, commit) {
            (TransactionPhase::Ongoing, _) => {
                self.end(namespace, &transactor.id, commit, false);
                Ok(Reply::Done)
            }
            (TransactionPhase::Committed, true) | (TransactionPhase::Aborted, false) => {
                Ok(Reply::Done)
            }
            _ => Err(Refusal::InvalidTransactionState),
        }
    }

    /// Ends an open transaction: markers and positions in one frame. A fenced producer's epoch is over with it. Returns
    /// the epoch from now on.
    fn end(&mut self, namespace: NamespaceId, id: &Name, committed: bool, fenced: bool) -> i16 {
        let Some(known) = self.state.transactional(namespace, id) else {
            return NO_EPOCH;
        };
        let epoch = match fenced {
            true => known.epoch.saturating_add(1),
            false => known.epoch,
        };
        let (producer, partitions) = (known.producer, known.partitions.clone());
        for key in partitions {
            self.mark(key, producer, epoch, committed);
        }
        self.record(&Decision::TransactionEnded {
            namespace,
            id: id.clone(),
            committed,
            epoch,
            at_ms: self.now.unix_ms,
        });
        self.arm_transactional(namespace, id);
        epoch
    }

    /// Appends a marker to a partition.
    fn mark(&mut self, key: u64, producer_id: i64, producer_epoch: i16, committed: bool) {
        let Some(partition) = self.state.partitions.get(&key) else {
            return;
        };
        let base_offset = partition.next_offset;
        let marker = TransactionMarker {
            producer_id,
            producer_epoch,
            outcome: match committed {
                true => TransactionOutcome::Commit,
                false => TransactionOutcome::Abort,
            },
            coordinator_epoch: i32::try_from(self.state.epoch).unwrap_or(i32::MAX),
            timestamp: self.now.unix_ms,
        };
        let batch = match marker.to_batch() {
            Ok(batch) => place_batch(batch.to_bytes(), base_offset, self.state.epoch),
            Err(error) => {
                self.fail(&format!("a marker can't be made: {error}"));
                return;
            }
        };
        let first = self.take_sequences(1);
        let stored = Arc::new(StoredBatch::new(batch.clone(), Vec::new()));
        let section = Section {
            partition: key,
            base_offset,
            base_sequence: first,
            last_delta: 0,
            max_timestamp: self.now.unix_ms,
            envelope: Bytes::new(),
            batch,
        };
        let section = self.add_section(section, stored);
        self.record(&Decision::Marked { section, committed });
        self.readable(key, first);
    }

    /// A partition may be read as far as it is written now, when that is durable.
    pub(crate) fn readable(&mut self, key: u64, last_sequence: u64) {
        if let Some(partition) = self.state.partitions.get(&key) {
            let (end, stable) = (partition.next_offset, partition.first_open());
            self.after
                .push(Effect::Watermark(key, end, last_sequence, stable));
        }
    }

    /// May this batch be appended, as far as transactions go?
    pub(crate) fn check_transaction(
        &self,
        namespace: NamespaceId,
        id: Option<&Name>,
        fields: &BatchFields,
        partition: &Partition,
    ) -> Result<(), Refusal> {
        if !fields.is_transactional() {
            let open = partition.transactions.as_ref().map(|known| &known.open);
            return match open.is_some_and(|open| open.contains_key(&fields.producer_id)) {
                true => Err(Refusal::InvalidTransactionState),
                false => Ok(()),
            };
        }
        let known = id
            .and_then(|id| self.state.transactional(namespace, id))
            .filter(|known| known.producer == fields.producer_id)
            .ok_or(Refusal::InvalidProducerMapping)?;
        if known.epoch != fields.producer_epoch {
            return Err(Refusal::InvalidProducerEpoch);
        }
        match known.is_open() && known.partitions.contains(&partition.key) {
            true => Ok(()),
            false => Err(Refusal::InvalidTransactionState),
        }
    }

    pub(crate) fn describe_transactions(
        &self,
        namespace: NamespaceId,
        ids: Option<Vec<Name>>,
    ) -> Result<Reply, Refusal> {
        let names = self.state.namespace(namespace).ok_or(Refusal::ShardLost)?;
        let described = |id: &Name| {
            let known = names.transactions.get(id);
            let known = known.ok_or_else(|| Refusal::NotFound(Noun::Transaction, id.clone()))?;
            Ok(self.described(id, known))
        };
        Ok(Reply::Transactions(match ids {
            Some(ids) => ids.iter().map(described).collect(),
            None => names.transactions.keys().map(described).collect(),
        }))
    }

    fn described(&self, id: &Name, known: &Transactional) -> TransactionInfo {
        let partitions = known.partitions.iter().filter_map(|key| {
            let partition = self.state.partitions.get(key)?;
            Some((self.state.origin_of(*key).topic, partition.index))
        });
        let (started_ms, open_ms) = match known.is_open() {
            true => (
                known.since_ms,
                self.now.unix_ms.saturating_sub(known.since_ms),
            ),
            false => (-1, -1),
        };
        TransactionInfo {
            transactor: Transactor {
                id: id.clone(),
                producer: known.producer,
                epoch: known.epoch,
            },
            phase: known.phase,
            timeout_ms: known.timeout_ms,
            started_ms,
            open_ms,
            partitions: partitions.collect(),
        }
    }

    /// Partitions for which a group's position is to be committed by an open transaction.
    pub(crate) fn unstable_offsets(
        &self,
        namespace: NamespaceId,
        group: &Name,
    ) -> Result<Reply, Refusal> {
        let names = self.state.namespace(namespace).ok_or(Refusal::ShardLost)?;
        let pending = names
            .transactions
            .values()
            .filter_map(|known| known.groups.get(group))
            .flat_map(|offsets| offsets.values())
            .map(|offset| (offset.topic.clone(), offset.partition));
        Ok(Reply::Unstable(pending.collect()))
    }

    /// Looks at a transactional id again when its time is over.
    fn arm_transactional(&mut self, namespace: NamespaceId, id: &Name) {
        if let Some(known) = self.state.transactional(namespace, id) {
            let due_ms = known.due_ms(self.config.transactional_id_expiration_ms);
            self.transaction_timers
                .insert((due_ms, namespace, id.clone()));
        }
    }

    /// Arms all that a start has found.
    pub(crate) fn arm_transactions(&mut self) {
        let all: Vec<(NamespaceId, Name)> = self
            .state
            .namespaces
            .iter()
            .flat_map(|names| names.transactions.keys().map(|id| (names.id, id.clone())))
            .collect();
        for (namespace, id) in all {
            self.arm_transactional(namespace, &id);
        }
    }

    /// Aborts transactions that are open for too long, and forgets ids that nobody uses.
    pub(crate) fn run_transaction_timers(&mut self) {
        while let Some((at, namespace, id)) = self.transaction_timers.first().cloned() {
            if at > self.now.unix_ms {
                break;
            }
            self.transaction_timers.pop_first();
            let Some(known) = self.state.transactional(namespace, &id) else {
                continue;
            };
            // It has been used since.
            if known.due_ms(self.config.transactional_id_expiration_ms) > self.now.unix_ms {
                continue;
            }
            if known.is_open() {
                let name = String::from_utf8_lossy(&id);
                tracing::info!(id = %name, "a transaction was open for too long: it is aborted");
                self.end(namespace, &id, false, true);
            } else {
                self.record(&Decision::TransactionalForgotten { namespace, id });
            }
            self.conclude_frame();
        }
    }
}

/// Who is next to use an id, under the same producer id; `None`: a new one is needed.
fn next_identity(known: Option<&Transactional>, expected: Option<(i64, i16)>) -> Option<Identity> {
    let known = known.filter(|known| known.epoch < EPOCH_MAX)?;
    Some(Identity {
        producer: known.producer,
        epoch: known.epoch + 1,
        last_producer: expected.map_or(NO_PRODUCER, |_| known.producer),
        last_epoch: expected.map_or(NO_EPOCH, |_| known.epoch),
    })
}

#[cfg(test)]
mod tests {
    use super::{EPOCH_MAX, Identity, next_identity};
    use crate::api::TransactionPhase;
    use crate::state::transactions::{NO_EPOCH, NO_PRODUCER, Transactional};
    use std::collections::{BTreeMap, BTreeSet};

    fn known(epoch: i16) -> Transactional {
        Transactional {
            producer: 7,
            epoch,
            last_producer: NO_PRODUCER,
            last_epoch: NO_EPOCH,
            timeout_ms: 1000,
            phase: TransactionPhase::Empty,
            since_ms: 0,
            partitions: BTreeSet::new(),
            groups: BTreeMap::new(),
        }
    }

    #[test]
    fn a_producer_id_that_has_no_epoch_left_is_given_up() {
        let last = Identity {
            producer: 7,
            epoch: EPOCH_MAX,
            last_producer: NO_PRODUCER,
            last_epoch: NO_EPOCH,
        };
        assert_eq!(next_identity(Some(&known(EPOCH_MAX - 1)), None), Some(last));
        // What fences the last of them is above it.
        for used in [EPOCH_MAX, i16::MAX] {
            assert_eq!(next_identity(Some(&known(used)), None), None);
        }
        assert_eq!(next_identity(None, None), None);
    }

    #[test]
    fn a_producer_that_asks_for_its_next_epoch_is_known_by_the_one_before() {
        let bumped = next_identity(Some(&known(3)), Some((7, 3)));
        let bumped = bumped.map(|next| (next.epoch, next.last_producer, next.last_epoch));
        assert_eq!(bumped, Some((4, 7, 3)));
    }
}
