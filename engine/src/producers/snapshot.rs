//! Producers on the disk: Kafka's `.snapshot`, and the engine's own form, which forgets nothing.
//!
//! ```text
//! .snapshot     version i16 = 1, CRC-32C u32 of what follows, count i32, then 46 bytes each:
//!               producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
//!               timestamp i64, coordinator epoch i32, first offset of the open transaction i64 (−1: none)
//! engine's own  count u32, then: producer id i64, epoch i16, coordinator epoch i32, timestamp i64,
//!               first offset of the open transaction i64, batches u8, and 24 bytes for each batch:
//!               last sequence i32, last offset i64, offset delta i32, timestamp i64
//! ```
//! All big-endian. Source: Kafka's `ProducerStateManager.writeSnapshot`, `ProducerSnapshot.json`.

use super::Producers;
use super::entry::{BATCHES_MAX, ProducerBatch, ProducerEntry};
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

const VERSION: i16 = 1;
const HEADER_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;
/// The smallest entry of the engine's own form.
const OWN_ENTRY_BYTES_MIN: usize = 31;

/// What is wrong with producers on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A version that is not known.
    #[error("version {version} is not 1")]
    Version {
        /// What was found.
        version: i16,
    },
    /// The CRC is not that of the entries.
    #[error("stored CRC {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// In the file.
        stored: u32,
        /// Of the file.
        computed: u32,
    },
    /// A batch where none can be.
    #[error("a batch that ends at offset {last_offset} with delta {offset_delta}: expected neither below 0")]
    Batch {
        /// The offset of its last record.
        last_offset: i64,
        /// Its last record's offset less its first one's.
        offset_delta: i32,
    },
    /// More or fewer bytes than the counts say.
    #[error("{length} bytes do not fit their counts")]
    Length {
        /// How many there are.
        length: usize,
    },
}

impl Producers {
    /// The bytes of Kafka's `.snapshot`: the last batch of each producer.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.entries.len() as i32).to_be_bytes());
        for (id, entry) in &self.entries {
            let last = entry.batches().last();
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&entry.epoch.0.to_be_bytes());
            out.extend_from_slice(&last.map_or(-1, |last| last.last_sequence).to_be_bytes());
            out.extend_from_slice(&last.map_or(-1, |last| last.last_offset.0).to_be_bytes());
            out.extend_from_slice(&last.map_or(0, |last| last.offset_delta).to_be_bytes());
            out.extend_from_slice(&entry.last_timestamp.0.to_be_bytes());
            out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            out.extend_from_slice(&entry.transaction_first.map_or(-1, |first| first.0).to_be_bytes());
        }
        let crc = crc_fast::crc32_iscsi(&out[6..]);
        out[2..6].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The producers of Kafka's `.snapshot`. Those that have expired are the caller's to remove.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader { bytes, position: 0 };
        let version = reader.i16()?;
        if version != VERSION {
            return Err(SnapshotError::Version { version });
        }
        let stored = reader.i32()? as u32;
        let computed = crc_fast::crc32_iscsi(&bytes[6..]);
        if stored != computed {
            return Err(SnapshotError::Checksum { stored, computed });
        }
        let count = reader.i32()?;
        let fits =
            usize::try_from(count).is_ok_and(|count| count.checked_mul(ENTRY_BYTES) == Some(reader.left()));
        if !fits {
            return Err(reader.error());
        }
        let mut producers = Self::default();
        for _ in 0..count {
            let id = ProducerId(reader.i64()?);
            let mut entry = ProducerEntry::new(ProducerEpoch(reader.i16()?));
            let last_sequence = reader.i32()?;
            let last_offset = Offset(reader.i64()?);
            let offset_delta = reader.i32()?;
            entry.last_timestamp = Timestamp(reader.i64()?);
            entry.coordinator_epoch = reader.i32()?;
            entry.transaction_first = Some(Offset(reader.i64()?)).filter(|first| first.0 >= 0);
            if last_offset.0 >= 0 && offset_delta >= 0 {
                let timestamp = entry.last_timestamp;
                let batch = ProducerBatch { last_sequence, last_offset, offset_delta, timestamp };
                entry.push(entry.epoch, batch);
            }
            producers.load(id, entry);
        }
        Ok(producers)
    }

    /// Appends the engine's own form to `out`: everything, with the last five batches of each.
    pub fn write_whole(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        for (id, entry) in &self.entries {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&entry.epoch.0.to_be_bytes());
            out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            out.extend_from_slice(&entry.last_timestamp.0.to_be_bytes());
            out.extend_from_slice(&entry.transaction_first.map_or(-1, |first| first.0).to_be_bytes());
            out.push(entry.batches().len() as u8);
            for batch in entry.batches() {
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.0.to_be_bytes());
                out.extend_from_slice(&batch.offset_delta.to_be_bytes());
                out.extend_from_slice(&batch.timestamp.0.to_be_bytes());
            }
        }
    }

    /// Reads the engine's own form at `*position` of `bytes`, and moves behind it. Its checksum is that of the
    /// file it lies in.
    pub fn read_whole(bytes: &[u8], position: &mut usize) -> Result<Self, SnapshotError> {
        let mut reader = Reader { bytes, position: *position };
        let count = reader.i32()? as u32 as usize;
        if count.checked_mul(OWN_ENTRY_BYTES_MIN).is_none_or(|least| least > reader.left()) {
            return Err(reader.error());
        }
        let mut producers = Self::default();
        for _ in 0..count {
            let id = ProducerId(reader.i64()?);
            let mut entry = ProducerEntry::new(ProducerEpoch(reader.i16()?));
            entry.coordinator_epoch = reader.i32()?;
            entry.last_timestamp = Timestamp(reader.i64()?);
            entry.transaction_first = Some(Offset(reader.i64()?)).filter(|first| first.0 >= 0);
            let batches = reader.take::<1>()?[0];
            if usize::from(batches) > BATCHES_MAX {
                return Err(reader.error());
            }
            for _ in 0..batches {
                let batch = ProducerBatch {
                    last_sequence: reader.i32()?,
                    last_offset: Offset(reader.i64()?),
                    offset_delta: reader.i32()?,
                    timestamp: Timestamp(reader.i64()?),
                };
                if batch.last_offset.0 < 0 || batch.offset_delta < 0 {
                    let (last_offset, offset_delta) = (batch.last_offset.0, batch.offset_delta);
                    return Err(SnapshotError::Batch { last_offset, offset_delta });
                }
                entry.push(entry.epoch, batch);
            }
            producers.load(id, entry);
        }
        *position = reader.position;
        Ok(producers)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn error(&self) -> SnapshotError {
        SnapshotError::Length { length: self.bytes.len() }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let found = self.bytes.get(self.position..).and_then(|rest| rest.first_chunk::<N>());
        let found = *found.ok_or(self.error())?;
        self.position += N;
        Ok(found)
    }

    fn i16(&mut self) -> Result<i16, SnapshotError> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, SnapshotError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, SnapshotError> {
        self.take().map(i64::from_be_bytes)
    }
}
