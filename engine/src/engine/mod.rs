//! One core of the storage engine: its partitions, its journal and what runs behind them.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use uuid::Uuid;

use crate::core::Core;
use crate::epochs::LeaderEpochs;
use crate::journal::{self, Journal};
use crate::layout::{FolderState, PartitionFolder, retired_folder};
use crate::partition::Log;
use crate::producers::Producers;
use crate::recovery::{self, ClosedCore, ClosedPartition, RecoveredJournal, RecoveryError};
use crate::segment::Segment;
use crate::storage::{Directory, Runtime, StorageError, StorageErrorKind};
use crate::{
    CoreId, LeaderEpoch, LogConfig, Offset, Partition, PartitionId, checkpoint, expiry, retention,
    write_behind,
};

/// So many partitions are opened at a time.
const OPENS_MAX: usize = 64;
/// So many partitions are closed at a time.
const CLOSES_MAX: usize = 64;

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
    /// How much of the journal is prepared before the first append; a multiple of 4 KiB. It grows by doubling, while it
    /// is in use.
    pub journal_prepared_bytes: u64,
    /// How many bytes may be published and not yet written to their segments before appends wait.
    pub dirty_bytes_max: usize,
    /// A partition with at least this much in a commit group goes straight to its segment; with as much as the journal
    /// does not take of one partition in any case.
    pub bulk_bytes_min: usize,
    /// Where at least so many partitions are to be flushed at a time, one flush of the file system takes the place of
    /// theirs.
    pub flushed_together_min: usize,
    /// Between two looks at what retention may delete.
    pub retention_check_interval: Duration,
    /// Between two looks at which producers have expired.
    pub producer_expiration_check_interval: Duration,
    /// How much of its logs a clean stop may read for indexes that a crash left unknown. What is beyond has none
    /// after the stop; Kafka, and the next start where it needs them, make them from the log.
    pub close_walk_bytes_max: u64,
    /// How much memory the indexes of segments that take no more may keep.
    pub lookup_bytes_max: usize,
    /// How many producers all partitions of this core may remember together. Each takes some 300 bytes.
    pub producers_max: usize,
}

impl EngineConfig {
    /// The defaults for one of `cores` cores: 256 MiB of cache and of journal.
    pub fn new(core: CoreId, cores: u16) -> Self {
        Self {
            core,
            cores,
            cache_bytes: 256 << 20,
            journal_bytes: 256 << 20,
            journal_prepared_bytes: 4 << 20,
            dirty_bytes_max: 128 << 20,
            bulk_bytes_min: 512 << 10,
            flushed_together_min: 16,
            retention_check_interval: Duration::from_secs(300),
            producer_expiration_check_interval: Duration::from_secs(600),
            close_walk_bytes_max: 512 << 20,
            lookup_bytes_max: 32 << 20,
            producers_max: 262_144,
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
    /// In how many writes.
    pub segment_writes: u64,
    /// Flushes of any file, and of the file system.
    pub flushes: u64,
    /// Bytes read from segments.
    pub cold_bytes_read: u64,
    /// Those of them that a cache which takes all the memory that it may take would have held.
    pub missed_bytes_read: u64,
    /// Appends that had to wait for room.
    pub appends_delayed: u64,
    /// Bytes of cache that extents take now.
    pub cache_bytes_used: u64,
    /// Bytes published and not yet written to their segments now.
    pub dirty_bytes: u64,
}

/// The partitions of one core in one log directory. A handle; all handles are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Rc<EngineInner>,
}

struct EngineInner {
    core: Rc<Core>,
    recovered: RecoveredJournal,
}

impl Drop for EngineInner {
    fn drop(&mut self) {
        // Partitions and core hold each other.
        self.core.close();
        self.core.end();
        self.core.partitions.borrow_mut().clear();
        self.core.journal.clear();
        self.core.write_behind.clear();
    }
}

impl Engine {
    /// Opens this core's journal and `partitions`, each with what was recovered for it. A partition that is
    /// damaged where it had been durable is there, offline.
    pub async fn open(
        runtime: Rc<dyn Runtime>,
        directory: Rc<dyn Directory>,
        config: EngineConfig,
        partitions: Vec<OpenPartition>,
        recovered: RecoveredJournal,
    ) -> Result<Engine, OpenError> {
        let prepared = config.journal_prepared_bytes.min(config.journal_bytes);
        let journal =
            Journal::create(&*runtime, &*directory, config.core, prepared, config.journal_bytes).await?;
        // What is too much to be copied has no other way.
        let bulk_bytes_min = config.bulk_bytes_min.min(journal.copied_bytes_max());
        let config = EngineConfig { bulk_bytes_min, ..config };
        let core = Core::new(runtime, directory, config, journal, recovered.life());
        let recovered = &recovered;
        let opened: Vec<Partition> = iter(partitions)
            .map(|open| open_or_offline(&core, open, recovered))
            .buffer_unordered(OPENS_MAX)
            .try_collect()
            .await?;
        for partition in opened {
            core.partitions.borrow_mut().insert(partition);
        }
        if core.was_cut.take() {
            core.directory.sync_all().await?;
        }
        // What recovery proved is not proved again, and later cuts have something to be measured by.
        checkpoint::write(&core).await?;
        if core.config.core == CoreId(0) {
            remove_retired(&core).await?;
        }
        core.cache.borrow_mut().prepare_early();
        core.runtime.spawn(Box::pin(journal::run(core.clone())));
        core.runtime.spawn(Box::pin(write_behind::run(core.clone())));
        core.runtime.spawn(Box::pin(retention::run(core.clone())));
        core.runtime.spawn(Box::pin(expiry::run(core.clone())));
        let recovered = recovered.clone();
        Ok(Engine { inner: Rc::new(EngineInner { core, recovered }) })
    }

    /// Creates a partition's folder and `partition.metadata`, durable before this returns.
    pub async fn create_partition(&self, open: OpenPartition) -> Result<Partition, CreateError> {
        let core = &self.inner.core;
        if core.is_offline() || core.is_closing() {
            return Err(CreateError::Offline);
        }
        let id = open.id;
        if core.partitions.borrow().contains(&id) {
            return Err(CreateError::Exists(id));
        }
        let partition = recovery::create_partition(core, open).await?;
        // A directory that was lost meanwhile took along those that were there.
        if core.is_offline() {
            return Err(CreateError::Offline);
        }
        if core.partitions.borrow().contains(&id) {
            return Err(CreateError::Exists(id));
        }
        core.partitions.borrow_mut().insert(partition.clone());
        if self.inner.recovered.has_kafka_offsets(partition.name()) {
            // They are of an earlier partition of this name; the checkpoint says so before there is a log.
            checkpoint::write(core).await?;
        }
        Ok(partition)
    }

    /// Fails everything that waits for the partition, and removes its folder (renamed to `-delete` at once,
    /// unlinked later). One that is not there is no error.
    pub async fn delete_partition(&self, id: &PartitionId) -> Result<(), StorageError> {
        let core = &self.inner.core;
        let Some(partition) = core.partitions.borrow_mut().remove(id) else { return Ok(()) };
        core.damaged.borrow_mut().remove(id);
        partition.close();
        core.write_behind.forget(id);
        let turn = partition.inner().io.take().await;
        core.journal.settle_group().await;
        partition.drop_memory();
        let unique = Uuid::from_u64_pair(core.runtime.random(), core.runtime.random());
        let Some(folder) = PartitionFolder::parse(partition.name()) else { return Ok(()) };
        let retired = retired_folder(&folder.topic, folder.partition, unique, FolderState::Delete);
        retire_folder(core, partition.folder(), Path::new(&retired)).await?;
        let passed: Vec<u64> =
            partition.inner().log.borrow_mut().journaled.drain(..).map(|entry| entry.sequence).collect();
        core.journal.forget(passed);
        core.write_behind.checkpoint_is_stale.set(true);
        core.write_behind.wake();
        drop(turn);
        let reclaiming = core.clone();
        core.after_delete_delay(&partition.config(), async move {
            reclaiming.reclaim_directory(Path::new(&retired));
        });
        Ok(())
    }

    /// The partition with this id, if it lives on this core.
    pub fn partition(&self, id: &PartitionId) -> Option<Partition> {
        self.inner.core.partitions.borrow().get(id).cloned()
    }

    /// Every partition of this core, by id.
    pub fn partitions(&self) -> Vec<Partition> {
        self.inner.core.partitions.borrow().to_vec()
    }

    /// Gives a partition new settings; says whether it is there.
    pub fn set_config(&self, id: &PartitionId, config: LogConfig) -> bool {
        match self.partition(id) {
            Some(partition) => {
                partition.inner().log.borrow_mut().set_config(config);
                true
            }
            None => false,
        }
    }

    /// Looks for what retention lets go, now; otherwise that happens every five minutes.
    pub async fn retain(&self) -> Result<(), StorageError> {
        retention::check(&self.inner.core).await
    }

    /// Whether a failed flush, or a failed journal, took the log directory offline.
    pub fn directory_offline(&self) -> bool {
        self.inner.core.is_offline()
    }

    /// Whether a partition cannot be written for now: the disk is full, or no more files can be opened.
    pub fn is_full(&self) -> bool {
        self.inner.core.partitions.borrow().iter().any(Partition::is_full)
    }

    /// Completes once the log directory is offline, whoever met the failure: a client's request, or what is written
    /// behind it.
    pub async fn offline(&self) {
        self.inner.core.lost().await;
    }

    /// Counters and gauges.
    pub fn stats(&self) -> EngineStats {
        let core = &self.inner.core;
        let counters = &core.counters;
        EngineStats {
            batches_appended: counters.batches_appended.get(),
            bytes_appended: counters.bytes_appended.get(),
            commit_groups: counters.commit_groups.get(),
            journal_bytes_written: counters.journal_bytes_written.get(),
            segment_bytes_written: counters.segment_bytes_written.get(),
            segment_writes: counters.segment_writes.get(),
            flushes: counters.flushes.get(),
            cold_bytes_read: counters.cold_bytes_read.get(),
            missed_bytes_read: counters.missed_bytes_read.get(),
            appends_delayed: counters.appends_delayed.get(),
            cache_bytes_used: core.cache.borrow_mut().bytes_used() as u64,
            dirty_bytes: core.dirty_bytes.get(),
        }
    }

    /// Stops cleanly: everything acknowledged is in Kafka's own files when this returns. What all cores
    /// return goes to [`crate::recovery::seal`], which makes the directory Kafka's again.
    pub async fn close(self) -> Result<ClosedCore, CloseError> {
        let core = &self.inner.core;
        core.close();
        core.admit();
        let closed = self.close_partitions().await;
        if closed.is_err() {
            // Nobody writes any more what still waits: it is told.
            self.partitions().iter().for_each(Partition::close);
        }
        core.end();
        closed
    }

    async fn close_partitions(&self) -> Result<ClosedCore, CloseError> {
        let core = &self.inner.core;
        while !core.journal.is_idle() && !core.is_offline() {
            core.journal.next_group().await;
        }
        if core.is_offline() {
            return Err(CloseError::Offline);
        }
        // A damaged partition's files stay as they are, and what is said of it lets the next start find the damage.
        let damaged = core.damaged.borrow().clone();
        let (lost, sound): (Vec<Partition>, Vec<Partition>) =
            self.partitions().into_iter().partition(|partition| damaged.contains_key(&partition.id()));
        let mut closed: Vec<ClosedPartition> = lost
            .iter()
            .map(|partition| ClosedPartition::damaged(partition.name(), &damaged[&partition.id()]))
            .collect();
        let closing: Vec<_> = iter(sound)
            .map(|partition| async move { partition.close_files().await })
            .buffer_unordered(CLOSES_MAX)
            .try_collect()
            .await?;
        closed.extend(closing);
        checkpoint::end(core).await;
        core.sync_all().await?;
        Ok(ClosedCore { partitions: closed })
    }
}

/// A partition that cannot be recovered is offline; a directory that cannot be read is an error.
async fn open_or_offline(
    core: &Rc<Core>,
    open: OpenPartition,
    recovered: &RecoveredJournal,
) -> Result<Partition, StorageError> {
    let (id, name, exact) = (open.id, open.name.clone(), open.exact);
    let (leader_epoch, config) = (open.leader_epoch, open.config.clone());
    match recovery::open_partition(core, open, recovered).await {
        Ok(partition) => Ok(partition),
        Err(RecoveryError::Storage(error)) => Err(error),
        Err(error @ RecoveryError::Damaged { .. }) => {
            tracing::error!(partition = name, %error, "the partition is offline");
            let log = Log::new(
                [Segment::new(Offset(0))],
                Offset(0),
                leader_epoch,
                LeaderEpochs::default(),
                Producers::default(),
                config,
            );
            let partition = Partition::new(core.clone(), id, name, exact, log);
            partition.poison();
            Ok(partition)
        }
    }
}

/// Gives the folder of a deleted partition the name under which it is reclaimed, durably. On a full disk, where there may
/// be no room for a name, it goes at once. What the journal holds of it is nobody's then, and stays where it is if this
/// fails: the ring could never pass it, so the directory is lost. That the name is durable is not waited for where no
/// more files can be opened: after a crash the folder is set aside, as one of no partition.
async fn retire_folder(core: &Rc<Core>, folder: &Path, retired: &Path) -> Result<(), StorageError> {
    let renamed = match core.directory.rename(folder, retired).await {
        Err(error) if error.kind == StorageErrorKind::NoSpace => {
            core.directory.remove_directory(folder).await
        }
        Err(error) if error.kind == StorageErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), "the folder of a deleted partition is gone already");
            Ok(())
        }
        renamed => renamed,
    };
    renamed.inspect_err(|error| core.take_offline(error))?;
    match core.sync_folders().await {
        Err(error) if error.kind.is_out_of_files() => {
            tracing::warn!(folder = %folder.display(), %error, "the deletion is not durable yet");
            Ok(())
        }
        synced => synced,
    }
}

/// Folders of partitions that an earlier life deleted.
async fn remove_retired(core: &Rc<Core>) -> Result<(), StorageError> {
    for entry in core.directory.list(Path::new("")).await? {
        let retired = entry.is_directory
            && PartitionFolder::parse(&entry.name).is_some_and(|folder| folder.state == FolderState::Delete);
        if retired {
            core.reclaim_directory(Path::new(&entry.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
