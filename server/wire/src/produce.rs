//! Produce, v3 to v13: the request borrowed from its body, and the answer.
//!
//! A request's records stay where the socket put them: each partition gets a [`Bytes`] that shares the
//! body's memory, so the body lives until the last of its batches is stored.
//!
//! Versions, after Kafka's ProduceRequest.json and ProduceResponse.json: v5 adds the log start offset to the
//! answer, v8 record errors and a message, v9 is the first flexible one, v10 adds the leader and endpoints
//! as tagged fields, v13 has topic ids in the place of names. v0 to v2 are advertised, since older clients
//! look for them before they compress (KAFKA-18659), but a request in one of them ends the connection.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::frame::put_response;
use crate::leaders::{LeaderIdAndEpoch, NodeEndpoint, put_tagged_endpoints, put_tagged_leader};
use crate::primitives::{
    ELEMENTS_MAX, ParseError, Problem, Reader, put_array_count, put_no_tagged_fields, put_string,
};

/// What is served.
pub const VERSIONS: RangeInclusive<i16> = 3..=13;
/// What ApiVersions says is served.
pub const ADVERTISED: RangeInclusive<i16> = 0..=13;

const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;

/// A Produce request. Kafka: ProduceRequest v3–v13.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// Set by a transactional producer.
    pub transactional_id: Option<StrBytes>,
    /// 0: no answer, 1: the leader has it, −1: every in-sync replica has it. Other numbers are the
    /// handler's to refuse.
    pub acks: i16,
    /// How long the producer waits for replicas.
    pub timeout_ms: i32,
    /// The topics, in the request's order; one may come more than once.
    pub topics: Vec<ProduceTopic>,
}

/// One topic of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// The topic's name; empty from v13 on.
    pub name: StrBytes,
    /// The topic's id; nil below v13.
    pub id: Uuid,
    /// Its partitions, in the request's order.
    pub partitions: Vec<ProducePartition>,
}

/// One partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition's index.
    pub index: i32,
    /// The record batches as they came, sharing the body's memory; `None` if the peer sent null.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Reads the body of a Produce request.
    ///
    /// # Panics
    /// If `version` is not one of [`VERSIONS`]; the caller has looked.
    pub fn parse(body: &Bytes, version: i16) -> Result<Self, ParseError> {
        assert!(VERSIONS.contains(&version), "Produce v{version} is not served");
        let flexible = version >= FLEXIBLE_FROM;
        let mut reader = Reader::new(body);
        let mut elements = 0;
        let transactional_id = reader.nullable_string("transactional_id", flexible)?;
        let acks = reader.int16("acks")?;
        let timeout_ms = reader.int32("timeout_ms")?;
        let topic_count =
            count(&mut reader, "topic_data", flexible, topic_bytes_min(version), &mut elements)?;
        let mut topics = Vec::with_capacity(topic_count);
        for _ in 0..topic_count {
            let (name, id) = topic_key(&mut reader, version, TOPIC_IDS_FROM, flexible)?;
            let bytes_min = if flexible { 6 } else { 8 };
            let partition_count = count(&mut reader, "partition_data", flexible, bytes_min, &mut elements)?;
            let mut partitions = Vec::with_capacity(partition_count);
            for _ in 0..partition_count {
                let index = reader.int32("index")?;
                let records = reader.nullable_bytes("records", flexible)?;
                skip_tags(&mut reader, flexible)?;
                partitions.push(ProducePartition { index, records });
            }
            skip_tags(&mut reader, flexible)?;
            topics.push(ProduceTopic { name, id, partitions });
        }
        skip_tags(&mut reader, flexible)?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

fn topic_bytes_min(version: i16) -> usize {
    match version {
        TOPIC_IDS_FROM.. => 18,
        FLEXIBLE_FROM.. => 3,
        _ => 6,
    }
}

/// A topic's name or id, whichever the version has.
pub(crate) fn topic_key(
    reader: &mut Reader<'_>,
    version: i16,
    ids_from: i16,
    flexible: bool,
) -> Result<(StrBytes, Uuid), ParseError> {
    if version >= ids_from {
        Ok((StrBytes::new(), reader.uuid("topic_id")?))
    } else {
        Ok((reader.string("topic", flexible)?, Uuid::nil()))
    }
}

/// An array's count, proven to fit, and counted against [`ELEMENTS_MAX`].
pub(crate) fn count(
    reader: &mut Reader<'_>,
    what: &'static str,
    flexible: bool,
    element_bytes_min: usize,
    elements: &mut usize,
) -> Result<usize, ParseError> {
    let count = reader.array_count(what, flexible, element_bytes_min)?;
    *elements += count;
    if *elements > ELEMENTS_MAX {
        return Err(reader.error(what, Problem::ElementLimit { limit: ELEMENTS_MAX }));
    }
    Ok(count)
}

pub(crate) fn skip_tags(reader: &mut Reader<'_>, flexible: bool) -> Result<(), ParseError> {
    if flexible { reader.skip_tagged_fields() } else { Ok(()) }
}

/// The answer to a Produce request. Kafka: ProduceResponse v3–v13.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The topics.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client is throttled.
    pub throttle_time_ms: i32,
    /// Addresses of the leaders named by partitions whose leader is elsewhere; from v10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// The topic's name; not sent from v13 on.
    pub name: StrBytes,
    /// The topic's id; not sent below v13.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// One partition of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// The partition's index.
    pub index: i32,
    /// Kafka's error code; 0 for none.
    pub error_code: i16,
    /// The offset of the first record; −1 with an error.
    pub base_offset: i64,
    /// The broker's time where the topic has LogAppendTime, −1 otherwise.
    pub log_append_time_ms: i64,
    /// Where the partition begins now; −1 with an error. From v5 on.
    pub log_start_offset: i64,
    /// The records that made the batch fail, as (index in the batch, why). From v8 on.
    pub record_errors: Vec<RecordError>,
    /// What is wrong, for a person. From v8 on.
    pub error_message: Option<String>,
    /// The leader, if it is elsewhere. From v10 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
}

/// A record that made its batch fail. Kafka: BatchIndexAndErrorMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's index in its batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<String>,
}

impl ProducePartitionResponse {
    /// An answer that says only what went wrong.
    pub fn error(index: i32, error_code: i16, error_message: Option<String>) -> Self {
        Self {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message,
            current_leader: None,
        }
    }
}

impl ProduceResponse {
    /// Puts the whole answer, from its size on, behind what is there.
    pub fn put(&self, out: &mut BytesMut, version: i16, correlation_id: i32) {
        out.reserve(self.bytes_expected());
        put_response(out, ApiKey::Produce, version, correlation_id, |out| self.put_body(out, version));
    }

    fn put_body(&self, out: &mut BytesMut, version: i16) {
        let flexible = version >= FLEXIBLE_FROM;
        put_array_count(out, self.topics.len(), flexible);
        for topic in &self.topics {
            if version >= TOPIC_IDS_FROM {
                out.put_slice(topic.id.as_bytes());
            } else {
                put_string(out, Some(&topic.name), flexible);
            }
            put_array_count(out, topic.partitions.len(), flexible);
            for partition in &topic.partitions {
                partition.put(out, version, flexible);
            }
            put_no_tagged_fields(out, flexible);
        }
        out.put_i32(self.throttle_time_ms);
        match version {
            10.. => put_tagged_endpoints(out, &self.node_endpoints),
            _ => put_no_tagged_fields(out, flexible),
        }
    }

    /// Enough for an answer without errors, so that it is allocated once.
    fn bytes_expected(&self) -> usize {
        self.topics.iter().map(|topic| 24 + topic.name.len() + 40 * topic.partitions.len()).sum::<usize>()
            + 25
    }
}

impl ProducePartitionResponse {
    fn put(&self, out: &mut BytesMut, version: i16, flexible: bool) {
        out.put_i32(self.index);
        out.put_i16(self.error_code);
        out.put_i64(self.base_offset);
        out.put_i64(self.log_append_time_ms);
        if version >= 5 {
            out.put_i64(self.log_start_offset);
        }
        if version >= 8 {
            put_array_count(out, self.record_errors.len(), flexible);
            for error in &self.record_errors {
                out.put_i32(error.batch_index);
                put_string(out, error.message.as_deref(), flexible);
                put_no_tagged_fields(out, flexible);
            }
            put_string(out, self.error_message.as_deref(), flexible);
        }
        match self.current_leader {
            Some(leader) if version >= 10 => {
                out.put_u8(1);
                put_tagged_leader(out, 0, leader);
            }
            _ => put_no_tagged_fields(out, flexible),
        }
    }
}

#[cfg(test)]
mod tests;
