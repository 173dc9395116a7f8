//! ElectLeaders (43): the preferred leader, or any that is left, of the partitions that are named.
//!
//! This node leads whatever it has a replica of, from its start on. So nobody is ever elected: there is a leader
//! already, or the replica that would have to lead is of a broker that is not there. Kafka:
//! `ReplicationControlManager.electLeaders`.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::cluster_view::{text, topic_text};
use super::{Refusal, RequestContext};
use crate::metadata::controller::AdminError;
use crate::metadata::image::{Image, PartitionImage};
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// The broker that leads nothing.
const NO_LEADER: i32 = -1;

/// Kafka: `ElectionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Election {
    /// The first replica is to lead.
    Preferred,
    /// A replica is to lead, though it may lack records.
    Unclean,
}

/// Says why nobody is elected for the partitions that are named. Asked for all partitions, it tells those alone that
/// lack the leader they should have.
pub async fn handle(
    context: &RequestContext,
    request: ElectLeadersRequest,
) -> Result<ElectLeadersResponse, Refusal> {
    let slice = TimeSlice::of(context.shard.ring());
    Ok(respond(&context.shard.image(), &request, async || slice.pause().await).await)
}

/// `pause` comes between two steps.
async fn respond(
    image: &Image,
    request: &ElectLeadersRequest,
    pause: impl AsyncFn(),
) -> ElectLeadersResponse {
    let election = match request.election_type {
        0 => Ok(Election::Preferred),
        1 => Ok(Election::Unclean),
        other => {
            Err(AdminError::new(ResponseError::InvalidRequest, format!("Unknown election type {other}")))
        }
    };
    let mut results = Vec::new();
    match (&request.topic_partitions, &election) {
        (None, Err(_)) => {}
        (None, Ok(election)) => {
            for topic in image.topics().iter() {
                pause().await;
                let mut told = Vec::new();
                for (index, partition) in &topic.partitions {
                    pause().await;
                    let unelected = elect(partition, *election);
                    if unelected.error != ResponseError::ElectionNotNeeded {
                        told.push(word(*index, unelected));
                    }
                }
                let named = ReplicaElectionResult::default().with_topic(topic_text(&topic.name));
                results.push(named.with_partition_result(told));
            }
        }
        (Some(asked), election) => {
            for topic in asked {
                pause().await;
                let known = image.topic(&topic.topic);
                let mut told = Vec::with_capacity(topic.partitions.len());
                for index in &topic.partitions {
                    pause().await;
                    let unelected = match (election, known, known.and_then(|known| known.partition(*index))) {
                        (Err(refused), ..) => refused.clone(),
                        (_, None, _) => unknown(format!("No such topic as {}", topic.topic.as_str())),
                        (_, _, None) => {
                            unknown(format!("No such partition as {}-{index}", topic.topic.as_str()))
                        }
                        (Ok(election), _, Some(partition)) => elect(partition, *election),
                    };
                    told.push(word(*index, unelected));
                }
                let named = ReplicaElectionResult::default().with_topic(topic.topic.clone());
                results.push(named.with_partition_result(told));
            }
        }
    }
    let code = election.err().map_or(0, |refused| refused.error.code());
    ElectLeadersResponse::default().with_error_code(code).with_replica_election_results(results)
}

fn unknown(message: String) -> AdminError {
    AdminError::new(ResponseError::UnknownTopicOrPartition, message)
}

/// Why this partition gets no new leader.
fn elect(partition: &PartitionImage, election: Election) -> AdminError {
    let preferred = partition.replicas.first().copied().unwrap_or(NO_LEADER);
    let (needed, unavailable, message) = match election {
        Election::Preferred => (
            partition.leader != preferred,
            ResponseError::PreferredLeaderNotAvailable,
            "The preferred leader was not available.",
        ),
        Election::Unclean => (
            partition.leader == NO_LEADER,
            ResponseError::EligibleLeadersNotAvailable,
            "Eligible topic partition leaders are not available.",
        ),
    };
    match needed {
        true => AdminError::new(unavailable, message),
        false => {
            let message = "Leader election not needed for topic partition.";
            AdminError::new(ResponseError::ElectionNotNeeded, message)
        }
    }
}

fn word(index: i32, AdminError { error, message }: AdminError) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.code())
        .with_error_message(message.as_deref().map(text))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;

    use super::super::cluster_view::fixture;
    use super::*;
    use crate::metadata::records::Partition;

    fn asked(name: &str, indexes: &[i32]) -> TopicPartitions {
        TopicPartitions::default().with_topic(topic_text(name)).with_partitions(indexes.to_vec())
    }

    /// The error of the whole, and of each partition that is told.
    fn told(
        image: &Image,
        election: i8,
        asked: Option<Vec<TopicPartitions>>,
    ) -> (i16, Vec<(String, i32, i16)>) {
        let request =
            ElectLeadersRequest::default().with_election_type(election).with_topic_partitions(asked);
        let response = respond(image, &request, async || {}).now_or_never().expect("nothing waits");
        for version in 1..=2 {
            fixture::encodes(&response, version);
        }
        let partitions = response.replica_election_results.iter().flat_map(|topic| {
            let results = topic.partition_result.iter();
            results.map(|result| (topic.topic.to_string(), result.partition_id, result.error_code))
        });
        (response.error_code, partitions.collect())
    }

    #[test]
    fn whoever_leads_goes_on() {
        let image = fixture::image();
        let not_needed = ResponseError::ElectionNotNeeded.code();
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        for election in [0, 1] {
            assert_eq!(told(&image, election, None), (0, vec![]));
            let results = told(&image, election, Some(vec![asked("t", &[1, 9]), asked("nope", &[0])]));
            let t = |index, error| ("t".to_owned(), index, error);
            assert_eq!(results, (0, vec![t(1, not_needed), t(9, unknown), ("nope".to_owned(), 0, unknown)]));
        }
    }

    #[test]
    fn replicas_of_a_broker_that_is_not_there_are_not_elected() {
        let mut image = fixture::image();
        let second =
            Partition { replicas: vec![2, 1], isr: vec![1], ..Partition::single(fixture::TOPIC_ID, 0) };
        let nobody = Partition { replicas: vec![2], isr: vec![2], leader: -1, ..second.clone() };
        let preferred = ResponseError::PreferredLeaderNotAvailable.code();
        image.apply(&Partition { leader: 1, ..second }.into()).expect("the topic is there");
        assert_eq!(told(&image, 0, None).1, [("t".to_owned(), 0, preferred)]);
        assert_eq!(told(&image, 1, None).1, []);
        image.apply(&nobody.into()).expect("the topic is there");
        assert_eq!(told(&image, 0, None).1, [("t".to_owned(), 0, preferred)]);
        let eligible = ResponseError::EligibleLeadersNotAvailable.code();
        assert_eq!(told(&image, 1, None).1, [("t".to_owned(), 0, eligible)]);
    }

    #[test]
    fn an_unknown_election_fails_as_a_whole() {
        let image = fixture::image();
        let invalid = ResponseError::InvalidRequest.code();
        assert_eq!(told(&image, 2, None), (invalid, vec![]));
        let partition = ("t".to_owned(), 0, invalid);
        assert_eq!(told(&image, -1, Some(vec![asked("t", &[0])])), (invalid, vec![partition]));
    }
}
