//! DescribeLogDirs (35): how much each partition takes in the log directory.

use std::collections::BTreeMap;
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
            let partitions = engine.partitions().into_iter();
            let sizes: Vec<_> =
                partitions.map(|partition| (partition.id(), partition.size_bytes())).collect();
            (sizes, engine.directory_offline())
        })
    });
    let answers = join_all(cores).await;
    let offline = answers.iter().any(|(_, offline)| *offline);
    let sizes: BTreeMap<PartitionId, u64> = answers.into_iter().flat_map(|(sizes, _)| sizes).collect();
    let path = context.shard.config().node.log_dir.display().to_string();
    Ok(respond(&context.shard.image(), &request, &sizes, &path, offline))
}

fn respond(
    image: &Image,
    request: &DescribeLogDirsRequest,
    sizes: &BTreeMap<PartitionId, u64>,
    path: &str,
    offline: bool,
) -> DescribeLogDirsResponse {
    let mut result = DescribeLogDirsResult::default().with_log_dir(text(path));
    if offline {
        result.error_code = ResponseError::KafkaStorageError.code();
        return DescribeLogDirsResponse::default().with_results(vec![result]);
    }
    let wanted = |name: &str, index: i32| match &request.topics {
        None => true,
        Some(topics) => {
            topics.iter().any(|topic| topic.topic.as_str() == name && topic.partitions.contains(&index))
        }
    };
    let topics = image.topics().iter().filter_map(|topic| {
        let partitions = topic.partitions.keys().filter(|index| wanted(&topic.name, **index));
        let described: Vec<DescribeLogDirsPartition> = partitions
            .filter_map(|index| {
                let size = sizes.get(&PartitionId { topic: topic.id, partition: *index })?;
                let size = i64::try_from(*size).unwrap_or(i64::MAX);
                let partition = DescribeLogDirsPartition::default().with_partition_index(*index);
                Some(partition.with_partition_size(size))
            })
            .collect();
        let named = DescribeLogDirsTopic::default().with_name(topic_text(&topic.name));
        (!described.is_empty()).then(|| named.with_partitions(described))
    });
    result.topics = topics.collect();
    DescribeLogDirsResponse::default().with_results(vec![result])
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn sizes_are_those_of_the_partitions_that_are_asked_for() {
        let image = fixture::image();
        let id = |partition| PartitionId { topic: fixture::TOPIC_ID, partition };
        let sizes = BTreeMap::from([(id(0), 10), (id(1), 20)]);
        let told = |request: &DescribeLogDirsRequest| -> Vec<(i32, i64)> {
            let response = respond(&image, request, &sizes, "/data", false);
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
