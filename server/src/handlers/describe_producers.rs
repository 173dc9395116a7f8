//! DescribeProducers (61): the producers that a partition remembers, each asked of its partition's core.
//!
//! A partition can remember 65,536 of them, and a request name thousands of partitions. So one is asked after the
//! other, and an answer has a bound. Kafka: `ReplicaManager.activeProducerState`, KIP-664.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::rc::Rc;

use flumen_engine::PartitionId;
use flumen_engine::producers::{ProducerEntry, Producers};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::cluster_view::text;
use super::{Refusal, RequestContext};
use crate::metadata::controller::AdminError;
use crate::metadata::topic_name;
use crate::shard::Shard;
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Producers in one answer: about 5 MB of it.
const PRODUCERS_MAX: usize = 131_072;
/// Producers that are looked at before others have their turn.
const PRODUCERS_PER_TURN: usize = 1_024;

/// Describes the producers of the partitions that are named; of one that is named twice, once.
pub async fn handle(
    context: &RequestContext,
    request: DescribeProducersRequest,
) -> Result<DescribeProducersResponse, Refusal> {
    let image = context.shard.image();
    let slice = TimeSlice::of(context.shard.ring());
    let mut asked = BTreeSet::new();
    let mut room = PRODUCERS_MAX;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        slice.pause().await;
        let name = topic.name.as_str();
        let known = match (topic_name::validate(name), image.topic(name)) {
            (Err(why), _) => Err(AdminError::new(ResponseError::InvalidTopicException, why)),
            (Ok(()), None) => Err(AdminError::plain(ResponseError::UnknownTopicOrPartition)),
            (Ok(()), Some(known)) => Ok(known.id),
        };
        let mut partitions = Vec::new();
        for index in &topic.partition_indexes {
            slice.pause().await;
            if !asked.insert((name, *index)) {
                continue;
            }
            let told = match &known {
                Ok(topic) => told(context, PartitionId { topic: *topic, partition: *index }, room).await,
                Err(untold) => Err(untold.clone()),
            };
            room -= told.as_ref().map_or(0, Vec::len);
            partitions.push(word(*index, told));
        }
        topics.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    Ok(DescribeProducersResponse::default().with_topics(topics))
}

/// The producers of one partition, if there are no more than `count_max`.
async fn told(
    context: &RequestContext,
    id: PartitionId,
    count_max: usize,
) -> Result<Vec<ProducerState>, AdminError> {
    let core = context.shard.core_of(&id);
    let look = async move |shard: Rc<Shard>| {
        let unknown = AdminError { error: ResponseError::UnknownTopicOrPartition, message: None };
        let partition = shard.partition(&id).ok_or(unknown)?;
        let slice = TimeSlice::of(shard.ring());
        let some = |last| partition.with_producers(|producers| some(producers, last));
        all(some, count_max, async || slice.pause().await).await
    };
    context.shard.call(core, look).await
}

/// All producers, of which `some` gives those behind the last one. `pause` comes between two turns.
async fn all(
    some: impl Fn(Option<ProducerId>) -> Vec<ProducerState>,
    count_max: usize,
    pause: impl AsyncFn(),
) -> Result<Vec<ProducerState>, AdminError> {
    let mut states = Vec::new();
    loop {
        let mut more = some(states.last().map(|last: &ProducerState| last.producer_id));
        let is_last = more.len() < PRODUCERS_PER_TURN;
        states.append(&mut more);
        if states.len() > count_max {
            let message = format!(
                "The answer would tell more than {PRODUCERS_MAX} producers; ask for fewer partitions at once."
            );
            return Err(AdminError::new(ResponseError::PolicyViolation, message));
        }
        if is_last {
            return Ok(states);
        }
        pause().await;
    }
}

/// On the partition's core.
fn some(producers: &Producers, last: Option<ProducerId>) -> Vec<ProducerState> {
    let behind = producers.entries_after(last.map(|last| flumen_engine::ProducerId(last.0)));
    behind.take(PRODUCERS_PER_TURN).map(|(id, entry)| state(ProducerId(id.0), entry)).collect()
}

fn state(id: ProducerId, entry: &ProducerEntry) -> ProducerState {
    ProducerState::default()
        .with_producer_id(id)
        .with_producer_epoch(i32::from(entry.epoch.0))
        .with_last_sequence(entry.last().0)
        .with_last_timestamp(entry.last_timestamp.0)
        .with_coordinator_epoch(entry.coordinator_epoch)
        .with_current_txn_start_offset(entry.transaction_first.map_or(-1, |first| first.0))
}

fn word(index: i32, told: Result<Vec<ProducerState>, AdminError>) -> PartitionResponse {
    let response = PartitionResponse::default().with_partition_index(index);
    match told {
        Ok(producers) => response.with_error_message(None).with_active_producers(producers),
        Err(AdminError { error, message }) => {
            response.with_error_code(error.code()).with_error_message(message.as_deref().map(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use flumen_engine::batch::{BatchBuilder, CheckedBatches, ProducerStamp};
    use flumen_engine::{Offset, ProducerEpoch, Timestamp};
    use futures_util::FutureExt;

    use super::super::cluster_view::{fixture, topic_text};
    use super::*;

    /// So many producers, each with one batch of two records; those with an odd id have a transaction open.
    fn producers(count: i64) -> Producers {
        let mut producers = Producers::default();
        for id in 0..count {
            let stamp = ProducerStamp {
                id: flumen_engine::ProducerId(id),
                epoch: ProducerEpoch(3),
                base_sequence: 10,
            };
            let mut builder = BatchBuilder::new().producer(stamp);
            builder.append(Timestamp(1000), None, None, &[]);
            builder.append(Timestamp(1001), None, None, &[]);
            let mut summary = CheckedBatches::from_internal(vec![builder]).summaries()[0];
            summary.transactional = id % 2 == 1;
            producers.note(&summary, Offset(id * 100), summary.max_timestamp, None);
        }
        producers
    }

    /// What is told of them, and how often others had their turn.
    fn told(producers: &Producers, count_max: usize) -> (Result<Vec<ProducerState>, AdminError>, usize) {
        let turns = Cell::new(0);
        let pause = async || turns.set(turns.get() + 1);
        let told = all(|last| some(producers, last), count_max, pause).now_or_never();
        (told.expect("nothing waits"), turns.get())
    }

    #[test]
    fn what_is_remembered_of_a_producer_is_told() {
        let told = told(&producers(2), 2).0.expect("there is room");
        let facts = told.iter().map(|state| {
            let ProducerState { producer_id, producer_epoch, last_sequence, last_timestamp, .. } = state;
            assert_eq!(state.coordinator_epoch, -1);
            (producer_id.0, *producer_epoch, *last_sequence, *last_timestamp, state.current_txn_start_offset)
        });
        assert_eq!(facts.collect::<Vec<_>>(), [(0, 3, 11, 1001, -1), (1, 3, 11, 1001, 100)]);
    }

    #[test]
    fn many_are_told_in_turns() {
        for (count, turns) in [(0, 0), (1_023, 0), (1_024, 1), (2_500, 2)] {
            let (told, paused) = told(&producers(count), PRODUCERS_MAX);
            let ids: Vec<i64> =
                told.expect("there is room").iter().map(|state| state.producer_id.0).collect();
            assert_eq!((ids, paused), ((0..count).collect(), turns));
        }
    }

    #[test]
    fn an_answer_has_a_bound() {
        let full = told(&producers(2), 1).0;
        assert_eq!(full.as_ref().err().map(|untold| untold.error), Some(ResponseError::PolicyViolation));
        let partitions = vec![word(0, told(&producers(2), 2).0), word(1, full)];
        let topic = TopicResponse::default().with_name(topic_text("t")).with_partitions(partitions);
        fixture::encodes(&DescribeProducersResponse::default().with_topics(vec![topic]), 0);
    }
}
