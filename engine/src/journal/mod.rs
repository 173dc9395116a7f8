//! The commit journal of one core: whatever wants to be durable, in one write and one flush.
//!
//! A commit group is what came in while the last flush ran. One group is under way at a time; so a group that
//! recovery finds whole proves every group before it. The order of one group:
//!
//! 1. Take the partitions that wait, as long as they fit; wait for room in the ring if there is none.
//! 2. Copy what is small behind the group's header; what is large goes straight to its segment.
//! 3. Write all of it; flush the segments that were written to, then the journal.
//! 4. Settle: high watermarks rise, producers are answered, readers wake.
//!
//! Invariants: the commit changes no file-system metadata but of files that it flushes itself. The ring passes
//! a group only once the core's checkpoint file says that recovery begins behind it (`Journal::pass`).
//! A crash leaves the groups up to the last one that was flushed, perhaps the one after it, and stale blocks.

mod commit;
pub mod format;
mod ring;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flumen_ring::{AlignedBuffer, Region};
use futures_util::future::try_join3;

use crate::CoreId;
use crate::partition::{Partition, Point};
use crate::storage::{DataFile, Directory, OpenMode, Runtime, StorageError, WriteSource};
use flumen_ring::gate::{Broadcast, Signal};
use format::{Cursor, JournalId};
use ring::Ring;

pub(crate) use commit::{run, settle};

/// The folder of the journals, below the log directory. Kafka refuses to start on a directory that has it.
pub const JOURNAL_FOLDER: &str = "flumen-journal";
/// With much more than this to fold into the segments, a start after a crash would take too long.
const NEEDED_BYTES_MAX: u64 = 80 << 20;
/// With more than this what makes it less is done in a hurry.
const NEEDED_BYTES_HURRIED: u64 = 92 << 20;
/// Zeros are written in pieces of this many bytes.
const ZERO_BYTES: usize = 1 << 20;

/// A log that was cut.
struct Cut {
    partition: Partition,
    end: Point,
    /// Raised when a durable group says so.
    is_said: Rc<Cell<bool>>,
}

/// The journal of one core.
pub(crate) struct Journal {
    id: JournalId,
    file: Rc<dyn DataFile>,
    /// How long it may become; no longer than it is once that failed.
    bytes_max: Cell<u64>,
    ring: RefCell<Ring>,
    /// Partitions that have something to commit, in order.
    waiting: RefCell<VecDeque<Partition>>,
    /// How many entries of each group are not in the checkpoint yet.
    needed: RefCell<BTreeMap<u64, usize>>,
    /// Where groups are put together; empty between them.
    scratch: RefCell<Option<Region>>,
    /// Raised when there may be something to commit.
    work: Signal,
    /// Raised when the ring may have room again.
    room: Signal,
    /// The commit waits for room.
    waits_for_room: Cell<bool>,
    /// Raised at the end of every group.
    done: Broadcast,
    /// The newest group that is durable, and whether bytes of it are in segments only.
    newest: Cell<(u64, bool)>,
    /// A group without entries was asked for.
    wants_barrier: Cell<bool>,
    /// Logs that were cut, each with its end now, for the next group to say.
    cuts: RefCell<Vec<Cut>>,
    is_growing: Cell<bool>,
    /// A group is under way.
    is_committing: Cell<bool>,
    /// No group is written any more: the engine has ended.
    is_over: Cell<bool>,
}

/// The path of a core's journal.
pub(crate) fn journal_path(core: CoreId) -> PathBuf {
    Path::new(JOURNAL_FOLDER).join(format!("core-{core}"))
}

impl Journal {
    /// A new, empty journal that is `prepared` for so many bytes. There must be none of this core.
    pub(crate) async fn create(
        runtime: &dyn Runtime,
        directory: &dyn Directory,
        core: CoreId,
        prepared: u64,
        bytes_max: u64,
    ) -> Result<Self, StorageError> {
        let folder = Path::new(JOURNAL_FOLDER);
        directory.create_directory(folder).await?;
        let file = directory.open(&journal_path(core), OpenMode::CreateNew).await?;
        let id = (u128::from(runtime.random()) << 64) | u128::from(runtime.random());
        let prepare = async {
            file.allocate(0, prepared).await?;
            write_zeros(&*file, 0, prepared).await?;
            let mut header = AlignedBuffer::zeroed(format::BLOCK_BYTES);
            format::encode_file_header(id, &mut header);
            file.write(WriteSource::Buffer(header), 0).await.0?;
            file.sync_data().await
        };
        // All of it before the first group; in which order does not matter.
        try_join3(prepare, directory.sync_directory(folder), directory.sync_directory(Path::new(""))).await?;
        Ok(Self {
            id,
            file,
            bytes_max: Cell::new(bytes_max),
            ring: RefCell::new(Ring::new(prepared)),
            waiting: RefCell::new(VecDeque::new()),
            needed: RefCell::new(BTreeMap::new()),
            scratch: RefCell::new(None),
            work: Signal::default(),
            room: Signal::default(),
            waits_for_room: Cell::new(false),
            done: Broadcast::default(),
            newest: Cell::new((0, false)),
            wants_barrier: Cell::new(false),
            cuts: RefCell::new(Vec::new()),
            is_growing: Cell::new(false),
            is_committing: Cell::new(false),
            is_over: Cell::new(false),
        })
    }

    /// The file's identity.
    pub(crate) fn id(&self) -> JournalId {
        self.id
    }

    /// The number that the next group gets.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.ring.borrow().next().0
    }

    /// The partition has something to commit.
    pub(crate) fn enqueue(&self, partition: &Partition) {
        if !partition.inner().wants_commit.replace(true) {
            self.waiting.borrow_mut().push_back(partition.clone());
        }
        self.work.raise();
    }

    /// Lets the commit look around.
    pub(crate) fn wake(&self) {
        self.work.raise();
        self.room.raise();
        self.done.raise();
    }

    /// Forgets who waits: the engine goes away.
    pub(crate) fn clear(&self) {
        self.waiting.borrow_mut().clear();
        self.cuts.borrow_mut().clear();
    }

    /// Whether the ring is so full, or the commit so stuck, that entries should be made unneeded.
    pub(crate) fn is_pressed(&self) -> bool {
        self.needs_more_than(NEEDED_BYTES_MAX)
    }

    /// The same, as fast as it goes.
    pub(crate) fn is_hurried(&self) -> bool {
        self.needs_more_than(NEEDED_BYTES_HURRIED)
    }

    /// Whether more than so many bytes of the ring are needed, or than half of it, or the commit waits for room.
    fn needs_more_than(&self, bytes: u64) -> bool {
        let ring = self.ring.borrow();
        self.waits_for_room.get() || ring.needed_bytes() > (ring.capacity() / 2).min(bytes)
    }

    /// An entry of each of these groups says nothing that the next checkpoint does not say.
    pub(crate) fn forget(&self, sequences: impl IntoIterator<Item = u64>) {
        let mut needed = self.needed.borrow_mut();
        for sequence in sequences {
            if let Some(count) = needed.get_mut(&sequence) {
                *count -= 1;
                if *count == 0 {
                    needed.remove(&sequence);
                }
            }
        }
    }

    /// Where recovery has to begin, once a checkpoint is durable that is put together now.
    pub(crate) fn cursor(&self) -> Cursor {
        let ring = self.ring.borrow();
        let next = ring.next().0;
        let oldest = self.needed.borrow().first_key_value().map_or(next, |(sequence, _)| *sequence);
        ring.cursor(oldest.min(next))
    }

    /// The durable checkpoint says `cursor`: the ring may pass what lies before it.
    pub(crate) fn pass(&self, cursor: &Cursor) {
        self.ring.borrow_mut().release(cursor.sequence);
        self.room.raise();
    }

    /// Completes once the group that is under way now, if any, is done. One that waits for room has not begun, and might
    /// wait for what the caller is about to do.
    pub(crate) async fn settle_group(&self) {
        if self.is_committing.get() && !self.waits_for_room.get() {
            self.done.wait().await;
        }
    }

    /// Whether nobody waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.borrow().is_empty() && self.cuts.borrow().is_empty() && !self.is_committing.get()
    }

    /// Completes at the end of the next group.
    pub(crate) async fn next_group(&self) {
        self.done.wait().await;
    }

    /// Whether the commit waits for room in the ring.
    pub(crate) fn is_stuck(&self) -> bool {
        self.waits_for_room.get()
    }

    /// Whether more of the file should be prepared: at once while the ring is small, and once it takes what a start may
    /// find only if that is not enough.
    pub(crate) fn wants_to_grow(&self) -> bool {
        let ring = self.ring.borrow();
        let (share, of) = if ring.capacity() <= NEEDED_BYTES_MAX { (1, 2) } else { (7, 8) };
        let is_short = self.waits_for_room.get() || ring.needed_bytes() * of > ring.capacity() * share;
        is_short && self.growth().is_some()
    }

    /// How much more of the file could be prepared, as (from, to), if the ring could use it.
    pub(crate) fn growth(&self) -> Option<(u64, u64)> {
        let capacity = self.ring.borrow().capacity();
        (capacity < self.bytes_max.get() && !self.is_growing.get())
            .then(|| (capacity, (capacity * 2).min(self.bytes_max.get())))
    }

    /// Prepares more of the file, so that the ring need not be passed so soon. Failing to is no harm, unless
    /// the flush fails.
    pub(crate) async fn grow(&self, core: &crate::core::Core) {
        let Some((from, to)) = self.growth() else { return };
        self.is_growing.set(true);
        let prepared = async {
            self.file.allocate(from, to - from).await?;
            write_zeros(&*self.file, from, to - from).await
        };
        match prepared.await {
            Ok(()) => {
                if core.sync(&self.file).await.is_ok() {
                    self.ring.borrow_mut().grow(to);
                    self.room.raise();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the journal cannot grow");
                // What there is must do for this life.
                self.bytes_max.set(from);
            }
        }
        self.is_growing.set(false);
        // Who gives up for want of room waits for this.
        core.write_behind.wake();
    }

    /// Whether more of the file is being prepared.
    pub(crate) fn is_growing(&self) -> bool {
        self.is_growing.get()
    }

    /// Completes once a durable group says that the log ends at `end`: whatever groups before it say of what lay behind,
    /// a start without a sound checkpoint must not bring it back. As after [`Journal::barrier`], files may be changed
    /// then.
    pub(crate) async fn say_cut(
        &self,
        core: &crate::core::Core,
        partition: &Partition,
        end: Point,
    ) -> Result<(), StorageError> {
        let is_said = Rc::new(Cell::new(false));
        self.cuts.borrow_mut().push(Cut { partition: partition.clone(), end, is_said: is_said.clone() });
        self.work.raise();
        while !is_said.get() {
            self.check_goes_on(core)?;
            self.done.wait().await;
        }
        Ok(())
    }

    /// Whether groups are still written.
    fn check_goes_on(&self, core: &crate::core::Core) -> Result<(), StorageError> {
        if let Some(error) = core.failure() {
            return Err(error);
        }
        if self.is_over.get() {
            return Err(StorageError::refused("write", journal_path(core.config.core)));
        }
        Ok(())
    }

    /// Completes once the newest durable group holds all of its bytes itself, so that files may be changed
    /// which a group could still be checked against; see `docs/disk-format.md`.
    pub(crate) async fn barrier(&self, core: &crate::core::Core) -> Result<(), StorageError> {
        while self.newest.get().1 {
            self.check_goes_on(core)?;
            self.wants_barrier.set(true);
            self.work.raise();
            self.done.wait().await;
        }
        Ok(())
    }
}

/// Writes zeros, so that later writes convert no extents.
async fn write_zeros(file: &dyn DataFile, from: u64, length: u64) -> Result<(), StorageError> {
    let mut zeros = AlignedBuffer::zeroed(ZERO_BYTES.min(length as usize));
    let mut at = from;
    while at < from + length {
        let left = (from + length - at) as usize;
        if left < zeros.len() {
            zeros = AlignedBuffer::zeroed(left);
        }
        let written = zeros.len() as u64;
        let (result, source) = file.write(WriteSource::Buffer(zeros), at).await;
        result?;
        let WriteSource::Buffer(buffer) = source else { unreachable!("the source comes back") };
        zeros = buffer;
        at += written;
    }
    Ok(())
}
