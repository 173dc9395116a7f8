//! The seam between the engine and the world: one log directory, its files, time, tasks and chance.
//!
//! The engine runs unchanged on [`Runtime`] and [`Directory`] of the real reactor and on those of the
//! simulation, where one seed replays one history. Everything is of one core and `!Send`; a future owns
//! what it needs (`'static`), also the memory that the kernel reads or writes, until it completes.

pub mod sim;
pub mod uring;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use flumen_ring::{AlignedBuffer, ChunkPool, Slice};
use futures_util::future::LocalBoxFuture;

/// An operation under way. Dropping it does not free the memory that the kernel still uses.
pub type Pending<T> = LocalBoxFuture<'static, T>;

/// Time, tasks and chance of one core.
pub trait Runtime {
    /// Runs `task` on this core until it ends.
    fn spawn(&self, task: Pending<()>);
    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
    /// The wall clock, milliseconds since 1970 UTC; may go back.
    fn wall_ms(&self) -> i64;
    /// [`Runtime::monotonic`] when this turn of the running task began.
    fn turn_began(&self) -> Duration {
        self.monotonic()
    }
    /// [`Runtime::wall_ms`] when this turn of the running task began, give or take a millisecond.
    fn turn_wall_ms(&self) -> i64 {
        self.wall_ms()
    }
    /// Completes no sooner than `duration` from now.
    fn sleep(&self, duration: Duration) -> Pending<()>;
    /// Completes after every other ready task had its turn.
    fn yield_now(&self) -> Pending<()>;
    /// 64 random bits; from the seed in a simulation.
    fn random(&self) -> u64;
}

/// What went wrong with a file, with what is needed to say where.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} of {path} at {position} ({length} bytes): {kind}")]
pub struct StorageError {
    /// `open`, `read`, `write`, `fdatasync`, …
    pub operation: &'static str,
    /// The file, below its log directory.
    pub path: PathBuf,
    /// Where in the file; 0 for the file as a whole.
    pub position: u64,
    /// How many bytes were asked for.
    pub length: u64,
    /// What the kernel said.
    pub kind: StorageErrorKind,
}

impl StorageError {
    /// What was not even tried; see [`StorageErrorKind::Refused`].
    pub(crate) fn refused(operation: &'static str, path: PathBuf) -> Self {
        Self { operation, path, position: 0, length: 0, kind: StorageErrorKind::Refused }
    }
}

/// The kinds of failure that the engine tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageErrorKind {
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// ENOSPC, EDQUOT: the write did not happen, the directory is sound.
    #[error("no space left on the device")]
    NoSpace,
    /// Any other errno (EIO, EROFS, EMFILE …).
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// Fewer bytes than the file was known to hold.
    #[error("the file ended early")]
    Short,
    /// Not tried: an error before, or the end of the engine, rules it out.
    #[error("not tried, since it failed before or the engine is stopping")]
    Refused,
}

/// The process has too many files open.
const EMFILE: i32 = 24;
/// The machine has.
const ENFILE: i32 = 23;

impl StorageErrorKind {
    /// Whether there was too little of something for now: nothing was done, and nothing is wrong with the directory.
    pub(crate) fn is_shortage(self) -> bool {
        self == Self::NoSpace || self.is_out_of_files()
    }

    /// Whether nothing more could be opened.
    pub(crate) fn is_out_of_files(self) -> bool {
        matches!(self, Self::Errno(EMFILE | ENFILE))
    }
}

/// What was asked for, or `None` where there is no such file or folder.
pub(crate) fn if_there<T>(result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == StorageErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing, for reading and writing.
    Existing,
    /// New; an existing one is an error.
    CreateNew,
    /// Existing or new.
    CreateOrOpen,
}

/// A file or folder in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// Its last path component.
    pub name: String,
    /// Whether it is a folder.
    pub is_directory: bool,
    /// Its length in bytes; 0 for a folder.
    pub length: u64,
    /// When its contents changed last, in milliseconds since 1970 UTC; `None` for a folder.
    pub modified_ms: Option<i64>,
}

/// A folder's listing, and the contents of one small file in it, if that is there. Lengths are of what was asked for.
pub type Visited = (Vec<DirectoryEntry>, Option<Vec<u8>>);

/// One log directory. Paths are relative to it. What may block runs on a helper thread.
pub trait Directory {
    /// Positions, lengths and memory of reads and writes are multiples of this (a power of two, ≤ 4096).
    fn alignment(&self) -> usize;
    /// Memory for a cache of `chunks` chunks on this core. Ordinary memory, unless said otherwise.
    fn chunk_pool(&self, chunks: usize) -> ChunkPool {
        ChunkPool::heap(chunks)
    }
    /// Opens a data file for direct I/O.
    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Result<Rc<dyn DataFile>, StorageError>>;
    /// The whole of a small file, at most `length_max` bytes (longer: `Errno(EFBIG)`).
    fn read(&self, path: &Path, length_max: usize) -> Pending<Result<Vec<u8>, StorageError>>;
    /// The whole of small files of one folder, each as `read` gives it; `None` where there is none.
    fn read_each(
        &self,
        folder: &Path,
        names: Vec<String>,
        length_max: usize,
    ) -> Pending<Result<Vec<Option<Vec<u8>>>, StorageError>> {
        let reads: Vec<_> = names.iter().map(|name| self.read(&folder.join(name), length_max)).collect();
        Box::pin(async move {
            let mut contents = Vec::with_capacity(reads.len());
            for read in reads {
                contents.push(if_there(read.await)?);
            }
            Ok(contents)
        })
    }
    /// Replaces a small file durably: temporary file, fsync, rename, fsync of the folder.
    fn replace(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>>;
    /// As `replace`, but durable only after `sync_all`: a crash before that may leave the old file, the new one,
    /// or a torn one.
    fn replace_later(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>>;
    /// What a folder holds, sorted by name.
    fn list(&self, path: &Path) -> Pending<Result<Vec<DirectoryEntry>, StorageError>>;
    /// What a folder holds, and the whole of the small file `name` in it, if it is there. How long a file is, and when
    /// it changed, it says of those whose names are to be `measured`; 0 and `None` of others.
    fn visit(
        &self,
        path: &Path,
        name: &str,
        length_max: usize,
        measured: fn(&str) -> bool,
    ) -> Pending<Result<Visited, StorageError>> {
        let (list, read) = (self.list(path), self.read(&path.join(name), length_max));
        Box::pin(async move {
            let mut listed = list.await?;
            for entry in listed.iter_mut().filter(|entry| !measured(&entry.name)) {
                (entry.length, entry.modified_ms) = (0, None);
            }
            Ok((listed, if_there(read.await)?))
        })
    }
    /// Creates a folder; one that exists is no error. Durable only after `sync_directory` of its parent.
    fn create_directory(&self, path: &Path) -> Pending<Result<(), StorageError>>;
    /// Renames within the log directory. Durable only after `sync_directory` of the parent(s).
    fn rename(&self, from: &Path, to: &Path) -> Pending<Result<(), StorageError>>;
    /// Unlinks a file; a missing one is no error.
    fn remove_file(&self, path: &Path) -> Pending<Result<(), StorageError>>;
    /// Unlinks a folder and everything in it; a missing one is no error.
    fn remove_directory(&self, path: &Path) -> Pending<Result<(), StorageError>>;
    /// As `remove_file`, for what may be large and nobody waits for: where that would keep the file system busy, its
    /// name is made durable, and its space comes back bit by bit. Whoever still reads it finds it shorter, and what a
    /// stop leaves of it keeps its name.
    fn reclaim_file(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.remove_file(path)
    }
    /// `remove_directory` in the same way.
    fn reclaim_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.remove_directory(path)
    }
    /// Makes everything in the log directory durable, contents, lengths and names (syncfs of its file system): for who
    /// changes many files at once. It takes as long as others' data do that are to be written to that file system.
    fn sync_all(&self) -> Pending<Result<(), StorageError>>;
    /// Makes the names in a folder durable (fsync of the folder).
    fn sync_directory(&self, path: &Path) -> Pending<Result<(), StorageError>>;
}

/// Memory that a write takes its bytes from; owned by the operation until it completes.
#[derive(Debug)]
pub enum WriteSource {
    /// Published bytes of the cache, which never change.
    Slice(Slice),
    /// A private copy: a padded tail block, a journal group.
    Buffer(AlignedBuffer),
}

/// A data file, open for direct I/O.
pub trait DataFile {
    /// Reads up to `length` bytes at `position` into the start of `buffer`; both aligned. Returns how many
    /// were read: fewer only at the end of the file.
    fn read(
        &self,
        buffer: AlignedBuffer,
        position: u64,
        length: usize,
    ) -> Pending<(Result<usize, StorageError>, AlignedBuffer)>;
    /// Writes all of `source` at `position`; both aligned. The source comes back to be used again.
    fn write(&self, source: WriteSource, position: u64) -> Pending<(Result<(), StorageError>, WriteSource)>;
    /// The file's length now, as the file system knows it.
    fn length(&self) -> Pending<Result<u64, StorageError>>;
    /// Whether there may be anything but zeros at or behind `position`: not in space that was reserved and never written.
    fn holds_data_from(&self, position: u64) -> Pending<Result<bool, StorageError>>;
    /// Reserves space for `length` bytes from `position` and extends the file to cover it (fallocate).
    fn allocate(&self, position: u64, length: u64) -> Pending<Result<(), StorageError>>;
    /// Cuts or extends (with zeros) to `length`.
    fn truncate(&self, length: u64) -> Pending<Result<(), StorageError>>;
    /// fdatasync: content and what is needed to read it back are durable when it completes.
    fn sync_data(&self) -> Pending<Result<(), StorageError>>;
}
