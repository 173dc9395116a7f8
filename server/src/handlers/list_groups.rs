//! ListGroups (16): the groups of all cores, by state and type.

use std::ops::RangeInclusive;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};
use crate::groups::{messages, route};

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=5;

/// Lists groups.
pub async fn handle(
    context: &RequestContext,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, Refusal> {
    let groups = match route::list(&context.shard).await {
        Ok(groups) => groups,
        Err(error) => return Ok(ListGroupsResponse::default().with_error_code(error.code())),
    };
    // Kafka trims states, and types not.
    let states_filter: Vec<&str> =
        request.states_filter.iter().map(|state| state.trim_matches(|character| character <= ' ')).collect();
    let types_filter: Vec<&str> = request.types_filter.iter().map(|name| &**name).collect();
    let listed = groups
        .into_iter()
        .filter(|group| passes(&states_filter, group.state))
        .filter(|group| passes(&types_filter, group.group_type))
        .map(respond);
    Ok(ListGroupsResponse::default().with_groups(listed.collect()))
}

/// No filter passes everything.
fn passes(filter: &[&str], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
}

fn respond(group: messages::ListedGroup) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.group_id)))
        .with_protocol_type(StrBytes::from_string(group.protocol_type))
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_group_type(StrBytes::from_static_str(group.group_type))
}
