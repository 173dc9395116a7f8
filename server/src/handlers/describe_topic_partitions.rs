//! DescribeTopicPartitions (75, KIP-966): topics and partitions page by page, by ascending name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::cluster_view::{ClusterView, TOPIC_OPERATIONS, broker_ids, topic_text};
use super::{Refusal, RequestContext};
use crate::metadata::image::{PartitionImage, TopicImage};
use crate::metadata::topic_name;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Partitions in one answer, at most. Kafka: `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

/// Answers with one page.
pub async fn handle(
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, Refusal> {
    let image = context.shard.image();
    let view = ClusterView::new(&image, &context.connection.listener.name);
    Ok(respond(&view, &request))
}

fn respond(
    view: &ClusterView<'_>,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let cursor = request.cursor.as_ref();
    let asked: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    // Where topics are named, the cursor must be one of them.
    let is_elsewhere = |cursor: &&Cursor| !asked.is_empty() && !asked.contains(cursor.topic_name.as_str());
    if cursor.is_some_and(|cursor| cursor.partition_index < 0 || is_elsewhere(&cursor)) {
        let invalid = ResponseError::InvalidRequest.code();
        let refused = request.topics.iter().map(|topic| {
            DescribeTopicPartitionsResponseTopic::default()
                .with_error_code(invalid)
                .with_name(Some(topic.name.clone()))
        });
        return page(refused.collect(), None);
    }
    let all = asked.is_empty();
    let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    // A page takes no more of the topics than it tells.
    let names: Box<dyn Iterator<Item = &str>> = if all {
        Box::new(view.image.topics().from_name(from).map(|topic| &*topic.name))
    } else {
        Box::new(asked.into_iter().filter(|name| *name >= from))
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut left = limit;
    let mut topics = Vec::new();
    for name in names {
        let start = cursor.filter(|cursor| cursor.topic_name.as_str() == name);
        let start = start.map_or(0, |cursor| cursor.partition_index);
        let Some(topic) = view.image.topic(name) else {
            topics.push(unknown(name));
            continue;
        };
        if left == 0 {
            return page(topics, Some((name, 0)));
        }
        let rest = topic.partitions.range(start..);
        let partitions: Vec<_> =
            rest.take(left).map(|(index, partition)| describe(view, *index, partition)).collect();
        left -= partitions.len();
        let next = start.saturating_add(partitions.len() as i32);
        let is_cut = topic.partitions.range(next..).next().is_some();
        topics.push(found(topic, partitions));
        if is_cut {
            return page(topics, Some((name, next)));
        }
    }
    page(topics, None)
}

fn page(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = next.map(|(name, index)| {
        NextCursor::default().with_topic_name(topic_text(name)).with_partition_index(index)
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor)
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match topic_name::validate(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topic_text(name)))
        .with_is_internal(topic_name::is_internal(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn found(
    topic: &TopicImage,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_text(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic_name::is_internal(&topic.name))
        .with_partitions(partitions)
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn describe(
    view: &ClusterView<'_>,
    index: i32,
    partition: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let leader = view.leader(partition);
    let error = (leader < 0).then_some(if view.is_registered(partition.leader) {
        ResponseError::ListenerNotFound
    } else {
        ResponseError::LeaderNotAvailable
    });
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(error.map_or(0, |error| error.code()))
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(broker_ids(&partition.replicas))
        .with_isr_nodes(broker_ids(&partition.isr))
        .with_eligible_leader_replicas(Some(broker_ids(&partition.eligible_leader_replicas)))
        .with_last_known_elr(Some(broker_ids(&partition.last_known_elr)))
        .with_offline_replicas(view.offline(partition))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_topic_partitions_request;

    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn pages_follow_each_other_and_end() {
        let image = fixture::image();
        let view = ClusterView::new(&image, "PLAINTEXT");
        let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(1);
        let mut seen = Vec::new();
        loop {
            let response = respond(&view, &request);
            fixture::encodes(&response, 0);
            for topic in &response.topics {
                let name = topic.name.as_ref().expect("a name").to_string();
                seen.extend(
                    topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)),
                );
            }
            let Some(next) = response.next_cursor else { break };
            let cursor = describe_topic_partitions_request::Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index);
            request.cursor = Some(cursor);
        }
        let expected = [("__consumer_offsets", 0), ("t", 0), ("t", 1)];
        assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
    }

    #[test]
    fn an_unknown_topic_is_said_to_be_so() {
        let image = fixture::image();
        let view = ClusterView::new(&image, "PLAINTEXT");
        let topic = |name: &str| {
            describe_topic_partitions_request::TopicRequest::default().with_name(topic_text(name))
        };
        let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic("t"), topic("nope")]);
        let response = respond(&view, &request);
        let told: Vec<_> =
            response.topics.iter().map(|topic| (topic.error_code, topic.partitions.len())).collect();
        assert_eq!(told, [(ResponseError::UnknownTopicOrPartition.code(), 0), (0, 2)]);
        for (name, index) in [("t", -1), ("zzz", 0)] {
            let cursor = Cursor::default().with_topic_name(topic_text(name)).with_partition_index(index);
            let refused = respond(&view, &request.clone().with_cursor(Some(cursor)));
            let told: Vec<_> = refused.topics.iter().map(|topic| topic.error_code).collect();
            assert_eq!(told, [ResponseError::InvalidRequest.code(); 2], "{name}-{index}");
        }
    }
}
