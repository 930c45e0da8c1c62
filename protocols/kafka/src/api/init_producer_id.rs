//! InitProducerId: an id of its own for an idempotent producer (KIP-98).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use omnilog_broker::{Command, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, unexpected};
use crate::rescue;

struct InitProducerId;

/// Asks the broker for an id. An idempotent producer gets a new one each time, as from Apache
/// Kafka; a transactional one is refused, since there are no transactions.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &InitProducerIdRequest,
) -> Result<Begun, ConnectionError> {
    if request.transactional_id.is_some() {
        let response = failed(ResponseError::TransactionalIdAuthorizationFailed);
        return call.answer(&response);
    }
    call.command(0, Command::InitProducer);
    Ok(Begun::Waiting(Box::new(InitProducerId)))
}

impl Exchange for InitProducerId {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        _part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        match answer {
            Answer::Broker(Ok(Reply::Producer(id, epoch))) => {
                let response = InitProducerIdResponse::default()
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(epoch);
                call.finish(&response)
            }
            Answer::Broker(Err(refusal)) => call.finish(&failed(rescue::refusal(&refusal))),
            other => Err(unexpected(&other)),
        }
    }
}

fn failed(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
