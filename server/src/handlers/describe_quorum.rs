//! DescribeQuorum (55): who leads the metadata quorum, and how far each of its voters is. Asked of the controller.
//!
//! The quorum is this node: it votes, it leads, and what it has written is the quorum's. Its controller is part of
//! this process and has no listener of its own, so that none is told. Kafka: `KafkaRaftClient`, KIP-595, KIP-836,
//! KIP-853.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use super::cluster_view::{text, topic_text};
use super::{Refusal, RequestContext};
use crate::metadata::controller::{AdminError, Quorum};
use crate::metadata::topic_name::CLUSTER_METADATA;
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// From this version on it is told when a voter was up to date (KIP-836).
const TIMES_FROM: i16 = 1;
/// From this version on voters have directories, and errors words (KIP-853).
const DIRECTORIES_FROM: i16 = 2;

/// Describes the one partition that there is of the quorum.
pub async fn handle(
    context: &RequestContext,
    request: DescribeQuorumRequest,
) -> Result<DescribeQuorumResponse, Refusal> {
    let version = context.request.version;
    if !names_the_metadata(&request) {
        let slice = TimeSlice::of(context.shard.ring());
        return Ok(unknown(&request, version, async || slice.pause().await).await);
    }
    let asked = context.shard.with_controller(async |controller| Ok(controller.quorum())).await;
    Ok(match asked {
        Ok(quorum) => respond(&quorum, version),
        Err(error) => {
            let message = error.message.as_deref().filter(|_| version >= DIRECTORIES_FROM).map(text);
            DescribeQuorumResponse::default().with_error_code(error.error.code()).with_error_message(message)
        }
    })
}

/// Whether it is asked for the metadata's partition, and for nothing else.
fn names_the_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name.as_str() == CLUSTER_METADATA && partition.partition_index == 0
}

/// The answer to any other question. `pause` comes between two steps.
async fn unknown(
    request: &DescribeQuorumRequest,
    version: i16,
    pause: impl AsyncFn(),
) -> DescribeQuorumResponse {
    let AdminError { error, message } = AdminError::plain(ResponseError::UnknownTopicOrPartition);
    let message = message.as_deref().filter(|_| version >= DIRECTORIES_FROM).map(text);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        pause().await;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            pause().await;
            let unknown = PartitionData::default().with_partition_index(partition.partition_index);
            partitions.push(unknown.with_error_code(error.code()).with_error_message(message.clone()));
        }
        topics
            .push(TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions));
    }
    DescribeQuorumResponse::default().with_topics(topics)
}

fn respond(quorum: &Quorum, version: i16) -> DescribeQuorumResponse {
    let leader = BrokerId(quorum.leader_id);
    let mut voter =
        ReplicaState::default().with_replica_id(leader).with_log_end_offset(quorum.log_end_offset.0);
    if version >= TIMES_FROM {
        // Of the leader itself: it has whatever it has now.
        voter = voter.with_last_fetch_timestamp(quorum.now.0).with_last_caught_up_timestamp(quorum.now.0);
    }
    let mut response = DescribeQuorumResponse::default();
    if version >= DIRECTORIES_FROM {
        voter.replica_directory_id = quorum.directory_id;
        response.nodes = vec![Node::default().with_node_id(leader)];
    }
    let partition = PartitionData::default()
        .with_leader_id(leader)
        .with_leader_epoch(quorum.leader_epoch.0)
        .with_high_watermark(quorum.high_watermark.0)
        .with_current_voters(vec![voter]);
    let topic = TopicData::default().with_topic_name(topic_text(CLUSTER_METADATA));
    response.with_topics(vec![topic.with_partitions(vec![partition])])
}

#[cfg(test)]
mod tests {
    use flumen_engine::{LeaderEpoch, Offset, Timestamp};
    use futures_util::FutureExt;
    use kafka_protocol::messages::describe_quorum_request;
    use uuid::Uuid;

    use super::super::cluster_view::fixture;
    use super::*;

    fn asked(topics: &[(&str, &[i32])]) -> DescribeQuorumRequest {
        let topics = topics.iter().map(|(name, indexes)| {
            let partitions = indexes
                .iter()
                .map(|index| describe_quorum_request::PartitionData::default().with_partition_index(*index));
            describe_quorum_request::TopicData::default()
                .with_topic_name(topic_text(name))
                .with_partitions(partitions.collect())
        });
        DescribeQuorumRequest::default().with_topics(topics.collect())
    }

    #[test]
    fn the_quorum_is_this_node() {
        let quorum = Quorum {
            leader_id: 7,
            leader_epoch: LeaderEpoch(3),
            directory_id: Uuid::from_u128(9),
            high_watermark: Offset(20),
            log_end_offset: Offset(21),
            now: Timestamp(1_800_000_000_000),
        };
        for version in VERSIONS {
            let response = respond(&quorum, version);
            fixture::encodes(&response, version);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.leader_id.0, partition.leader_epoch, partition.high_watermark), (7, 3, 20));
            let voter = &partition.current_voters[0];
            assert_eq!((voter.replica_id.0, voter.log_end_offset), (7, 21));
            assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
            assert_eq!(voter.replica_directory_id.is_nil(), version < 2);
            assert!(partition.observers.is_empty());
        }
    }

    #[test]
    fn only_the_metadata_has_a_quorum() {
        let metadata: (&str, &[i32]) = (CLUSTER_METADATA, &[0]);
        assert!(names_the_metadata(&asked(&[metadata])));
        let others: [&[(&str, &[i32])]; 5] = [
            &[],
            &[("t", &[0])],
            &[(CLUSTER_METADATA, &[1])],
            &[(CLUSTER_METADATA, &[0, 0])],
            &[metadata, metadata],
        ];
        for other in others {
            let request = asked(other);
            assert!(!names_the_metadata(&request), "{other:?}");
            for version in VERSIONS {
                let response = unknown(&request, version, async || {}).now_or_never().expect("nothing waits");
                fixture::encodes(&response, version);
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let unknown = ResponseError::UnknownTopicOrPartition.code();
                assert!(partitions.into_iter().all(|partition| partition.error_code == unknown));
            }
        }
    }
}
