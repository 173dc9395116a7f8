//! From the cache to the segments, behind the acknowledgements; and when the journal's ring may pass.
//!
//! What is dirty is written in whole blocks once there is enough of it, or once its partition has been quiet for
//! a second; it is flushed when the ring fills, when its class asks for it, or when the partition stays quiet.
//! Then the checkpoint file says so, and only then may the ring pass. With nothing dirty, nothing runs.
//!
//! Invariants: one writer per partition at a time ([`crate::partition::PartitionInner::io`]), so one write in
//! flight per block; a segment is cut and flushed before the next one's file exists; `written` and `flushed`
//! rise only after the operation completed.
//!
//! A crash leaves files with any part of what was written since their last flush; the journal has the rest.

mod flush;
mod task;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::PartitionId;
use crate::core::Core;
use crate::partition::Partition;
use crate::segment::{Segment, align_down};
use flumen_ring::gate::Signal;

pub(crate) use flush::{cut_exact, flush, flushed};
pub(crate) use task::run;
pub(crate) use write::{Durability, Extent, prepare, seal_index, write_failed, write_out};

/// A partition with this much in whole blocks is written, in bytes.
const LARGE_BYTES_MAX: u64 = 256 << 10;
/// No less than this, however many of them share what may be dirty.
const LARGE_BYTES_MIN: u64 = 64 << 10;
/// A partition without appends for this long is written, and then its small extents go.
const QUIET: Duration = Duration::from_secs(1);
/// A partition without appends for this long holds no memory at all.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// A partition without appends for this long is flushed.
const SETTLED: Duration = Duration::from_secs(3);

/// What waits to be written, of one core.
#[derive(Default)]
pub(crate) struct WriteBehind {
    /// Partitions that are dirty, hold extents, or have entries in the journal; with what is asked for.
    pending: RefCell<BTreeMap<PartitionId, (Partition, Asked)>>,
    /// Those of them that have enough to write, or were asked to be flushed.
    ready: RefCell<BTreeMap<PartitionId, Partition>>,
    /// The last one of those that were written when there were too many.
    written_last: Cell<Option<PartitionId>>,
    signal: Signal,
    /// Room is short: write whatever there is.
    pressed: Cell<bool>,
    /// Something became durable that the checkpoint file does not say.
    pub(crate) checkpoint_is_stale: Cell<bool>,
    /// Bytes that were flushed since the checkpoint file was written.
    pub(crate) flushed_bytes: Cell<u64>,
    /// Until then files are flushed one by one: the file system had others' data to write.
    file_system_left_alone_until: Cell<Duration>,
}

/// What was asked for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// Nothing; it is looked after in time.
    InTime,
    /// To be flushed now.
    Flush,
}

impl WriteBehind {
    /// Something was placed in the partition's log.
    pub(crate) fn dirtied(&self, partition: &Partition, wants_flush: bool) {
        let enough = {
            let log = partition.inner().log.borrow();
            is_large(log.active(), log.active().end, large_bytes(partition.core()))
        };
        if !partition.inner().is_written_behind.replace(true) {
            let mut pending = self.pending.borrow_mut();
            if pending.is_empty() {
                self.signal.raise();
            }
            pending.insert(partition.id(), (partition.clone(), Asked::InTime));
        }
        if wants_flush && let Some((_, asked)) = self.pending.borrow_mut().get_mut(&partition.id()) {
            *asked = Asked::Flush;
        }
        if enough || wants_flush {
            self.ready.borrow_mut().insert(partition.id(), partition.clone());
            self.signal.raise();
        }
    }

    /// Room is short.
    pub(crate) fn press(&self) {
        self.pressed.set(true);
        self.signal.raise();
    }

    /// Lets the task look around.
    pub(crate) fn wake(&self) {
        self.signal.raise();
    }

    /// Forgets a partition.
    pub(crate) fn forget(&self, id: &PartitionId) {
        self.ready.borrow_mut().remove(id);
        if let Some((partition, _)) = self.pending.borrow_mut().remove(id) {
            partition.inner().is_written_behind.set(false);
        }
    }

    /// Forgets everything: the engine goes away.
    pub(crate) fn clear(&self) {
        self.pending.borrow_mut().clear();
        self.ready.borrow_mut().clear();
    }

    /// How many partitions are looked after: those that are written to, and others that still hold memory.
    pub(crate) fn partitions(&self) -> usize {
        self.pending.borrow().len()
    }

    /// Every pending partition.
    fn all(&self) -> Vec<(Partition, Asked)> {
        self.pending.borrow().values().cloned().collect()
    }

    /// The same, to be written as far as it is time to.
    fn take_all(&self) -> Vec<(Partition, Asked)> {
        self.ready.borrow_mut().clear();
        self.all()
    }

    /// The pending partitions that cannot wait for the next look at all of them.
    fn take_ready(&self) -> Vec<(Partition, Asked)> {
        let ready = self.ready.take();
        let pending = self.pending.borrow();
        ready.into_keys().filter_map(|id| pending.get(&id).cloned()).collect()
    }
}

/// How much makes a large write, in bytes: half of what each partition may have dirty, so that they do not have to wait
/// for each other's writes.
fn large_bytes(core: &Core) -> u64 {
    (core.dirty_share() as u64 / 2).clamp(LARGE_BYTES_MIN, LARGE_BYTES_MAX)
}

/// Whether there are `large_bytes` below `end` that are not written, in whole blocks.
fn is_large(segment: &Segment, end: u64, large_bytes: u64) -> bool {
    align_down(end) >= segment.written + large_bytes
}

/// The tasks' view of their core.
type CoreHandle = Rc<Core>;
