//! ListOffsets (2): offsets by position and by time, each asked of its partition's core.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::rc::Rc;

use flumen_engine::batch::{self, BatchHeader};
use flumen_engine::{Offset, Partition, PartitionId, ReadLimit, Timestamp, TimestampedOffset};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::epochs::check_leader_epoch;
use super::{Refusal, RequestContext, errors, is_isolation_level};
use crate::shard::Shard;
use crate::time_slice::TimeSlice;
use crate::{compression, owners};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 1..=11;

/// What is wanted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// −1: the end of what the client may see.
    Latest,
    /// −2, and −4 (KIP-405): the log's start.
    Earliest,
    /// −3 (KIP-734): the record with the largest timestamp. As in Kafka it may lie below the log's start.
    MaxTimestamp,
    /// −5 (KIP-1005), −6 (KIP-1023): of tiered storage, which there is none of.
    Tiered,
    /// The first record at or after this time.
    At(Timestamp),
}

impl Wanted {
    /// What a timestamp stands for; each special one since its own version.
    fn of(timestamp: i64, version: i16) -> Option<Self> {
        let (wanted, since) = match timestamp {
            0.. => (Self::At(Timestamp(timestamp)), 1),
            -1 => (Self::Latest, 1),
            -2 => (Self::Earliest, 1),
            -3 => (Self::MaxTimestamp, 7),
            -4 => (Self::Earliest, 8),
            -5 => (Self::Tiered, 9),
            -6 => (Self::Tiered, 11),
            _ => return None,
        };
        (version >= since).then_some(wanted)
    }
}

/// What is asked of one partition's owner.
struct Question {
    wanted: Wanted,
    leader_epoch: i32,
    limit: ReadLimit,
}

/// Offset, timestamp, leader epoch; −1 for none.
type Found = (i64, i64, i32);

const NONE: Found = (-1, -1, -1);

/// Answers for every partition of the request.
pub async fn handle(
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, Refusal> {
    if !is_isolation_level(request.isolation_level) {
        return Ok(unserved(&request, context.request.version));
    }
    let limit = match (request.replica_id.0, request.isolation_level) {
        (0.., _) => ReadLimit::LogEnd,
        (_, 1) => ReadLimit::LastStable,
        _ => ReadLimit::HighWatermark,
    };
    let image = context.shard.image();
    let slice = TimeSlice::of(context.shard.ring());
    let mut seen = BTreeSet::new();
    let mut duplicates = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            slice.pause().await;
            if !seen.insert((topic.name.as_str(), partition.partition_index)) {
                duplicates.insert((topic.name.as_str(), partition.partition_index));
            }
        }
    }
    let mut questions = Vec::new();
    // Of each partition: its place among the questions, or its error.
    let mut places = Vec::new();
    for topic in &request.topics {
        let known = image.topic(&topic.name);
        for partition in &topic.partitions {
            slice.pause().await;
            let index = partition.partition_index;
            let id = known
                .filter(|known| known.partition(index).is_some())
                .map(|known| PartitionId { topic: known.id, partition: index });
            // In Kafka's order: a timestamp that its version does not know comes before an unknown topic.
            let question = match duplicates.contains(&(topic.name.as_str(), index)) {
                true => Err(ResponseError::InvalidRequest),
                false => ask(partition, context.request.version, limit)
                    .and_then(|asked| Ok((id.ok_or(ResponseError::UnknownTopicOrPartition)?, asked))),
            };
            places.push(question.map(|question| {
                questions.push(question);
                questions.len() - 1
            }));
        }
    }
    let found = owners::ask(&context.shard, questions, answer).await;
    let mut places = places.into_iter();
    let mut answered = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            slice.pause().await;
            let place = places.next().expect("one place for each partition");
            let index = partition.partition_index;
            // One that is named twice is refused once.
            if answered.insert((topic.name.as_str(), index)) {
                partitions.push(word(index, place.and_then(|place| found[place]), context.request.version));
            }
        }
        // As Kafka, which answers by partitions.
        if !partitions.is_empty() {
            let answer = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
            topics.push(answer.with_partitions(partitions));
        }
    }
    Ok(ListOffsetsResponse::default().with_topics(topics))
}

/// The answer to a request of no level of isolation that there is: as Kafka's to one that it fails on.
fn unserved(request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let failed = indexes.map(|index| word(index, Err(ResponseError::UnknownServerError), version));
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(failed.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn ask(partition: &ListOffsetsPartition, version: i16, limit: ReadLimit) -> Result<Question, ResponseError> {
    let wanted = Wanted::of(partition.timestamp, version).ok_or(ResponseError::UnsupportedVersion)?;
    Ok(Question { wanted, leader_epoch: partition.current_leader_epoch, limit })
}

/// On the partition's core.
async fn answer(
    shard: Rc<Shard>,
    partition: Option<Partition>,
    question: Question,
) -> Result<Found, ResponseError> {
    let shard = &shard;
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(&partition, question.leader_epoch)?;
    let end = match question.limit {
        ReadLimit::HighWatermark => partition.high_watermark(),
        ReadLimit::LastStable => partition.last_stable_offset(),
        ReadLimit::LogEnd => partition.log_end_offset(),
    };
    let epoch_of = |offset| partition.epoch_of(offset).map_or(-1, |epoch| epoch.0);
    match question.wanted {
        Wanted::Latest => Ok((end.0, -1, partition.leader_epoch().0)),
        Wanted::Earliest => {
            let start = partition.log_start_offset();
            let is_empty = start == partition.log_end_offset();
            let epoch = if is_empty { partition.leader_epoch().0 } else { epoch_of(start) };
            Ok((start.0, -1, epoch))
        }
        Wanted::Tiered => Ok(NONE),
        Wanted::MaxTimestamp => {
            let found =
                partition.max_timestamp(question.limit).await.map_err(|error| errors::of_read(&error))?;
            match found {
                Some(found) => look_inside(shard, &partition, found, found.timestamp, question.limit).await,
                None => Ok(NONE),
            }
        }
        Wanted::At(timestamp) => {
            let found = partition.offset_for_timestamp(timestamp, question.limit).await;
            match found.map_err(|error| errors::of_read(&error))? {
                Some(found) => look_inside(shard, &partition, found, timestamp, question.limit).await,
                None => Ok(NONE),
            }
        }
    }
}

/// The engine leaves compressed batches closed: it finds the batch, and here the record in it is looked for.
async fn look_inside(
    shard: &Rc<Shard>,
    partition: &Partition,
    found: TimestampedOffset,
    timestamp: Timestamp,
    limit: ReadLimit,
) -> Result<Found, ResponseError> {
    let as_found = (found.offset.0, found.timestamp.0, found.leader_epoch.0);
    let read = partition.look_at(found.offset, 0, limit).await.map_err(|error| errors::of_read(&error))?;
    let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let is_closed =
        BatchHeader::parse(&bytes).is_ok_and(|header| header.is_compressed() && !header.is_log_append_time());
    if !is_closed {
        return Ok(as_found);
    }
    // Opening it may take milliseconds, which a core does not have.
    let first = found.offset;
    let inside = shard.compute().run(move || first_in(&bytes, first, timestamp)).await;
    Ok(inside.map_or(as_found, |(offset, time)| (offset.0, time.0, found.leader_epoch.0)))
}

/// The first record of a compressed batch from `first` on, at or after `timestamp`.
fn first_in(batch: &[u8], first: Offset, timestamp: Timestamp) -> Option<(Offset, Timestamp)> {
    let opened = compression::open(batch).ok()?;
    let mut records = batch::records(&opened).ok()?.map_while(Result::ok);
    records
        .find(|record| record.offset >= first && record.timestamp >= timestamp)
        .map(|record| (record.offset, record.timestamp))
}

/// The first version that tells the leader epoch.
const LEADER_EPOCH_FROM: i16 = 4;

fn word(index: i32, found: Result<Found, ResponseError>, version: i16) -> ListOffsetsPartitionResponse {
    let (code, (offset, timestamp, leader_epoch)) = match found {
        Ok(found) => (0, found),
        Err(error) => (error.code(), NONE),
    };
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code)
        .with_offset(offset)
        .with_timestamp(timestamp);
    match version >= LEADER_EPOCH_FROM {
        true => answer.with_leader_epoch(leader_epoch),
        false => answer,
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;

    use super::*;

    #[test]
    fn special_timestamps_exist_since_their_versions() {
        assert_eq!(Wanted::of(-1, 1), Some(Wanted::Latest));
        assert_eq!(Wanted::of(5, 1), Some(Wanted::At(Timestamp(5))));
        assert_eq!(Wanted::of(-3, 6), None);
        assert_eq!(Wanted::of(-3, 7), Some(Wanted::MaxTimestamp));
        assert_eq!(Wanted::of(-4, 8), Some(Wanted::Earliest));
        assert_eq!(Wanted::of(-5, 8), None);
        assert_eq!(Wanted::of(-6, 10), None);
        assert_eq!(Wanted::of(-7, 11), None);
    }

    #[test]
    fn at_no_level_of_isolation_every_partition_is_refused() {
        let partition = |index| ListOffsetsPartition::default().with_partition_index(index);
        let topic = ListOffsetsTopic::default().with_partitions(vec![partition(4), partition(4)]);
        let answer = unserved(&ListOffsetsRequest::default().with_topics(vec![topic]), 2);
        let told = answer.topics[0].partitions.iter().map(|one| (one.partition_index, one.error_code));
        assert_eq!(told.collect::<Vec<_>>(), [(4, -1), (4, -1)]);
        assert!([-1, 2].iter().all(|level| !is_isolation_level(*level)));
    }
}
