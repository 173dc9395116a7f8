//! The 61-byte header of a batch: read without a copy, rewritten in place.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::check::Codec;
use super::error::BatchError;
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// Bytes of a batch's header.
pub const HEADER_BYTES: usize = 61;
/// Bytes of base offset and length, which the length field does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The smallest batch: a header without records (compaction leaves such behind).
pub const BATCH_BYTES_MIN: usize = HEADER_BYTES;
/// Where the CRC's range begins.
pub(super) const CRC_START: usize = 21;
/// The smallest length field that Kafka takes for any magic (`LegacyRecord.RECORD_OVERHEAD_V0`).
const LENGTH_MIN_ANY_MAGIC: i32 = 14;

pub(super) const CODEC_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;

/// A batch's header as it lies in the log; big-endian, without alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    /// Offset of the first record that the batch was written with.
    pub base_offset: I64,
    /// Bytes behind this field.
    pub length: I32,
    /// Epoch of the leader that appended it; −1 from a client.
    pub partition_leader_epoch: I32,
    /// 2.
    pub magic: i8,
    /// CRC-32C of everything behind this field.
    pub crc: U32,
    /// Codec (bits 0–2), LogAppendTime (3), transactional (4), control (5), delete horizon (6).
    pub attributes: I16,
    /// Offset of the last record minus the base offset; kept by compaction.
    pub last_offset_delta: I32,
    /// Timestamp that the records' deltas refer to; the delete horizon where bit 6 is set.
    pub base_timestamp: I64,
    /// The largest timestamp; the append time where bit 3 is set.
    pub max_timestamp: I64,
    /// −1 without idempotence.
    pub producer_id: I64,
    /// −1 without idempotence.
    pub producer_epoch: I16,
    /// Sequence of the first record; −1 without idempotence.
    pub base_sequence: I32,
    /// How many records are in the batch now.
    pub records: I32,
}

const _: () = assert!(size_of::<BatchHeader>() == HEADER_BYTES);

impl BatchHeader {
    /// The header of the batch that starts at `bytes[0]`, if that batch is whole, of magic 2 and at least as
    /// long as a header. Neither the CRC nor the records are looked at.
    pub fn parse(bytes: &[u8]) -> Result<&Self, BatchError> {
        let whole = Self::whole_length(bytes)?.ok_or(BatchError::NoBatch { length: bytes.len() })?;
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::OldMagic { magic });
        }
        if whole < HEADER_BYTES {
            return Err(BatchError::InvalidLength { length: (whole - LOG_OVERHEAD_BYTES) as i32 });
        }
        let (header, _) = Self::ref_from_prefix(bytes).expect("a whole batch has at least 61 bytes");
        Ok(header)
    }

    /// The length in bytes of the batch at the start of `bytes`, of any magic that exists; `None` if the bytes
    /// end before it does. As Kafka's `ByteBufferLogInputStream.nextBatchSize`.
    fn whole_length(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
        let Some(prefix) = bytes.get(..LOG_OVERHEAD_BYTES) else { return Ok(None) };
        let length = i32::from_be_bytes(prefix[8..].try_into().expect("four bytes"));
        if length < LENGTH_MIN_ANY_MAGIC {
            return Err(BatchError::InvalidLength { length });
        }
        let Some(&magic) = bytes.get(16) else { return Ok(None) };
        let magic = magic as i8;
        if !(0..=2).contains(&magic) {
            return Err(BatchError::InvalidMagic { magic });
        }
        let whole = LOG_OVERHEAD_BYTES + length as usize;
        Ok((whole <= bytes.len()).then_some(whole))
    }

    /// The magic of the whole message of an old format, 0 or 1, that starts at `bytes[0]`, if its checksum holds: of
    /// what a crash left torn, zeros may stand where a magic is looked for.
    pub(crate) fn sound_old_magic(bytes: &[u8]) -> Option<i8> {
        let length = Self::whole_length(bytes).ok().flatten()?;
        let stored = u32::from_be_bytes(bytes[12..16].try_into().expect("four bytes"));
        let magic = bytes[16] as i8;
        (magic < 2 && crc_fast::crc32_iso_hdlc(&bytes[16..length]) == stored).then_some(magic)
    }

    /// The batch's length in bytes, this header included.
    pub fn batch_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + self.length.get().max(0) as usize
    }

    /// The offset of the first record that it was written with.
    pub fn base_offset(&self) -> Offset {
        Offset(self.base_offset.get())
    }

    /// The offset of the last record that it was written with. Wraps on nonsense, as Java does.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.get().wrapping_add(i64::from(self.last_offset_delta.get())))
    }

    /// The epoch that is stamped into it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.partition_leader_epoch.get())
    }

    /// The largest timestamp in it, as the header says.
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp.get())
    }

    /// Whether it is a control batch.
    pub fn is_control(&self) -> bool {
        self.attributes.get() & CONTROL_BIT != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes.get() & TRANSACTIONAL_BIT != 0
    }

    /// Whether its records are compressed.
    pub fn is_compressed(&self) -> bool {
        self.attributes.get() & CODEC_MASK != 0
    }

    /// Whether its records' time is that of the append, in `max_timestamp`.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes.get() & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the CRC is that of the batch; `batch` begins with this header and is whole.
    pub fn verify(&self, batch: &[u8]) -> Result<(), BatchError> {
        let stored = self.crc.get();
        let computed = checksum(&batch[CRC_START..self.batch_bytes()]);
        if stored == computed { Ok(()) } else { Err(BatchError::Checksum { stored, computed }) }
    }

    /// Sets the timestamp type and the maximum, and makes the CRC right again without reading the records:
    /// a CRC is linear, so the change of the header's part is moved behind `body_bytes` and added.
    pub(super) fn stamp(&mut self, log_append_time: bool, max_timestamp: Timestamp) {
        let mut attributes = self.attributes.get() & !LOG_APPEND_TIME_BIT;
        if log_append_time {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        if attributes == self.attributes.get() && max_timestamp == self.max_timestamp() {
            return;
        }
        let body_bytes = (self.batch_bytes() - HEADER_BYTES) as u64;
        let before = u64::from(checksum(&self.as_bytes()[CRC_START..]));
        self.attributes = I16::new(attributes);
        self.max_timestamp = I64::new(max_timestamp.0);
        let after = u64::from(checksum(&self.as_bytes()[CRC_START..]));
        let change = crc_fast::checksum_combine(Crc32Iscsi, before, 0, body_bytes)
            ^ crc_fast::checksum_combine(Crc32Iscsi, after, 0, body_bytes);
        self.crc = U32::new(self.crc.get() ^ change as u32);
    }
}

/// CRC-32C, as every checksum of a batch.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Makes a header right again whose records were put under another codec: `bytes` is the header of a batch with
/// other records behind it. Sets the length, the codec, the largest timestamp if one is given, and the CRC.
pub fn seal(bytes: &mut [u8], codec: Codec, max_timestamp: Option<Timestamp>) -> Result<(), BatchError> {
    let length = bytes.len().saturating_sub(LOG_OVERHEAD_BYTES);
    let sealed = i32::try_from(length).ok().zip(BatchHeader::mut_from_prefix(bytes).ok());
    let Some((length, (header, _))) = sealed else { return Err(BatchError::NoBatch { length }) };
    header.length = I32::new(length);
    header.attributes = I16::new(header.attributes.get() & !CODEC_MASK | codec.attributes());
    if let Some(max_timestamp) = max_timestamp {
        header.max_timestamp = I64::new(max_timestamp.0);
    }
    let crc = checksum(&bytes[CRC_START..]);
    bytes[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// The whole batches at the start of `bytes`, each with its header. Ends at the first byte that belongs to no
/// whole batch; an error ends it too. The CRCs are not looked at.
pub fn batches(bytes: &[u8]) -> impl Iterator<Item = Result<(&BatchHeader, &[u8]), BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(BatchError::NoBatch { .. }) => return None,
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        let (batch, behind) = rest.split_at(header.batch_bytes());
        rest = behind;
        Some(Ok((header, batch)))
    })
}
