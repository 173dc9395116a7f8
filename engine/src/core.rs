//! What everything on one core shares: the directory, the cache, the journal, what is dirty, and the verdict
//! that the log directory is lost.
//!
//! Tasks of the core change it in single steps; nobody holds a borrow over an await.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use flumen_ring::CHUNK_BYTES;
use futures_util::future::select;

use crate::cache::{Cache, Holders};
use crate::checkpoint::{CheckpointWriter, PartitionCheckpoint};
use crate::engine::EngineConfig;
use crate::journal::Journal;
use crate::partition::{Partition, PartitionInner};
use crate::partitions::Partitions;
use crate::producers::ProducerRoom;
use crate::recent::Recent;
use crate::segment::{Lookup, Segment};
use crate::storage::{DataFile, Directory, Pending, Runtime, StorageError};
use crate::write_behind::WriteBehind;
use crate::{AppendError, LogConfig, Offset, PartitionId};
use flumen_ring::gate::{Broadcast, Turn};
use flumen_ring::semaphore::{Acquire, Semaphore};

/// Bytes that cold reads of one core may hold while they are under way.
pub(crate) const COLD_READ_BYTES_MAX: usize = 16 << 20;

/// The same while writes are behind: the disk is the limit then, and what readers take of it producers wait for.
const COLD_READ_BYTES_BEHIND: usize = 1 << 20;
/// Writes are behind while more than one in so many of the bytes that may wait to be written do.
const BEHIND_SHARE: u64 = 4;

/// So many files of sealed segments stay open.
const OPEN_FILES_MAX: usize = 512;

/// One core's context.
pub(crate) struct Core {
    pub(crate) runtime: Rc<dyn Runtime>,
    pub(crate) directory: Rc<dyn Directory>,
    pub(crate) config: EngineConfig,
    /// Every partition of this core, by id.
    pub(crate) partitions: RefCell<Partitions>,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) journal: Journal,
    pub(crate) write_behind: WriteBehind,
    pub(crate) checkpoints: CheckpointWriter,
    /// Partitions that recovery found damaged below what had been durable, as it knows them: so that the next start
    /// finds them damaged too.
    pub(crate) damaged: RefCell<BTreeMap<PartitionId, PartitionCheckpoint>>,
    /// Recovery cut a file, or wrote to it, and that is not durable yet.
    pub(crate) was_cut: Cell<bool>,
    /// Bytes of logs that a clean stop may still read to make indexes.
    pub(crate) close_walk_bytes: Cell<u64>,
    /// Which start of the broker this is.
    pub(crate) life: u64,
    pub(crate) counters: Counters,
    /// How many producers all partitions remember together.
    pub(crate) producer_room: Rc<ProducerRoom>,
    /// Bytes published and not yet in their segments, all partitions.
    pub(crate) dirty_bytes: Cell<u64>,
    /// One fdatasync at a time beside the commit's: more of them would queue up in the kernel's workers, and the commit's
    /// behind them.
    sync_lane: Turn,
    /// Bytes that cold reads may hold while they are under way.
    cold_reads: Semaphore,
    /// Flushes of the whole directory.
    sync_all: SharedSync,
    /// Flushes of the names of its folders.
    sync_folders: SharedSync,
    /// Who holds extents.
    pub(crate) holders: RefCell<Holders>,
    /// Nothing was clean when it was last looked for, and nothing became clean since.
    pub(crate) nothing_clean: Cell<bool>,
    /// Files of sealed segments that are open.
    opened: RefCell<Recent>,
    /// Look-ups of sealed segments.
    lookups: RefCell<Recent>,
    /// Partitions whose appends wait for room, in order.
    starving: RefCell<VecDeque<Weak<PartitionInner>>>,
    admitting: Cell<bool>,
    failure: RefCell<Option<StorageError>>,
    /// Nothing new is taken.
    closing: Cell<bool>,
    /// Nobody is at work any more who could wait for the commit, or for write-behind.
    ended: Cell<bool>,
    ends: Broadcast,
}

/// A flush that several may wait for: one at a time, and how many were begun.
#[derive(Default)]
struct SharedSync {
    turn: Turn,
    begun: Cell<u64>,
}

/// Counters since the engine was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches_appended: Cell<u64>,
    pub(crate) bytes_appended: Cell<u64>,
    pub(crate) commit_groups: Cell<u64>,
    pub(crate) journal_bytes_written: Cell<u64>,
    pub(crate) segment_bytes_written: Cell<u64>,
    pub(crate) segment_writes: Cell<u64>,
    pub(crate) flushes: Cell<u64>,
    pub(crate) cold_bytes_read: Cell<u64>,
    pub(crate) missed_bytes_read: Cell<u64>,
    pub(crate) appends_delayed: Cell<u64>,
}

/// Adds to a counter.
pub(crate) fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get() + by);
}

impl Core {
    pub(crate) fn new(
        runtime: Rc<dyn Runtime>,
        directory: Rc<dyn Directory>,
        config: EngineConfig,
        journal: Journal,
        life: u64,
    ) -> Rc<Self> {
        let pool = directory.chunk_pool(config.cache_bytes / CHUNK_BYTES);
        Rc::new(Self {
            runtime,
            directory,
            partitions: RefCell::default(),
            cache: RefCell::new(Cache::new(pool, config.cache_bytes)),
            journal,
            write_behind: WriteBehind::default(),
            checkpoints: CheckpointWriter::default(),
            damaged: RefCell::new(BTreeMap::new()),
            was_cut: Cell::new(false),
            close_walk_bytes: Cell::new(config.close_walk_bytes_max),
            life,
            counters: Counters::default(),
            producer_room: ProducerRoom::new(config.producers_max),
            dirty_bytes: Cell::new(0),
            sync_lane: Turn::default(),
            cold_reads: Semaphore::new(COLD_READ_BYTES_MAX),
            sync_all: SharedSync::default(),
            sync_folders: SharedSync::default(),
            holders: RefCell::default(),
            nothing_clean: Cell::new(false),
            opened: RefCell::new(Recent::new(OPEN_FILES_MAX)),
            lookups: RefCell::new(Recent::new(config.lookup_bytes_max)),
            starving: RefCell::new(VecDeque::new()),
            admitting: Cell::new(false),
            failure: RefCell::new(None),
            closing: Cell::new(false),
            ended: Cell::new(false),
            ends: Broadcast::default(),
            config,
        })
    }

    /// fdatasync, in this core's lane. A failure takes the log directory offline: what the device cache held is
    /// unknown from then on.
    pub(crate) async fn sync(&self, file: &Rc<dyn DataFile>) -> Result<(), StorageError> {
        let _lane = self.sync_lane.take().await;
        self.sync_for_commit(file).await
    }

    /// The same for the commit, which does one after the other, and waits for nobody else's: producers wait for it.
    pub(crate) async fn sync_for_commit(&self, file: &Rc<dyn DataFile>) -> Result<(), StorageError> {
        count(&self.counters.flushes, 1);
        file.sync_data().await.inspect_err(|error| self.take_offline(error))
    }

    /// Completes once everything that was done in the directory before this call is durable. Fails as [`Core::sync`],
    /// unless nothing could be opened for it.
    pub(crate) async fn sync_all(&self) -> Result<(), StorageError> {
        let flush = || {
            count(&self.counters.flushes, 1);
            self.directory.sync_all()
        };
        self.share(&self.sync_all, flush).await
    }

    /// Completes once the folders that were created, renamed and removed before this call are durably so. Fails as
    /// [`Core::sync_all`].
    pub(crate) async fn sync_folders(&self) -> Result<(), StorageError> {
        self.share(&self.sync_folders, || self.directory.sync_directory(Path::new(""))).await
    }

    /// Those who ask at one time share one flush, which begins after they did.
    async fn share(
        &self,
        shared: &SharedSync,
        flush: impl FnOnce() -> Pending<Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        let wanted = shared.begun.get() + 1;
        let _turn = shared.turn.take().await;
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if shared.begun.get() >= wanted {
            return Ok(());
        }
        shared.begun.set(shared.begun.get() + 1);
        flush().await.inspect_err(|error| {
            if error.kind.is_out_of_files() {
                // There was none, and whoever waited for it has one of his own.
                shared.begun.set(shared.begun.get() - 1);
            }
            self.flush_failed(error);
        })
    }

    /// A flush of names failed: what is durable of them is unknown from then on, unless nothing could be opened for it.
    fn flush_failed(&self, error: &StorageError) {
        if !error.kind.is_out_of_files() {
            self.take_offline(error);
        }
    }

    /// Has `removal` done `file.delete.delay.ms` from now: readers may still be about to open what goes. A stop before
    /// that leaves it to the next start.
    pub(crate) fn after_delete_delay(&self, config: &LogConfig, removal: impl Future<Output = ()> + 'static) {
        let delay = Duration::from_millis(config.file_delete_delay_ms.max(0) as u64);
        let runtime = self.runtime.clone();
        self.runtime.spawn(Box::pin(async move {
            runtime.sleep(delay).await;
            removal.await;
        }));
    }

    /// Has a file unlinked that is out of use, whenever there is time for it.
    pub(crate) fn reclaim_file(&self, path: &Path) {
        self.reclaim(self.directory.reclaim_file(path));
    }

    /// The same of a folder and everything in it.
    pub(crate) fn reclaim_directory(&self, path: &Path) {
        self.reclaim(self.directory.reclaim_directory(path));
    }

    fn reclaim(&self, removal: Pending<Result<(), StorageError>>) {
        self.runtime.spawn(Box::pin(async move {
            if let Err(error) = removal.await {
                tracing::warn!(%error, "what was deleted stays until the next start");
            }
        }));
    }

    /// fsync of a folder. Fails as [`Core::sync_all`].
    pub(crate) async fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.directory.sync_directory(path).await.inspect_err(|error| self.flush_failed(error))
    }

    /// Whether a cache that takes all the memory that it may take would still hold what is at `position`, by what was
    /// appended since on this core.
    pub(crate) fn is_recent(&self, segment: &Segment, position: u64) -> bool {
        let Some(appended_at) = segment.appended_at else { return false };
        let later = self.counters.bytes_appended.get() - appended_at;
        later + segment.end.saturating_sub(position) < self.config.cache_bytes as u64
    }

    /// A segment's file is open that nobody writes to; if there are too many, those go that were opened longest ago.
    pub(crate) fn note_opened(&self, partition: &Partition, base: Offset) {
        self.opened.borrow_mut().note(partition, base, 1, |segment| segment.file = None);
    }

    /// Closes the files that are open for readers only.
    pub(crate) fn close_sealed(&self) {
        self.opened.borrow_mut().clear(|segment| segment.file = None);
    }

    /// The look-up of a sealed segment is in memory; if they are too large together, those go that came longest ago.
    pub(crate) fn note_lookup(&self, partition: &Partition, base: Offset) {
        let log = partition.inner().log.borrow();
        let lookup = log.segment(base).filter(|segment| segment.is_sealed).and_then(|it| it.lookup.as_ref());
        let Some(bytes) = lookup.map(Lookup::memory_bytes) else { return };
        drop(log);
        self.lookups.borrow_mut().note(partition, base, bytes, |segment| segment.lookup = None);
    }

    /// Whether the cache can have room for an append of `length` bytes, which it has whole: one that waits for more would
    /// wait for ever, and all of the core's appends behind it. A half is for what others have under way.
    pub(crate) fn check_fits(&self, length: usize) -> Result<(), AppendError> {
        let length_max = self.config.cache_bytes / 2;
        if length > length_max { Err(AppendError::TooLarge { length, length_max }) } else { Ok(()) }
    }

    /// The appends of `partition` wait for room from now on.
    pub(crate) fn starve(&self, partition: &Partition) {
        count(&self.counters.appends_delayed, 1);
        self.starving.borrow_mut().push_back(Rc::downgrade(partition.inner()));
        self.write_behind.press();
    }

    /// Lets waiting appends in, in the order in which they came, for as long as there is room.
    pub(crate) fn admit(&self) {
        if self.admitting.replace(true) {
            return;
        }
        loop {
            let Some(first) = self.starving.borrow().front().cloned() else { break };
            if let Some(partition) = first.upgrade()
                && !Partition::from_inner(partition).append_queued()
            {
                break;
            }
            self.starving.borrow_mut().pop_front();
        }
        self.admitting.set(false);
    }

    /// Waits for the right to read `bytes` for a reader.
    pub(crate) fn cold_read(&self, bytes: usize) -> Acquire {
        let weight = if self.is_behind() { COLD_READ_BYTES_MAX / COLD_READ_BYTES_BEHIND } else { 1 };
        self.cold_reads.acquire(bytes * weight)
    }

    /// Whether a reader waits for that right.
    #[cfg(test)]
    pub(crate) fn is_cold_read_wanted(&self) -> bool {
        self.cold_reads.is_wanted()
    }

    /// Whether the disk takes less than what is appended, for now.
    fn is_behind(&self) -> bool {
        self.is_starving() || self.dirty_bytes.get() > self.config.dirty_bytes_max as u64 / BEHIND_SHARE
    }

    /// Whether the one who asks for room is the one who has waited longest.
    pub(crate) fn is_admitting(&self) -> bool {
        self.admitting.get()
    }

    /// Whether appends wait for room.
    pub(crate) fn is_starving(&self) -> bool {
        !self.starving.borrow().is_empty()
    }

    /// The log directory is lost for this life: everything that waits fails, nothing is written again.
    pub(crate) fn take_offline(&self, error: &StorageError) {
        if self.failure.borrow().is_some() {
            return;
        }
        tracing::error!(%error, "the log directory is offline");
        *self.failure.borrow_mut() = Some(error.clone());
        self.starving.borrow_mut().clear();
        let partitions = self.partitions.borrow().to_vec();
        for partition in partitions {
            partition.poison();
        }
        self.ends.raise();
        self.journal.wake();
        self.write_behind.wake();
    }

    /// Completes once the log directory is offline.
    pub(crate) async fn lost(&self) {
        while !self.is_offline() {
            self.ends.wait().await;
        }
    }

    /// Why the log directory is offline, if it is.
    pub(crate) fn failure(&self) -> Option<StorageError> {
        self.failure.borrow().clone()
    }

    /// Whether the log directory is offline.
    pub(crate) fn is_offline(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Whether nothing new is taken.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether commit and write-behind shall end, once they have nothing to do.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.get()
    }

    /// Completes when nothing new is taken.
    pub(crate) async fn closed(&self) {
        while !self.is_closing() {
            self.ends.wait().await;
        }
    }

    /// Waits so long; says whether the engine is still in use then.
    pub(crate) async fn rest(&self, time: Duration) -> bool {
        select(self.runtime.sleep(time), Box::pin(self.closed())).await;
        !self.is_closing() && !self.is_offline()
    }

    /// Nothing new is taken from now on. Commit and write-behind go on: who has a partition's files may still need
    /// them, and a stop waits for those files.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.ends.raise();
    }

    /// Tells commit and write-behind to end.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.journal.wake();
        self.write_behind.wake();
    }
}
