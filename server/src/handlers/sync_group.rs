//! SyncGroup (14): brings the leader's assignment, takes the member's own; answered when it is durable.

use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::{Answer, SyncAnswer, SyncRequest};
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=5;

/// From this version on the protocol has to be named.
const PROTOCOL_FROM: i16 = 5;

/// Syncs.
pub async fn handle(
    context: &RequestContext,
    request: SyncGroupRequest,
) -> Result<SyncGroupResponse, Refusal> {
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.request.version >= PROTOCOL_FROM && !named {
        return Ok(respond(SyncAnswer::failed(ResponseError::InconsistentGroupProtocol)));
    }
    if request.group_id.is_empty() {
        return Ok(respond(SyncAnswer::failed(ResponseError::InvalidGroupId)));
    }
    let assignments = request.assignments.iter();
    let assignments = assignments
        .map(|assigned| (assigned.member_id.to_string(), Bytes::copy_from_slice(&assigned.assignment)))
        .collect();
    let syncing = Request::Sync(SyncRequest {
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        protocol_type: request.protocol_type.as_deref().map(str::to_owned),
        protocol_name: request.protocol_name.as_deref().map(str::to_owned),
        assignments,
    });
    Ok(match route::ask(&context.shard, &request.group_id, syncing).await {
        Ok(Answer::Sync(answer)) => respond(answer),
        Ok(other) => unreachable!("SyncGroup is answered as such, not by {other:?}"),
        Err(error) => respond(SyncAnswer::failed(error)),
    })
}

fn respond(answer: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(errors::code(answer.error))
        .with_protocol_type(answer.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(answer.protocol_name.map(StrBytes::from_string))
        .with_assignment(answer.assignment)
}
