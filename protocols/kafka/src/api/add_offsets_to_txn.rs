//! AddOffsetsToTxn: a group whose positions a transaction will commit.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use omnilog_broker::{Command, Enlist, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, group_name, transactions, unexpected};
use crate::rescue;

/// The first version that knows `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 2;

struct AddOffsetsToTxn;

/// Asks the broker.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &AddOffsetsToTxnRequest,
) -> Result<Begun, ConnectionError> {
    let id = &request.transactional_id;
    let error = call.transactional_id_error(id.as_bytes()).or_else(|| {
        let may = call.may_use_group(request.group_id.as_bytes());
        (!may).then_some(ResponseError::GroupAuthorizationFailed)
    });
    if let Some(error) = error {
        let response = AddOffsetsToTxnResponse::default().with_error_code(error.code());
        return call.answer(&response);
    }
    let transactor = transactions::transactor(id, request.producer_id, request.producer_epoch);
    let group = Enlist::Group(group_name(&request.group_id));
    call.command(0, Command::Enlist(transactor, group));
    Ok(Begun::Waiting(Box::new(AddOffsetsToTxn)))
}

impl Exchange for AddOffsetsToTxn {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        let error = match answer {
            Answer::Broker(Ok(Reply::Committed(each))) => {
                let refusal = each.into_iter().find_map(Result::err);
                refusal.map(|refusal| rescue::refusal(&refusal))
            }
            Answer::Broker(Err(refusal)) => {
                Some(transactions::error(&refusal, call.version, FENCED_FROM))
            }
            other => return Err(unexpected(&other)),
        };
        let code = error.map_or(0, |error| error.code());
        call.finish(&AddOffsetsToTxnResponse::default().with_error_code(code))
    }
}
