//! DescribeGroups (15): state, members and assignments of classic groups.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::{self, Answer};
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=6;

/// From this version on a group that does not exist is an error (KIP-1043); before, it is dead.
const MISSING_GROUPS_FROM: i16 = 6;

/// What anybody may do with a group where nothing is forbidden: Read (3), Delete (6), Describe (8),
/// DescribeConfigs (10), AlterConfigs (11). Kafka: `AclEntry.supportedOperations`.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Describes groups.
pub async fn handle(
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Refusal> {
    let describe = |group_id: &GroupId| {
        let group_id = group_id.clone();
        async move {
            match route::ask(&context.shard, &group_id, Request::Describe).await {
                Ok(Answer::Describe(group)) => group,
                Ok(other) => unreachable!("DescribeGroups is answered as such, not by {other:?}"),
                Err(error) => messages::DescribedGroup {
                    error: Some(error),
                    group_id: group_id.to_string(),
                    ..messages::DescribedGroup::default()
                },
            }
        }
    };
    let version = context.request.version;
    let asked = route::some_at_a_time(&context.shard, request.groups.iter().map(describe), |group| {
        respond(group, version, request.include_authorized_operations)
    });
    Ok(DescribeGroupsResponse::default().with_groups(asked.await))
}

fn respond(group: messages::DescribedGroup, version: i16, operations: bool) -> DescribedGroup {
    let text = StrBytes::from_string;
    let missing = group.error == Some(ResponseError::GroupIdNotFound);
    let error = group.error.filter(|_| !missing || version >= MISSING_GROUPS_FROM);
    let member = |member: messages::DescribedMember| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    };
    let message = error.filter(|_| missing).map(|_| text(format!("Group {} not found.", group.group_id)));
    let mut described = DescribedGroup::default()
        .with_error_code(errors::code(error))
        .with_error_message(message)
        .with_group_id(GroupId(text(group.group_id)))
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(group.protocol))
        .with_members(group.members.into_iter().map(member).collect());
    if operations && error.is_none() {
        described = described.with_authorized_operations(ALL_OPERATIONS);
    }
    described
}
