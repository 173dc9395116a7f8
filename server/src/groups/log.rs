//! What the coordinator needs of the log that holds its groups.

use bytes::Bytes;
use flumen_engine::batch::CheckedBatches;
use flumen_engine::{AppendError, AppendOrigin, Offset, Partition, ReadError, ReadLimit};
use flumen_ring::Helper;
use futures_util::future::LocalBoxFuture;
use kafka_protocol::ResponseError;

use crate::compression::{self, OpenError};

/// Bytes that are read at once while groups are loaded.
const LOAD_BYTES: usize = 1 << 20;

/// A piece of the log.
#[derive(Debug, Clone)]
pub struct LogPiece {
    /// Whole batches. Empty at the end.
    pub bytes: Bytes,
    /// The end of what is durable.
    pub end: Offset,
}

/// One `__consumer_offsets` partition's log.
pub trait GroupLog {
    /// The first offset that can be read.
    fn start(&self) -> Offset;
    /// Places a batch in this very call, behind all that were placed before. Completes with the offset of its
    /// first record once it is durable.
    fn append(&self, batch: CheckedBatches) -> LocalBoxFuture<'static, Result<Offset, AppendError>>;
    /// Reads from the batch that holds `from`.
    fn read(&self, from: Offset) -> LocalBoxFuture<'static, Result<LogPiece, ReadError>>;
    /// Forgets everything before `start`, durably.
    fn trim(&self, start: Offset) -> LocalBoxFuture<'static, Result<(), ReadError>>;
    /// A compressed batch with its records uncompressed. None is written here; Apache Kafka may have been told to
    /// (`offsets.topic.compression.codec`).
    fn open(&self, batch: Bytes) -> LocalBoxFuture<'static, Result<Vec<u8>, OpenError>>;
}

/// A partition of this core as the log of groups.
pub struct CoordinatorLog {
    partition: Partition,
    /// For what would keep the core too long.
    compute: Helper,
}

impl CoordinatorLog {
    /// Of this partition; batches are opened on the helper's thread.
    pub fn new(partition: Partition, compute: &Helper) -> Self {
        Self { partition, compute: compute.clone() }
    }
}

impl GroupLog for CoordinatorLog {
    fn start(&self) -> Offset {
        self.partition.log_start_offset()
    }

    fn append(&self, batch: CheckedBatches) -> LocalBoxFuture<'static, Result<Offset, AppendError>> {
        let append = self.partition.append(batch, AppendOrigin::Coordinator);
        Box::pin(async move { append.await.map(|appended| appended.base_offset) })
    }

    fn read(&self, from: Offset) -> LocalBoxFuture<'static, Result<LogPiece, ReadError>> {
        let partition = self.partition.clone();
        Box::pin(async move {
            let read = partition.read(from, LOAD_BYTES, true, ReadLimit::HighWatermark).await?;
            let mut bytes = Vec::with_capacity(read.length());
            for slice in &read.slices {
                bytes.extend_from_slice(slice);
            }
            Ok(LogPiece { bytes: bytes.into(), end: read.high_watermark })
        })
    }

    fn trim(&self, start: Offset) -> LocalBoxFuture<'static, Result<(), ReadError>> {
        let partition = self.partition.clone();
        Box::pin(async move { partition.delete_records(start).await.map(drop) })
    }

    fn open(&self, batch: Bytes) -> LocalBoxFuture<'static, Result<Vec<u8>, OpenError>> {
        Box::pin(self.compute.run(move || compression::open(&batch)))
    }
}

/// How the failure of a coordinator's append is told to clients. Kafka: `appendGroupMetadataErrorToResponseError`.
pub fn append_error(error: &AppendError) -> ResponseError {
    match error {
        // Nothing was placed, and there may be room again: the client tries again.
        AppendError::NoSpace => ResponseError::CoordinatorNotAvailable,
        AppendError::Offline | AppendError::Deleted => ResponseError::NotCoordinator,
        _ => ResponseError::UnknownServerError,
    }
}
