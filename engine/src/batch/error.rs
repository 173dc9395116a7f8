//! What can be wrong with a batch, and which of Kafka's answers it leads to.

/// What is wrong with a batch that a peer sent or a disk returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no whole batch in the bytes.
    #[error("no whole record batch in {length} bytes")]
    NoBatch {
        /// How many bytes there were.
        length: usize,
    },
    /// A produce request carries exactly one batch per partition since version 3 (KIP-98).
    #[error("more than one record batch for a partition")]
    MoreThanOneBatch,
    /// Magic 0 or 1: the formats before KIP-98.
    #[error("record batch of magic {magic}; only magic 2 is accepted")]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// A magic that no version of Kafka has written.
    #[error("invalid magic {magic} in a record batch")]
    InvalidMagic {
        /// The byte found.
        magic: i8,
    },
    /// The length field is below the smallest batch.
    #[error("record batch length {length} is less than its header")]
    InvalidLength {
        /// The length field, without the 12 bytes in front of it.
        length: i32,
    },
    /// Larger than `max.message.bytes`.
    #[error("record batch of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// The batch, header included.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The stored CRC-32C is not that of the bytes.
    #[error("record batch is corrupt: stored CRC {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The CRC in the header.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// A client numbers its records from 0; the broker assigns the offsets.
    #[error("base offset of a record batch is {base_offset}, not 0")]
    BaseOffset {
        /// The base offset found.
        base_offset: i64,
    },
    /// Record count and last offset delta disagree, or are not positive.
    #[error("record count {records} and last offset delta {last_offset_delta} disagree")]
    Count {
        /// The count field.
        records: i32,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// A client sent a control batch.
    #[error("clients may not write control batches")]
    Control,
    /// An idempotent batch without a sequence.
    #[error("invalid sequence {base_sequence} in a batch of producer {producer_id}")]
    Sequence {
        /// The producer id.
        producer_id: i64,
        /// The base sequence found.
        base_sequence: i32,
    },
    /// Bits 0–2 of the attributes name no codec.
    #[error("unknown compression codec {codec}")]
    UnknownCodec {
        /// 5, 6 or 7.
        codec: u8,
    },
    /// The records do not have the shape that their lengths promise.
    #[error("invalid record at byte {position} of a batch: {reason}")]
    InvalidRecord {
        /// Where, from the start of the batch.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The records are compressed, so they cannot be walked here.
    #[error("the records of the batch are compressed")]
    Compressed,
}

/// Kafka's answers, apart from their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchErrorKind {
    /// CORRUPT_MESSAGE (2): `CorruptRecordException`.
    Corrupt,
    /// INVALID_RECORD (87): `InvalidRecordException`.
    Invalid,
    /// MESSAGE_TOO_LARGE (10): `RecordTooLargeException`.
    TooLarge,
    /// UNKNOWN_SERVER_ERROR (−1): Kafka throws an `IllegalArgumentException` of no API meaning.
    Unknown,
}

impl BatchError {
    /// Which of Kafka's answers this is (`LogValidator`, `UnifiedLog.analyzeAndValidateRecords`,
    /// `ProduceRequest.validateRecords`).
    pub fn kind(&self) -> BatchErrorKind {
        match self {
            Self::Checksum { .. } | Self::InvalidLength { .. } | Self::InvalidMagic { .. } => {
                BatchErrorKind::Corrupt
            }
            Self::TooLarge { .. } => BatchErrorKind::TooLarge,
            Self::UnknownCodec { .. } => BatchErrorKind::Unknown,
            Self::NoBatch { .. }
            | Self::MoreThanOneBatch
            | Self::OldMagic { .. }
            | Self::BaseOffset { .. }
            | Self::Count { .. }
            | Self::Control
            | Self::Sequence { .. }
            | Self::InvalidRecord { .. }
            | Self::Compressed => BatchErrorKind::Invalid,
        }
    }
}
