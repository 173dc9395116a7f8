//! Heartbeat (12): a member says that it is alive, and hears of rebalances.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::{self, Answer};
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=4;

/// Hears a member.
pub async fn handle(
    context: &RequestContext,
    request: HeartbeatRequest,
) -> Result<HeartbeatResponse, Refusal> {
    let beat = Request::Heartbeat(messages::HeartbeatRequest {
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
    });
    let error = if request.group_id.is_empty() {
        Some(ResponseError::InvalidGroupId)
    } else {
        match route::ask(&context.shard, &request.group_id, beat).await {
            Ok(Answer::Heartbeat(error)) => error,
            Ok(other) => unreachable!("Heartbeat is answered as such, not by {other:?}"),
            // As Kafka does: sessions begin when the group is loaded, so nothing is lost.
            Err(ResponseError::CoordinatorLoadInProgress) => None,
            Err(error) => Some(error),
        }
    };
    Ok(HeartbeatResponse::default().with_error_code(errors::code(error)))
}
