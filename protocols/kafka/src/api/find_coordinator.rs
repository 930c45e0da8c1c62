//! FindCoordinator: this broker coordinates all groups and transactions, and is found where the client found it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use omnilog_wire::ConnectionError;

use super::{Begun, Call, own, text};

/// The first version that asks for several at once (KIP-699).
const BATCHED_FROM: i16 = 4;

/// Consumer groups.
const GROUP: i8 = 0;
/// Transactional ids.
const TRANSACTION: i8 = 1;

/// Answers with this broker.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &FindCoordinatorRequest,
) -> Result<Begun, ConnectionError> {
    if call.version >= BATCHED_FROM {
        let keys = request.coordinator_keys.iter();
        let all = keys
            .map(|key| coordinator(call, request.key_type, key))
            .collect();
        return call.answer(&FindCoordinatorResponse::default().with_coordinators(all));
    }
    let found = coordinator(call, request.key_type, &request.key);
    let mut response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    if call.version >= 1 {
        response.error_message = found.error_message;
    }
    call.answer(&response)
}

fn coordinator(call: &Call<'_>, key_type: i8, key: &StrBytes) -> Coordinator {
    let error = match key_type {
        GROUP if !call.may_know_group(key.as_bytes()) => ResponseError::GroupAuthorizationFailed,
        TRANSACTION if !call.may_know_transaction(key.as_bytes()) => {
            ResponseError::TransactionalIdAuthorizationFailed
        }
        GROUP | TRANSACTION => {
            let here = &call.context.advertised;
            return Coordinator::default()
                .with_key(own(key))
                .with_node_id(call.node())
                .with_host(text(&here.host))
                .with_port(i32::from(here.port));
        }
        _ => ResponseError::InvalidRequest,
    };
    Coordinator::default()
        .with_key(own(key))
        .with_node_id((-1).into())
        .with_port(-1)
        .with_error_code(error.code())
        .with_error_message(Some(text(error.to_string())))
}
