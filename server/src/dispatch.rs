//! From a request's bytes to a response's: one table of the APIs that are served.
//!
//! On the connection's core. Every frame is bounded before a codec sees it; what cannot be parsed ends the
//! connection, as in Kafka. Produce and Fetch go their own way, without copying records.

use std::ops::RangeInclusive;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use flumen_wire::bounds;
use flumen_wire::frame::{self, RequestHeader};
use kafka_protocol::messages::{ApiKey, RequestKind};
use kafka_protocol::protocol::Encodable;

use crate::handlers::{self, Refusal, RequestContext, RequestFacts};
use crate::time_slice::{TIME_SLICE, Took, measured};

/// A longer body is decoded by another thread: it may take a core a turn.
const DECODED_HERE_BYTES_MAX: usize = 64 << 10;
/// What answers a longer body is encoded by another thread, too, also where others than this task made it.
const ENCODED_HERE_BYTES_MAX: usize = 8 << 10;

macro_rules! served {
    (hot { $($hot:ident => $versions:expr),* $(,)? } $($api:ident => $module:path),* $(,)?) => {
        /// The APIs that are served and the versions of each, by ascending key.
        pub static SERVED: &[(ApiKey, RangeInclusive<i16>)] = &[
            $((ApiKey::$hot, $versions),)*
            $((ApiKey::$api, { use $module as handler; handler::VERSIONS })),*
        ];

        /// Decodes the request, has it answered, encodes the answer as one whole frame.
        pub async fn answer(context: &RequestContext, body: Bytes) -> Result<Bytes, Refusal> {
            match context.request.api {
                $(ApiKey::$api => {
                    use $module as handler;
                    let pick = |request| match request {
                        RequestKind::$api(request) => Some(request),
                        _ => None,
                    };
                    answer_with(context, body, pick, handler::handle).await
                })*
                api => Err(Refusal::UnsupportedVersion { api, version: context.request.version }),
            }
        }
    };
}

// One line per API. Those that are hot go their own way in the connection.
served! {
    hot {
        Produce => flumen_wire::produce::VERSIONS,
        Fetch => flumen_wire::fetch::VERSIONS,
    }
    ListOffsets => crate::handlers::list_offsets,
    Metadata => crate::handlers::metadata,
    OffsetCommit => crate::handlers::offset_commit,
    OffsetFetch => crate::handlers::offset_fetch,
    FindCoordinator => crate::handlers::find_coordinator,
    JoinGroup => crate::handlers::join_group,
    Heartbeat => crate::handlers::heartbeat,
    LeaveGroup => crate::handlers::leave_group,
    SyncGroup => crate::handlers::sync_group,
    DescribeGroups => crate::handlers::describe_groups,
    ListGroups => crate::handlers::list_groups,
    ApiVersions => crate::handlers::api_versions,
    CreateTopics => crate::handlers::create_topics,
    DeleteTopics => crate::handlers::delete_topics,
    DeleteRecords => crate::handlers::delete_records,
    InitProducerId => crate::handlers::init_producer_id,
    OffsetForLeaderEpoch => crate::handlers::offset_for_leader_epoch,
    DescribeAcls => crate::handlers::describe_acls,
    DescribeConfigs => crate::handlers::describe_configs,
    AlterConfigs => crate::handlers::alter_configs,
    DescribeLogDirs => crate::handlers::describe_log_dirs,
    CreatePartitions => crate::handlers::create_partitions,
    DeleteGroups => crate::handlers::delete_groups,
    ElectLeaders => crate::handlers::elect_leaders,
    IncrementalAlterConfigs => crate::handlers::incremental_alter_configs,
    ListPartitionReassignments => crate::handlers::list_partition_reassignments,
    OffsetDelete => crate::handlers::offset_delete,
    DescribeQuorum => crate::handlers::describe_quorum,
    DescribeCluster => crate::handlers::describe_cluster,
    DescribeProducers => crate::handlers::describe_producers,
    ConsumerGroupHeartbeat => crate::handlers::consumer_group_heartbeat,
    ListConfigResources => crate::handlers::list_config_resources,
    DescribeTopicPartitions => crate::handlers::describe_topic_partitions,
}

/// Splits a frame (what is behind the size) into what is asked and the body.
///
/// An ApiVersions request of a version that is not served is let through: it is the one that gets an
/// answer, see [`is_unsupported`].
pub fn parse(bytes: Bytes) -> Result<(RequestFacts, Bytes), Refusal> {
    let frame::Request { header, body } = frame::parse_request(bytes)?;
    let RequestHeader { api_key: api, api_version: version, correlation_id, client_id } = header;
    let served = SERVED.iter().any(|(served, versions)| *served == api && versions.contains(&version));
    if !served && api != ApiKey::ApiVersions {
        return Err(Refusal::UnsupportedVersion { api, version });
    }
    Ok((RequestFacts { api, version, correlation_id, client_id }, body))
}

/// Whether this is the ApiVersions request of a version that is not served.
pub fn is_unsupported(request: &RequestFacts) -> bool {
    request.api == ApiKey::ApiVersions && !handlers::api_versions::VERSIONS.contains(&request.version)
}

async fn answer_with<Q, R>(
    context: &RequestContext,
    body: Bytes,
    pick: impl FnOnce(RequestKind) -> Option<Q>,
    handle: impl AsyncFnOnce(&RequestContext, Q) -> Result<R, Refusal>,
) -> Result<Bytes, Refusal>
where
    R: Encodable + Send + 'static,
{
    let RequestFacts { api, version, correlation_id, .. } = context.request;
    if is_unsupported(&context.request) {
        return encode(api, 0, correlation_id, &handlers::api_versions::unsupported());
    }
    let compute = context.shard.compute();
    let is_long = body.len() > ENCODED_HERE_BYTES_MAX;
    let request = if body.len() <= DECODED_HERE_BYTES_MAX {
        bounds::decode_request(api, version, body)?
    } else {
        compute.run(move || bounds::decode_request(api, version, body)).await?
    };
    let request = pick(request).expect("the decoder returns the API that was asked for");
    let (response, took) = measured(pin!(handle(context, request))).await;
    if took.slow > 0 {
        let Took { longest, turns, slow, .. } = took;
        tracing::debug!(?api, version, turns, slow, ?longest, "a request kept its core for long");
    }
    let response = response?;
    if took.total <= TIME_SLICE && !is_long {
        return encode(api, version, correlation_id, &response);
    }
    // What took long to make takes long to encode and to free.
    compute.run(move || encode(api, version, correlation_id, &response)).await
}

/// A response as one frame: size, header, body.
pub fn encode<R: Encodable>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Bytes, Refusal> {
    let mut out = BytesMut::with_capacity(256);
    frame::put_response(&mut out, api, version, correlation_id, |out| {
        response.encode(out, bounds::codec_version(api, version))
    })
    .map_err(|error| Refusal::Unencodable { api, version, why: error.to_string() })?;
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending() {
        assert!(SERVED.is_sorted_by_key(|(key, _)| *key as i16));
    }

    #[test]
    fn a_header_is_parsed_and_the_rest_is_the_body() {
        let frame = Bytes::from_static(&[0, 18, 0, 0, 0, 0, 0, 7, 0, 1, b'x', 9]);
        let (facts, body) = parse(frame).expect("a sound header");
        assert_eq!((facts.api, facts.version, facts.correlation_id), (ApiKey::ApiVersions, 0, 7));
        assert_eq!(facts.client_id.as_deref(), Some("x"));
        assert_eq!(&body[..], &[9]);
    }

    #[test]
    fn a_version_to_come_is_answered_in_version_zero() {
        let (facts, _) =
            parse(Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0])).expect("answered");
        assert!(is_unsupported(&facts));
    }

    #[test]
    fn half_headers_and_unknown_keys_are_refused() {
        assert!(matches!(parse(Bytes::from_static(&[0, 18, 0])), Err(Refusal::Frame(_))));
        let unknown = parse(Bytes::from_static(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(matches!(unknown, Err(Refusal::Frame(_))));
        let unserved = parse(Bytes::from_static(&[0, 3, 0, 99, 0, 0, 0, 0, 0, 0, 0]));
        assert!(matches!(unserved, Err(Refusal::UnsupportedVersion { .. })));
    }
}
