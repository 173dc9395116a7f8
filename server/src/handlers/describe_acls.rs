//! DescribeAcls (29): there is no authorizer, so that no entry counts.
//!
//! Whoever mirrors topics asks for the entries of each, and goes on without them where this answer tells it to;
//! where the API is missing it fails, again and again. Kafka: `AclApis`, without `authorizer.class.name`.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use super::cluster_view::text;
use super::{Refusal, RequestContext};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 1..=3;

/// What a filter may not ask for. Kafka: UNKNOWN of `ResourceType`, `PatternType`, `AclOperation` and
/// `AclPermissionType`.
const UNKNOWN: i8 = 0;

/// Says that there is no authorizer.
pub async fn handle(
    _: &RequestContext,
    request: DescribeAclsRequest,
) -> Result<DescribeAclsResponse, Refusal> {
    respond(&request)
}

fn respond(request: &DescribeAclsRequest) -> Result<DescribeAclsResponse, Refusal> {
    let DescribeAclsRequest { resource_type_filter, pattern_type_filter, operation, permission_type, .. } =
        request;
    if [resource_type_filter, pattern_type_filter, operation, permission_type].contains(&&UNKNOWN) {
        return Err(Refusal::Malformed {
            what: "filter of access control entries".into(),
            why: "it has an element of an unknown kind".into(),
        });
    }
    Ok(DescribeAclsResponse::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(text("No Authorizer is configured on the broker"))))
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn nothing_is_authorized() {
        let everything = DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1);
        let response = respond(&everything).expect("it is sound");
        assert_eq!(response.error_code, ResponseError::SecurityDisabled.code());
        for version in VERSIONS {
            fixture::encodes(&response, version);
        }
        assert!(respond(&everything.with_operation(UNKNOWN)).is_err());
    }
}
