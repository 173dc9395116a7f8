//! The seam's real side: one core's reactor, and a log directory on the machine's file system.
//!
//! [`LogDirectory`] is opened once per process, before the cores run: it takes the lock, probes direct I/O and
//! starts the directory's helper threads. Each core then attaches it to its own ring.

mod directory;
mod file;
mod reclaim;

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flumen_ring::{ChunkHelpers, FileLock, Helper, LockError, ProbeError, Ring, probe_direct_io};

use super::{Pending, Runtime, StorageErrorKind};

use reclaim::Reclaimer;

pub use directory::RingDirectory;

/// Time, tasks and chance of the reactor's core.
pub struct RingRuntime {
    ring: Ring,
    started: Instant,
    /// What the wall clock said last, and in which turn.
    wall: Cell<Option<(Instant, i64)>>,
    /// The state of a SplitMix64 generator, seeded by the system.
    random: Cell<u64>,
}

impl RingRuntime {
    /// On the reactor of the calling thread.
    pub fn new(ring: &Ring) -> Rc<Self> {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        // The fixed bits of a random UUID do not meet in this sum.
        let random = Cell::new(high ^ low.rotate_left(32));
        Rc::new(Self { ring: ring.clone(), started: ring.now(), wall: Cell::new(None), random })
    }
}

impl Runtime for RingRuntime {
    fn spawn(&self, task: Pending<()>) {
        self.ring.spawn(task);
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock before 1970.
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn turn_began(&self) -> Duration {
        self.ring.turn_began().saturating_duration_since(self.started)
    }

    fn turn_wall_ms(&self) -> i64 {
        let turn = self.ring.turn_began();
        if let Some((read_in, ms)) = self.wall.get()
            && turn.saturating_duration_since(read_in) < Duration::from_millis(1)
        {
            return ms;
        }
        let ms = self.wall_ms();
        self.wall.set(Some((turn, ms)));
        ms
    }

    fn sleep(&self, duration: Duration) -> Pending<()> {
        Box::pin(self.ring.sleep(duration))
    }

    fn yield_now(&self) -> Pending<()> {
        Box::pin(self.ring.yield_now())
    }

    fn random(&self) -> u64 {
        // SplitMix64, Steele et al. 2014.
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A log directory cannot be used by this process.
#[derive(Debug, thiserror::Error)]
pub enum LogDirectoryError {
    /// It does not exist and cannot be created.
    #[error("log directory {path} cannot be created: {source}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses it, or its lock file cannot be written.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Direct I/O does not work there, or nothing can be written.
    #[error(transparent)]
    DirectIo(#[from] ProbeError),
    /// A helper thread cannot be started.
    #[error("a helper thread of log directory {path} cannot be started: {source}")]
    Helper {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A log directory, locked for this process; cheap to clone and good on any thread.
#[derive(Debug, Clone)]
pub struct LogDirectory {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    direct: bool,
    alignment: usize,
    /// Names and flushes that may block, spread by folder: the file system joins what waits for its journal
    /// at one time, so that several threads flush many small files as fast as one.
    file_helpers: Vec<Helper>,
    /// Flushes the file system, which takes as long as anybody's data do that are to be written to it.
    sync_helper: Helper,
    /// Gives back the space of what was deleted.
    reclaimer: Reclaimer,
    /// Prepare and punch the chunks of the caches, which must not wait for an unlink.
    chunk_helpers: ChunkHelpers,
    _lock: FileLock,
}

/// Threads for what may block on file names.
const FILE_HELPERS: usize = 8;

/// What buffered files are read and written in: any memory would do, but the same tests shall run.
const BUFFERED_ALIGNMENT: usize = 512;

impl LogDirectory {
    /// Creates the directory if it is missing, locks `.lock` in it as Kafka does, and probes direct I/O;
    /// without `direct`, files go through the page cache. Blocks.
    pub fn open(path: &Path, direct: bool) -> Result<Self, LogDirectoryError> {
        let create = |source| LogDirectoryError::Create { path: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(create)?;
        let lock = FileLock::acquire(&path.join(".lock"))?;
        let alignment = if direct {
            let probed = probe_direct_io(path)?;
            probed.memory.max(probed.position).max(BUFFERED_ALIGNMENT).next_power_of_two()
        } else {
            BUFFERED_ALIGNMENT
        };
        let no_thread = |source| LogDirectoryError::Helper { path: path.to_path_buf(), source };
        let root = Root {
            path: path.to_path_buf(),
            direct,
            alignment,
            file_helpers: (0..FILE_HELPERS)
                .map(|_| Helper::start_patient("flumen-files").map_err(no_thread))
                .collect::<Result<_, _>>()?,
            sync_helper: Helper::start_patient("flumen-sync").map_err(no_thread)?,
            reclaimer: Reclaimer::start().map_err(no_thread)?,
            chunk_helpers: ChunkHelpers::start().map_err(no_thread)?,
            _lock: lock,
        };
        Ok(Self { root: Arc::new(root) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root.path
    }

    /// What reads and writes are aligned to, in bytes.
    pub fn alignment(&self) -> usize {
        self.root.alignment
    }

    /// The directory as one core sees it.
    pub fn attach(&self, ring: &Ring) -> Rc<RingDirectory> {
        Rc::new(RingDirectory::new(self.clone(), ring.clone()))
    }
}

/// The engine's word for what the system said.
fn error_kind(error: &io::Error) -> StorageErrorKind {
    /// What a failure without an errno counts as: EIO.
    const UNKNOWN: i32 = 5;
    const ENOENT: i32 = 2;
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    match error.raw_os_error() {
        Some(ENOENT) => StorageErrorKind::NotFound,
        Some(ENOSPC | EDQUOT) => StorageErrorKind::NoSpace,
        Some(errno) => StorageErrorKind::Errno(errno),
        None => StorageErrorKind::Errno(UNKNOWN),
    }
}

#[cfg(test)]
mod tests;
