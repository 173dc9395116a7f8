//! Batches that the broker writes itself: records of the internal topics, and control batches.

use bytes::Bytes;
use uuid::Uuid;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};

use super::check::{CheckedBatches, ProducerStamp, summarize};
use super::header::{BatchHeader, CONTROL_BIT, CRC_START, HEADER_BYTES, TRANSACTIONAL_BIT, checksum};
use super::records::{ControlType, Header};
use super::varint;
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// Builds one uncompressed batch.
///
/// ```
/// use flumen_engine::Timestamp;
/// use flumen_engine::batch::{BatchBuilder, records};
///
/// let mut builder = BatchBuilder::new();
/// builder.append(Timestamp(1_700_000_000_000), Some(b"key"), Some(b"value"), &[]);
/// let batch = builder.build();
/// let record = records(&batch).unwrap().next().unwrap().unwrap();
/// assert_eq!(record.value, Some(&b"value"[..]));
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    /// The header's room, then the records.
    buffer: Vec<u8>,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    base_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
    records: i32,
    attributes: i16,
    producer: Option<ProducerStamp>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without records, at offset 0, of no epoch and no producer.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; HEADER_BYTES],
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            base_timestamp: None,
            max_timestamp: Timestamp(-1),
            records: 0,
            attributes: 0,
            producer: None,
        }
    }

    /// A control batch of one record.
    pub fn control(timestamp: Timestamp, record: &ControlRecord) -> Self {
        let mut builder = Self::new();
        builder.attributes |= CONTROL_BIT;
        let (key, value) = (record.key(), record.value());
        builder.append(timestamp, Some(&key), Some(&value), &[]);
        builder
    }

    /// The offset of the first record; an appending leader overwrites it.
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// The leader epoch; an appending leader overwrites it.
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// The idempotent producer that the batch is of.
    pub fn producer(mut self, producer: ProducerStamp) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Marks the batch as part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Appends a record behind the others.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.0.wrapping_sub(base.0);
        let offset_delta = i64::from(self.records);
        let header_bytes: usize =
            headers.iter().map(|header| field_length(Some(header.key)) + field_length(header.value)).sum();
        let length = 1
            + varint::length(timestamp_delta)
            + varint::length(offset_delta)
            + field_length(key)
            + field_length(value)
            + varint::length(headers.len() as i64)
            + header_bytes;
        varint::write(&mut self.buffer, length as i64);
        self.buffer.push(0);
        varint::write(&mut self.buffer, timestamp_delta);
        varint::write(&mut self.buffer, offset_delta);
        self.field(key);
        self.field(value);
        varint::write(&mut self.buffer, headers.len() as i64);
        for header in headers {
            self.field(Some(header.key));
            self.field(header.value);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.records += 1;
    }

    /// How many records there are.
    pub fn records(&self) -> usize {
        self.records as usize
    }

    /// How many bytes the batch has so far, its header included.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes of the batch.
    ///
    /// # Panics
    /// If no record was appended, or the batch passes 2 GiB.
    pub fn build(self) -> Bytes {
        self.finish().into()
    }

    /// The batch as one that needs no check.
    ///
    /// # Panics
    /// As [`BatchBuilder::build`].
    pub fn build_checked(self) -> CheckedBatches {
        CheckedBatches::from_internal(vec![self])
    }

    fn field(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => varint::write(&mut self.buffer, -1),
            Some(bytes) => {
                varint::write(&mut self.buffer, bytes.len() as i64);
                self.buffer.extend_from_slice(bytes);
            }
        }
    }

    fn finish(self) -> Vec<u8> {
        assert!(self.records > 0, "a batch holds at least one record");
        let mut buffer = self.buffer;
        let length = i32::try_from(buffer.len() - 12).expect("a batch is smaller than 2 GiB");
        let producer = self.producer;
        let mut header = BatchHeader {
            base_offset: I64::new(self.base_offset.0),
            length: I32::new(length),
            partition_leader_epoch: I32::new(self.leader_epoch.0),
            magic: 2,
            crc: U32::new(0),
            attributes: I16::new(self.attributes),
            last_offset_delta: I32::new(self.records - 1),
            base_timestamp: I64::new(self.base_timestamp.map_or(-1, |timestamp| timestamp.0)),
            max_timestamp: I64::new(self.max_timestamp.0),
            producer_id: I64::new(producer.map_or(-1, |producer| producer.id.0)),
            producer_epoch: I16::new(producer.map_or(-1, |producer| producer.epoch.0)),
            base_sequence: I32::new(producer.map_or(-1, |producer| producer.base_sequence)),
            records: I32::new(self.records),
        };
        buffer[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        header.crc = U32::new(checksum(&buffer[CRC_START..]));
        buffer[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        buffer
    }
}

impl CheckedBatches {
    /// Batches that the broker built itself, end to end, in order.
    ///
    /// # Panics
    /// If there is none, or one has no record.
    pub fn from_internal(builders: Vec<BatchBuilder>) -> Self {
        let mut bytes = Vec::new();
        let mut summaries = Vec::with_capacity(builders.len());
        for builder in builders {
            let position = bytes.len();
            let batch = builder.finish();
            let header = BatchHeader::parse(&batch).expect("a built batch has a sound header");
            let walk = !header.is_control();
            summaries
                .push(summarize(header, position, &batch, walk).expect("a built batch has sound records"));
            if bytes.is_empty() {
                bytes = batch;
            } else {
                bytes.extend_from_slice(&batch);
            }
        }
        Self::from_parts(bytes.into(), summaries)
    }
}

/// Bytes of a nullable field with its length in front.
fn field_length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::length(bytes.len() as i64) + bytes.len())
}

/// What a control batch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlRecord {
    /// A transaction of the batch's producer ended. Kafka: `EndTransactionMarker`, version 0.
    EndTransaction {
        /// Committed, or aborted.
        commit: bool,
        /// The epoch of the coordinator that decided.
        coordinator_epoch: i32,
    },
    /// Kafka: `LeaderChangeMessage`, version 0 without and 1 with directory ids (KIP-853).
    LeaderChange {
        /// The leader's node id.
        leader: i32,
        /// All voters.
        voters: Vec<Voter>,
        /// Those that voted for it.
        granting_voters: Vec<Voter>,
    },
    /// Kafka: `SnapshotHeaderRecord`, version 0.
    SnapshotHeader {
        /// Append time of the last record that the snapshot contains.
        last_contained_log_timestamp: Timestamp,
    },
    /// Kafka: `SnapshotFooterRecord`, version 0.
    SnapshotFooter,
    /// Kafka: `KRaftVersionRecord`, version 0.
    KraftVersion {
        /// `kraft.version`.
        version: i16,
    },
}

/// A voter of the KRaft quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voter {
    /// Its node id.
    pub id: i32,
    /// Its metadata directory; all voters of a record have one, or none has.
    pub directory: Option<Uuid>,
}

impl ControlRecord {
    /// Which type it is.
    pub fn control_type(&self) -> ControlType {
        match self {
            Self::EndTransaction { commit: true, .. } => ControlType::Commit,
            Self::EndTransaction { commit: false, .. } => ControlType::Abort,
            Self::LeaderChange { .. } => ControlType::LeaderChange,
            Self::SnapshotHeader { .. } => ControlType::SnapshotHeader,
            Self::SnapshotFooter => ControlType::SnapshotFooter,
            Self::KraftVersion { .. } => ControlType::KraftVersion,
        }
    }

    /// The record's key: version 0 and type.
    fn key(&self) -> [u8; 4] {
        let [high, low] = self.control_type().number().to_be_bytes();
        [0, 0, high, low]
    }

    /// The record's value. All but the transaction marker are flexible messages: compact arrays, and an empty
    /// set of tagged fields (one zero byte) behind each structure.
    fn value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::EndTransaction { coordinator_epoch, .. } => {
                out.extend_from_slice(&0i16.to_be_bytes());
                out.extend_from_slice(&coordinator_epoch.to_be_bytes());
            }
            Self::LeaderChange { leader, voters, granting_voters } => {
                let version = i16::from(voters.iter().any(|voter| voter.directory.is_some()));
                out.extend_from_slice(&version.to_be_bytes());
                out.extend_from_slice(&leader.to_be_bytes());
                write_voters(&mut out, voters, version);
                write_voters(&mut out, granting_voters, version);
                out.push(0);
            }
            Self::SnapshotHeader { last_contained_log_timestamp } => {
                out.extend_from_slice(&0i16.to_be_bytes());
                out.extend_from_slice(&last_contained_log_timestamp.0.to_be_bytes());
                out.push(0);
            }
            Self::SnapshotFooter => {
                out.extend_from_slice(&0i16.to_be_bytes());
                out.push(0);
            }
            Self::KraftVersion { version } => {
                out.extend_from_slice(&0i16.to_be_bytes());
                out.extend_from_slice(&version.to_be_bytes());
                out.push(0);
            }
        }
        out
    }
}

fn write_voters(out: &mut Vec<u8>, voters: &[Voter], version: i16) {
    assert!(voters.len() < 127, "the length of the array fits one byte");
    out.push(voters.len() as u8 + 1);
    for voter in voters {
        out.extend_from_slice(&voter.id.to_be_bytes());
        if version >= 1 {
            out.extend_from_slice(voter.directory.unwrap_or(Uuid::nil()).as_bytes());
        }
        out.push(0);
    }
}
