//! One partition's log: where appends are placed, what readers see, and its watermarks.
//!
//! A [`Partition`] is a handle to what its core owns. [`Log`] is the state; `append` and `read` are the two
//! ways in and out; `maintain` cuts it at either end.

mod append;
mod log;
mod maintain;
mod read;
mod watch;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) use log::{JournalEntry, Log, Point, Status};
pub(crate) use watch::Watchers;
pub use watch::Watches;

use crate::append::{AppendError, AppendSlot};
use crate::core::Core;
use crate::layout::{SegmentFile, SegmentFileKind};
use crate::producers::{Producers, ProducersKept};
use crate::read::{ReadError, ReadLimit};
use crate::{LeaderEpoch, LogConfig, Offset, PartitionId};
use flumen_ring::gate::Turn;

/// A partition of this core. A handle: cheap to clone, all handles are the same partition.
#[derive(Clone)]
pub struct Partition {
    inner: Rc<PartitionInner>,
}

/// What all handles of one partition share.
pub(crate) struct PartitionInner {
    pub(crate) core: Rc<Core>,
    pub(crate) id: PartitionId,
    /// Its folder, below the log directory.
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    /// The file holds exactly the acknowledged bytes at any time.
    pub(crate) is_exact: bool,
    pub(crate) log: RefCell<Log>,
    /// Who writes to the partition's files: write-behind, the commit, a truncation; one at a time.
    pub(crate) io: Turn,
    /// Who has appends wait ([`Log::is_frozen`]): one cut at a time.
    pub(crate) freezing: Turn,
    /// It is being looked up by which batch the active segment ages.
    pub(crate) learns_age: Cell<bool>,
    pub(crate) watchers: Watchers,
    /// Whether it is in the journal's list of those that want a commit group.
    pub(crate) wants_commit: Cell<bool>,
    /// Whether write-behind looks after it.
    pub(crate) is_written_behind: Cell<bool>,
    /// How many producers it remembers, as its core counts them.
    pub(crate) producers_kept: ProducersKept,
}

impl Partition {
    pub(crate) fn new(core: Rc<Core>, id: PartitionId, name: String, is_exact: bool, log: Log) -> Self {
        let producers_kept = ProducersKept::new(&core.producer_room, log.producers.len());
        Self {
            inner: Rc::new(PartitionInner {
                core,
                id,
                folder: PathBuf::from(&name),
                name,
                is_exact,
                log: RefCell::new(log),
                io: Turn::default(),
                freezing: Turn::default(),
                learns_age: Cell::default(),
                watchers: Watchers::default(),
                wants_commit: Cell::new(false),
                is_written_behind: Cell::new(false),
                producers_kept,
            }),
        }
    }

    pub(crate) fn from_inner(inner: Rc<PartitionInner>) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Rc<PartitionInner> {
        &self.inner
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.inner.core
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Has the processor fetch what an append looks at first, while its batches are checked.
    pub fn prefetch(&self) {
        flumen_ring::prefetch(&*self.inner);
    }

    /// Its topic's id and its index.
    pub fn id(&self) -> PartitionId {
        self.inner.id
    }

    /// The name of its folder, `topic-0`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its log's settings.
    pub fn config(&self) -> LogConfig {
        self.inner.log.borrow().config.clone()
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.inner.log.borrow().log_start
    }

    /// The end of what consumers see.
    pub fn high_watermark(&self) -> Offset {
        self.inner.log.borrow().high_watermark.offset
    }

    /// The end of what `read_committed` consumers see.
    pub fn last_stable_offset(&self) -> Offset {
        self.inner.log.borrow().last_stable()
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.inner.log.borrow().active().next
    }

    /// The epoch that appended batches carry.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.log.borrow().leader_epoch
    }

    /// Sets the epoch that batches appended from now on carry. A lower one is ignored.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        let before = self.inner.log.borrow().leader_epoch;
        if epoch > before {
            self.inner.log.borrow_mut().begin_epoch(epoch);
            self.tell_watchers();
        }
    }

    /// The epoch that holds `offset`, if it is known.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.inner.log.borrow().epochs.epoch_of(offset)
    }

    /// The largest epoch at or below `epoch`, and where it ends (Kafka: OffsetForLeaderEpoch); `None` if no
    /// such epoch is known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let log = self.inner.log.borrow();
        let found = log.epochs.end_offset_for(epoch, log.active().next);
        (found != crate::epochs::UNDEFINED).then_some(found)
    }

    /// Looks at its producers, as far as they are remembered.
    pub fn with_producers<T>(&self, look: impl FnOnce(&Producers) -> T) -> T {
        look(&self.inner.log.borrow().producers)
    }

    /// The bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.inner.log.borrow().size_bytes()
    }

    /// Whether the partition or its directory is offline.
    pub fn is_offline(&self) -> bool {
        self.inner.log.borrow().status == Status::Poisoned
    }

    /// Whether it cannot be written for now.
    pub(crate) fn is_full(&self) -> bool {
        self.inner.log.borrow().status == Status::Full
    }

    /// Whether nothing more will be heard of it.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.inner.log.borrow().status, Status::Closed | Status::Poisoned)
    }

    pub(crate) fn limit(log: &Log, limit: ReadLimit) -> Offset {
        match limit {
            ReadLimit::HighWatermark => log.high_watermark.offset,
            ReadLimit::LastStable => log.last_stable(),
            ReadLimit::LogEnd => log.active().next,
        }
    }

    /// A write of this partition failed, or the directory: everything that waits fails.
    pub(crate) fn poison(&self) {
        self.fail(Status::Poisoned, AppendError::Offline);
    }

    /// The partition is deleted, or the engine closes: everything that waits fails.
    pub(crate) fn close(&self) {
        self.fail(Status::Closed, AppendError::Deleted);
    }

    /// There is news for readers.
    pub(crate) fn tell_watchers(&self) {
        self.inner.watchers.notify(self.inner.id);
    }

    fn fail(&self, status: Status, error: AppendError) {
        let slots: Vec<Rc<AppendSlot>> = {
            let mut log = self.inner.log.borrow_mut();
            if log.status == Status::Closed {
                return;
            }
            log.status = status;
            let waiters = log.waiters.drain(..).map(|waiter| waiter.slot).collect::<Vec<_>>();
            waiters.into_iter().chain(log.queue.drain(..).map(|queued| queued.slot)).collect()
        };
        for slot in slots {
            slot.complete(Err(error.clone()));
        }
        self.tell_watchers();
    }

    /// Refuses what may not be read.
    pub(crate) fn check_readable(log: &Log, from: Offset, end: Offset) -> Result<(), ReadError> {
        Self::check_range(log, log.log_start, from, end)
    }

    /// As [`Partition::check_readable`], for those who may look from `start` on.
    pub(crate) fn check_range(log: &Log, start: Offset, from: Offset, end: Offset) -> Result<(), ReadError> {
        if let Some(refusal) = log.read_refusal() {
            return Err(refusal);
        }
        if from < start || from > end {
            return Err(ReadError::OutOfRange { offset: from, log_start_offset: log.log_start, end });
        }
        Ok(())
    }
}

/// Where a file of a segment is, below the log directory.
pub(crate) fn segment_path(partition: &Partition, base: Offset, kind: SegmentFileKind) -> PathBuf {
    partition.folder().join(SegmentFile::live(base, kind).name())
}
