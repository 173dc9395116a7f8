//! LeaveGroup (13): members leave, or an administrator removes static ones.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::{Answer, LeaveAnswer, LeavingMember, LeftMember};
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=5;

/// From this version on several members may leave at once.
const MEMBERS_FROM: i16 = 3;

/// Lets members go.
pub async fn handle(
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> Result<LeaveGroupResponse, Refusal> {
    let version = context.request.version;
    let members = if version >= MEMBERS_FROM {
        let member = |member: &kafka_protocol::messages::leave_group_request::MemberIdentity| LeavingMember {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_deref().map(str::to_owned),
            reason: member.reason.as_deref().map(str::to_owned),
        };
        request.members.iter().map(member).collect()
    } else {
        vec![LeavingMember { member_id: request.member_id.to_string(), instance_id: None, reason: None }]
    };
    let answer = if request.group_id.is_empty() {
        LeaveAnswer { error: Some(ResponseError::InvalidGroupId), members: Vec::new() }
    } else {
        match route::ask(&context.shard, &request.group_id, Request::Leave(members)).await {
            Ok(Answer::Leave(answer)) => answer,
            Ok(other) => unreachable!("LeaveGroup is answered as such, not by {other:?}"),
            Err(error) => LeaveAnswer { error: Some(error), members: Vec::new() },
        }
    };
    if version < MEMBERS_FROM {
        let error = answer.error.or_else(|| answer.members.first().and_then(|member| member.error));
        return Ok(LeaveGroupResponse::default().with_error_code(errors::code(error)));
    }
    let member = |LeftMember { member_id, instance_id, error }| {
        MemberResponse::default()
            .with_member_id(StrBytes::from_string(member_id))
            .with_group_instance_id(instance_id.map(StrBytes::from_string))
            .with_error_code(errors::code(error))
    };
    Ok(LeaveGroupResponse::default()
        .with_error_code(errors::code(answer.error))
        .with_members(answer.members.into_iter().map(member).collect()))
}
