//! FindCoordinator (10): which broker decides for a group. The first request creates `__consumer_offsets`.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext, errors};
use crate::groups::coordinator::GROUP_METADATA_TOPIC;
use crate::metadata::image::Image;
use crate::time_slice::TimeSlice;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=6;

/// From this version on several keys are looked up at once (KIP-699).
const KEYS_FROM: i16 = 4;
/// `key_type` of groups; 2 are share groups' partitions, which have no coordinator here.
const GROUPS: i8 = 0;
/// `key_type` of transactional ids, which have no coordinator here either.
const TRANSACTIONS: i8 = 1;

/// The types of keys that there are.
const KEY_TYPES: RangeInclusive<i8> = 0..=2;

/// Where a coordinator is.
struct Node {
    id: i32,
    host: String,
    port: i32,
}

/// Finds the coordinator.
pub async fn handle(
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, Refusal> {
    if context.request.version < KEYS_FROM {
        return Ok(match find(context, request.key_type, &request.key).await {
            Ok(node) => FindCoordinatorResponse::default()
                .with_error_message(Some(StrBytes::from_static_str("NONE")))
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.host))
                .with_port(node.port),
            Err(error) => FindCoordinatorResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_static_str(message(request.key_type, error))))
                .with_node_id(BrokerId(-1))
                .with_port(-1),
        });
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    let slice = TimeSlice::of(context.shard.ring());
    for key in request.coordinator_keys {
        slice.pause().await;
        let found = find(context, request.key_type, &key).await;
        let error = errors::code(found.as_ref().err().copied());
        // As Kafka, which has words in these versions only for what it cannot look up at all.
        let has_words = request.key_type == TRANSACTIONS || !KEY_TYPES.contains(&request.key_type);
        let words = found.as_ref().err().filter(|_| has_words);
        let words = words.map_or("", |error| message(request.key_type, *error));
        let node = found.unwrap_or(Node { id: -1, host: String::new(), port: -1 });
        coordinators.push(
            Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.host))
                .with_port(node.port)
                .with_error_code(error)
                .with_error_message(Some(StrBytes::from_static_str(words))),
        );
    }
    Ok(FindCoordinatorResponse::default().with_coordinators(coordinators))
}

/// What makes a transactional producer give up at once. Clients of the older versions (librdkafka) look for the
/// coordinator again and again, unless they may not use their id; those of the newer ones show the message.
fn no_transactions(version: i16) -> ResponseError {
    match version {
        KEYS_FROM.. => ResponseError::UnsupportedVersion,
        _ => ResponseError::TransactionalIdAuthorizationFailed,
    }
}

/// Kafka's words for an error; to whom a transactional id is, ours.
fn message(key_type: i8, error: ResponseError) -> &'static str {
    match error {
        _ if key_type == TRANSACTIONS => "Transactions are not served by this broker.",
        ResponseError::InvalidRequest => {
            "This most likely occurs because of a request being malformed by the client library or the message \
             was sent to an incompatible broker. See the broker logs for more details."
        }
        _ => "The coordinator is not available.",
    }
}

async fn find(context: &RequestContext, key_type: i8, key: &str) -> Result<Node, ResponseError> {
    if key_type == TRANSACTIONS {
        return Err(no_transactions(context.request.version));
    }
    if key_type != GROUPS {
        return Err(ResponseError::InvalidRequest);
    }
    if context.shard.image().topic(GROUP_METADATA_TOPIC).is_none() {
        let created = context.shard.with_controller(async move |controller| {
            controller.ensure_internal_topic(GROUP_METADATA_TOPIC).await
        });
        if let Err(error) = created.await {
            tracing::warn!(error = %error.error, message = error.message, "cannot create {GROUP_METADATA_TOPIC}");
            return Err(ResponseError::CoordinatorNotAvailable);
        }
    }
    leader(context, &context.shard.image(), key).ok_or(ResponseError::CoordinatorNotAvailable)
}

/// The leader of the partition that holds a group, as this listener's clients reach it.
fn leader(context: &RequestContext, image: &Image, key: &str) -> Option<Node> {
    let topic = image.topic(GROUP_METADATA_TOPIC)?;
    let id = topic.partition(context.shard.groups().partition_for(topic.id, key)?)?.leader;
    let listener = &context.connection.listener;
    if id == context.shard.config().node_id() {
        let (host, port) = (listener.advertised_host.clone(), i32::from(listener.advertised_port));
        return Some(Node { id, host, port });
    }
    let endpoint = image.cluster().broker(id)?.endpoint(&listener.name)?;
    Some(Node { id, host: endpoint.host.clone(), port: i32::from(endpoint.port) })
}
