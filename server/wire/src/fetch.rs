//! Fetch, v4 to v18: the request, and an answer whose records are sent by someone else.
//!
//! An answer is framed as [`Part`]s in the order of the wire: bytes that are encoded here, and gaps that say
//! which partition's records belong there and how long they are. So the size in front is exact before the
//! first byte leaves, and records go from the cache to the socket without passing through here.
//!
//! Versions, after Kafka's FetchRequest.json and FetchResponse.json: v5 adds log start offsets, v7 sessions
//! (KIP-227), v9 the leader epoch, v11 racks and preferred replicas, v12 is the first flexible one and has
//! diverging epochs, v13 topic ids, v15 the replica's state, v16 endpoints, v17 directory ids, v18 the
//! follower's high watermark.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::frame::{SIZE_BYTES, put_response_header};
use crate::leaders::{LeaderIdAndEpoch, NodeEndpoint, put_tagged_endpoints, put_tagged_leader};
use crate::primitives::{
    ParseError, Problem, Reader, put_array_count, put_no_tagged_fields, put_string, put_unsigned_varint,
};
use crate::produce::{count, skip_tags, topic_key};

/// What is served.
pub const VERSIONS: RangeInclusive<i16> = 4..=18;

const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;

/// A Fetch request. Kafka: FetchRequest v4–v18.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The cluster that the peer believes it talks to.
    pub cluster_id: Option<StrBytes>,
    /// The follower's broker id; −1 for a consumer.
    pub replica_id: i32,
    /// The follower's epoch, −1 where there is none.
    pub replica_epoch: i64,
    /// How long the answer may wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How many bytes are worth an answer.
    pub min_bytes: i32,
    /// How many bytes the answer should have at most.
    pub max_bytes: i32,
    /// 0: everything below the high watermark, 1: below the last stable offset.
    pub isolation_level: i8,
    /// The session, 0 if there is none.
    pub session_id: i32,
    /// The session's epoch: 0 asks for a new session, −1 for none.
    pub session_epoch: i32,
    /// Topics in the order in which they are to be served.
    pub topics: Vec<FetchTopic>,
    /// What the session should forget.
    pub forgotten: Vec<ForgottenTopic>,
    /// The consumer's rack, empty if unknown.
    pub rack_id: StrBytes,
}

/// One topic of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic's name; empty from v13 on.
    pub name: StrBytes,
    /// The topic's id; nil below v13.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's index.
    pub index: i32,
    /// The epoch in which the client believes it is led, −1 if it does not care.
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the last record that the client has, −1 if unknown.
    pub last_fetched_epoch: i32,
    /// Where a follower's log begins; −1 for a consumer.
    pub log_start_offset: i64,
    /// How many bytes of this partition the answer should have at most.
    pub max_bytes: i32,
    /// The follower's directory; nil if unknown.
    pub replica_directory_id: Uuid,
    /// The high watermark that the follower knows; `i64::MAX` if it does not say.
    pub high_watermark: i64,
}

/// Partitions that a session should forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic's name; empty from v13 on.
    pub name: StrBytes,
    /// The topic's id; nil below v13.
    pub id: Uuid,
    /// The partitions' indexes.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// Reads the body of a Fetch request.
    ///
    /// # Panics
    /// If `version` is not one of [`VERSIONS`]; the caller has looked.
    pub fn parse(body: &Bytes, version: i16) -> Result<Self, ParseError> {
        assert!(VERSIONS.contains(&version), "Fetch v{version} is not served");
        let flexible = version >= FLEXIBLE_FROM;
        let mut reader = Reader::new(body);
        let mut elements = 0;
        let mut request = Self {
            cluster_id: None,
            replica_id: if version <= 14 { reader.int32("replica_id")? } else { -1 },
            replica_epoch: -1,
            max_wait_ms: reader.int32("max_wait_ms")?,
            min_bytes: reader.int32("min_bytes")?,
            max_bytes: reader.int32("max_bytes")?,
            isolation_level: reader.int8("isolation_level")?,
            session_id: if version >= 7 { reader.int32("session_id")? } else { 0 },
            session_epoch: if version >= 7 { reader.int32("session_epoch")? } else { -1 },
            topics: parse_topics(&mut reader, version, flexible, &mut elements)?,
            forgotten: match version {
                7.. => parse_forgotten(&mut reader, version, flexible, &mut elements)?,
                _ => Vec::new(),
            },
            rack_id: if version >= 11 { reader.string("rack_id", flexible)? } else { StrBytes::new() },
        };
        if flexible {
            reader.tagged_fields(|tag, reader| request.read_tag(tag, reader, version))?;
        }
        Ok(request)
    }

    fn read_tag(&mut self, tag: u32, reader: &mut Reader<'_>, version: i16) -> Result<bool, ParseError> {
        match tag {
            0 => self.cluster_id = reader.nullable_string("cluster_id", true)?,
            1 if version >= 15 => {
                self.replica_id = reader.int32("replica_id")?;
                self.replica_epoch = reader.int64("replica_epoch")?;
                reader.skip_tagged_fields()?;
            }
            1 => return Err(reader.error("replica_state", Problem::UnexpectedTag { tag })),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn parse_topics(
    reader: &mut Reader<'_>,
    version: i16,
    flexible: bool,
    elements: &mut usize,
) -> Result<Vec<FetchTopic>, ParseError> {
    let topic_count = count(reader, "topics", flexible, topic_bytes_min(version), elements)?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let (name, id) = topic_key(reader, version, TOPIC_IDS_FROM, flexible)?;
        let partition_count = count(reader, "partitions", flexible, partition_bytes_min(version), elements)?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(parse_partition(reader, version, flexible)?);
        }
        skip_tags(reader, flexible)?;
        topics.push(FetchTopic { name, id, partitions });
    }
    Ok(topics)
}

fn parse_partition(
    reader: &mut Reader<'_>,
    version: i16,
    flexible: bool,
) -> Result<FetchPartition, ParseError> {
    let mut partition = FetchPartition {
        index: reader.int32("partition")?,
        current_leader_epoch: if version >= 9 { reader.int32("current_leader_epoch")? } else { -1 },
        fetch_offset: reader.int64("fetch_offset")?,
        last_fetched_epoch: if version >= 12 { reader.int32("last_fetched_epoch")? } else { -1 },
        log_start_offset: if version >= 5 { reader.int64("log_start_offset")? } else { -1 },
        max_bytes: reader.int32("partition_max_bytes")?,
        replica_directory_id: Uuid::nil(),
        high_watermark: i64::MAX,
    };
    if flexible {
        reader.tagged_fields(|tag, reader| {
            match tag {
                0 if version >= 17 => partition.replica_directory_id = reader.uuid("replica_directory_id")?,
                1 if version >= 18 => partition.high_watermark = reader.int64("high_watermark")?,
                0 | 1 => return Err(reader.error("tagged field", Problem::UnexpectedTag { tag })),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
    }
    Ok(partition)
}

fn parse_forgotten(
    reader: &mut Reader<'_>,
    version: i16,
    flexible: bool,
    elements: &mut usize,
) -> Result<Vec<ForgottenTopic>, ParseError> {
    let topic_count = count(reader, "forgotten_topics_data", flexible, topic_bytes_min(version), elements)?;
    let mut forgotten = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let (name, id) = topic_key(reader, version, TOPIC_IDS_FROM, flexible)?;
        let partition_count = count(reader, "partitions", flexible, 4, elements)?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(reader.int32("partition")?);
        }
        skip_tags(reader, flexible)?;
        forgotten.push(ForgottenTopic { name, id, partitions });
    }
    Ok(forgotten)
}

fn topic_bytes_min(version: i16) -> usize {
    match version {
        TOPIC_IDS_FROM.. => 18,
        FLEXIBLE_FROM.. => 3,
        _ => 6,
    }
}

fn partition_bytes_min(version: i16) -> usize {
    match version {
        12.. => 33,
        9.. => 28,
        5.. => 24,
        _ => 16,
    }
}

/// The answer to a Fetch request, without its records. Kafka: FetchResponse v4–v18.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// How long the client is throttled.
    pub throttle_time_ms: i32,
    /// An error of the session as a whole; not sent below v7.
    pub error_code: i16,
    /// The session, 0 for none; not sent below v7.
    pub session_id: i32,
    /// The topics.
    pub topics: Vec<FetchTopicResponse>,
    /// Addresses of the leaders named by partitions whose leader is elsewhere; from v16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopicResponse {
    /// The topic's name; not sent from v13 on.
    pub name: StrBytes,
    /// The topic's id; not sent below v13.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// One partition of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionResponse {
    /// The partition's index.
    pub index: i32,
    /// Kafka's error code; 0 for none.
    pub error_code: i16,
    /// Below it everything is visible; −1 with an error.
    pub high_watermark: i64,
    /// Below it every transaction is decided; −1 with an error.
    pub last_stable_offset: i64,
    /// Where the partition begins; −1 with an error. From v5 on.
    pub log_start_offset: i64,
    /// Where a follower's log departs from ours. From v12 on.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// The leader, if it is elsewhere. From v12 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// The snapshot to fetch instead. From v12 on; only of the metadata log.
    pub snapshot_id: Option<EpochEndOffset>,
    /// Transactions to be left out, for read_committed; `None` (null) for read_uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// A replica that is nearer, −1 for none. From v11 on.
    pub preferred_read_replica: i32,
    /// How many bytes of records follow. Nothing is 0, never null: librdkafka takes null for an error.
    pub records_bytes: usize,
}

/// An epoch and the offset behind its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch.
    pub epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

/// An aborted transaction that the answer's records contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first record.
    pub first_offset: i64,
}

impl FetchPartitionResponse {
    /// An answer that says only what went wrong.
    pub fn error(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records_bytes: 0,
        }
    }
}

/// A stretch of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes to be sent as they are.
    Bytes(Bytes),
    /// The records of one partition, `bytes` long, more than 0.
    Records {
        /// Index into [`FetchResponse::topics`].
        topic: usize,
        /// Index into that topic's partitions.
        partition: usize,
        /// How many bytes.
        bytes: usize,
    },
}

/// A framed answer: its parts in order, and their sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedFetch {
    /// In the order of the wire; the first is [`Part::Bytes`] and begins with the size.
    pub parts: Vec<Part>,
    /// The sum of all parts, with the four bytes of the size.
    pub bytes: usize,
}

impl FetchResponse {
    /// Frames the answer, from its size on.
    ///
    /// # Panics
    /// If the answer is longer than an INT32 can say; the fetch path's own bounds are far below.
    pub fn frame(&self, version: i16, correlation_id: i32) -> FramedFetch {
        let flexible = version >= FLEXIBLE_FROM;
        let mut framer = Framer { out: BytesMut::with_capacity(self.bytes_expected()), gaps: Vec::new() };
        framer.out.put_i32(0);
        put_response_header(&mut framer.out, ApiKey::Fetch, version, correlation_id);
        framer.out.put_i32(self.throttle_time_ms);
        if version >= 7 {
            framer.out.put_i16(self.error_code);
            framer.out.put_i32(self.session_id);
        }
        put_array_count(&mut framer.out, self.topics.len(), flexible);
        for (topic_index, topic) in self.topics.iter().enumerate() {
            if version >= TOPIC_IDS_FROM {
                framer.out.put_slice(topic.id.as_bytes());
            } else {
                put_string(&mut framer.out, Some(&topic.name), flexible);
            }
            put_array_count(&mut framer.out, topic.partitions.len(), flexible);
            for (partition_index, partition) in topic.partitions.iter().enumerate() {
                partition.put_before_records(&mut framer.out, version, flexible);
                framer.gap(topic_index, partition_index, partition.records_bytes);
                partition.put_after_records(&mut framer.out, flexible);
            }
            put_no_tagged_fields(&mut framer.out, flexible);
        }
        match version {
            16.. => put_tagged_endpoints(&mut framer.out, &self.node_endpoints),
            _ => put_no_tagged_fields(&mut framer.out, flexible),
        }
        framer.finish()
    }

    /// Enough for an answer without errors, so that it is allocated once.
    fn bytes_expected(&self) -> usize {
        self.topics.iter().map(|topic| 24 + topic.name.len() + 56 * topic.partitions.len()).sum::<usize>()
            + 32
    }
}

impl FetchPartitionResponse {
    fn put_before_records(&self, out: &mut BytesMut, version: i16, flexible: bool) {
        out.put_i32(self.index);
        out.put_i16(self.error_code);
        out.put_i64(self.high_watermark);
        out.put_i64(self.last_stable_offset);
        if version >= 5 {
            out.put_i64(self.log_start_offset);
        }
        match &self.aborted_transactions {
            None if flexible => out.put_u8(0),
            None => out.put_i32(-1),
            Some(transactions) => {
                put_array_count(out, transactions.len(), flexible);
                for transaction in transactions {
                    out.put_i64(transaction.producer_id);
                    out.put_i64(transaction.first_offset);
                    put_no_tagged_fields(out, flexible);
                }
            }
        }
        if version >= 11 {
            out.put_i32(self.preferred_read_replica);
        }
        let records_bytes = u32::try_from(self.records_bytes).expect("a fetch is bounded far below 2 GiB");
        match flexible {
            true => put_unsigned_varint(out, records_bytes + 1),
            false => out.put_u32(records_bytes),
        }
    }

    fn put_after_records(&self, out: &mut BytesMut, flexible: bool) {
        if !flexible {
            return;
        }
        let tags =
            [self.diverging_epoch.is_some(), self.current_leader.is_some(), self.snapshot_id.is_some()];
        out.put_u8(tags.into_iter().map(u8::from).sum());
        if let Some(diverging) = self.diverging_epoch {
            out.put_slice(&[0, 13]);
            out.put_i32(diverging.epoch);
            out.put_i64(diverging.end_offset);
            out.put_u8(0);
        }
        if let Some(leader) = self.current_leader {
            put_tagged_leader(out, 1, leader);
        }
        if let Some(snapshot) = self.snapshot_id {
            out.put_slice(&[2, 13]);
            out.put_i64(snapshot.end_offset);
            out.put_i32(snapshot.epoch);
            out.put_u8(0);
        }
    }
}

/// Bytes written so far, and where records go between them.
struct Framer {
    out: BytesMut,
    /// (position in `out`, the gap). Invariant: positions grow.
    gaps: Vec<(usize, Part)>,
}

impl Framer {
    fn gap(&mut self, topic: usize, partition: usize, bytes: usize) {
        if bytes > 0 {
            self.gaps.push((self.out.len(), Part::Records { topic, partition, bytes }));
        }
    }

    fn finish(mut self) -> FramedFetch {
        let records_bytes: usize = self
            .gaps
            .iter()
            .map(|(_, gap)| match gap {
                Part::Records { bytes, .. } => *bytes,
                Part::Bytes(_) => 0,
            })
            .sum();
        let bytes = self.out.len() + records_bytes;
        let size = i32::try_from(bytes - SIZE_BYTES).expect("an answer is shorter than 2 GiB");
        self.out[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        let encoded = self.out.freeze();
        let mut parts = Vec::with_capacity(2 * self.gaps.len() + 1);
        let mut start = 0;
        for (position, gap) in self.gaps {
            parts.push(Part::Bytes(encoded.slice(start..position)));
            parts.push(gap);
            start = position;
        }
        parts.push(Part::Bytes(encoded.slice(start..)));
        FramedFetch { parts, bytes }
    }
}

#[cfg(test)]
mod tests;
