//! One partition's log: where appends are placed, what readers see, and its watermarks.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::append::{Append, AppendError, AppendOrigin};
use crate::batch::CheckedBatches;
use crate::engine::OpenPartition;
use crate::read::{Read, ReadError, ReadLimit, TimestampedOffset};
use crate::storage::StorageError;
use crate::{LeaderEpoch, LogConfig, Offset, PartitionId, Timestamp};

/// A partition of this core. A handle: cheap to clone, all handles are the same partition.
#[derive(Clone)]
pub struct Partition {
    inner: Rc<PartitionInner>,
}

struct PartitionInner {
    open: OpenPartition,
}

impl Partition {
    pub(crate) fn new(open: OpenPartition) -> Self {
        Self { inner: Rc::new(PartitionInner { open }) }
    }

    /// Its topic's id and its index.
    pub fn id(&self) -> PartitionId {
        self.inner.open.id
    }

    /// The name of its folder, `topic-0`.
    pub fn name(&self) -> &str {
        &self.inner.open.name
    }

    /// Its log's settings.
    pub fn config(&self) -> LogConfig {
        self.inner.open.config.clone()
    }

    /// Validates and places `batches`, in this very call, unless appends wait for room or earlier appends
    /// wait before this one; then in the order of the calls. The future completes once they are acknowledged.
    pub fn append(&self, batches: CheckedBatches, origin: AppendOrigin) -> Append {
        let _ = (batches, origin);
        Append::ready(Err(AppendError::Offline))
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        Offset(0)
    }

    /// The end of what consumers see.
    pub fn high_watermark(&self) -> Offset {
        Offset(0)
    }

    /// The end of what `read_committed` consumers see.
    pub fn last_stable_offset(&self) -> Offset {
        Offset(0)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        Offset(0)
    }

    /// The epoch that appended batches carry.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.open.leader_epoch
    }

    /// Sets the epoch that batches appended from now on carry. A lower one is ignored.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        let _ = epoch;
    }

    /// How many bytes a read of at most `bytes_max` from `from` would find below `limit`: exact near the log's
    /// end, an estimate where only the disk knows.
    pub fn available(&self, from: Offset, bytes_max: usize, limit: ReadLimit) -> Result<usize, ReadError> {
        let _ = (from, bytes_max, limit);
        Ok(0)
    }

    /// Reads whole batches from the one that holds `from`, at most `bytes_max`, but at least one batch if
    /// `at_least_one`. At most 1 MiB comes from the disk in one read.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        limit: ReadLimit,
    ) -> Result<Read, ReadError> {
        let _ = (from, bytes_max, at_least_one, limit);
        Err(ReadError::Offline)
    }

    /// Completes when the high watermark is no longer `from`, when the log's start moves, or when the
    /// partition is deleted or fails. Dropping it cancels it.
    pub fn watch(&self, from: Offset) -> Watch {
        let _ = from;
        Watch { _partition: self.clone() }
    }

    /// The first record below `limit` whose timestamp is at or after `timestamp`.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        limit: ReadLimit,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let _ = (timestamp, limit);
        Ok(None)
    }

    /// The record with the largest timestamp (the first of them), if there is a record.
    pub async fn max_timestamp(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        Ok(None)
    }

    /// The epoch that holds `offset`, if it is known.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let _ = offset;
        None
    }

    /// The largest epoch at or below `epoch`, and where it ends (Kafka: OffsetForLeaderEpoch); `None` if no
    /// such epoch is known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let _ = epoch;
        None
    }

    /// Moves the log's start up to `before`, durably, and returns it. Above the high watermark: out of range.
    pub async fn delete_records(&self, before: Offset) -> Result<Offset, ReadError> {
        Ok(before)
    }

    /// Cuts the log so that `end` is its end, or leaves it when it ends before that. Durable when it returns.
    pub async fn truncate_to(&self, end: Offset) -> Result<(), StorageError> {
        let _ = end;
        Ok(())
    }

    /// The bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        0
    }

    /// Whether the partition or its directory is offline.
    pub fn is_offline(&self) -> bool {
        false
    }
}

/// Completes when there may be news for a reader; see [`Partition::watch`].
pub struct Watch {
    _partition: Partition,
}

impl Future for Watch {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
