//! AddPartitionsToTxn: partitions that a transaction will write to. All are taken in, or none. Versions from 4 on are
//! for brokers among themselves.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, TopicName};
use omnilog_auth::Operation;
use omnilog_broker::{Command, Enlist, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, name_of, own, transactions, unexpected};
use crate::rescue;

/// The first version that knows `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 2;

struct AddPartitionsToTxn {
    /// Each partition with its answer, in the order of the request.
    response: AddPartitionsToTxnResponse,
}

/// Asks the broker for all partitions at once.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &AddPartitionsToTxnRequest,
) -> Result<Begun, ConnectionError> {
    let id = &request.v3_and_below_transactional_id;
    let mut add = AddPartitionsToTxn {
        response: AddPartitionsToTxnResponse::default(),
    };
    let mut partitions = Vec::new();
    let mut refused = false;
    for topic in &request.v3_and_below_topics {
        let name = name_of(&topic.name);
        let may = call.may(Operation::Write, &name);
        refused |= !may;
        let error = match may {
            true => ResponseError::OperationNotAttempted,
            false => ResponseError::TopicAuthorizationFailed,
        };
        let results = topic.partitions.iter().map(|partition| {
            partitions.push((name.clone(), *partition));
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(error.code())
        });
        let result = AddPartitionsToTxnTopicResult::default()
            .with_results_by_partition(results.collect())
            .with_name(TopicName(own(&topic.name)));
        add.response.results_by_topic_v3_and_below.push(result);
    }
    if let Some(error) = call.transactional_id_error(id.as_bytes()) {
        add.fill(std::iter::repeat(error.code()));
        return call.answer(&add.response);
    }
    if refused {
        return call.answer(&add.response);
    }
    let transactor = transactions::transactor(
        id,
        request.v3_and_below_producer_id,
        request.v3_and_below_producer_epoch,
    );
    call.command(
        0,
        Command::Enlist(transactor, Enlist::Partitions(partitions)),
    );
    Ok(Begun::Waiting(Box::new(add)))
}

impl AddPartitionsToTxn {
    fn fill(&mut self, codes: impl Iterator<Item = i16>) {
        let topics = self.response.results_by_topic_v3_and_below.iter_mut();
        let slots = topics.flat_map(|topic| &mut topic.results_by_partition);
        for (slot, code) in slots.zip(codes) {
            slot.partition_error_code = code;
        }
    }
}

impl Exchange for AddPartitionsToTxn {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        match answer {
            Answer::Broker(Ok(Reply::Committed(each))) => {
                let all = each.iter().all(Result::is_ok);
                let codes = each.iter().map(|result| match result {
                    Ok(()) if all => 0,
                    Ok(()) => ResponseError::OperationNotAttempted.code(),
                    Err(refusal) => rescue::write(refusal).code(),
                });
                self.fill(codes);
            }
            Answer::Broker(Err(refusal)) => {
                let error = transactions::error(&refusal, call.version, FENCED_FROM);
                self.fill(std::iter::repeat(error.code()));
            }
            other => return Err(unexpected(&other)),
        }
        call.finish(&self.response)
    }
}
