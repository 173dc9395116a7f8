//! The records inside an uncompressed batch, borrowed from it.

use super::error::BatchError;
use super::header::{BatchHeader, HEADER_BYTES};
use super::varint;
use crate::types::{Offset, Timestamp};

/// One record of a batch, borrowed from the batch's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset: the batch's base offset plus its delta.
    pub offset: Offset,
    /// Its timestamp: the batch's base plus its delta, or the append time; −1 for none.
    pub timestamp: Timestamp,
    /// `None` for null.
    pub key: Option<&'a [u8]>,
    /// `None` for null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// Its headers, in order; keys may repeat.
    pub headers: Headers<'a>,
}

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key; UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// `None` for null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, already found sound; an iterator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: usize,
}

/// The meaning of a control batch's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The end of an aborted transaction.
    Abort,
    /// The end of a committed transaction.
    Commit,
    /// KRaft: a leader began its epoch.
    LeaderChange,
    /// KRaft: a snapshot begins.
    SnapshotHeader,
    /// KRaft: a snapshot ends.
    SnapshotFooter,
    /// KRaft: the version of the quorum's protocol (KIP-853).
    KraftVersion,
    /// KRaft: the voters (KIP-853).
    KraftVoters,
    /// A type of a later Kafka.
    Unknown(i16),
}

impl ControlType {
    /// The type in a control record's key {version INT16, type INT16}; `None` if the key is too short or its
    /// version negative.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let version = i16::from_be_bytes(key.get(..2)?.try_into().expect("two bytes"));
        let number = i16::from_be_bytes(key.get(2..4)?.try_into().expect("two bytes"));
        if version < 0 {
            return None;
        }
        Some(match number {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KraftVersion,
            6 => Self::KraftVoters,
            other => Self::Unknown(other),
        })
    }

    /// The number in a control record's key.
    pub fn number(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KraftVersion => 5,
            Self::KraftVoters => 6,
            Self::Unknown(number) => number,
        }
    }
}

/// The records of the whole batch that starts at `batch[0]`. The CRC is not looked at.
///
/// Fails if there is no whole batch of magic 2, or its records are compressed.
pub fn records(batch: &[u8]) -> Result<RecordIter<'_>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.is_compressed() {
        return Err(BatchError::Compressed);
    }
    Ok(RecordIter {
        header,
        batch: &batch[..header.batch_bytes()],
        position: HEADER_BYTES,
        left: header.records.get(),
        ended: false,
    })
}

/// Iterates over the records of a batch; after an error, or after bytes that belong to no record were
/// reported as one, it ends.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    header: &'a BatchHeader,
    batch: &'a [u8],
    position: usize,
    left: i32,
    ended: bool,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.left <= 0 {
            self.ended = true;
            let sound = self.left == 0 && self.position == self.batch.len();
            return (!sound).then(|| Err(self.invalid("bytes behind the last record")));
        }
        self.left -= 1;
        match self.record() {
            Ok((_, record)) => Some(Ok(record)),
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

impl<'a> RecordIter<'a> {
    /// The next record and its offset delta; `None` at the sound end of the batch.
    pub(super) fn next_with_delta(&mut self) -> Option<Result<(i32, Record<'a>), BatchError>> {
        if self.left <= 0 || self.ended {
            return self.next().map(|end| end.map(|record| (0, record)));
        }
        self.left -= 1;
        Some(self.record())
    }

    /// Bytes that are left, at most: what bounds any count in them.
    pub(super) fn bytes_left(&self) -> usize {
        self.batch.len() - self.position
    }

    fn invalid(&self, reason: &'static str) -> BatchError {
        BatchError::InvalidRecord { position: self.position, reason }
    }

    fn record(&mut self) -> Result<(i32, Record<'a>), BatchError> {
        let length = varint::read_i32(self.batch, &mut self.position)
            .ok_or_else(|| self.invalid("its length is no integer"))?;
        let length = usize::try_from(length).map_err(|_| self.invalid("its length is negative"))?;
        if length > self.bytes_left() {
            return Err(self.invalid("it is longer than the batch"));
        }
        let end = self.position + length;
        // Nothing of this record is read behind its own end.
        let mut body = Body { bytes: &self.batch[..end], position: self.position };
        let parsed = body.parse();
        self.position = body.position;
        let (timestamp_delta, offset_delta, key, value, headers) =
            parsed.map_err(|reason| self.invalid(reason))?;
        if self.position != end {
            return Err(self.invalid("it is shorter than its length"));
        }
        let timestamp = if self.header.is_log_append_time() {
            self.header.max_timestamp()
        } else {
            Timestamp(self.header.base_timestamp.get().wrapping_add(timestamp_delta))
        };
        let offset = Offset(self.header.base_offset.get().wrapping_add(i64::from(offset_delta)));
        Ok((offset_delta, Record { offset, timestamp, key, value, headers }))
    }
}

/// The body of one record: attributes, timestamp delta, offset delta, key, value, headers.
struct Body<'a> {
    bytes: &'a [u8],
    position: usize,
}

type BodyParts<'a> = (i64, i32, Option<&'a [u8]>, Option<&'a [u8]>, Headers<'a>);

impl<'a> Body<'a> {
    fn parse(&mut self) -> Result<BodyParts<'a>, &'static str> {
        if self.position >= self.bytes.len() {
            return Err("it has no attributes");
        }
        self.position += 1;
        let timestamp_delta =
            varint::read_i64(self.bytes, &mut self.position).ok_or("its timestamp is no integer")?;
        let offset_delta =
            varint::read_i32(self.bytes, &mut self.position).ok_or("its offset delta is no integer")?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let count =
            varint::read_i32(self.bytes, &mut self.position).ok_or("its header count is no integer")?;
        let count = usize::try_from(count).map_err(|_| "its header count is negative")?;
        if count > self.bytes.len() - self.position {
            return Err("it has more headers than bytes");
        }
        let start = self.position;
        for _ in 0..count {
            self.nullable()?.ok_or("a header's key is null")?;
            self.nullable()?;
        }
        let headers = Headers { bytes: &self.bytes[start..self.position], left: count };
        Ok((timestamp_delta, offset_delta, key, value, headers))
    }

    /// Length and bytes; any negative length is null, as for Kafka.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        let length = varint::read_i32(self.bytes, &mut self.position).ok_or("a length is no integer")?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        let bytes = self
            .bytes
            .get(self.position..)
            .and_then(|rest| rest.get(..length))
            .ok_or("a field is longer than the record")?;
        self.position += length;
        Ok(Some(bytes))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut body = Body { bytes: self.bytes, position: 0 };
        let key = body.nullable().ok()??;
        let value = body.nullable().ok()?;
        self.bytes = &self.bytes[body.position..];
        Some(Header { key, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}
