//! Whether a directory's file system does direct I/O, and how it wants it aligned: asked, then tried.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::buffer::{AlignedBuffer, BUFFER_ALIGNMENT};

/// The file that the probe writes and removes.
const PROBE_NAME: &str = ".flumen-probe";

/// How direct I/O has to be aligned, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alignment {
    /// Of memory addresses.
    pub memory: usize,
    /// Of positions in the file and of lengths.
    pub position: usize,
}

/// Direct I/O does not work in a directory.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The file system has no direct I/O.
    #[error(
        "the file system of {directory} does not do direct I/O ({reason}): put the log directory on ext4 or XFS, \
         or, for development only, set flumen.io.direct=false"
    )]
    Unsupported {
        /// The directory.
        directory: PathBuf,
        /// What was tried, and what it said.
        reason: String,
    },
    /// The directory cannot be written at all.
    #[error("{directory} cannot be written: {source}")]
    Unwritable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Asks for the alignment of direct I/O in `directory`, and tries it with a file that is removed at once.
/// Blocks: to be called before the reactors run.
pub fn probe_direct_io(directory: &Path) -> Result<Alignment, ProbeError> {
    let path = directory.join(PROBE_NAME);
    let unwritable = |source| ProbeError::Unwritable { directory: directory.to_path_buf(), source };
    let unsupported = |reason| ProbeError::Unsupported { directory: directory.to_path_buf(), reason };
    // First as any file: a full or read-only file system is told apart from one without direct I/O.
    fs::write(&path, b"probe").map_err(unwritable)?;
    let outcome = probe_file(&path).map_err(unsupported);
    fs::remove_file(&path).map_err(unwritable)?;
    outcome
}

fn probe_file(path: &Path) -> Result<Alignment, String> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(|error| format!("open with O_DIRECT: {error}"))?;
    let alignment = stated_alignment(path)?;
    if alignment.memory > BUFFER_ALIGNMENT || alignment.position > BUFFER_ALIGNMENT {
        return Err(format!("it wants {alignment:?}, but blocks here are {BUFFER_ALIGNMENT} bytes"));
    }
    let mut written = AlignedBuffer::zeroed(BUFFER_ALIGNMENT);
    written.fill(0xa5);
    file.write_all_at(&written, 0).map_err(|error| format!("direct write: {error}"))?;
    // SAFETY: fdatasync takes no pointers.
    if unsafe { libc::fdatasync(file.as_raw_fd()) } < 0 {
        return Err(format!("fdatasync: {}", io::Error::last_os_error()));
    }
    let mut read = AlignedBuffer::zeroed(BUFFER_ALIGNMENT);
    file.read_exact_at(&mut read, 0).map_err(|error| format!("direct read: {error}"))?;
    if *read != *written {
        return Err("a direct read returned other bytes than were written".to_owned());
    }
    Ok(alignment)
}

/// What `statx` says (STATX_DIOALIGN, Linux 6.1). A file system that does not say gets whole blocks.
fn stated_alignment(path: &Path) -> Result<Alignment, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a statx of zeros is valid, and the kernel fills it.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the name and `status` live over the call.
    let result = unsafe { libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, libc::STATX_DIOALIGN, &mut status) };
    let whole_blocks = Alignment { memory: BUFFER_ALIGNMENT, position: BUFFER_ALIGNMENT };
    if result < 0 || status.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(whole_blocks);
    }
    let (memory, position) = (status.stx_dio_mem_align as usize, status.stx_dio_offset_align as usize);
    if memory == 0 || position == 0 {
        return Err("statx reports no direct I/O for its files".to_owned());
    }
    Ok(Alignment { memory, position })
}
