//! DeleteRecords (21): moves the start of logs, durably.

use std::ops::RangeInclusive;

use flumen_engine::{LogConfig, Offset, Partition, PartitionId, ReadError};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Refusal, RequestContext, errors};
use crate::groups::coordinator::GROUP_METADATA_TOPIC;
use crate::owners;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// Deletes what is asked for of every partition of the request.
pub async fn handle(
    context: &RequestContext,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Refusal> {
    let image = context.shard.image();
    let mut questions = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            // A topic that is not there has no id: nobody owns a partition of the nil one.
            let id = image.topic(&topic.name).map_or(uuid::Uuid::nil(), |known| known.id);
            let id = PartitionId { topic: id, partition: partition.partition_index };
            let is_internal = topic.name.as_str() == GROUP_METADATA_TOPIC;
            questions.push((id, (partition.offset, is_internal)));
        }
    }
    let mut deleted = owners::ask(&context.shard, questions, |_, partition, (offset, is_internal)| {
        delete(partition, offset, is_internal)
    })
    .await
    .into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let (code, low_watermark) = match deleted.next().expect("one answer for each partition") {
                Ok(start) => (0, start.0),
                Err(error) => (error.code(), -1),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
                .with_low_watermark(low_watermark)
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

/// Whether the start of such a log is not for a client to move: its records go when later ones take their place. A log
/// without any policy has no such promise.
fn is_compacted_only(config: &LogConfig) -> bool {
    config.compact && !config.delete
}

/// On the partition's core: the log's new start.
async fn delete(
    partition: Option<Partition>,
    offset: i64,
    is_internal: bool,
) -> Result<Offset, ResponseError> {
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if is_internal {
        return Err(ResponseError::InvalidTopicException);
    }
    if is_compacted_only(&partition.config()) {
        return Err(ResponseError::PolicyViolation);
    }
    let before = match offset {
        HIGH_WATERMARK => partition.high_watermark(),
        0.. => Offset(offset),
        _ => return Err(ResponseError::OffsetOutOfRange),
    };
    let deleted = partition.delete_records(before).await;
    deleted.map_err(|error| match error {
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        error => errors::of_read(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_compacted_alone_keeps_its_records() {
        for (delete, compact, is_kept) in
            [(true, false, false), (true, true, false), (false, true, true), (false, false, false)]
        {
            let config = LogConfig { delete, compact, ..LogConfig::default() };
            assert_eq!(is_compacted_only(&config), is_kept);
        }
    }
}
