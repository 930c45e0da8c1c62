//! InitProducerId: an id of its own for an idempotent producer, the next epoch for a transactional one (KIP-98,
//! KIP-360).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use omnilog_broker::{Command, InitTransactions, Name, Reply};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, transactions, unexpected};
use crate::rescue;

/// The first version that knows `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 4;

struct InitProducerId {
    transactional: bool,
}

/// Asks the broker. An idempotent producer gets a new id each time, as from Apache Kafka.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &InitProducerIdRequest,
) -> Result<Begun, ConnectionError> {
    let (producer, epoch) = (request.producer_id.0, request.producer_epoch);
    // Both are given, or none.
    if (producer < 0) != (epoch < 0) {
        return call.answer(&failed(ResponseError::InvalidRequest));
    }
    let Some(id) = &request.transactional_id else {
        call.command(0, Command::InitProducer);
        return Ok(Begun::Waiting(Box::new(InitProducerId {
            transactional: false,
        })));
    };
    if let Some(error) = call.transactional_id_error(id.as_bytes()) {
        return call.answer(&failed(error));
    }
    let init = InitTransactions {
        id: Name::copy_from_slice(id.as_bytes()),
        timeout_ms: i64::from(request.transaction_timeout_ms),
        expected: (producer >= 0).then_some((producer, epoch)),
    };
    call.command(0, Command::InitTransactions(init));
    Ok(Begun::Waiting(Box::new(InitProducerId {
        transactional: true,
    })))
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
            Answer::Broker(Err(refusal)) => {
                let error = match self.transactional {
                    true => transactions::error(&refusal, call.version, FENCED_FROM),
                    false => rescue::refusal(&refusal),
                };
                call.finish(&failed(error))
            }
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
