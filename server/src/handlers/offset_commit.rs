//! OffsetCommit (8): keeps how far a group has read; answered when that is durable.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::Answer;
use crate::groups::offsets::{
    CommitPartition, CommitRequest, CommitTopic, PartitionResult, PartitionResults,
};
use crate::groups::partition::Request;
use crate::groups::route;
use crate::metadata::image::Image;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 2..=10;

/// From this version on a group that does not exist is named as such.
const MISSING_GROUPS_FROM: i16 = 9;
/// From this version on topics go by their ids (KIP-848).
const TOPIC_IDS_FROM: i16 = 10;

/// Commits offsets.
pub async fn handle(
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> Result<OffsetCommitResponse, Refusal> {
    let image = context.shard.image();
    let by_id = context.request.version >= TOPIC_IDS_FROM;
    let Sorted { unknown_ids, unknown: mut results, topics } = sort_out(&image, &request, by_id);
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
            image_offset: image.offset(),
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
    let respond = |id: Uuid, name: String, partitions: Vec<PartitionResult>| {
        OffsetCommitResponseTopic::default()
            .with_topic_id(id)
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    let unknown = unknown_ids.into_iter().map(|(id, partitions)| respond(id, String::new(), partitions));
    let named = results.topics.into_iter().map(|(name, partitions)| {
        let id = image.topic(&name).filter(|_| by_id).map_or(Uuid::nil(), |topic| topic.id);
        respond(id, if by_id { String::new() } else { name }, partitions)
    });
    Ok(OffsetCommitResponse::default().with_topics(unknown.chain(named).collect()))
}

/// What a request commits, parted by what exists.
struct Sorted {
    /// Topic ids that nobody knows.
    unknown_ids: Vec<(Uuid, Vec<PartitionResult>)>,
    /// Topics and partitions that are not there.
    unknown: PartitionResults,
    /// What is there.
    topics: Vec<CommitTopic>,
}

fn sort_out(image: &Image, request: &OffsetCommitRequest, by_id: bool) -> Sorted {
    let (mut unknown_ids, mut unknown, mut topics) = (Vec::new(), Vec::new(), Vec::new());
    for topic in &request.topics {
        let known = if by_id { image.topic_by_id(topic.topic_id) } else { image.topic(&topic.name) };
        if by_id && known.is_none() {
            let unknown = |partition: &OffsetCommitRequestPartition| {
                (partition.partition_index, Some(ResponseError::UnknownTopicId))
            };
            unknown_ids.push((topic.topic_id, topic.partitions.iter().map(unknown).collect()));
            continue;
        }
        let name = known.map_or_else(|| topic.name.to_string(), |known| known.name.to_string());
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
            unknown.push((name.clone(), missing));
        }
        if let Some(known) = known.filter(|_| !partitions.is_empty()) {
            topics.push(CommitTopic { name, id: known.id, partitions });
        }
    }
    let mut results = PartitionResults::default();
    results.extend(unknown);
    Sorted { unknown_ids, unknown: results, topics }
}
