//! Fetch (1): what is asked for is gathered from the partitions' cores and framed around the cache's bytes.
//!
//! On the connection's core. Records are never copied here: the answer holds slices of the cache, which live
//! until the last byte has left the socket.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flumen_engine::{Offset, PartitionId, Read, ReadLimit};
use flumen_ring::{SendPiece, Socket};
use flumen_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse,
    Part,
};
use kafka_protocol::error::ResponseError;

use super::{Refusal, RequestContext};
use crate::connection::Response;
use crate::fetch_session::{PartitionKey, SessionError, home_of};
use crate::memory::Held;
use crate::metadata::image::Image;
use crate::shard::Shard;
use gather::{Bounds, Gathered, Target};

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
    // What the session keeps is copied; nothing holds the body while the fetch waits.
    drop(body);
    let failed = |error: SessionError| {
        let response = FetchResponse { error_code: error.code(), ..Default::default() };
        pieces(context, &response, std::iter::empty(), shard.answer_memory().hold(0))
    };
    let (bounds, isolation_level) = (bounds(context, &request), request.isolation_level);
    let home = match request.session_id {
        0 => shard.core(),
        id => home_of(id, shard.core_count()),
    };
    let begin = move |shard: Rc<Shard>| async move {
        let now_ms = shard.monotonic_ms();
        shard.fetch_sessions().borrow_mut().begin(&request, version, now_ms)
    };
    let begun = shard.call(home, begin).await;
    let session = match begun {
        Ok(session) => session,
        Err(error) => return Ok(failed(error)),
    };
    let plan = Plan::new(&shard.image(), &session.partitions, version, isolation_level);
    let (gathered, held) = gather::gather(shard, &plan.targets, &bounds, socket).await;
    let (answers, mut reads) = plan.word(gathered, bounds.limit);

    let finish = move |shard: Rc<Shard>| async move {
        let now_ms = shard.monotonic_ms();
        let finished = shard.fetch_sessions().borrow_mut().finish(&session, &answers, now_ms);
        (finished, session, answers)
    };
    let (finished, session, answers) = shard.call(home, finish).await;
    if let Some(error) = finished.error {
        return Ok(failed(error));
    }
    let included = finished.included.iter().filter_map(|place| reads[*place].take()).collect::<Vec<_>>();
    let response = FetchResponse {
        session_id: finished.session_id,
        topics: session.into_topics(answers, &finished.included),
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

/// A partition of the fetch: its place among the targets, or an error already.
type Place = Result<usize, ResponseError>;

/// What to gather, and where each partition of the answer comes from.
#[derive(Default)]
struct Plan {
    targets: Vec<Target>,
    places: Vec<(i32, Place)>,
}

impl Plan {
    fn new(
        image: &Image,
        partitions: &[(PartitionKey, FetchPartition)],
        version: i16,
        isolation_level: i8,
    ) -> Self {
        let mut plan = Self::default();
        for (key, partition) in partitions {
            let topic = match version >= TOPIC_IDS_FROM {
                true => image.topic_by_id(key.topic_id),
                false => image.topic(&key.topic),
            };
            let place = match topic {
                // No such level of isolation; Kafka fails each partition with this.
                _ if !matches!(isolation_level, 0 | 1) => Err(ResponseError::UnknownServerError),
                None if version >= TOPIC_IDS_FROM => Err(ResponseError::UnknownTopicId),
                Some(topic) if topic.partition(key.index).is_some() => {
                    plan.targets.push(target(topic.id, partition));
                    Ok(plan.targets.len() - 1)
                }
                _ => Err(ResponseError::UnknownTopicOrPartition),
            };
            plan.places.push((key.index, place));
        }
        plan
    }

    /// The answers without their records, and the records, both in the order of the fetch.
    fn word(
        self,
        gathered: Vec<Gathered>,
        limit: ReadLimit,
    ) -> (Vec<FetchPartitionResponse>, Vec<Option<Read>>) {
        let mut gathered: Vec<Option<Gathered>> = gathered.into_iter().map(Some).collect();
        let outcomes = self.places.into_iter().map(|(index, place)| {
            let outcome = match place {
                Ok(place) => gathered[place].take().expect("each target is answered once"),
                Err(error) => Gathered::Failed(error),
            };
            word(index, outcome, limit)
        });
        outcomes.unzip()
    }
}

fn target(topic: uuid::Uuid, partition: &FetchPartition) -> Target {
    Target {
        id: PartitionId { topic, partition: partition.index },
        offset: Offset(partition.fetch_offset),
        bytes_max: usize::try_from(partition.max_bytes).unwrap_or(0),
        leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
    }
}

fn word(index: i32, outcome: Gathered, limit: ReadLimit) -> (FetchPartitionResponse, Option<Read>) {
    let committed = (limit == ReadLimit::LastStable).then(Vec::new);
    match outcome {
        Gathered::Failed(error) => {
            let mut answer = FetchPartitionResponse::error(index, error.code());
            let in_log = error == ResponseError::OffsetOutOfRange;
            answer.aborted_transactions = if in_log { None } else { Some(Vec::new()) };
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
