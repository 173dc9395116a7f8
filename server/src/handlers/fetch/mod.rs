//! Fetch (1): what is asked for is gathered from the partitions' cores and framed around the cache's bytes.
//!
//! On the connection's core. Records are never copied here: the answer holds slices of the cache, which live
//! until the last byte has left the socket.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flumen_engine::{Offset, PartitionId, Read, ReadLimit};
use flumen_ring::{SendPiece, Socket};
use flumen_wire::StrBytes;
use flumen_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse, Part,
};
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::epochs::NO_LEADER_EPOCH;
use super::{Refusal, RequestContext, is_isolation_level};
use crate::connection::Response;
use crate::fetch_session::{Found, PartitionKey, SessionError, Wanted, home_of, into_topics};
use crate::fetch_watches::Target;
use crate::memory::Held;
use crate::metadata::image::Image;
use crate::shard::Shard;
use crate::time_slice::TimeSlice;
use gather::{Bounds, Gathered, PARTITIONS_AT_A_TIME};

mod gather;

/// From this version on topics go by their ids.
const TOPIC_IDS_FROM: i16 = 13;

/// Answers a fetch.
pub async fn handle(context: &RequestContext, body: Bytes, socket: &Socket) -> Result<Response, Refusal> {
    let (version, shard) = (context.request.version, &context.shard);
    let request = FetchRequest::parse(&body, version).map_err(|error| Refusal::Malformed {
        what: format!("Fetch request, version {version}"),
        why: error.to_string(),
    })?;
    let unserved = (!is_isolation_level(request.isolation_level)).then(|| unserved(&request, version));
    // What the session keeps is copied; nothing holds the body while the fetch waits.
    drop(body);
    let failed = |error: SessionError| {
        let response = FetchResponse { error_code: error.code(), ..Default::default() };
        pieces(context, &response, std::iter::empty(), shard.answer_memory().hold(0))
    };
    let bounds = bounds(context, &request);
    let home = match request.session_id {
        0 => shard.core(),
        id => home_of(id, shard.core_count()),
    };
    let can_watch = home == shard.core();
    let begin = move |shard: Rc<Shard>| async move {
        let now_ms = shard.monotonic_ms();
        shard.fetch_sessions().borrow_mut().begin(&request, version, now_ms, can_watch)
    };
    let begun = shard.call(home, begin).await;
    let session = match begun {
        Ok(session) => session,
        Err(error) => return Ok(failed(error)),
    };
    let watches = if can_watch { shard.fetch_sessions().borrow().watches(&session) } else { None };
    if let Some(watches) = &watches {
        let forgotten = session.forgotten.iter().map(|key| partition_id(key.topic_id, key.index));
        watches.forget(shard, forgotten).await;
    }
    let slice = TimeSlice::of(shard.ring());
    let plan = Plan::new(&shard.image(), &session.partitions, version, &slice).await;
    let targets = plan.targets();
    if let Some(response) = unserved.filter(|_| !targets.is_empty()) {
        return Ok(pieces(context, &response, std::iter::empty(), shard.answer_memory().hold(0)));
    }
    // Where there is nothing to look at, nor any news to come, nothing is waited for.
    let watches = watches.filter(|_| session.settled > 0 || !targets.is_empty());
    let (gathered, held) = gather::gather(shard, targets, &bounds, watches.as_deref(), socket).await;
    let (found, mut reads) = plan.word(gathered, bounds.limit);
    slice.pause().await;
    let finish = move |shard: Rc<Shard>| async move {
        let now_ms = shard.monotonic_ms();
        let finished = shard.fetch_sessions().borrow_mut().finish(&session, &found, now_ms);
        (finished, found)
    };
    let (finished, found) = shard.call(home, finish).await;
    if let Some(error) = finished.error {
        return Ok(failed(error));
    }
    slice.pause().await;
    let included = finished.included.iter().filter_map(|index| reads[*index].take()).collect::<Vec<_>>();
    let response = FetchResponse {
        session_id: finished.session_id,
        topics: into_topics(found, &finished.included),
        ..Default::default()
    };
    Ok(pieces(context, &response, included.into_iter(), held))
}

fn bounds(context: &RequestContext, request: &FetchRequest) -> Bounds {
    let size = |number: i32| usize::try_from(number).unwrap_or(0);
    Bounds {
        bytes_min: size(request.min_bytes),
        bytes_max: size(request.max_bytes).min(context.shard.config().fetch.bytes_max),
        wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        limit: match (request.replica_id >= 0, request.isolation_level) {
            (true, _) => ReadLimit::LogEnd,
            (false, 1) => ReadLimit::LastStable,
            (false, _) => ReadLimit::HighWatermark,
        },
    }
}

/// The answer to a fetch of no level of isolation that there is. As Kafka's to a request that it fails on: the error of
/// the whole, and below the version of ids that of each partition.
fn unserved(request: &FetchRequest, version: i16) -> FetchResponse {
    let error = ResponseError::UnknownServerError;
    let told = request.topics.iter().filter(|_| version < TOPIC_IDS_FROM);
    let topics = told.map(|topic| FetchTopicResponse {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| answer(partition.index, Gathered::Failed(error), ReadLimit::HighWatermark).0)
            .collect(),
    });
    let topics = topics.collect();
    FetchResponse { error_code: error.code(), session_id: request.session_id, topics, ..Default::default() }
}

/// What to gather, in the order of service.
struct Plan {
    planned: Vec<Planned>,
}

struct Planned {
    place: u64,
    key: PartitionKey,
    target: Result<Target, ResponseError>,
}

impl Plan {
    async fn new(image: &Image, partitions: &[Wanted], version: i16, slice: &TimeSlice) -> Self {
        let plan = |Wanted { place, key, partition, was_known }: &Wanted| {
            let topic = match version >= TOPIC_IDS_FROM {
                true => image.topic_by_id(key.topic_id),
                false => image.topic(&key.topic),
            };
            let target = match topic {
                // A session goes by the name that an id had, as Kafka's does.
                None if version >= TOPIC_IDS_FROM && !was_known => Err(ResponseError::UnknownTopicId),
                Some(topic) if topic.partition(key.index).is_some() => {
                    Ok(target(*place, topic.id, partition))
                }
                _ => Err(ResponseError::UnknownTopicOrPartition),
            };
            Planned { place: *place, key: key.clone(), target }
        };
        let mut planned = Vec::with_capacity(partitions.len());
        for (number, wanted) in (1..).zip(partitions) {
            planned.push(plan(wanted));
            if number % PARTITIONS_AT_A_TIME == 0 {
                slice.pause().await;
            }
        }
        Self { planned }
    }

    fn targets(&self) -> Vec<Target> {
        self.planned.iter().filter_map(|planned| planned.target.as_ref().ok().copied()).collect()
    }

    /// What was found, and its records, both in the order of service: of what was planned, and of what there was
    /// news of.
    fn word(self, gathered: Vec<(Target, Gathered)>, limit: ReadLimit) -> (Vec<Found>, Vec<Option<Read>>) {
        let mut planned = self.planned.into_iter().peekable();
        let mut outcomes: Vec<(PartitionKey, Gathered)> = Vec::with_capacity(gathered.len());
        for (target, gathered) in gathered {
            while let Some(Planned { key, target: Err(error), .. }) =
                planned.next_if(|planned| planned.place < target.place)
            {
                outcomes.push((key, Gathered::Failed(error)));
            }
            let key = match planned.next_if(|planned| planned.place == target.place) {
                Some(planned) => planned.key,
                // News are of partitions that go by their ids.
                None => PartitionKey {
                    topic: StrBytes::new(),
                    topic_id: target.id.topic,
                    index: target.id.partition,
                },
            };
            outcomes.push((key, gathered));
        }
        let failed = planned.filter_map(|Planned { key, target, .. }| Some((key, target.err()?)));
        outcomes.extend(failed.map(|(key, error)| (key, Gathered::Failed(error))));
        outcomes.into_iter().map(|(key, gathered)| word(key, gathered, limit)).unzip()
    }
}

fn partition_id(topic: Uuid, partition: i32) -> PartitionId {
    PartitionId { topic, partition }
}

fn target(place: u64, topic: Uuid, partition: &FetchPartition) -> Target {
    Target {
        place,
        id: partition_id(topic, partition.index),
        offset: Offset(partition.fetch_offset),
        bytes_max: usize::try_from(partition.max_bytes).unwrap_or(0),
        // As Kafka's FetchRequest, for which every negative epoch is none.
        leader_epoch: partition.current_leader_epoch.max(NO_LEADER_EPOCH),
        last_fetched_epoch: partition.last_fetched_epoch,
    }
}

fn word(key: PartitionKey, outcome: Gathered, limit: ReadLimit) -> (Found, Option<Read>) {
    let is_exhausted = matches!(&outcome, Gathered::Nothing(standing) if standing.is_exhausted());
    let (answer, read) = answer(key.index, outcome, limit);
    (Found { key, answer, is_exhausted }, read)
}

fn answer(index: i32, outcome: Gathered, limit: ReadLimit) -> (FetchPartitionResponse, Option<Read>) {
    let committed = (limit == ReadLimit::LastStable).then(Vec::new);
    match outcome {
        Gathered::Failed(error) => {
            let mut answer = FetchPartitionResponse::error(index, error.code());
            // As Kafka, which tells none, and not an empty list of them, wherever it has asked the log.
            let without_log = matches!(
                error,
                ResponseError::UnknownTopicOrPartition
                    | ResponseError::UnknownTopicId
                    | ResponseError::UnknownServerError
            );
            answer.aborted_transactions = without_log.then(Vec::new);
            (answer, None)
        }
        Gathered::Nothing(standing) => {
            let diverging_epoch =
                standing.diverging.map(|(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 });
            let answer = FetchPartitionResponse {
                high_watermark: standing.high_watermark.0,
                last_stable_offset: standing.last_stable_offset.0,
                log_start_offset: standing.log_start_offset.0,
                aborted_transactions: committed,
                diverging_epoch,
                ..FetchPartitionResponse::error(index, 0)
            };
            (answer, None)
        }
        Gathered::Records(read) => {
            let aborted = committed.map(|_| {
                let worded = read.aborted.iter().map(|transaction| AbortedTransaction {
                    producer_id: transaction.producer_id.0,
                    first_offset: transaction.first_offset.0,
                });
                worded.collect()
            });
            let answer = FetchPartitionResponse {
                high_watermark: read.high_watermark.0,
                last_stable_offset: read.last_stable_offset.0,
                log_start_offset: read.log_start_offset.0,
                aborted_transactions: aborted,
                records_bytes: read.length(),
                ..FetchPartitionResponse::error(index, 0)
            };
            (answer, Some(read))
        }
    }
}

/// Puts the records, in the order of the answer, where the frame left room for them.
fn pieces(
    context: &RequestContext,
    response: &FetchResponse,
    mut reads: impl Iterator<Item = Read>,
    mut held: Held,
) -> Response {
    let framed = response.frame(context.request.version, context.request.correlation_id);
    held.resize(framed.bytes);
    let mut pieces = Vec::with_capacity(framed.parts.len() + 4);
    for part in framed.parts {
        match part {
            Part::Bytes(bytes) => pieces.push(SendPiece::Bytes(bytes)),
            Part::Records { bytes, .. } => {
                let read = reads.next().expect("the frame has room for what was read, and no other");
                assert_eq!(read.length(), bytes, "a frame promises its length");
                pieces.extend(read.slices.into_iter().map(SendPiece::Slice));
            }
        }
    }
    Response::Pieces { pieces, held }
}
