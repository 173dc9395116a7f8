//! Kafka's protocol as a client speaks it. Requests are encoded once, by `kafka-protocol`, and patched; the two
//! answers that come often are read in place, by code that shares nothing with the broker's.

pub mod admin;
pub mod answers;
pub mod batches;
mod compress;
pub mod first_acks;
pub mod requests;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};

use crate::error::BenchError;

/// Where a request's correlation id stands: behind size, key and version.
const CORRELATION_ID_AT: usize = 8;

/// Kafka's error codes that the load knows by name.
pub mod codes {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;

    /// Whether a broker that is about to lead a partition may say so.
    pub fn is_passing(code: i16) -> bool {
        matches!(code, UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER)
    }
}

/// What Kafka calls an error of this code, where that helps a reader.
pub fn explain(code: i16) -> String {
    let meaning = match code {
        codes::OFFSET_OUT_OF_RANGE => "OFFSET_OUT_OF_RANGE",
        2 => "CORRUPT_MESSAGE",
        codes::UNKNOWN_TOPIC_OR_PARTITION => "UNKNOWN_TOPIC_OR_PARTITION",
        codes::NOT_LEADER_OR_FOLLOWER => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        10 => "MESSAGE_TOO_LARGE: raise max.message.bytes with --config, or send smaller batches",
        18 => "RECORD_LIST_TOO_LARGE",
        19 => "NOT_ENOUGH_REPLICAS",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        35 => "UNSUPPORTED_VERSION",
        45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        codes::KAFKA_STORAGE_ERROR => "KAFKA_STORAGE_ERROR: the broker's disk failed or is full",
        87 => "INVALID_RECORD",
        _ => return format!("error {code}"),
    };
    format!("error {code} {meaning}")
}

/// A whole request, from its size on.
pub fn encode<R: Request>(request: &R, version: i16) -> Result<Vec<u8>, BenchError> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("flumen-bench")));
    header.encode(&mut out, R::header_version(version)).map_err(BenchError::codec)?;
    request.encode(&mut out, version).map_err(BenchError::codec)?;
    let size = u32::try_from(out.len() - 4)
        .map_err(|_| BenchError::Refused("a request of more than 4 GiB".to_owned()))?;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Ok(out.to_vec())
}

/// Numbers a request that [`encode`] made.
pub fn set_correlation_id(request: &mut [u8], id: i32) {
    request[CORRELATION_ID_AT..CORRELATION_ID_AT + 4].copy_from_slice(&id.to_be_bytes());
}
