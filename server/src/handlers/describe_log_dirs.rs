//! DescribeLogDirs (35): how much each partition takes in the log directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use flumen_engine::PartitionId;
use futures_util::future::join_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::cluster_view::{text, topic_text};
use super::{Refusal, RequestContext};
use crate::metadata::image::Image;
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 1..=4;

/// Asks every core for the sizes of its partitions.
pub async fn handle(
    context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> Result<DescribeLogDirsResponse, Refusal> {
    let cores = context.shard.cores().map(|core| {
        context.shard.call(core, async |shard| {
            let engine = shard.engine();
            let (slice, mut sizes) = (TimeSlice::of(shard.ring()), Vec::new());
            for partition in engine.partitions() {
                sizes.push((partition.id(), partition.size_bytes()));
                slice.pause().await;
            }
            (sizes, engine.directory_offline())
        })
    });
    let answers = join_all(cores).await;
    let offline = answers.iter().any(|(_, offline)| *offline);
    let slice = TimeSlice::of(context.shard.ring());
    let mut sizes: HashMap<PartitionId, u64> = HashMap::new();
    for (id, bytes) in answers.into_iter().flat_map(|(sizes, _)| sizes) {
        sizes.insert(id, bytes);
        slice.pause().await;
    }
    let path = context.shard.config().node.log_dir.display().to_string();
    let pause = async || slice.pause().await;
    Ok(respond(&context.shard.image(), &request, &sizes, &path, offline, pause).await)
}

/// `pause` comes between two steps.
async fn respond(
    image: &Image,
    request: &DescribeLogDirsRequest,
    sizes: &HashMap<PartitionId, u64>,
    path: &str,
    offline: bool,
    pause: impl AsyncFn(),
) -> DescribeLogDirsResponse {
    let mut result = DescribeLogDirsResult::default().with_log_dir(text(path));
    if offline {
        result.error_code = ResponseError::KafkaStorageError.code();
        return DescribeLogDirsResponse::default().with_results(vec![result]);
    }
    let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for topic in request.topics.iter().flatten() {
        let indexes = wanted.entry(topic.topic.as_str()).or_default();
        for index in &topic.partitions {
            indexes.insert(*index);
            pause().await;
        }
        pause().await;
    }
    let is_wanted = |name: &str, index: i32| {
        request.topics.is_none() || wanted.get(name).is_some_and(|indexes| indexes.contains(&index))
    };
    for topic in image.topics().iter() {
        pause().await;
        let mut described = Vec::new();
        for index in topic.partitions.keys().filter(|index| is_wanted(&topic.name, **index)) {
            let Some(bytes) = sizes.get(&PartitionId { topic: topic.id, partition: *index }) else {
                continue;
            };
            let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
            let partition = DescribeLogDirsPartition::default().with_partition_index(*index);
            described.push(partition.with_partition_size(bytes));
            pause().await;
        }
        if !described.is_empty() {
            let named = DescribeLogDirsTopic::default().with_name(topic_text(&topic.name));
            result.topics.push(named.with_partitions(described));
        }
    }
    DescribeLogDirsResponse::default().with_results(vec![result])
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn sizes_are_those_of_the_partitions_that_are_asked_for() {
        let image = fixture::image();
        let id = |partition| PartitionId { topic: fixture::TOPIC_ID, partition };
        let sizes = HashMap::from([(id(0), 10), (id(1), 20)]);
        let told = |request: &DescribeLogDirsRequest| -> Vec<(i32, i64)> {
            let responding = respond(&image, request, &sizes, "/data", false, async || ());
            let response = responding.now_or_never().expect("no pause waits");
            for version in VERSIONS {
                fixture::encodes(&response, version);
            }
            let topics = response.results[0].topics.iter();
            topics
                .flat_map(|topic| topic.partitions.iter())
                .map(|partition| (partition.partition_index, partition.partition_size))
                .collect()
        };
        assert_eq!(told(&DescribeLogDirsRequest::default().with_topics(None)), [(0, 10), (1, 20)]);
        let one = DescribableLogDirTopic::default().with_topic(topic_text("t")).with_partitions(vec![1]);
        assert_eq!(told(&DescribeLogDirsRequest::default().with_topics(Some(vec![one]))), [(1, 20)]);
    }
}
