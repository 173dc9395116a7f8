//! The end of a clean stop: the directory is Kafka's again.
//!
//! Order: every core has its logs durable and cut, its indexes, snapshots and epochs written; then the offset
//! checkpoints; then the private files go; and last, `.kafka_cleanshutdown` says so. A crash in between is a
//! crash like any other: without that last file the next start trusts nothing that it did not prove.

use std::path::Path;
use std::rc::Rc;

use crate::Offset;
use crate::checkpoint::{CHECKPOINT_BYTES_MAX, CHECKPOINT_PREFIX, Checkpoint, PartitionCheckpoint};
use crate::checkpoints::{PartitionOffset, encode_clean_shutdown, encode_offsets};
use crate::journal::JOURNAL_FOLDER;
use crate::layout::{
    CLEAN_SHUTDOWN, CLEANER_CHECKPOINT, LOG_START_CHECKPOINT, PartitionFolder, RECOVERY_POINT_CHECKPOINT,
    REPLICATION_CHECKPOINT,
};
use crate::storage::{Directory, StorageError, StorageErrorKind};

/// What one core leaves behind at a clean stop; goes to [`seal`].
#[derive(Debug, Default)]
pub struct ClosedCore {
    pub(crate) partitions: Vec<ClosedPartition>,
}

/// One partition, closed.
#[derive(Debug)]
pub(crate) struct ClosedPartition {
    /// Its folder's name.
    pub(crate) name: String,
    pub(crate) log_start: Offset,
    pub(crate) first_segment: Offset,
    pub(crate) high_watermark: Offset,
    /// Kafka's recovery point: the log's end, but for a damaged one.
    pub(crate) end: Offset,
}

impl ClosedPartition {
    /// One that recovery found damaged: its recovery point is the start of the segment from which it was read, before
    /// the log's end, and by that the next start knows it. Kafka, after a clean stop, serves the log as it is.
    pub(crate) fn damaged(name: &str, held: &PartitionCheckpoint) -> Self {
        let end = held.recovery.segment;
        Self {
            name: name.to_owned(),
            log_start: held.log_start,
            first_segment: Offset(0),
            high_watermark: end,
            end,
        }
    }
}

/// Ends a clean stop, once every core closed: Kafka's checkpoint files, no journal, `.kafka_cleanshutdown`.
///
/// `broker_epoch` is that of the broker's registration, −1 for none: Kafka takes a start for a clean one only if
/// the file names it (KIP-966).
pub async fn seal(
    directory: Rc<dyn Directory>,
    cores: Vec<ClosedCore>,
    broker_epoch: i64,
) -> Result<(), StorageError> {
    let mut partitions: Vec<ClosedPartition> = cores.into_iter().flat_map(|core| core.partitions).collect();
    partitions.sort_by(|left, right| left.name.cmp(&right.name));
    let offsets = |of: &dyn Fn(&ClosedPartition) -> Option<Offset>| {
        let lines: Vec<PartitionOffset> = partitions
            .iter()
            .filter_map(|partition| {
                let folder = PartitionFolder::parse(&partition.name)?;
                let offset = of(partition)?;
                Some(PartitionOffset { topic: folder.topic, partition: folder.partition, offset })
            })
            .collect();
        encode_offsets(&lines).into_bytes()
    };
    directory.replace(Path::new(RECOVERY_POINT_CHECKPOINT), offsets(&|closed| Some(closed.end))).await?;
    directory
        .replace(
            Path::new(LOG_START_CHECKPOINT),
            offsets(&|closed| (closed.log_start > closed.first_segment).then_some(closed.log_start)),
        )
        .await?;
    directory
        .replace(Path::new(REPLICATION_CHECKPOINT), offsets(&|closed| Some(closed.high_watermark)))
        .await?;
    if directory.list(Path::new("")).await?.iter().all(|entry| entry.name != CLEANER_CHECKPOINT) {
        directory.replace(Path::new(CLEANER_CHECKPOINT), offsets(&|_| None)).await?;
    }
    remove_private(&*directory).await?;
    directory.replace(Path::new(CLEAN_SHUTDOWN), encode_clean_shutdown(broker_epoch).into_bytes()).await
}

/// Removes the journals and the private checkpoints.
pub(super) async fn remove_private(directory: &dyn Directory) -> Result<(), StorageError> {
    directory.remove_directory(Path::new(JOURNAL_FOLDER)).await?;
    remove_checkpoints(directory).await
}

/// Removes the private checkpoints, durably: those of an older life first, for an older one that outlived a newer one
/// would speak of what is no more, should the stop be cut off here.
async fn remove_checkpoints(directory: &dyn Directory) -> Result<(), StorageError> {
    let mut held: Vec<(Option<u64>, String)> = Vec::new();
    for entry in directory.list(Path::new("")).await? {
        if !entry.is_directory && entry.name.starts_with(CHECKPOINT_PREFIX) {
            match directory.read(Path::new(&entry.name), CHECKPOINT_BYTES_MAX).await {
                Ok(bytes) => {
                    held.push((Checkpoint::decode(&bytes).map(|checkpoint| checkpoint.life), entry.name));
                }
                // A temporary file that took its name meanwhile, or was removed.
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    held.sort();
    for same_life in held.chunk_by(|left, right| left.0 == right.0) {
        for (_, name) in same_life {
            directory.remove_file(Path::new(name)).await?;
        }
        directory.sync_directory(Path::new("")).await?;
    }
    Ok(())
}
