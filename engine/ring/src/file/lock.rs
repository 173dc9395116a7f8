//! The lock that keeps a second process off a log directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A write lock on a whole file, held until it is dropped.
///
/// It is an open-file-description lock: it conflicts with the record locks of other processes (Apache Kafka's
/// is one) and, unlike those, survives that this process opens and closes the file elsewhere.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// A lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "{path} is locked{}: another Flumen or Apache Kafka uses this directory; stop it, or choose another log.dirs",
        holder.map_or(String::new(), |pid| format!(" by process {pid}"))
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if the kernel can tell.
        holder: Option<i32>,
    },
    /// The file cannot be opened or locked at all.
    #[error("{path} cannot be locked: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileLock {
    /// Creates the file if it is missing, and locks it without waiting.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_path_buf(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut lock = whole_file();
        // SAFETY: `lock` is a valid flock for the kernel to read.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) } == 0 {
            return Ok(Self { _file: file });
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) {
            return Err(failed(error));
        }
        let mut holder = whole_file();
        // SAFETY: as above, and the kernel writes it.
        let known = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut holder) } == 0;
        // A lock like ours belongs to no process: −1.
        let holder = (known && holder.l_pid > 0).then_some(holder.l_pid);
        Err(LockError::Held { path: path.to_path_buf(), holder })
    }
}

fn whole_file() -> libc::flock {
    // SAFETY: a flock of zeros is valid; length 0 is "to the end", and the pid must be 0 here.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join(".lock");
        let first = FileLock::acquire(&path).expect("free");
        // Closing another descriptor of the file does not release it.
        drop(File::open(&path).expect("opened"));
        let error = FileLock::acquire(&path).expect_err("held");
        assert!(error.to_string().contains("log.dirs"), "{error}");
        drop(first);
        FileLock::acquire(&path).expect("free again");
    }
}
