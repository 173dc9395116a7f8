//! OffsetForLeaderEpoch (23): where an epoch ended, so that a client or follower finds where its log differs.

use std::ops::RangeInclusive;
use std::rc::Rc;

use flumen_engine::{LeaderEpoch, Partition, PartitionId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::epochs::check_leader_epoch;
use super::{Refusal, RequestContext};
use crate::owners;
use crate::shard::Shard;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 2..=4;

/// Answers for every partition of the request.
pub async fn handle(
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, Refusal> {
    let image = context.shard.image();
    let mut questions = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            // A topic that is not there has no id: nobody owns a partition of the nil one.
            let id = image.topic(&topic.topic).map_or(uuid::Uuid::nil(), |known| known.id);
            let id = PartitionId { topic: id, partition: partition.partition };
            questions.push((id, (partition.current_leader_epoch, partition.leader_epoch)));
        }
    }
    let mut found = owners::ask(&context.shard, questions, answer).await.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let found = found.next().expect("one answer for each partition");
            let (code, (epoch, end)) = match found {
                Ok(found) => (0, found),
                Err(error) => (error.code(), (-1, -1)),
            };
            EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(code)
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics))
}

/// On the partition's core: the epoch and its end; −1 for one that is not known.
async fn answer(
    _: Rc<Shard>,
    partition: Option<Partition>,
    epochs: (i32, i32),
) -> Result<(i32, i64), ResponseError> {
    let (current, wanted) = epochs;
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(&partition, current)?;
    if wanted == partition.leader_epoch().0 {
        // Also where nothing was written in it yet.
        return Ok((wanted, partition.log_end_offset().0));
    }
    let found = partition.end_offset_for_epoch(LeaderEpoch(wanted));
    Ok(found.map_or((-1, -1), |(epoch, end)| (epoch.0, end.0)))
}
