//! What the simulated disk holds: what is durable, what only seems to be, and what a crash makes of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::random::Random;
use crate::storage::StorageErrorKind;

/// What is written as one, or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

pub(super) type InodeId = u64;
pub(super) const ROOT: InodeId = 0;

/// How often an operation fails, out of a million; all 0 by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// A write fails with EIO; some of its sectors may be there.
    pub write_per_million: u64,
    /// A flush fails with EIO; what it covered may never be durable.
    pub flush_per_million: u64,
    /// A read fails with EIO, or comes short.
    pub read_per_million: u64,
    /// An operation on names or whole small files fails with EIO.
    pub name_per_million: u64,
    /// Bytes that all files together may have; 0 for no limit. Beyond: ENOSPC.
    pub capacity_bytes: u64,
    /// Data files that may be open at a time; 0 for no limit. Beyond: EMFILE, also where a folder is to be flushed.
    pub open_files_max: u64,
    /// A new name finds no room: ENOSPC.
    pub names_full: bool,
    /// A flush of everything takes so many microseconds longer: others have much to write to the same file system.
    pub sync_all_micros: u64,
}

/// A disk that breaks a promise: with it, a checker that is worth something must find a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutation {
    /// The honest disk.
    #[default]
    None,
    /// A flush reports success and does nothing.
    FlushDoesNothing,
    /// A flush of a journal reports success and does nothing: as if the engine acknowledged too early.
    JournalFlushDoesNothing,
    /// A flush of a segment reports success and does nothing: as if the journal's ring passed too early.
    SegmentFlushDoesNothing,
    /// A segment that shall be cut stays as it is: as if the engine did not care for its end.
    CutDoesNothing,
    /// A flush of a folder reports success and does nothing.
    DirectorySyncDoesNothing,
    /// A crash forgets even what was flushed, now and then: the last sector written.
    ForgetsFlushedSector,
    /// A crash swaps two sectors of a file, now and then.
    SwapsSectors,
}

impl Mutation {
    pub(super) fn skips_flush_of(self, path: &Path) -> bool {
        match self {
            Self::FlushDoesNothing => true,
            Self::JournalFlushDoesNothing => path.starts_with("flumen-journal"),
            Self::SegmentFlushDoesNothing => path.extension().is_some_and(|kind| kind == "log"),
            _ => false,
        }
    }

    pub(super) fn skips_cut_of(self, path: &Path) -> bool {
        self == Self::CutDoesNothing && path.extension().is_some_and(|kind| kind == "log")
    }
}

/// What happened on the disk so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Operations begun or completed: the moments between which a crash can happen.
    pub steps: u64,
    /// Data files opened.
    pub opens: u64,
    /// Reads of data files completed.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// Flushes completed.
    pub flushes: u64,
    /// Faults reported to the engine.
    pub faults: u64,
    /// Crashes.
    pub crashes: u64,
}

/// A disk that outlives the lives of the process. Cloning it clones the handle.
#[derive(Clone)]
pub struct SimDisk {
    pub(super) inner: Rc<RefCell<Disk>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(random: Random) -> Self {
        let mut inodes = BTreeMap::new();
        inodes.insert(ROOT, Inode::Folder(Folder::default()));
        let disk = Disk {
            inodes,
            inodes_created: ROOT,
            changes: 0,
            writes_in_flight: BTreeMap::new(),
            random,
            faults: FaultPlan::default(),
            mutation: Mutation::None,
            stats: DiskStats::default(),
            wall_ms: 0,
            crash_at_step: None,
        };
        Self { inner: Rc::new(RefCell::new(disk)) }
    }

    /// How often operations fail from now on.
    pub fn set_faults(&self, faults: FaultPlan) {
        self.inner.borrow_mut().faults = faults;
    }

    /// Which promise the disk breaks from now on.
    pub fn set_mutation(&self, mutation: Mutation) {
        self.inner.borrow_mut().mutation = mutation;
    }

    /// Cuts the power `steps` operations from now; `None` never does.
    pub fn crash_after(&self, steps: Option<u64>) {
        let mut disk = self.inner.borrow_mut();
        disk.crash_at_step = steps.map(|steps| disk.stats.steps + steps);
    }

    /// What happened so far.
    pub fn stats(&self) -> DiskStats {
        self.inner.borrow().stats
    }

    /// What the cut of power leaves: every file and folder becomes one of the states that the fault model
    /// allows. Every handle and every operation under way is void.
    pub fn crash(&self) {
        self.inner.borrow_mut().crash();
    }

    /// The process was killed, but not the machine: what was written stays, and operations under way may or may
    /// not have happened.
    pub fn kill(&self) {
        let mut disk = self.inner.borrow_mut();
        disk.crash_at_step = None;
        disk.settle_writes_in_flight();
        for inode in disk.inodes.values_mut() {
            if let Inode::File(file) = inode {
                file.open = 0;
            }
        }
        disk.sweep();
    }

    /// Flips one random bit of what is durable in the file at `path`, within `range` of its bytes; says whether
    /// there was one.
    pub fn flip_bit(&self, path: &Path, range: std::ops::Range<u64>) -> bool {
        let mut disk = self.inner.borrow_mut();
        let Some(inode) = disk.lookup(path) else { return false };
        let end = disk.file(inode).durable.len().min(range.end as usize);
        if range.start as usize >= end {
            return false;
        }
        let position = disk.random.range(range.start..end as u64) as usize;
        let bit = disk.random.index(8);
        let file = disk.file_mut(inode);
        file.durable[position] ^= 1 << bit;
        if position < file.view.len() {
            file.view[position] ^= 1 << bit;
        }
        true
    }

    /// Every file, with its length and how many of its changes a flush would make durable, by path: for a test's
    /// report.
    pub fn files(&self) -> Vec<(String, u64, usize)> {
        let disk = self.inner.borrow();
        let mut found = Vec::new();
        disk.walk(ROOT, "", &mut |path, file| {
            let pending = file.pending.iter().filter(|pending| !pending.given_up).count();
            found.push((path.to_owned(), file.view.len() as u64, pending));
        });
        found
    }

    /// The contents of a file as a read would find them, if there is one.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.inner.borrow();
        let inode = disk.lookup(path)?;
        match &disk.inodes[&inode] {
            Inode::File(file) => Some(file.view.clone()),
            Inode::Folder(_) => None,
        }
    }

    /// Removes a file, durably at once; one that is not there is no matter.
    pub fn unlink(&self, path: &Path) {
        let mut disk = self.inner.borrow_mut();
        let mut names: Vec<String> = names_of(path).map(str::to_owned).collect();
        let Some(name) = names.pop() else { return };
        let mut folder = ROOT;
        for part in names {
            let Some(inode) = disk.folder(folder).view.get(&part).copied() else { return };
            folder = inode;
        }
        let folder = disk.folder_mut(folder);
        folder.durable.remove(&name);
        folder.view.remove(&name);
        disk.sweep();
    }

    /// Puts a file where it is durable at once, with its folders: a directory that somebody else left behind.
    pub fn place(&self, path: &Path, contents: &[u8]) {
        let mut disk = self.inner.borrow_mut();
        let mut folder = ROOT;
        let mut names: Vec<String> = names_of(path).map(str::to_owned).collect();
        let last = names.pop().expect("a file has a name");
        for name in names {
            folder = match disk.folder(folder).view.get(&name) {
                Some(inode) => *inode,
                None => {
                    let inode = disk.create(Inode::Folder(Folder::default()));
                    disk.folder_mut(folder).place(&name, inode);
                    inode
                }
            };
        }
        let file = File { durable: contents.to_vec(), view: contents.to_vec(), ..File::default() };
        let inode = disk.create(Inode::File(file));
        disk.folder_mut(folder).place(&last, inode);
    }
}

/// The state behind [`SimDisk`].
pub(super) struct Disk {
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    inodes_created: InodeId,
    /// How many changes there were; the order of all of them.
    changes: u64,
    /// Writes that began and did not complete.
    writes_in_flight: BTreeMap<u64, WriteInFlight>,
    pub(super) random: Random,
    pub(super) faults: FaultPlan,
    pub(super) mutation: Mutation,
    pub(super) stats: DiskStats,
    /// The wall clock of the process as of its latest operation.
    pub(super) wall_ms: i64,
    crash_at_step: Option<u64>,
}

pub(super) enum Inode {
    File(File),
    Folder(Folder),
}

/// A file's contents. Invariant: `view` is `durable` after every change of `pending`, in order.
#[derive(Default)]
pub(super) struct File {
    /// What a crash cannot take.
    durable: Vec<u8>,
    /// What a read sees.
    pub(super) view: Vec<u8>,
    /// What lies between the two.
    pending: Vec<PendingChange>,
    /// Handles in this life.
    pub(super) open: u32,
    /// When it changed last, by the clock of the process. A crash leaves it.
    pub(super) modified_ms: i64,
}

struct PendingChange {
    order: u64,
    change: Change,
    /// A flush failed over it: no later one makes it durable.
    given_up: bool,
}

#[derive(Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Resize { length: usize },
}

struct WriteInFlight {
    inode: InodeId,
    position: usize,
    bytes: Vec<u8>,
}

/// A folder's names, as they are seen, and as a crash may find them.
#[derive(Default)]
pub(super) struct Folder {
    durable: BTreeMap<String, InodeId>,
    pub(super) view: BTreeMap<String, InodeId>,
    pending: Vec<NameChange>,
}

#[derive(Clone)]
enum NameChange {
    Link {
        name: String,
        inode: InodeId,
    },
    Unlink {
        name: String,
    },
    /// A rename within the folder: both or neither.
    Move {
        from: String,
        to: String,
        inode: InodeId,
    },
}

impl Folder {
    fn place(&mut self, name: &str, inode: InodeId) {
        self.durable.insert(name.to_owned(), inode);
        self.view.insert(name.to_owned(), inode);
    }

    fn change(&mut self, change: NameChange) {
        apply_name(&mut self.view, &change);
        self.pending.push(change);
    }

    pub(super) fn link(&mut self, name: &str, inode: InodeId) {
        self.change(NameChange::Link { name: name.to_owned(), inode });
    }

    pub(super) fn unlink(&mut self, name: &str) {
        self.change(NameChange::Unlink { name: name.to_owned() });
    }

    pub(super) fn rename_within(&mut self, from: &str, to: &str, inode: InodeId) {
        self.change(NameChange::Move { from: from.to_owned(), to: to.to_owned(), inode });
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.view.clone();
        self.pending.clear();
    }
}

fn apply_name(names: &mut BTreeMap<String, InodeId>, change: &NameChange) {
    match change {
        NameChange::Link { name, inode } => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Unlink { name } => {
            names.remove(name);
        }
        NameChange::Move { from, to, inode } => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

fn apply(contents: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize { length } => contents.resize(*length, 0),
        // What lies behind the end (its allocation was lost) has no place to be.
        Change::Write { position, bytes } => {
            let end = (position + bytes.len()).min(contents.len());
            if *position < end {
                contents[*position..end].copy_from_slice(&bytes[..end - position]);
            }
        }
    }
}

/// What was given up cannot come back over what is durable in its place.
fn supersede(given_up: &mut Vec<PendingChange>, durable: &Change) {
    match durable {
        Change::Resize { .. } => given_up.retain(|old| matches!(old.change, Change::Write { .. })),
        Change::Write { position, bytes } => {
            let (start, end) = (*position, position + bytes.len());
            for old in std::mem::take(given_up) {
                let Change::Write { position, bytes } = &old.change else {
                    given_up.push(old);
                    continue;
                };
                let before = *position..(position + bytes.len()).min(start);
                let behind = (*position).max(end)..position + bytes.len();
                for left in [before, behind].into_iter().filter(|left| !left.is_empty()) {
                    let bytes = bytes[left.start - position..left.end - position].to_vec();
                    let change = Change::Write { position: left.start, bytes };
                    given_up.push(PendingChange { change, ..old });
                }
            }
        }
    }
}

impl Disk {
    /// Counts a moment between two operations; says whether the power is cut now.
    pub(super) fn step(&mut self) -> bool {
        self.stats.steps += 1;
        self.crash_at_step.is_some_and(|at| self.stats.steps >= at)
    }

    /// Whether an operation fails now.
    pub(super) fn fails(&mut self, per_million: u64) -> bool {
        let fails = per_million > 0 && self.random.chance(per_million, 1_000_000);
        self.stats.faults += u64::from(fails);
        fails
    }

    pub(super) fn lookup(&self, path: &Path) -> Option<InodeId> {
        let mut inode = ROOT;
        for name in names_of(path) {
            let Inode::Folder(folder) = &self.inodes[&inode] else { return None };
            inode = *folder.view.get(name)?;
        }
        Some(inode)
    }

    /// The folder that holds `path`, and the name in it.
    pub(super) fn parent<'p>(&self, path: &'p Path) -> Option<(InodeId, &'p str)> {
        let name = names_of(path).last()?;
        let parent = self.lookup(path.parent().unwrap_or(Path::new("")))?;
        matches!(self.inodes[&parent], Inode::Folder(_)).then_some((parent, name))
    }

    pub(super) fn create(&mut self, inode: Inode) -> InodeId {
        self.inodes_created += 1;
        self.inodes.insert(self.inodes_created, inode);
        self.inodes_created
    }

    pub(super) fn file(&self, inode: InodeId) -> &File {
        match self.inodes.get(&inode) {
            Some(Inode::File(file)) => file,
            _ => panic!("inode {inode} is no file"),
        }
    }

    pub(super) fn file_mut(&mut self, inode: InodeId) -> &mut File {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(file)) => file,
            _ => panic!("inode {inode} is no file"),
        }
    }

    pub(super) fn folder(&self, inode: InodeId) -> &Folder {
        match &self.inodes[&inode] {
            Inode::Folder(folder) => folder,
            Inode::File(_) => panic!("inode {inode} is no folder"),
        }
    }

    pub(super) fn folder_mut(&mut self, inode: InodeId) -> &mut Folder {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Folder(folder)) => folder,
            _ => panic!("inode {inode} is no folder"),
        }
    }

    fn used_bytes(&self) -> u64 {
        let bytes = |inode: &Inode| match inode {
            Inode::File(file) => file.view.len() as u64,
            Inode::Folder(_) => 0,
        };
        self.inodes.values().map(bytes).sum()
    }

    /// Whether one more file may be open.
    pub(super) fn may_open(&mut self) -> bool {
        let open = |inode: &Inode| match inode {
            Inode::File(file) => file.open as u64,
            Inode::Folder(_) => 0,
        };
        let open_files_max = self.faults.open_files_max;
        let may = open_files_max == 0 || self.inodes.values().map(open).sum::<u64>() < open_files_max;
        self.stats.faults += u64::from(!may);
        may
    }

    /// Extends a file, or says that there is no room.
    pub(super) fn grow(&mut self, inode: InodeId, length: u64) -> Result<(), StorageErrorKind> {
        let more = length.saturating_sub(self.file(inode).view.len() as u64);
        if more == 0 {
            return Ok(());
        }
        if self.faults.capacity_bytes > 0 && self.used_bytes() + more > self.faults.capacity_bytes {
            self.stats.faults += 1;
            return Err(StorageErrorKind::NoSpace);
        }
        self.resize(inode, length);
        Ok(())
    }

    /// Sets a file's length.
    ///
    /// # Panics
    /// If that cuts a write in flight: their order would be left to chance.
    pub(super) fn resize(&mut self, inode: InodeId, length: u64) {
        let shrinks = length < self.file(inode).view.len() as u64;
        for write in self.writes_in_flight.values().filter(|_| shrinks) {
            let behind = write.inode == inode && (write.position + write.bytes.len()) as u64 > length;
            assert!(!behind, "a file is cut to {length} bytes under a write at {}", write.position);
        }
        self.push_change(inode, Change::Resize { length: length as usize });
    }

    /// Notes that a write began.
    ///
    /// # Panics
    /// If another write to the same bytes is in flight.
    pub(super) fn begin_write(&mut self, inode: InodeId, position: u64, bytes: &[u8]) -> u64 {
        let (start, end) = (position as usize, position as usize + bytes.len());
        for write in self.writes_in_flight.values() {
            let apart =
                write.inode != inode || end <= write.position || write.position + write.bytes.len() <= start;
            assert!(apart, "two writes in flight overlap at {start}..{end} of inode {inode}");
        }
        self.changes += 1;
        let write = WriteInFlight { inode, position: start, bytes: bytes.to_vec() };
        self.writes_in_flight.insert(self.changes, write);
        self.changes
    }

    /// Ends a write: all of it is there, or, if it `failed`, some of its sectors.
    pub(super) fn end_write(&mut self, write: u64, failed: bool) -> Result<(), StorageErrorKind> {
        let Some(write) = self.writes_in_flight.remove(&write) else { return Ok(()) };
        self.grow(write.inode, (write.position + write.bytes.len()) as u64)?;
        if failed {
            self.write_some_sectors(write);
            return Err(StorageErrorKind::Errno(EIO));
        }
        self.stats.writes += 1;
        self.push_change(write.inode, Change::Write { position: write.position, bytes: write.bytes });
        Ok(())
    }

    fn write_some_sectors(&mut self, write: WriteInFlight) {
        for (index, sector) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
            if self.random.chance(1, 2) {
                let position = write.position + index * SECTOR_BYTES;
                self.push_change(write.inode, Change::Write { position, bytes: sector.to_vec() });
            }
        }
    }

    fn push_change(&mut self, inode: InodeId, change: Change) {
        self.changes += 1;
        let (order, modified_ms) = (self.changes, self.wall_ms);
        let file = self.file_mut(inode);
        file.modified_ms = modified_ms;
        apply(&mut file.view, &change);
        file.pending.push(PendingChange { order, change, given_up: false });
    }

    /// The files whose flushes the mutation leaves out.
    pub(super) fn files_not_flushed(&self) -> BTreeSet<InodeId> {
        let mut found = BTreeSet::new();
        let mut folders = vec![(PathBuf::new(), ROOT)];
        while let Some((path, inode)) = folders.pop() {
            for (name, held) in &self.folder(inode).view {
                let path = path.join(name);
                match &self.inodes[held] {
                    Inode::Folder(_) => folders.push((path, *held)),
                    Inode::File(_) if self.mutation.skips_flush_of(&path) => {
                        found.insert(*held);
                    }
                    Inode::File(_) => {}
                }
            }
        }
        found
    }

    /// The moment that a flush which begins now covers.
    pub(super) fn barrier(&self) -> u64 {
        self.changes
    }

    /// Ends a flush that began at `barrier`.
    pub(super) fn end_flush(&mut self, inode: InodeId, barrier: u64) {
        self.stats.flushes += 1;
        let file = self.file_mut(inode);
        let mut later = Vec::new();
        for pending in file.pending.drain(..) {
            if pending.order > barrier || pending.given_up {
                later.push(pending);
            } else {
                apply(&mut file.durable, &pending.change);
                supersede(&mut later, &pending.change);
            }
        }
        file.pending = later;
    }

    /// Ends a flush that failed: what it covered is left to chance, for good.
    pub(super) fn fail_flush(&mut self, inode: InodeId, barrier: u64) {
        let mut random = self.random.fork();
        for pending in &mut self.file_mut(inode).pending {
            // A file system whose own journal fails goes no further: what can be lost silently is contents.
            let is_content = matches!(pending.change, Change::Write { .. });
            if is_content && pending.order <= barrier && random.chance(1, 2) {
                pending.given_up = true;
            }
        }
    }

    /// Frees what has neither a handle nor a name that is seen or may come back.
    pub(super) fn sweep(&mut self) {
        let mut reachable = BTreeSet::from([ROOT]);
        let mut next = vec![ROOT];
        while let Some(inode) = next.pop() {
            let Some(Inode::Folder(folder)) = self.inodes.get(&inode) else { continue };
            let changed = folder.pending.iter().filter_map(|change| match change {
                NameChange::Link { inode, .. } | NameChange::Move { inode, .. } => Some(inode),
                NameChange::Unlink { .. } => None,
            });
            for held in folder.view.values().chain(folder.durable.values()).chain(changed) {
                if reachable.insert(*held) {
                    next.push(*held);
                }
            }
        }
        self.inodes.retain(|id, inode| {
            reachable.contains(id) || matches!(inode, Inode::File(file) if file.open > 0)
        });
    }

    fn settle_writes_in_flight(&mut self) {
        for (_, write) in std::mem::take(&mut self.writes_in_flight) {
            let end = write.position + write.bytes.len();
            if end <= self.file(write.inode).view.len() {
                self.write_some_sectors(write);
            }
        }
    }

    fn crash(&mut self) {
        self.stats.crashes += 1;
        self.crash_at_step = None;
        self.settle_writes_in_flight();
        let mut random = self.random.fork();
        let mutation = self.mutation;
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => file.crash(&mut random, mutation),
                Inode::Folder(folder) => {
                    let kept = random.index(folder.pending.len() + 1);
                    for change in &folder.pending[..kept] {
                        apply_name(&mut folder.durable, change);
                    }
                    folder.pending.clear();
                    folder.view = folder.durable.clone();
                }
            }
        }
        self.sweep();
    }

    fn walk(&self, inode: InodeId, path: &str, visit: &mut dyn FnMut(&str, &File)) {
        match &self.inodes[&inode] {
            Inode::File(file) => visit(path, file),
            Inode::Folder(folder) => {
                for (name, inode) in &folder.view {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    self.walk(*inode, &path, visit);
                }
            }
        }
    }
}

impl File {
    /// Leaves one of the states that the fault model allows.
    fn crash(&mut self, random: &mut Random, mutation: Mutation) {
        self.open = 0;
        let pending = std::mem::take(&mut self.pending);
        let is_resize = |pending: &&PendingChange| matches!(pending.change, Change::Resize { .. });
        let resizes = pending.iter().filter(is_resize).count();
        // Extremes are as likely as what lies between: nothing, everything, or a share of the sectors.
        let (resizes_kept, sectors_kept_of_8) = match random.index(4) {
            0 => (0, 0),
            1 => (resizes, 8),
            2 => (resizes, 0),
            _ => (random.index(resizes + 1), random.range(0..9)),
        };
        let mut resizes_seen = 0;
        for pending in &pending {
            match &pending.change {
                Change::Resize { .. } => {
                    resizes_seen += 1;
                    if resizes_seen <= resizes_kept {
                        apply(&mut self.durable, &pending.change);
                    }
                }
                Change::Write { position, bytes } => {
                    for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if random.chance(sectors_kept_of_8, 8) {
                            let position = position + index * SECTOR_BYTES;
                            apply(&mut self.durable, &Change::Write { position, bytes: sector.to_vec() });
                        }
                    }
                }
            }
        }
        self.mutate(random, mutation);
        self.view = self.durable.clone();
    }

    fn mutate(&mut self, random: &mut Random, mutation: Mutation) {
        let sectors = self.durable.len() / SECTOR_BYTES;
        if sectors < 2 || !random.chance(1, 2) {
            return;
        }
        match mutation {
            Mutation::ForgetsFlushedSector => {
                let written = |sector: &&[u8]| sector.iter().any(|byte| *byte != 0);
                let last = self.durable.chunks(SECTOR_BYTES).rposition(|sector| written(&sector));
                if let Some(last) = last {
                    let end = ((last + 1) * SECTOR_BYTES).min(self.durable.len());
                    self.durable[last * SECTOR_BYTES..end].fill(0);
                }
            }
            Mutation::SwapsSectors => {
                let (first, second) = (random.index(sectors), random.index(sectors));
                for byte in 0..SECTOR_BYTES {
                    self.durable.swap(first * SECTOR_BYTES + byte, second * SECTOR_BYTES + byte);
                }
            }
            _ => {}
        }
    }
}

/// EMFILE.
pub(super) const EMFILE: i32 = 24;
/// EIO.
pub(super) const EIO: i32 = 5;

/// The names in a relative path, from the top.
fn names_of(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_str().expect("a path in a log directory is UTF-8")),
        Component::CurDir => None,
        _ => panic!("{} leaves its log directory", path.display()),
    })
}
