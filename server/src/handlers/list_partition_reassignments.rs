//! ListPartitionReassignments (46): the partitions whose replicas are being moved.
//!
//! None are begun here, but a directory can bring some along. Kafka: `ReplicationControlManager`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::cluster_view::{broker_ids, topic_text};
use super::{Refusal, RequestContext};
use crate::metadata::image::{Image, TopicImage};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Lists those of all topics, or of the partitions that are named; what does not exist is left out.
pub async fn handle(
    context: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> Result<ListPartitionReassignmentsResponse, Refusal> {
    Ok(respond(&context.shard.image(), request.topics.as_deref()))
}

fn respond(
    image: &Image,
    asked: Option<&[ListPartitionReassignmentsTopics]>,
) -> ListPartitionReassignmentsResponse {
    let topics: Vec<OngoingTopicReassignment> = match asked {
        None => image
            .topics()
            .iter()
            .filter_map(|topic| ongoing(topic, topic.partitions.keys().copied()))
            .collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|wanted| {
                ongoing(image.topic(wanted.name.as_str())?, wanted.partition_indexes.iter().copied())
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(topics)
}

/// Those of one topic; `None` where there are none.
fn ongoing(topic: &TopicImage, indexes: impl Iterator<Item = i32>) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<OngoingPartitionReassignment> = indexes
        .filter_map(|index| {
            let partition = topic.partitions.get(&index)?;
            let is_moved = !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty();
            is_moved.then(|| {
                OngoingPartitionReassignment::default()
                    .with_partition_index(index)
                    .with_replicas(broker_ids(&partition.replicas))
                    .with_adding_replicas(broker_ids(&partition.adding_replicas))
                    .with_removing_replicas(broker_ids(&partition.removing_replicas))
            })
        })
        .collect();
    let named = OngoingTopicReassignment::default().with_name(topic_text(&topic.name));
    (!partitions.is_empty()).then(|| named.with_partitions(partitions))
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::fixture;
    use super::*;
    use crate::metadata::records::Partition;

    fn asked(name: &str, indexes: &[i32]) -> ListPartitionReassignmentsTopics {
        ListPartitionReassignmentsTopics::default()
            .with_name(topic_text(name))
            .with_partition_indexes(indexes.to_vec())
    }

    fn told(image: &Image, asked: Option<&[ListPartitionReassignmentsTopics]>) -> Vec<(String, Vec<i32>)> {
        let response = respond(image, asked);
        fixture::encodes(&response, 0);
        let topics = response.topics.into_iter();
        topics
            .map(|topic| {
                let partitions = topic.partitions.iter();
                (topic.name.to_string(), partitions.map(|partition| partition.partition_index).collect())
            })
            .collect()
    }

    #[test]
    fn only_partitions_that_are_moved_are_listed() {
        let mut image = fixture::image();
        assert_eq!(told(&image, None), []);
        let moved = Partition {
            replicas: vec![1, 2],
            adding_replicas: vec![2],
            ..Partition::single(fixture::TOPIC_ID, 2)
        };
        image.apply(&moved.into()).expect("it follows the others");
        let all = [("t".to_owned(), vec![2])];
        assert_eq!(told(&image, None), all);
        assert_eq!(told(&image, Some(&[asked("t", &[0, 2, 9]), asked("nope", &[0])])), all);
        assert_eq!(told(&image, Some(&[asked("t", &[0])])), []);
        assert_eq!(told(&image, Some(&[])), []);
    }
}
