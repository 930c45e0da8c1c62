//! ApiVersions: what is served, and in which versions (KIP-35, KIP-511).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use omnilog_wire::ConnectionError;

use super::{Begun, Call};
use crate::codec::{Api, Reply};

/// The first version in which clients name their software.
const CLIENT_SOFTWARE_FROM: i16 = 3;

/// Answers with the table of versions.
pub(super) fn begin(
    call: &mut Call<'_>,
    request: &ApiVersionsRequest,
) -> Result<Begun, ConnectionError> {
    let named = is_software_name(&request.client_software_name)
        && is_software_name(&request.client_software_version);
    if call.version >= CLIENT_SOFTWARE_FROM && !named {
        let error = ResponseError::InvalidRequest.code();
        return call.answer(&ApiVersionsResponse::default().with_error_code(error));
    }
    let keys = Api::ALL.iter().map(|&api| advertised(api)).collect();
    call.answer(&ApiVersionsResponse::default().with_api_keys(keys))
}

/// The answer to an ApiVersions of a version that is not served: in version 0, which every client
/// reads, with the versions to try instead.
pub(crate) fn unsupported(correlation_id: i32) -> Result<Reply, ConnectionError> {
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![advertised(Api::ApiVersions)]);
    Reply::encode(Api::ApiVersions, 0, correlation_id, &response).map_err(ConnectionError::failure)
}

fn advertised(api: Api) -> ApiVersion {
    let versions = api.advertised_versions();
    ApiVersion::default()
        .with_api_key(api.key())
        .with_min_version(versions.min)
        .with_max_version(versions.max)
}

/// Letters and digits, with dots and dashes between them.
fn is_software_name(name: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_edge(name.chars().next())
        && is_edge(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}
