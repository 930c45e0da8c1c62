//! EndTxn: commits or aborts a transaction. The answer comes when its markers are on stable storage.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};
use omnilog_broker::{Command, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, transactions, unexpected};

/// The first version that knows `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 2;

struct EndTxn;

/// Asks the broker.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &EndTxnRequest,
) -> Result<Begun, ConnectionError> {
    let id = &request.transactional_id;
    if let Some(error) = call.transactional_id_error(id.as_bytes()) {
        return call.answer(&EndTxnResponse::default().with_error_code(error.code()));
    }
    let transactor = transactions::transactor(id, request.producer_id, request.producer_epoch);
    call.command(0, Command::EndTransaction(transactor, request.committed));
    Ok(Begun::Waiting(Box::new(EndTxn)))
}

impl Exchange for EndTxn {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let code = match answer {
            Answer::Broker(Ok(Reply::Done)) => 0,
            Answer::Broker(Err(refusal)) => {
                transactions::error(&refusal, call.version, FENCED_FROM).code()
            }
            other => return Err(unexpected(&other)),
        };
        call.finish(&EndTxnResponse::default().with_error_code(code))
    }
}
