//! OffsetCommit (8): keeps how far a group has read; answered when that is durable.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::Answer;
use crate::groups::offsets::{
    CommitPartition, CommitRequest, CommitTopic, PartitionResult, PartitionResults,
};
use crate::groups::partition::Request;
use crate::groups::route;
use crate::metadata::image::Image;

/// Versions that are served. Version 10, with topic ids, is not known to the codec.
pub const VERSIONS: RangeInclusive<i16> = 2..=9;

/// From this version on a group that does not exist is named as such.
const MISSING_GROUPS_FROM: i16 = 9;

/// Commits offsets.
pub async fn handle(
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> Result<OffsetCommitResponse, Refusal> {
    let (mut results, topics) = sort_out(&context.shard.image(), &request);
    if !topics.is_empty() {
        let asked = topics.iter().map(|topic| {
            (topic.name.clone(), topic.partitions.iter().map(|partition| partition.index).collect::<Vec<_>>())
        });
        let asked: Vec<_> = asked.collect();
        let commit = Request::Commit(CommitRequest {
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.as_deref().map(str::to_owned),
            retention_ms: Some(request.retention_time_ms).filter(|ms| *ms != -1),
            knows_missing_groups: context.request.version >= MISSING_GROUPS_FROM,
            topics,
        });
        let committed = match route::ask(&context.shard, &request.group_id, commit).await {
            Ok(Answer::Commit(answer)) => answer,
            Ok(other) => unreachable!("OffsetCommit is answered as such, not by {other:?}"),
            Err(error) => PartitionResults::failed(asked, error),
        };
        results.merge(committed);
    }
    let partition = |(index, error): PartitionResult| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(errors::code(error))
    };
    let topic = |(name, partitions): (String, Vec<PartitionResult>)| {
        OffsetCommitResponseTopic::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    Ok(OffsetCommitResponse::default().with_topics(results.topics.into_iter().map(topic).collect()))
}

/// Parts what exists from what does not.
fn sort_out(image: &Image, request: &OffsetCommitRequest) -> (PartitionResults, Vec<CommitTopic>) {
    let (mut unknown, mut topics) = (PartitionResults::default(), Vec::new());
    for topic in &request.topics {
        let known = image.topic(&topic.name);
        let (mut missing, mut partitions) = (Vec::new(), Vec::new());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            if known.is_none_or(|known| known.partition(index).is_none()) {
                missing.push((index, Some(ResponseError::UnknownTopicOrPartition)));
                continue;
            }
            partitions.push(CommitPartition {
                index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().unwrap_or("").to_owned(),
            });
        }
        if !missing.is_empty() || known.is_none() {
            unknown.topics.push((topic.name.to_string(), missing));
        }
        if let Some(known) = known.filter(|_| !partitions.is_empty()) {
            topics.push(CommitTopic { name: topic.name.to_string(), id: known.id, partitions });
        }
    }
    (unknown, topics)
}
