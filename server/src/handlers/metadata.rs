//! Metadata (3): brokers, topics, partitions and who leads them, creating topics that are asked for.
//!
//! Answered from the connection's core's image, without asking anybody. A topic that is to be created is created
//! behind the answer ([`crate::auto_creation`]): as Apache Kafka does in every version, this answer says
//! UNKNOWN_TOPIC_OR_PARTITION of it, and the client asks again.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::cluster_view::{CLUSTER_OPERATIONS, ClusterView, TOPIC_OPERATIONS, broker_ids, text, topic_text};
use super::{Refusal, RequestContext};
use crate::auto_creation;
use crate::metadata::image::{Image, PartitionImage, TopicImage};
use crate::metadata::topic_name;
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=13;

/// So many partitions take some tens of microseconds.
const PARTITIONS_AT_A_TIME: usize = 256;

/// Answers with the cluster as this listener's clients reach it.
pub async fn handle(context: &RequestContext, request: MetadataRequest) -> Result<MetadataResponse, Refusal> {
    let version = context.request.version;
    if allows_creation(&request, version) && context.shard.config().topics.auto_create {
        auto_creation::begin(&context.shard, missing(&context.shard.image(), &request));
    }
    let image = context.shard.image();
    let cluster_id = context.shard.config().node.cluster_id.clone();
    let view = ClusterView::new(&image, &context.connection.listener.name);
    let slice = TimeSlice::of(context.shard.ring());
    Ok(respond(&view, version, &request, cluster_id, async || slice.pause().await).await)
}

/// Versions below 4 cannot say that they do not want it.
fn allows_creation(request: &MetadataRequest, version: i16) -> bool {
    version < 4 || request.allow_auto_topic_creation
}

/// Names of topics that are asked for, may be topics, and are not there. Where any is asked for by id, names do
/// not count.
fn missing<'a>(image: &Image, request: &'a MetadataRequest) -> BTreeSet<&'a str> {
    let topics = || request.topics.iter().flatten();
    if topics().any(|topic| !topic.topic_id.is_nil()) {
        return BTreeSet::new();
    }
    let names = topics().filter_map(|topic| topic.name.as_ref()).map(|name| name.as_str());
    names.filter(|name| topic_name::validate(name).is_ok() && image.topic(name).is_none()).collect()
}

/// `pause` comes between two steps.
async fn respond(
    view: &ClusterView<'_>,
    version: i16,
    request: &MetadataRequest,
    cluster_id: Option<String>,
    pause: impl AsyncFn(),
) -> MetadataResponse {
    if let Some(error) = names_and_ids_misused(version, request) {
        let topics = request.topics.iter().flatten();
        // A name that is missing is told as an empty one: these versions have no null.
        let name = |topic: &MetadataRequestTopic| Some(topic.name.clone().unwrap_or_default());
        let topics = topics.map(|topic| failed(error, name(topic), topic.topic_id)).collect();
        return MetadataResponse::default()
            .with_topics(topics)
            .with_cluster_id(None)
            .with_controller_id(BrokerId(-1));
    }
    let brokers = view.active().map(|(broker, endpoint)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.registration.broker_id))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_rack(broker.registration.rack.as_deref().map(text))
    });
    let mut topics = Vec::new();
    for asked in asked_for(view.image, version, request) {
        let mut described = match asked {
            Asked::Topic(topic) => describe(view, version, topic, &pause).await,
            Asked::Failed(failed) => failed,
        };
        // Of an id that is no topic's there is nothing to say what may be done with.
        if request.include_topic_authorized_operations && described.name.is_some() {
            described.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        topics.push(described);
        pause().await;
    }
    let mut response = MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(cluster_id.map(StrBytes::from_string))
        .with_controller_id(BrokerId(view.controller()))
        .with_topics(topics);
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// Before version 12 every topic has a name and none an id.
fn names_and_ids_misused(version: i16, request: &MetadataRequest) -> Option<ResponseError> {
    let misused = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_nil();
    let any = request.topics.iter().flatten().any(misused);
    (version < 12 && any).then_some(ResponseError::InvalidRequest)
}

enum Asked<'a> {
    Topic(&'a TopicImage),
    Failed(MetadataResponseTopic),
}

fn asked_for<'a>(
    image: &'a Image,
    version: i16,
    request: &MetadataRequest,
) -> Box<dyn Iterator<Item = Asked<'a>> + 'a> {
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    if all {
        return Box::new(image.topics().iter().map(|topic| Asked::Topic(topic)));
    }
    let topics: Vec<&MetadataRequestTopic> = request.topics.iter().flatten().collect();
    // As Kafka: if any id is given, only ids count; the unknown ones are told first.
    if topics.iter().any(|topic| !topic.topic_id.is_nil()) {
        let mut ids = distinct(topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()));
        ids.sort_by_key(|id| image.topic_by_id(*id).is_some());
        return Box::new(ids.into_iter().map(|id| match image.topic_by_id(id) {
            Some(topic) => Asked::Topic(topic),
            None => Asked::Failed(failed(ResponseError::UnknownTopicId, None, id)),
        }));
    }
    // By name, those that are there are told first.
    let mut names = distinct(topics.iter().filter_map(|topic| topic.name.clone()));
    names.sort_by_key(|name| image.topic(name).is_none());
    Box::new(names.into_iter().map(|name| match image.topic(&name) {
        Some(topic) => Asked::Topic(topic),
        None => {
            let error = match topic_name::validate(&name) {
                Ok(()) => ResponseError::UnknownTopicOrPartition,
                Err(_) => ResponseError::InvalidTopicException,
            };
            Asked::Failed(failed(error, Some(name), Uuid::nil()))
        }
    }))
}

/// What is asked for twice is told once, in the order of the request.
fn distinct<T: Ord + Clone>(asked: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    asked.filter(|one| seen.insert(one.clone())).collect()
}

fn failed(error: ResponseError, name: Option<TopicName>, topic_id: Uuid) -> MetadataResponseTopic {
    let is_internal = name.as_ref().is_some_and(|name| topic_name::is_internal(name));
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(topic_id)
        .with_is_internal(is_internal)
}

async fn describe(
    view: &ClusterView<'_>,
    version: i16,
    topic: &TopicImage,
    pause: impl AsyncFn(),
) -> MetadataResponseTopic {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (index, partition) in &topic.partitions {
        let described = MetadataResponsePartition::default()
            .with_partition_index(*index)
            .with_error_code(partition_error(view, version, partition))
            .with_leader_id(BrokerId(view.leader(partition)))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_offline_replicas(view.offline(partition));
        partitions.push(described);
        if partitions.len().is_multiple_of(PARTITIONS_AT_A_TIME) {
            pause().await;
        }
    }
    MetadataResponseTopic::default()
        .with_name(Some(topic_text(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic_name::is_internal(&topic.name))
        .with_partitions(partitions)
}

fn partition_error(view: &ClusterView<'_>, version: i16, partition: &PartitionImage) -> i16 {
    if view.leader(partition) >= 0 {
        return 0;
    }
    // The leader serves, but not on this listener: versions below 6 do not know that error.
    if version >= 6 && view.is_registered(partition.leader) {
        ResponseError::ListenerNotFound.code()
    } else {
        ResponseError::LeaderNotAvailable.code()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::cluster_view::fixture;
    use super::*;

    fn told_at_once(
        view: &ClusterView<'_>,
        version: i16,
        request: &MetadataRequest,
        cluster_id: Option<String>,
    ) -> MetadataResponse {
        respond(view, version, request, cluster_id, async || ()).now_or_never().expect("no pause waits")
    }

    fn ask(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> MetadataResponse {
        let image = fixture::image();
        let request = MetadataRequest::default().with_topics(topics);
        let view = ClusterView::new(&image, "PLAINTEXT");
        let response = told_at_once(&view, version, &request, Some("cluster".into()));
        fixture::encodes(&response, version);
        response
    }

    fn named(name: &'static str) -> MetadataRequestTopic {
        MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))))
    }

    fn told(response: &MetadataResponse) -> Vec<(i16, Option<&str>, usize)> {
        let topics = response.topics.iter();
        topics
            .map(|topic| {
                (topic.error_code, topic.name.as_ref().map(|name| name.as_str()), topic.partitions.len())
            })
            .collect()
    }

    #[test]
    fn every_version_answers_all_none_and_some() {
        for version in VERSIONS {
            let all = if version == 0 { Some(vec![]) } else { None };
            let response = ask(version, all);
            assert_eq!(told(&response), [(0, Some("__consumer_offsets"), 1), (0, Some("t"), 2)]);
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(
                (response.brokers[0].host.as_str(), response.brokers[0].port),
                ("plain.example", 9092)
            );
            if version > 0 {
                assert_eq!(told(&ask(version, Some(vec![]))), []);
            }
            let some = ask(version, Some(vec![named("nope"), named("a b"), named("t"), named("t")]));
            let unknown = ResponseError::UnknownTopicOrPartition.code();
            let invalid = ResponseError::InvalidTopicException.code();
            let expected = [(0, Some("t"), 2), (unknown, Some("nope"), 0), (invalid, Some("a b"), 0)];
            assert_eq!(told(&some), expected);
        }
    }

    #[test]
    fn topics_are_found_by_id_and_a_stale_id_is_named() {
        let by_id = |id: Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let response = ask(12, Some(vec![by_id(fixture::TOPIC_ID), by_id(Uuid::from_u128(99))]));
        assert_eq!(told(&response), [(ResponseError::UnknownTopicId.code(), None, 0), (0, Some("t"), 2)]);
        let response = ask(11, Some(vec![named("t").with_topic_id(fixture::TOPIC_ID)]));
        assert_eq!(told(&response), [(ResponseError::InvalidRequest.code(), Some("t"), 0)]);
        let response = ask(10, Some(vec![MetadataRequestTopic::default().with_name(None)]));
        assert_eq!(told(&response), [(ResponseError::InvalidRequest.code(), Some(""), 0)]);
    }

    #[test]
    fn topics_are_created_for_names_alone() {
        let image = fixture::image();
        let request = |topics| MetadataRequest::default().with_topics(Some(topics));
        let asked = request(vec![named("t"), named("new"), named("a b"), named("new")]);
        assert_eq!(missing(&image, &asked), BTreeSet::from(["new"]));
        let by_id = MetadataRequestTopic::default().with_topic_id(fixture::TOPIC_ID);
        assert!(missing(&image, &request(vec![by_id, named("new")])).is_empty());
        assert!(missing(&image, &MetadataRequest::default().with_topics(None)).is_empty());
    }

    #[test]
    fn each_listener_is_told_its_own_address() {
        let image = fixture::image();
        let request = MetadataRequest::default().with_topics(None);
        let other = ClusterView::new(&image, "OUTSIDE");
        let response = told_at_once(&other, 12, &request, None);
        assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("out.example", 29092));
        let unknown = ClusterView::new(&image, "NOWHERE");
        let response = told_at_once(&unknown, 12, &request, None);
        assert_eq!(response.brokers.len(), 0);
        let partition = &response.topics[1].partitions[0];
        let expected = (ResponseError::ListenerNotFound.code(), BrokerId(-1));
        assert_eq!((partition.error_code, partition.leader_id), expected);
    }

    #[test]
    fn operations_are_told_only_when_asked_for() {
        let image = fixture::image();
        let view = ClusterView::new(&image, "PLAINTEXT");
        let request = MetadataRequest::default()
            .with_topics(None)
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true);
        let response = told_at_once(&view, 8, &request, None);
        assert_eq!(response.cluster_authorized_operations, 8096);
        assert_eq!(response.topics[0].topic_authorized_operations, 3576);
        assert_eq!(ask(8, None).topics[0].topic_authorized_operations, i32::MIN);
    }
}
