//! OffsetDelete (47): takes committed offsets back, unless a member subscribes to the topic.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::Answer;
use crate::groups::offsets::{DeleteOffsetsAnswer, PartitionResult, PartitionResults};
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Deletes offsets.
pub async fn handle(
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, Refusal> {
    if request.group_id.is_empty() {
        return Ok(OffsetDeleteResponse::default().with_error_code(ResponseError::InvalidGroupId.code()));
    }
    let image = context.shard.image();
    let (mut unknown, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let known = image.topic(&topic.name);
        let exists = |index: &i32| known.is_some_and(|known| known.partition(*index).is_some());
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let (present, missing): (Vec<i32>, Vec<i32>) = indexes.partition(exists);
        if !missing.is_empty() || known.is_none() {
            let missing =
                missing.into_iter().map(|index| (index, Some(ResponseError::UnknownTopicOrPartition)));
            unknown.push((topic.name.to_string(), missing.collect()));
        }
        if !present.is_empty() {
            topics.push((topic.name.to_string(), present));
        }
    }
    let deleting = Request::DeleteOffsets(topics);
    let answer = match route::ask(&context.shard, &request.group_id, deleting).await {
        Ok(Answer::DeleteOffsets(answer)) => answer,
        Ok(other) => unreachable!("OffsetDelete is answered as such, not by {other:?}"),
        Err(error) => DeleteOffsetsAnswer { error: Some(error), ..DeleteOffsetsAnswer::default() },
    };
    if answer.error.is_some() {
        return Ok(OffsetDeleteResponse::default().with_error_code(errors::code(answer.error)));
    }
    let mut results = PartitionResults::default();
    results.extend(unknown);
    results.merge(answer.results);
    let partition = |(index, error): PartitionResult| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(errors::code(error))
    };
    let topic = |(name, partitions): (String, Vec<PartitionResult>)| {
        OffsetDeleteResponseTopic::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    Ok(OffsetDeleteResponse::default().with_topics(results.topics.into_iter().map(topic).collect()))
}
