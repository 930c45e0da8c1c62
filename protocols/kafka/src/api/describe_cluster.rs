//! DescribeCluster: the brokers there are, which is this one.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use omnilog_wire::ConnectionError;

use super::operations::{NOT_ASKED, of_cluster};
use super::{Begun, Call, text};

/// The endpoints that are asked for: brokers, as opposed to controllers.
const BROKERS: i8 = 1;

/// Answers with this broker.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &DescribeClusterRequest,
) -> Result<Begun, ConnectionError> {
    if call.version >= 1 && request.endpoint_type != BROKERS {
        let error = ResponseError::MismatchedEndpointType;
        let response = DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.to_string())));
        return call.answer(&response);
    }
    let context = call.context;
    let broker = DescribeClusterBroker::default()
        .with_broker_id(call.node())
        .with_host(text(&context.advertised.host))
        .with_port(i32::from(context.advertised.port))
        .with_rack(context.config.rack.as_ref().map(text));
    let asked = request.include_cluster_authorized_operations;
    let response = DescribeClusterResponse::default()
        .with_cluster_id(text(&context.config.cluster_id))
        .with_controller_id(call.node())
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(if asked { of_cluster(call) } else { NOT_ASKED });
    call.answer(&response)
}
