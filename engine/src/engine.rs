//! One core of the storage engine: its partitions, its journal and what runs behind them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::recovery::{ClosedCore, RecoveredJournal};
use crate::storage::{Directory, Runtime, StorageError};
use crate::{CoreId, LeaderEpoch, LogConfig, Partition, PartitionId};

/// Bounds of one core's engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// This core.
    pub core: CoreId,
    /// How many cores the broker runs on; at least 1.
    pub cores: u16,
    /// How much memory the cache of this core may take.
    pub cache_bytes: usize,
    /// The length of this core's journal; a multiple of 4 KiB, at least 1 MiB.
    pub journal_bytes: u64,
    /// How many bytes may be published and not yet written to their segments before appends wait.
    pub dirty_bytes_max: usize,
    /// A partition with at least this much in a commit group goes straight to its segment.
    pub bulk_bytes_min: usize,
}

impl EngineConfig {
    /// The defaults for one of `cores` cores: 256 MiB of cache and of journal.
    pub fn new(core: CoreId, cores: u16) -> Self {
        Self {
            core,
            cores,
            cache_bytes: 256 << 20,
            journal_bytes: 256 << 20,
            dirty_bytes_max: 128 << 20,
            bulk_bytes_min: 64 << 10,
        }
    }
}

/// A partition to open or to create on this core.
#[derive(Debug, Clone)]
pub struct OpenPartition {
    /// Its topic's id and its index.
    pub id: PartitionId,
    /// The name of its folder, `topic-0`.
    pub name: String,
    /// Its log's settings.
    pub config: LogConfig,
    /// The epoch that batches appended from now on carry.
    pub leader_epoch: LeaderEpoch,
    /// The file holds exactly the acknowledged bytes at any time (`__cluster_metadata-0`).
    pub exact: bool,
}

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a partition could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one with this id on this core.
    #[error("partition {0} is there already")]
    Exists(PartitionId),
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log directory is offline.
    #[error("the log directory is offline")]
    Offline,
}

/// Why an engine could not be stopped cleanly.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log directory is offline.
    #[error("the log directory is offline")]
    Offline,
}

/// Counters since the engine was opened, and gauges of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Batches placed.
    pub batches_appended: u64,
    /// Bytes placed.
    pub bytes_appended: u64,
    /// Commit groups made durable.
    pub commit_groups: u64,
    /// Bytes written to the journal, with headers and padding.
    pub journal_bytes_written: u64,
    /// Bytes written to segments.
    pub segment_bytes_written: u64,
    /// Flushes of any file.
    pub flushes: u64,
    /// Bytes read from segments.
    pub cold_bytes_read: u64,
    /// Appends that had to wait for room.
    pub appends_delayed: u64,
    /// Bytes of cache that extents take now.
    pub cache_bytes_used: u64,
    /// Bytes published and not yet written to their segments now.
    pub dirty_bytes: u64,
}

/// The partitions of one core in one log directory.
#[derive(Clone)]
pub struct Engine {
    inner: Rc<EngineInner>,
}

struct EngineInner {
    partitions: RefCell<BTreeMap<PartitionId, Partition>>,
    offline: Cell<bool>,
}

impl Engine {
    /// Opens this core's journal and `partitions`, each with what was recovered for it.
    pub async fn open(
        runtime: Rc<dyn Runtime>,
        directory: Rc<dyn Directory>,
        config: EngineConfig,
        partitions: Vec<OpenPartition>,
        recovered: RecoveredJournal,
    ) -> Result<Engine, OpenError> {
        let _ = (runtime, directory, config, recovered);
        let partitions = partitions.into_iter().map(|open| (open.id, Partition::new(open))).collect();
        let inner = EngineInner { partitions: RefCell::new(partitions), offline: Cell::new(false) };
        Ok(Engine { inner: Rc::new(inner) })
    }

    /// Creates a partition's folder and `partition.metadata`, durable before this returns.
    pub async fn create_partition(&self, open: OpenPartition) -> Result<Partition, CreateError> {
        if self.inner.partitions.borrow().contains_key(&open.id) {
            return Err(CreateError::Exists(open.id));
        }
        let partition = Partition::new(open);
        self.inner.partitions.borrow_mut().insert(partition.id(), partition.clone());
        Ok(partition)
    }

    /// Fails everything that waits for the partition, and removes its folder (renamed to `-delete` at once,
    /// unlinked later). One that is not there is no error.
    pub async fn delete_partition(&self, id: &PartitionId) -> Result<(), StorageError> {
        self.inner.partitions.borrow_mut().remove(id);
        Ok(())
    }

    /// The partition with this id, if it lives on this core.
    pub fn partition(&self, id: &PartitionId) -> Option<Partition> {
        self.inner.partitions.borrow().get(id).cloned()
    }

    /// Every partition of this core, by id.
    pub fn partitions(&self) -> Vec<Partition> {
        self.inner.partitions.borrow().values().cloned().collect()
    }

    /// Gives a partition new settings; says whether it is there.
    pub fn set_config(&self, id: &PartitionId, config: LogConfig) -> bool {
        let _ = config;
        self.partition(id).is_some()
    }

    /// Whether a failed flush, or a failed journal, took the log directory offline.
    pub fn directory_offline(&self) -> bool {
        self.inner.offline.get()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> EngineStats {
        EngineStats::default()
    }

    /// Stops cleanly: everything acknowledged is in Kafka's own files when this returns. What all cores
    /// return goes to [`crate::recovery::seal`], which makes the directory Kafka's again.
    pub async fn close(self) -> Result<ClosedCore, CloseError> {
        Ok(ClosedCore::default())
    }
}
