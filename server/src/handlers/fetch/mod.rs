//! Fetch (1): what is asked for is gathered from the partitions' cores and framed around the cache's bytes.
//!
//! On the connection's core. Records are never copied here: the answer holds slices of the cache, which live
//! until the last byte has left the socket.

use std::time::Duration;

use bytes::Bytes;
use flumen_engine::{Offset, PartitionId, Read, ReadLimit};
use flumen_ring::{SendPiece, Socket};
use flumen_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse, Part,
};
use kafka_protocol::error::ResponseError;

use super::{Refusal, RequestContext};
use crate::connection::Response;
use crate::metadata::image::Image;
use gather::{Bounds, Gathered, Target};

mod gather;

/// From this version on topics go by their ids.
const TOPIC_IDS_FROM: i16 = 13;

/// Answers a fetch.
pub async fn handle(context: &RequestContext, body: Bytes, socket: &Socket) -> Result<Response, Refusal> {
    let version = context.request.version;
    let request = FetchRequest::parse(&body, version).map_err(|error| Refusal::Malformed {
        what: format!("Fetch request, version {version}"),
        why: error.to_string(),
    })?;
    let correlation_id = context.request.correlation_id;
    if request.session_id != 0 && request.session_epoch > 0 {
        let code = ResponseError::FetchSessionIdNotFound.code();
        let response = FetchResponse { error_code: code, ..Default::default() };
        return Ok(pieces(&response, Vec::new(), version, correlation_id));
    }
    let image = context.shard.image();
    let mut plan = Plan::default();
    for topic in &request.topics {
        let id = match version >= TOPIC_IDS_FROM {
            true => image.topic_by_id(topic.id),
            false => image.topic(&topic.name),
        };
        let id = id.map(|topic| topic.id);
        let mut places = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            places.push((partition.index, plan.add(&image, id, partition, version)));
        }
        plan.topics.push((topic.name.clone(), topic.id, places));
    }
    let limit = match (request.replica_id >= 0, request.isolation_level) {
        (true, _) => ReadLimit::LogEnd,
        (false, 1) => ReadLimit::LastStable,
        (false, _) => ReadLimit::HighWatermark,
    };
    let wait_ms = if plan.has_unknown { 0 } else { request.max_wait_ms.max(0) };
    let bounds = Bounds {
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(context.shard.config().fetch.bytes_max),
        wait_max: Duration::from_millis(u64::from(wait_ms.unsigned_abs())),
        limit,
    };
    let gathered = gather::gather(&context.shard, &plan.targets, &bounds, socket).await;
    let (response, reads) = plan.word(gathered, limit);
    Ok(pieces(&response, reads, version, correlation_id))
}

/// A partition of the request: among the targets, or an error already.
type Place = Result<usize, ResponseError>;

/// A topic of the answer: name, id, and its partitions by index.
type PlannedTopic = (flumen_wire::StrBytes, uuid::Uuid, Vec<(i32, Place)>);

/// What to gather, and where each partition of the answer comes from.
#[derive(Default)]
struct Plan {
    targets: Vec<Target>,
    topics: Vec<PlannedTopic>,
    has_unknown: bool,
}

impl Plan {
    fn add(
        &mut self,
        image: &Image,
        topic: Option<uuid::Uuid>,
        partition: &FetchPartition,
        version: i16,
    ) -> Place {
        let known = topic.filter(|id| {
            image.topic_by_id(*id).is_some_and(|topic| topic.partition(partition.index).is_some())
        });
        let Some(id) = known else {
            self.has_unknown = true;
            return Err(match topic.is_none() && version >= TOPIC_IDS_FROM {
                true => ResponseError::UnknownTopicId,
                false => ResponseError::UnknownTopicOrPartition,
            });
        };
        self.targets.push(Target {
            id: PartitionId { topic: id, partition: partition.index },
            offset: Offset(partition.fetch_offset),
            bytes_max: usize::try_from(partition.max_bytes).unwrap_or(0),
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        });
        Ok(self.targets.len() - 1)
    }

    /// The answer without its records, and the records by topic and partition of the answer.
    fn word(self, gathered: Vec<Gathered>, limit: ReadLimit) -> (FetchResponse, Vec<Vec<Option<Read>>>) {
        let mut gathered: Vec<Option<Gathered>> = gathered.into_iter().map(Some).collect();
        let mut response = FetchResponse::default();
        let mut reads = Vec::new();
        for (name, id, places) in self.topics {
            let mut partitions = Vec::with_capacity(places.len());
            let mut topic_reads = Vec::with_capacity(places.len());
            for (index, place) in places {
                let outcome = match place {
                    Ok(place) => gathered[place].take().expect("each target is answered once"),
                    Err(error) => Gathered::Failed(error),
                };
                let (answer, read) = word(index, outcome, limit);
                partitions.push(answer);
                topic_reads.push(read);
            }
            response.topics.push(FetchTopicResponse { name, id, partitions });
            reads.push(topic_reads);
        }
        (response, reads)
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

/// Puts the records where the frame left room for them.
fn pieces(
    response: &FetchResponse,
    mut reads: Vec<Vec<Option<Read>>>,
    version: i16,
    correlation_id: i32,
) -> Response {
    let framed = response.frame(version, correlation_id);
    let mut pieces = Vec::with_capacity(framed.parts.len() + 4);
    for part in framed.parts {
        match part {
            Part::Bytes(bytes) => pieces.push(SendPiece::Bytes(bytes)),
            Part::Records { topic, partition, .. } => {
                let read = reads[topic][partition].take().expect("the frame has room for what was read");
                pieces.extend(read.slices.into_iter().map(SendPiece::Slice));
            }
        }
    }
    Response::Pieces(pieces)
}
