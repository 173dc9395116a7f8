//! DeleteGroups (42): removes groups without members, with their offsets.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::Answer;
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// Deletes groups.
pub async fn handle(
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Refusal> {
    let mut seen = BTreeSet::new();
    let distinct = request.groups_names.iter().filter(|group_id| seen.insert((*group_id).clone()));
    let delete = |group_id: &GroupId| {
        let group_id = group_id.clone();
        async move {
            let error = match route::ask(&context.shard, &group_id, Request::Delete).await {
                Ok(Answer::DeleteGroup(error)) => error,
                Ok(other) => unreachable!("DeleteGroups is answered as such, not by {other:?}"),
                Err(error) => Some(error),
            };
            DeletableGroupResult::default().with_group_id(group_id).with_error_code(errors::code(error))
        }
    };
    let results = route::some_at_a_time(&context.shard, distinct.map(delete), |result| result).await;
    Ok(DeleteGroupsResponse::default().with_results(results))
}
