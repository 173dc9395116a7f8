//! Produce (0): batches are checked here, on the connection's core, and appended on their partitions'.
//!
//! [`start`] returns as soon as every batch is placed, or on its way to its core in order; what it returns
//! completes when all are acknowledged. acks=1 and acks=all are the same on one node: durable, where the
//! topic is of class D. acks=0 is placed like any other and gets no answer, but an error ends the
//! connection, so that the client looks for the leader anew.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::rc::Rc;

use bytes::Bytes;
use flumen_engine::batch::{self, BatchError, BatchLimits, CheckedBatches, Codec, Record};
use flumen_engine::{Append, AppendError, AppendOrigin, Appended, CoreId, PartitionId, Timestamp};
use flumen_wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
    RecordError,
};
use futures_util::future::join_all;
use kafka_protocol::error::ResponseError;

use super::{Refusal, RequestContext, errors};
use crate::connection::{Pending, Response};
use crate::messages::Reply;
use crate::metadata::image::Image;
use crate::shard::Shard;

/// From this version on topics go by their ids.
const TOPIC_IDS_FROM: i16 = 13;

/// The first version in which zstd may be used (KIP-110).
const ZSTD_FROM: i16 = 7;

/// The bit of a batch's attributes that makes it part of a transaction.
const TRANSACTIONAL: u8 = 0x10;

/// How an append ended, as it travels back to the connection's core.
struct Outcome {
    result: Result<Appended, AppendError>,
    log_start_offset: i64,
}

/// One partition of the answer, complete or under way.
enum Progress {
    Answered(ProducePartitionResponse),
    /// On this core.
    Here {
        index: i32,
        partition: flumen_engine::Partition,
        append: Append,
        records: Bytes,
    },
    /// On another: its place among those of that core's call.
    There {
        index: i32,
        core: CoreId,
        place: usize,
        records: Bytes,
    },
}

/// What was sent to another core, and the way back.
type Elsewhere = BTreeMap<CoreId, Reply<Vec<Option<Outcome>>>>;

/// Checks and places the request's batches in the order of the calls.
pub async fn start(context: RequestContext, body: Bytes) -> Result<Pending, Refusal> {
    let version = context.request.version;
    let request = ProduceRequest::parse(&body, version).map_err(|error| Refusal::Malformed {
        what: format!("Produce request, version {version}"),
        why: error.to_string(),
    })?;
    let image = context.shard.image();
    let refused = refused_as_a_whole(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut sent: BTreeMap<CoreId, Vec<(PartitionId, CheckedBatches)>> = BTreeMap::new();
    for (name, id, partitions) in merged(&request) {
        let topic = match version >= TOPIC_IDS_FROM {
            true => image.topic_by_id(id),
            false => image.topic(&name),
        };
        let topic_id = topic.map(|topic| topic.id);
        let mut progress = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let index = partition.index;
            let checked = match (&refused, topic_id) {
                (Some((error, message)), _) => Err(failure(index, *error, message.clone())),
                (None, Some(id)) => known(&image, PartitionId { topic: id, partition: index })
                    .ok_or_else(|| failure(index, unknown(version), None))
                    .and_then(|id| check(&request, version, partition).map(|checked| (id, checked))),
                (None, None) => Err(failure(index, unknown(version), None)),
            };
            progress.push(match checked {
                Err(answer) => Progress::Answered(answer),
                Ok((id, checked)) => place(&context.shard, id, checked, &mut sent),
            });
        }
        topics.push((name, id, progress));
    }
    let mut elsewhere = Elsewhere::new();
    for (core, batches) in sent {
        let reply = context.shard.begin(core, move |shard| append_all(shard, batches)).await;
        elsewhere.insert(core, reply);
    }
    Ok(Box::pin(finish(context, request.acks, topics, elsewhere)))
}

type Topic = (flumen_wire::StrBytes, uuid::Uuid, Vec<Progress>);

/// Waits until everything is acknowledged, and words the answer.
async fn finish(
    context: RequestContext,
    acks: i16,
    topics: Vec<Topic>,
    elsewhere: Elsewhere,
) -> Result<Option<Response>, Refusal> {
    let mut answers: BTreeMap<CoreId, Vec<Option<Outcome>>> = BTreeMap::new();
    for (core, reply) in elsewhere {
        answers.insert(core, reply.await);
    }
    let version = context.request.version;
    let mut response = ProduceResponse { topics: Vec::with_capacity(topics.len()), ..Default::default() };
    let mut failed = None;
    for (name, id, progress) in topics {
        let mut partitions = Vec::with_capacity(progress.len());
        for progress in progress {
            let answer = match progress {
                Progress::Answered(answer) => answer,
                Progress::Here { index, partition, append, records } => {
                    let result = append.await;
                    let log_start_offset = partition.log_start_offset().0;
                    word(&name, index, &records, version, Some(Outcome { result, log_start_offset }))
                }
                Progress::There { index, core, place, records } => {
                    let outcome = answers.get_mut(&core).and_then(|outcomes| outcomes[place].take());
                    word(&name, index, &records, version, outcome)
                }
            };
            if answer.error_code != 0 && failed.is_none() {
                failed = Some(answer.error_code);
            }
            partitions.push(answer);
        }
        response.topics.push(ProduceTopicResponse { name, id, partitions });
    }
    match (acks, failed) {
        (0, None) => Ok(None),
        (0, Some(code)) => Err(Refusal::Unacknowledged(format!("error {code}"))),
        _ => Ok(Some(Response::Frame(response.encode(version, context.request.correlation_id)))),
    }
}

/// Each topic and partition once: of a partition that is named twice the last one counts, as in Kafka.
fn merged(request: &ProduceRequest) -> Vec<(flumen_wire::StrBytes, uuid::Uuid, Vec<&ProducePartition>)> {
    let mut topics: Vec<(flumen_wire::StrBytes, uuid::Uuid, Vec<&ProducePartition>)> = Vec::new();
    let mut places: BTreeMap<(&str, uuid::Uuid), usize> = BTreeMap::new();
    for topic in &request.topics {
        let place = *places.entry((&topic.name, topic.id)).or_insert_with(|| {
            topics.push((topic.name.clone(), topic.id, Vec::new()));
            topics.len() - 1
        });
        topics[place].2.extend(&topic.partitions);
    }
    for (_, _, partitions) in &mut topics {
        if partitions.len() > 1 {
            let last: BTreeMap<i32, &ProducePartition> =
                partitions.iter().map(|partition| (partition.index, *partition)).collect();
            if last.len() < partitions.len() {
                *partitions = last.into_values().collect();
            }
        }
    }
    topics
}

/// What makes Kafka refuse every partition of a request before it looks at any of them: it asks the first
/// batch of each whether it is part of a transaction, and that batch may not be one.
fn refused_as_a_whole(request: &ProduceRequest) -> Option<(ResponseError, Option<String>)> {
    let all = request.topics.iter().flat_map(|topic| &topic.partitions);
    all.filter_map(|partition| partition.records.as_ref()).find_map(|records| first_batch_refused(records))
}

fn first_batch_refused(records: &[u8]) -> Option<(ResponseError, Option<String>)> {
    let overhead = records.first_chunk::<17>()?;
    let size = i32::from_be_bytes(overhead[8..12].try_into().expect("four bytes"));
    let magic = overhead[16] as i8;
    let attributes = records.get(22).copied().unwrap_or(0);
    let corrupt = |why: String| Some((ResponseError::CorruptMessage, Some(why)));
    match magic {
        _ if size < 14 => {
            corrupt(format!("Record size {size} is less than the minimum record overhead (14)"))
        }
        // Transactions are not served: nobody may write in one.
        2 if attributes & TRANSACTIONAL != 0 => {
            Some((ResponseError::TransactionalIdAuthorizationFailed, None))
        }
        0..=2 => None,
        _ => corrupt(format!("Invalid magic found in record: {magic}")),
    }
}

fn unknown(version: i16) -> ResponseError {
    match version >= TOPIC_IDS_FROM {
        true => ResponseError::UnknownTopicId,
        false => ResponseError::UnknownTopicOrPartition,
    }
}

fn known(image: &Image, id: PartitionId) -> Option<PartitionId> {
    image.topic_by_id(id.topic)?.partition(id.partition).map(|_| id)
}

/// Everything that can be said of a batch without its partition's log.
fn check(
    request: &ProduceRequest,
    version: i16,
    partition: &ProducePartition,
) -> Result<CheckedBatches, ProducePartitionResponse> {
    let index = partition.index;
    if !(-1..=1).contains(&request.acks) {
        return Err(failure(index, ResponseError::InvalidRequiredAcks, None));
    }
    // Its owner knows how large it may be.
    let limits = BatchLimits { max_message_bytes: u32::MAX };
    let records = partition.records.clone().unwrap_or_default();
    let checked = batch::check(records, &limits).map_err(|error| refused(index, &error))?;
    for summary in checked.summaries() {
        if summary.codec == Codec::Zstd && version < ZSTD_FROM {
            return Err(failure(index, ResponseError::UnsupportedCompressionType, None));
        }
    }
    Ok(checked)
}

fn refused(index: i32, error: &BatchError) -> ProducePartitionResponse {
    let code = errors::of_batch(error);
    // Kafka says no more than the code of a batch whose bytes are damaged.
    let message = (code != ResponseError::CorruptMessage).then(|| error.to_string());
    failure(index, code, message)
}

fn failure(index: i32, error: ResponseError, message: Option<String>) -> ProducePartitionResponse {
    ProducePartitionResponse::error(index, error.code(), message)
}

/// Appends here, or puts the batches with those for their owner's core.
fn place(
    shard: &Rc<Shard>,
    id: PartitionId,
    batches: CheckedBatches,
    sent: &mut BTreeMap<CoreId, Vec<(PartitionId, CheckedBatches)>>,
) -> Progress {
    let (index, core) = (id.partition, shard.core_of(&id));
    // Shared memory, not a copy; looked at again if one of them is refused.
    let records = batches.bytes().clone();
    if core != shard.core() {
        let batch = sent.entry(core).or_default();
        batch.push((id, batches));
        return Progress::There { index, core, place: batch.len() - 1, records };
    }
    match shard.partition(&id) {
        Some(partition) => {
            let append = partition.append(batches, AppendOrigin::Client);
            Progress::Here { index, partition, append, records }
        }
        None => Progress::Answered(failure(index, ResponseError::UnknownTopicOrPartition, None)),
    }
}

/// Appends to the partitions of this core for a connection of another one. All are placed before the first
/// one is waited for.
fn append_all(
    shard: Rc<Shard>,
    batches: Vec<(PartitionId, CheckedBatches)>,
) -> impl Future<Output = Vec<Option<Outcome>>> {
    let appends: Vec<_> = batches
        .into_iter()
        .map(|(id, batches)| {
            let partition = shard.partition(&id)?;
            let append = partition.append(batches, AppendOrigin::Client);
            Some((partition, append))
        })
        .collect();
    async move {
        let outcomes = appends.into_iter().map(async |appending| {
            let (partition, append) = appending?;
            let result = append.await;
            Some(Outcome { result, log_start_offset: partition.log_start_offset().0 })
        });
        join_all(outcomes).await
    }
}

/// Words how an append ended; `None` where its partition was not there.
fn word(
    topic: &str,
    index: i32,
    records: &[u8],
    version: i16,
    outcome: Option<Outcome>,
) -> ProducePartitionResponse {
    let Some(Outcome { result, log_start_offset }) = outcome else {
        return failure(index, unknown(version), None);
    };
    match result {
        Ok(appended) => ProducePartitionResponse {
            index,
            error_code: 0,
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.log_append_time.0,
            log_start_offset,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        },
        Err(AppendError::Deleted) => failure(index, unknown(version), None),
        Err(error) => {
            let mut answer = failure(index, errors::of_append(&error), Some(error.to_string()));
            if !matches!(error, AppendError::TooLarge { .. }) {
                answer.log_start_offset = log_start_offset;
            }
            match error {
                AppendError::KeylessOnCompacted => name_keyless(&mut answer, records, topic),
                AppendError::InvalidTimestamp { earliest, latest, .. } => {
                    name_untimely(&mut answer, records, earliest..=latest);
                }
                _ => {}
            }
            answer
        }
    }
}

/// Names the records without a key, in Kafka's words.
fn name_keyless(answer: &mut ProducePartitionResponse, records: &[u8], topic: &str) {
    let why = format!(
        "Compacted topic cannot accept message without key in topic partition {topic}-{}",
        answer.index
    );
    answer.record_errors = refused_records(records, |record| record.key.is_none().then(|| why.clone()));
    let shown = answer.record_errors.iter().take(3);
    let shown: Vec<_> = shown
        .map(|error| format!("RecordError(batchIndex={}, message='{why}')", error.batch_index))
        .collect();
    answer.error_message = Some(format!(
        "One or more records have been rejected due to {} record errors in total, and only showing the first \
         three errors at most: [{}]",
        answer.record_errors.len(),
        shown.join(", ")
    ));
}

/// Names the records whose time the topic does not accept, in Kafka's words.
fn name_untimely(answer: &mut ProducePartitionResponse, records: &[u8], accepted: RangeInclusive<Timestamp>) {
    answer.record_errors = refused_records(records, |record| {
        (record.timestamp.0 >= 0 && !accepted.contains(&record.timestamp)).then(|| {
            format!(
                "Timestamp {} of message with offset {} is out of range. The timestamp should be within [{}, {}]",
                record.timestamp,
                record.offset,
                accepted.start(),
                accepted.end()
            )
        })
    });
    answer.error_message = Some("One or more records have been rejected due to invalid timestamp".into());
}

/// The records of a client's batch, whose offsets count from 0, that `why` finds fault with; none if they are
/// compressed.
fn refused_records(records: &[u8], why: impl Fn(&Record<'_>) -> Option<String>) -> Vec<RecordError> {
    batch::records(records)
        .into_iter()
        .flat_map(|records| records.flatten())
        .filter_map(|record| {
            let message = Some(why(&record)?);
            Some(RecordError { batch_index: record.offset.0 as i32, message })
        })
        .collect()
}
