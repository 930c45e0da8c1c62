//! ListTransactions: the transactional ids there are, by state, producer and age (KIP-664, KIP-994).

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use omnilog_broker::{Command, Reply, TransactionInfo};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, own, text, transactions, unexpected};

struct ListTransactions {
    states: Vec<StrBytes>,
    producers: Vec<i64>,
    /// Only those that are open for longer, if it is not negative.
    duration_ms: i64,
    unknown: Vec<StrBytes>,
}

/// Asks the broker for all, and leaves out what is not wanted.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &ListTransactionsRequest,
) -> Result<Begun, ConnectionError> {
    let all = request.state_filters.iter().map(own);
    let (states, unknown): (Vec<StrBytes>, Vec<StrBytes>) =
        all.partition(|state| transactions::is_state(state));
    if states.is_empty() && !unknown.is_empty() {
        // Nothing is in a state that there is not.
        let response = ListTransactionsResponse::default().with_unknown_state_filters(unknown);
        return call.answer(&response);
    }
    let producers = request.producer_id_filters.iter().map(|id| id.0).collect();
    let list = ListTransactions {
        states,
        producers,
        duration_ms: request.duration_filter,
        unknown,
    };
    call.command(0, Command::DescribeTransactions(None));
    Ok(Begun::Waiting(Box::new(list)))
}

impl ListTransactions {
    fn wants(&self, call: &Call<'_>, info: &TransactionInfo) -> bool {
        let state = transactions::phase_name(info.phase);
        let producer = info.transactor.producer;
        call.may_know_transaction(&info.transactor.id)
            && (self.states.is_empty() || self.states.iter().any(|wanted| &**wanted == state))
            && (self.producers.is_empty() || self.producers.contains(&producer))
            && (self.duration_ms < 0 || info.open_ms > self.duration_ms)
    }
}

impl Exchange for ListTransactions {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let mut response = ListTransactionsResponse::default()
            .with_unknown_state_filters(std::mem::take(&mut self.unknown));
        match answer {
            Answer::Broker(Ok(Reply::Transactions(all))) => {
                for info in all.into_iter().flatten() {
                    if self.wants(call, &info) {
                        let id = String::from_utf8_lossy(&info.transactor.id).into_owned();
                        let state = TransactionState::default()
                            .with_transactional_id(TransactionalId(text(id)))
                            .with_producer_id(ProducerId(info.transactor.producer))
                            .with_transaction_state(text(transactions::phase_name(info.phase)));
                        response.transaction_states.push(state);
                    }
                }
            }
            Answer::Broker(Err(refusal)) => {
                response.error_code = transactions::error(&refusal, call.version, 0).code();
            }
            other => return Err(unexpected(&other)),
        }
        call.finish(&response)
    }
}
