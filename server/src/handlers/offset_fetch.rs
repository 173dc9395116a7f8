//! OffsetFetch (9): how far groups have read. Who never committed has read nothing, which is no error.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::Answer;
use crate::groups::offsets::{FetchAnswer, FetchRequest, FetchTopic, FetchedOffset};
use crate::groups::partition::Request;
use crate::groups::route;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 1..=10;

/// From this version on an error of the group has a field of its own.
const GROUP_ERROR_FROM: i16 = 2;
/// From this version on several groups may be asked for at once.
const GROUPS_FROM: i16 = 8;
/// From this version on topics go by their ids (KIP-848).
const TOPIC_IDS_FROM: i16 = 10;

/// None for all.
type Wanted = Option<Vec<FetchTopic>>;

/// Fetches committed offsets.
pub async fn handle(
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, Refusal> {
    let require_stable = request.require_stable;
    if context.request.version >= GROUPS_FROM {
        let groups = request.groups.iter().map(|group| fetch_group(context, group, require_stable));
        let fetched = route::some_at_a_time(&context.shard, groups, |group| group).await;
        return Ok(OffsetFetchResponse::default().with_groups(fetched));
    }
    let topics: Wanted = request
        .topics
        .as_ref()
        .map(|topics| topics.iter().map(|topic| by_name(&topic.name, &topic.partition_indexes)).collect());
    let (_, mut answer) = fetch(context, request.group_id.clone(), topics.clone(), require_stable).await;
    if let (Some(error), true) = (answer.error, context.request.version < GROUP_ERROR_FROM) {
        answer.topics = failed(topics.unwrap_or_default(), error);
    }
    let partition = |offset: FetchedOffset| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(offset.metadata)))
            .with_error_code(errors::code(offset.error))
    };
    let topic = |(name, offsets): (String, Vec<FetchedOffset>)| {
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(offsets.into_iter().map(partition).collect())
    };
    Ok(OffsetFetchResponse::default()
        .with_topics(answer.topics.into_iter().map(topic).collect())
        .with_error_code(errors::code(answer.error)))
}

async fn fetch(
    context: &RequestContext,
    group_id: GroupId,
    topics: Wanted,
    require_stable: bool,
) -> (GroupId, FetchAnswer) {
    let request = Request::Fetch(FetchRequest { topics, require_stable });
    let answer = match route::ask(&context.shard, &group_id, request).await {
        Ok(Answer::Fetch(answer)) => answer,
        Ok(other) => unreachable!("OffsetFetch is answered as such, not by {other:?}"),
        Err(error) => FetchAnswer { error: Some(error), topics: Vec::new() },
    };
    (group_id, answer)
}

fn by_name(name: &str, partitions: &[i32]) -> FetchTopic {
    FetchTopic { name: name.to_owned(), id: Uuid::nil(), partitions: partitions.to_vec() }
}

fn failed(topics: Vec<FetchTopic>, error: ResponseError) -> Vec<(String, Vec<FetchedOffset>)> {
    let offset = |partition| FetchedOffset::none(partition, Some(error));
    topics.into_iter().map(|topic| (topic.name, topic.partitions.into_iter().map(offset).collect())).collect()
}

async fn fetch_group(
    context: &RequestContext,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = context.shard.image();
    let by_id = context.request.version >= TOPIC_IDS_FROM;
    let mut unknown = Vec::new();
    let wanted: Wanted = group.topics.as_ref().map(|topics| {
        let look_up = |topic: &OffsetFetchRequestTopics| {
            if !by_id {
                return Some(by_name(&topic.name, &topic.partition_indexes));
            }
            let partitions = topic.partition_indexes.clone();
            match image.topic_by_id(topic.topic_id) {
                Some(known) => Some(FetchTopic { name: known.name.to_string(), id: known.id, partitions }),
                None => {
                    let none = |index| FetchedOffset::none(index, Some(ResponseError::UnknownTopicId));
                    unknown.push((topic.topic_id, partitions.into_iter().map(none).collect()));
                    None
                }
            }
        };
        topics.iter().filter_map(look_up).collect()
    });
    let (group_id, answer) = fetch(context, group.group_id.clone(), wanted, require_stable).await;
    let partition = |offset: FetchedOffset| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(offset.metadata)))
            .with_error_code(errors::code(offset.error))
    };
    let respond = |id: Uuid, name: String, offsets: Vec<FetchedOffset>| {
        OffsetFetchResponseTopics::default()
            .with_topic_id(id)
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(offsets.into_iter().map(partition).collect())
    };
    let named = answer.topics.into_iter().filter_map(|(name, offsets)| {
        if !by_id {
            return Some(respond(Uuid::nil(), name, offsets));
        }
        // A topic that is gone has no id to be told by.
        image.topic(&name).map(|topic| respond(topic.id, String::new(), offsets))
    });
    let mut topics: Vec<_> = named.collect();
    if answer.error.is_none() {
        topics.extend(unknown.into_iter().map(|(id, offsets)| respond(id, String::new(), offsets)));
    }
    OffsetFetchResponseGroup::default()
        .with_group_id(group_id)
        .with_topics(topics)
        .with_error_code(errors::code(answer.error))
}
