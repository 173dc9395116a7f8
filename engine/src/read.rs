//! What a reader of a partition asks for and gets.

use flumen_ring::Slice;

use crate::storage::StorageError;
use crate::{LeaderEpoch, Offset, ProducerId};

/// How far a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLimit {
    /// What is durable (class D) or acknowledged: ordinary consumers.
    HighWatermark,
    /// Below the first transaction that is still open: `read_committed`.
    LastStable,
    /// Everything: followers.
    LogEnd,
}

/// A transaction that was aborted, as a `read_committed` reader needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
}

/// What a read would find.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Available {
    /// How many bytes: exact near the log's end, an estimate where only the disk knows. 0 if there is nothing.
    pub bytes: usize,
    /// The first batch's, if that is known: less than this finds nothing.
    pub first_batch_bytes: Option<usize>,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Whole batches, in order; a batch may straddle slices. Empty if nothing is visible there yet.
    pub slices: Vec<Slice>,
    /// The high watermark when it was read.
    pub high_watermark: Offset,
    /// The last stable offset then.
    pub last_stable_offset: Offset,
    /// The log's start then.
    pub log_start_offset: Offset,
    /// Aborted transactions that overlap what was read; filled for [`ReadLimit::LastStable`] only.
    pub aborted: Vec<AbortedTransaction>,
}

impl Read {
    /// How many bytes the slices hold.
    pub fn length(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum()
    }
}

/// Why nothing could be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log's start or above what the reader may see.
    #[error("offset {offset} is not in {log_start_offset}..={end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The log's start.
        log_start_offset: Offset,
        /// The end of what the reader may see.
        end: Offset,
    },
    /// The partition or its log directory is offline.
    #[error("the partition's log is offline")]
    Offline,
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The bytes on the disk are not what was written.
    #[error("{file} at {position}: {reason}")]
    Corrupt {
        /// The file, below the log directory.
        file: String,
        /// Where in it.
        position: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A record's place in time: what a look-up by timestamp answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: crate::Timestamp,
    /// The epoch of the batch that holds it.
    pub leader_epoch: LeaderEpoch,
}
