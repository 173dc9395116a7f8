//! DeleteRecords (21): moves the start of logs, durably.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use flumen_engine::{LogConfig, Offset, Partition, PartitionId, ReadError};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};

use super::{Refusal, RequestContext, errors};
use crate::metadata::topic_name;
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
    let asked = distinct(&request);
    let mut questions = Vec::new();
    for (name, partitions) in &asked {
        // A topic that is not there has no id: nobody owns a partition of the nil one.
        let topic = image.topic(name).map_or(uuid::Uuid::nil(), |known| known.id);
        let is_internal = topic_name::is_internal(name);
        questions.extend(partitions.iter().map(|(index, offset)| {
            let id = PartitionId { topic, partition: *index };
            (id, (*offset, is_internal))
        }));
    }
    let mut deleted = owners::ask(&context.shard, questions, |_, partition, (offset, is_internal)| {
        delete(partition, offset, is_internal)
    })
    .await
    .into_iter();
    let topics = asked.iter().map(|(name, partitions)| {
        let partitions = partitions.keys().map(|index| {
            let (code, low_watermark) = match deleted.next().expect("one answer for each partition") {
                Ok(start) => (0, start.0),
                Err(error) => (error.code(), -1),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(*index)
                .with_error_code(code)
                .with_low_watermark(low_watermark)
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name((*name).clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

/// Each topic and partition once, with the offset to delete before; topics without partitions are left out. As in
/// Kafka the last offset of a partition counts.
fn distinct(request: &DeleteRecordsRequest) -> Vec<(&TopicName, BTreeMap<i32, i64>)> {
    let mut asked: Vec<(&TopicName, BTreeMap<i32, i64>)> = Vec::new();
    let mut places = BTreeMap::new();
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let place = *places.entry(&topic.name).or_insert_with(|| {
            asked.push((&topic.name, BTreeMap::new()));
            asked.len() - 1
        });
        let offsets = topic.partitions.iter().map(|partition| (partition.partition_index, partition.offset));
        asked[place].1.extend(offsets);
    }
    asked
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
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn what_is_asked_for_twice_is_deleted_once() {
        let topic = |name: &'static str, partitions: &[(i32, i64)]| {
            let partitions = partitions.iter().map(|(index, offset)| {
                DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
            });
            DeleteRecordsTopic::default()
                .with_name(StrBytes::from_static_str(name).into())
                .with_partitions(partitions.collect())
        };
        let topics = vec![topic("b", &[(1, 5), (0, 6), (1, 7)]), topic("a", &[]), topic("b", &[(0, 8)])];
        let request = DeleteRecordsRequest::default().with_topics(topics);
        let [(name, offsets)] = &distinct(&request)[..] else { panic!("one topic") };
        assert_eq!((name.as_str(), offsets), ("b", &BTreeMap::from([(0, 8), (1, 7)])));
    }

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
