//! The check of what a peer sent, and what is known of a batch from then on.

use bytes::Bytes;
use zerocopy::byteorder::big_endian::{I32, I64};

use super::error::BatchError;
use super::header::{BatchHeader, CODEC_MASK, HEADER_BYTES};
use super::records::{RecordIter, records};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// What a batch must not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// `max.message.bytes`: the largest batch, its header included.
    pub max_message_bytes: u32,
}

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in Xerial's framing or raw.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110: from Produce version 7).
    Zstd,
}

impl Codec {
    /// The codec that bits 0–2 of a batch's attributes name.
    pub fn of_attributes(attributes: i16) -> Result<Self, BatchError> {
        Ok(match attributes & CODEC_MASK {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            other => return Err(BatchError::UnknownCodec { codec: other as u8 }),
        })
    }

    /// The bits that name it.
    pub(super) fn attributes(self) -> i16 {
        self as i16
    }
}

/// What the timestamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's own.
    CreateTime,
    /// The broker's clock at the append, one for the whole batch.
    LogAppendTime,
}

/// Who wrote an idempotent batch, and which of its batches it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the first record; −1 only in control batches.
    pub base_sequence: i32,
}

/// What is known of a checked batch, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSummary {
    /// Where it starts in the checked bytes.
    pub position: usize,
    /// Its length, header included.
    pub length: usize,
    /// Offset of its first record as it came: 0 from a client.
    pub base_offset: Offset,
    /// Leader epoch as it came; −1 from a client.
    pub leader_epoch: LeaderEpoch,
    /// How many offsets it takes: its last offset delta + 1. Equals `records` unless it was compacted.
    pub offsets: u32,
    /// How many records it holds.
    pub records: u32,
    /// What its timestamps mean, as it came.
    pub timestamp_type: TimestampType,
    /// The largest timestamp: of its records where they were walked, of its header otherwise; −1 for none.
    pub max_timestamp: Timestamp,
    /// The smallest timestamp that is not −1, of its records or its header as above; −1 for none.
    pub min_timestamp: Timestamp,
    /// The producer, for an idempotent batch.
    pub producer: Option<ProducerStamp>,
    /// How its records are compressed.
    pub codec: Codec,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Whether it is a control batch.
    pub control: bool,
    /// Whether a record has no key; `None` if the records are compressed and were not opened.
    pub has_keyless: Option<bool>,
}

impl BatchSummary {
    /// The offset of its last record, as it came.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + i64::from(self.offsets) - 1)
    }

    /// Whether its header says that its largest timestamp lies before its first: some clients leave that unset where
    /// they compress. Of records that were walked it is known better.
    pub fn is_misdated(&self) -> bool {
        self.codec != Codec::None
            && self.timestamp_type == TimestampType::CreateTime
            && self.max_timestamp < self.min_timestamp
    }

    /// Its range in the checked bytes.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.position..self.position + self.length
    }
}

/// What the leader writes into a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The broker's clock, where the topic says LogAppendTime.
    pub log_append_time: Option<Timestamp>,
}

/// Whole batches that were found sound, as they came, ready to be sent to their partition's core.
#[derive(Debug, Clone)]
pub struct CheckedBatches {
    bytes: Bytes,
    summaries: Summaries,
}

/// One batch, the common case, needs no allocation.
#[derive(Debug, Clone)]
enum Summaries {
    One(BatchSummary),
    Several(Vec<BatchSummary>),
}

impl CheckedBatches {
    /// The bytes of all batches, end to end, as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What is known of each, in order; never empty.
    pub fn summaries(&self) -> &[BatchSummary] {
        match &self.summaries {
            Summaries::One(summary) => std::slice::from_ref(summary),
            Summaries::Several(summaries) => summaries,
        }
    }

    /// How many offsets all of them take.
    pub fn offsets(&self) -> u64 {
        self.summaries().iter().map(|summary| u64::from(summary.offsets)).sum()
    }

    /// How many bytes all of them take, on the disk as here.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The same batch, the only one, with what its records say that were found in it: their times, and whether one of
    /// them has no key.
    ///
    /// # Panics
    /// If there are more batches than one.
    pub fn with_opened(mut self, opened: &BatchSummary) -> Self {
        let Summaries::One(summary) = &mut self.summaries else { panic!("a client sends one batch") };
        summary.max_timestamp = opened.max_timestamp;
        summary.min_timestamp = opened.min_timestamp;
        summary.has_keyless = opened.has_keyless;
        self
    }

    /// The bytes of one batch behind its header.
    pub fn body(&self, summary: &BatchSummary) -> &[u8] {
        &self.bytes[summary.position + HEADER_BYTES..summary.position + summary.length]
    }

    /// The header of one batch at its place in a log. Offset and epoch leave the CRC as it is. The timestamp
    /// type and the maximum are set as Kafka sets them, with a new CRC if that changes anything: the append
    /// time, or CreateTime and what the records really say.
    pub fn placed_header(&self, summary: &BatchSummary, placement: &Placement) -> [u8; HEADER_BYTES] {
        let mut header = *self.header(summary);
        header.base_offset = I64::new(placement.base_offset.0);
        header.partition_leader_epoch = I32::new(placement.leader_epoch.0);
        match placement.log_append_time {
            Some(now) => header.stamp(true, now),
            None => header.stamp(false, summary.max_timestamp),
        }
        zerocopy::transmute!(header)
    }

    /// The header of one batch as it came, for a log that keeps offsets and epochs as given.
    pub fn verbatim_header(&self, summary: &BatchSummary) -> [u8; HEADER_BYTES] {
        zerocopy::transmute!(*self.header(summary))
    }

    /// The records of one batch, if they are not compressed.
    pub fn records(&self, summary: &BatchSummary) -> Result<RecordIter<'_>, BatchError> {
        records(&self.bytes[summary.range()])
    }

    fn header(&self, summary: &BatchSummary) -> &BatchHeader {
        BatchHeader::parse(&self.bytes[summary.position..]).expect("a checked batch has a sound header")
    }

    pub(super) fn from_parts(bytes: Bytes, mut summaries: Vec<BatchSummary>) -> Self {
        assert!(!summaries.is_empty(), "checked batches hold at least one");
        let summaries = match summaries.len() {
            1 => Summaries::One(summaries.remove(0)),
            _ => Summaries::Several(summaries),
        };
        Self { bytes, summaries }
    }
}

/// Checks what a client sent for one partition: exactly one batch of magic 2, not too large, its CRC right,
/// numbered from 0 with as many records as offsets, no control batch, a sequence if it has a producer, and,
/// where it is not compressed, records that fill it exactly.
///
/// The order of the checks, and so which answer a batch with two faults gets, is Kafka's. Bytes behind the batch
/// that are no whole batch are cut off, as Kafka does. One check is stricter: the records' offset deltas must
/// count up from 0, which Kafka leaves to the producer.
pub fn check(records: Bytes, limits: &BatchLimits) -> Result<CheckedBatches, BatchError> {
    let header = BatchHeader::parse(&records)?;
    let length = header.batch_bytes();
    match BatchHeader::parse(&records[length..]) {
        Err(BatchError::NoBatch { .. }) => {}
        Ok(_) | Err(BatchError::OldMagic { .. }) => return Err(BatchError::MoreThanOneBatch),
        Err(error) => return Err(error),
    }
    if header.base_offset.get() != 0 {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset.get() });
    }
    check_size_and_checksum(header, &records[..length], limits)?;
    check_client_header(header)?;
    let summary = summarize(header, 0, &records[..length], true)?;
    let bytes = if length == records.len() { records } else { records.slice(..length) };
    Ok(CheckedBatches { bytes, summaries: Summaries::One(summary) })
}

/// Checks batches that keep their offsets and epochs: what a replica fetched, or what a file holds. At least one
/// whole batch of magic 2, each with a right CRC and rising offsets; a part of a batch at the end is cut off.
/// The records are not walked: their leader did.
pub fn check_verbatim(records: Bytes, limits: &BatchLimits) -> Result<CheckedBatches, BatchError> {
    let mut summaries = Vec::with_capacity(1);
    let mut position = 0;
    let mut next = i64::MIN;
    for batch in super::header::batches(&records) {
        let (header, batch) = batch?;
        check_batch_verbatim(header, batch, next, limits)?;
        next = header.last_offset().0 + 1;
        summaries.push(summarize(header, position, batch, false)?);
        position += batch.len();
    }
    if summaries.is_empty() {
        return Err(BatchError::NoBatch { length: records.len() });
    }
    let bytes = if position == records.len() { records } else { records.slice(..position) };
    Ok(CheckedBatches::from_parts(bytes, summaries))
}

/// As [`check_verbatim`], of one batch that stays where it is.
pub(crate) fn check_one_verbatim(batch: &[u8], limits: &BatchLimits) -> Result<BatchSummary, BatchError> {
    let Some(first) = super::header::batches(batch).next() else {
        return Err(BatchError::NoBatch { length: batch.len() });
    };
    let (header, batch) = first?;
    check_batch_verbatim(header, batch, 0, limits)?;
    summarize(header, 0, batch, false)
}

/// Size, checksum, and offsets that do not begin before `next`.
fn check_batch_verbatim(
    header: &BatchHeader,
    batch: &[u8],
    next: i64,
    limits: &BatchLimits,
) -> Result<(), BatchError> {
    check_size_and_checksum(header, batch, limits)?;
    let (count, delta) = (header.records.get(), header.last_offset_delta.get());
    let last = header.base_offset.get().checked_add(i64::from(delta)).filter(|last| *last < i64::MAX);
    if count < 0 || delta < 0 || count.saturating_sub(1) > delta || last.is_none() {
        return Err(BatchError::Count { records: count, last_offset_delta: delta });
    }
    if header.base_offset.get() < next.max(0) {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset.get() });
    }
    Ok(())
}

fn check_size_and_checksum(
    header: &BatchHeader,
    batch: &[u8],
    limits: &BatchLimits,
) -> Result<(), BatchError> {
    if batch.len() > limits.max_message_bytes as usize {
        return Err(BatchError::TooLarge {
            bytes: batch.len(),
            bytes_max: limits.max_message_bytes as usize,
        });
    }
    header.verify(batch)
}

/// As Kafka's `LogValidator.validateBatch` with the origin CLIENT.
fn check_client_header(header: &BatchHeader) -> Result<(), BatchError> {
    Codec::of_attributes(header.attributes.get())?;
    let (count, delta) = (header.records.get(), header.last_offset_delta.get());
    if delta < 0 || count <= 0 || i64::from(count) != i64::from(delta) + 1 {
        return Err(BatchError::Count { records: count, last_offset_delta: delta });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    let producer_id = header.producer_id.get();
    if producer_id != -1 && header.base_sequence.get() < 0 {
        return Err(BatchError::Sequence { producer_id, base_sequence: header.base_sequence.get() });
    }
    Ok(())
}

/// What is known of a batch; its uncompressed records are walked if `walk`.
pub(super) fn summarize(
    header: &BatchHeader,
    position: usize,
    batch: &[u8],
    walk: bool,
) -> Result<BatchSummary, BatchError> {
    let codec = Codec::of_attributes(header.attributes.get())?;
    let mut summary = BatchSummary {
        position,
        length: batch.len(),
        base_offset: header.base_offset(),
        leader_epoch: header.leader_epoch(),
        offsets: header.last_offset_delta.get() as u32 + 1,
        records: header.records.get() as u32,
        timestamp_type: if header.is_log_append_time() {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        },
        max_timestamp: header.max_timestamp(),
        min_timestamp: Timestamp(header.base_timestamp.get()),
        producer: (header.producer_id.get() != -1).then(|| ProducerStamp {
            id: ProducerId(header.producer_id.get()),
            epoch: ProducerEpoch(header.producer_epoch.get()),
            base_sequence: header.base_sequence.get(),
        }),
        codec,
        transactional: header.is_transactional(),
        control: header.is_control(),
        has_keyless: None,
    };
    if walk && codec == Codec::None {
        let walked = walk_records(batch)?;
        summary.max_timestamp = walked.max_timestamp;
        summary.min_timestamp = walked.min_timestamp;
        summary.has_keyless = Some(walked.has_keyless);
    }
    Ok(summary)
}

/// What only the records say.
struct Walked {
    max_timestamp: Timestamp,
    min_timestamp: Timestamp,
    has_keyless: bool,
}

/// Walks every record of an uncompressed batch: framing, and offset deltas that count up from 0.
fn walk_records(batch: &[u8]) -> Result<Walked, BatchError> {
    const NONE: Timestamp = Timestamp(-1);
    let mut walked = Walked { max_timestamp: NONE, min_timestamp: NONE, has_keyless: false };
    let mut iter = records(batch)?;
    let mut expected = 0;
    while let Some(next) = iter.next_with_delta() {
        let (delta, record) = next?;
        if delta != expected {
            let position = batch.len() - iter.bytes_left();
            return Err(BatchError::InvalidRecord { position, reason: "its offset delta does not count up" });
        }
        expected += 1;
        walked.has_keyless |= record.key.is_none();
        walked.max_timestamp = walked.max_timestamp.max(record.timestamp);
        if record.timestamp != NONE
            && (walked.min_timestamp == NONE || record.timestamp < walked.min_timestamp)
        {
            walked.min_timestamp = record.timestamp;
        }
    }
    Ok(walked)
}
