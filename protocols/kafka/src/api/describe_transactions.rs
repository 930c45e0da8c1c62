//! DescribeTransactions: how transactional ids stand (KIP-664).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TransactionalId,
};
use omnilog_broker::{Command, Name, Refusal, Reply, TransactionInfo};
use omnilog_wire::ConnectionError;

use super::{
    Answer, Begun, Call, Exchange, Progress, own, text, topic_name, transactions, unexpected,
};

struct DescribeTransactions {
    response: DescribeTransactionsResponse,
    /// Where in the response each id that the broker was asked for belongs.
    places: Vec<usize>,
}

/// Asks the broker for all ids at once.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &DescribeTransactionsRequest,
) -> Result<Begun, ConnectionError> {
    let mut describe = DescribeTransactions {
        response: DescribeTransactionsResponse::default(),
        places: Vec::new(),
    };
    let mut asked = Vec::new();
    for (at, id) in request.transactional_ids.iter().enumerate() {
        let error = if id.is_empty() {
            Some(ResponseError::InvalidRequest)
        } else {
            let may = call.may_know_transaction(id.as_bytes());
            (!may).then_some(ResponseError::TransactionalIdAuthorizationFailed)
        };
        if error.is_none() {
            describe.places.push(at);
            asked.push(Name::copy_from_slice(id.as_bytes()));
        }
        let state = TransactionState::default()
            .with_transactional_id(TransactionalId(own(id)))
            .with_error_code(error.map_or(0, |error| error.code()));
        describe.response.transaction_states.push(state);
    }
    if asked.is_empty() {
        return call.answer(&describe.response);
    }
    call.command(0, Command::DescribeTransactions(Some(asked)));
    Ok(Begun::Waiting(Box::new(describe)))
}

impl Exchange for DescribeTransactions {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let results = match answer {
            Answer::Broker(Ok(Reply::Transactions(each))) => each,
            Answer::Broker(Err(refusal)) => vec![Err(refusal); self.places.len()],
            other => return Err(unexpected(&other)),
        };
        let states = &mut self.response.transaction_states;
        for (at, result) in self.places.iter().zip(results) {
            if let Some(slot) = states.get_mut(*at) {
                fill(call, slot, result);
            }
        }
        call.finish(&self.response)
    }
}

fn fill(call: &Call<'_>, slot: &mut TransactionState, result: Result<TransactionInfo, Refusal>) {
    let info = match result {
        Ok(info) => info,
        Err(refusal) => {
            slot.error_code = transactions::error(&refusal, call.version, 0).code();
            return;
        }
    };
    slot.transaction_state = text(transactions::phase_name(info.phase));
    slot.transaction_timeout_ms = i32::try_from(info.timeout_ms).unwrap_or(i32::MAX);
    slot.transaction_start_time_ms = info.started_ms;
    slot.producer_id = ProducerId(info.transactor.producer);
    slot.producer_epoch = info.transactor.epoch;
    for (topic, partition) in info.partitions {
        let may = call.may_know(&topic);
        let Some(name) = topic_name(&topic).filter(|_| may) else {
            continue;
        };
        match slot.topics.iter_mut().find(|known| known.topic == name) {
            Some(known) => known.partitions.push(partition),
            None => slot.topics.push(
                TopicData::default()
                    .with_topic(name)
                    .with_partitions(vec![partition]),
            ),
        }
    }
}
