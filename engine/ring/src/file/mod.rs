//! Files of one core: reads, writes and flushes through the ring, the rest on the helper thread.
//!
//! Closing the last descriptor of an unlinked file frees its blocks, which can take long: a descriptor is
//! closed on the helper thread, when the last operation on it has completed.

mod lock;
mod probe;

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::opcode;
use io_uring::types::{Fd, FsyncFlags};

use crate::helper::Helper;
use crate::op::{CANCEL_AND_CLOSE, LET_RUN, Operation};
use crate::reactor::Ring;
use crate::transfer::{Buffer, BufferMut};

pub use lock::{FileLock, LockError};
pub use probe::{Alignment, ProbeError, probe_direct_io};

/// How a file is opened: always for reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Create it if it is missing (O_CREAT).
    pub create: bool,
    /// It must not exist (O_CREAT | O_EXCL).
    pub create_new: bool,
    /// Bypass the page cache (O_DIRECT): positions, lengths and memory are aligned.
    pub direct: bool,
}

impl OpenOptions {
    fn flags(self) -> libc::c_int {
        let mut flags = libc::O_RDWR | libc::O_CLOEXEC;
        if self.create || self.create_new {
            flags |= libc::O_CREAT;
        }
        if self.create_new {
            flags |= libc::O_EXCL;
        }
        if self.direct {
            flags |= libc::O_DIRECT;
        }
        flags
    }
}

/// An open file; clones share it.
#[derive(Clone)]
pub struct File {
    ring: Ring,
    descriptor: Rc<Descriptor>,
}

/// A descriptor that is closed on the helper thread.
struct Descriptor {
    /// Invariant: `Some` until the drop.
    descriptor: Option<OwnedFd>,
    helper: Helper,
}

impl Descriptor {
    fn raw(&self) -> RawFd {
        self.descriptor.as_ref().expect("open until it is dropped").as_raw_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let descriptor = self.descriptor.take();
        self.helper.run_detached(move || drop(descriptor));
    }
}

impl File {
    /// Opens or creates a file (mode 0644, less the umask).
    pub async fn open(ring: &Ring, helper: &Helper, path: &Path, options: OpenOptions) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let entry =
            opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(options.flags()).mode(0o644).build();
        // SAFETY: the operation owns the path, which is on the heap.
        let opening = unsafe { Operation::start(ring, entry, path, CANCEL_AND_CLOSE) };
        let (completion, _) = opening.await;
        let raw = completion.to_result()?;
        // SAFETY: the kernel made this descriptor for us and nobody else was told of it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
        let descriptor = Descriptor { descriptor: Some(descriptor), helper: helper.clone() };
        Ok(Self { ring: ring.clone(), descriptor: Rc::new(descriptor) })
    }

    /// Reads into `buffer[range]` from `position` of the file. Fewer bytes than asked for only at its end.
    ///
    /// # Panics
    /// If the range starts behind what is initialised, or ends behind the capacity.
    pub async fn read_at<B: BufferMut>(
        &self,
        mut buffer: B,
        range: Range<usize>,
        position: u64,
    ) -> (io::Result<usize>, B) {
        assert!(
            range.start <= buffer.initialised() && range.start <= range.end && range.end <= buffer.capacity(),
            "{range:?} of {} bytes, {} of them initialised",
            buffer.capacity(),
            buffer.initialised()
        );
        let mut done = 0;
        while done < range.len() {
            let at = range.start + done;
            // SAFETY: the range is within the buffer's capacity.
            let pointer = unsafe { buffer.pointer().add(at) };
            let length = transfer_length(range.end - at);
            let entry = opcode::Read::new(Fd(self.raw()), pointer, length).offset(position + done as u64);
            let resources = (self.descriptor.clone(), buffer);
            // SAFETY: the operation owns the buffer, whose memory does not move (`BufferMut`), and a share of
            // the descriptor.
            let reading = unsafe { Operation::start(&self.ring, entry.build(), resources, LET_RUN) };
            let (completion, (_, returned)) = reading.await;
            buffer = returned;
            match completion.to_result() {
                Ok(0) => break,
                Ok(read) => {
                    done += read;
                    let end = range.start + done;
                    if end > buffer.initialised() {
                        // SAFETY: the kernel wrote up to `end`, from what was initialised before.
                        unsafe { buffer.set_initialised(end) };
                    }
                    if !done.is_multiple_of(512) {
                        // Only the end of a file leaves a part of a sector; going on there would be unaligned.
                        break;
                    }
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(done), buffer)
    }

    /// Writes all of `buffer[range]` at `position` of the file.
    ///
    /// # Panics
    /// If the range passes the buffer.
    pub async fn write_at<B: Buffer>(
        &self,
        mut buffer: B,
        range: Range<usize>,
        position: u64,
    ) -> (io::Result<()>, B) {
        let mut done = 0;
        while done < range.len() {
            let rest = &buffer.bytes()[range.start + done..range.end];
            let length = transfer_length(rest.len());
            let entry = opcode::Write::new(Fd(self.raw()), rest.as_ptr(), length)
                .offset(position + done as u64)
                .build();
            let resources = (self.descriptor.clone(), buffer);
            // SAFETY: the operation owns the buffer, whose memory neither moves nor changes (`Buffer`), and a
            // share of the descriptor.
            let writing = unsafe { Operation::start(&self.ring, entry, resources, LET_RUN) };
            let (completion, (_, returned)) = writing.await;
            buffer = returned;
            match completion.to_result() {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(written) => done += written,
                Err(error) if is_transient(&error) => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// fdatasync: what was written and what is needed to read it back is on the device when it completes.
    pub async fn sync_data(&self) -> io::Result<()> {
        let entry = opcode::Fsync::new(Fd(self.raw())).flags(FsyncFlags::DATASYNC).build();
        // SAFETY: the entry points to nothing but the descriptor, of which the operation owns a share.
        let syncing = unsafe { Operation::start(&self.ring, entry, self.descriptor.clone(), LET_RUN) };
        // Never retried: a second fdatasync may succeed although the first one lost data.
        syncing.await.0.to_result().map(drop)
    }

    /// Reserves `length` bytes from `position`, and extends the file to cover them (fallocate, mode 0).
    pub async fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        loop {
            let entry = opcode::Fallocate::new(Fd(self.raw()), length).offset(position).build();
            // SAFETY: the entry points to nothing but the descriptor, of which the operation owns a share.
            let allocating = unsafe { Operation::start(&self.ring, entry, self.descriptor.clone(), LET_RUN) };
            match allocating.await.0.to_result() {
                Err(error) if is_transient(&error) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Cuts or extends (with zeros) to `length`; on the helper thread.
    pub async fn truncate(&self, length: u64) -> io::Result<()> {
        let length = libc::off_t::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        self.on_helper(move |raw| {
            // SAFETY: ftruncate takes no pointers.
            unsafe { libc::ftruncate(raw, length) }
        })
        .await
    }

    /// Whether there may be anything but zeros at or behind `position`: not where nothing was ever written, or the file has
    /// ended (lseek(2), SEEK_DATA). On the helper thread.
    pub async fn holds_data_from(&self, position: u64) -> io::Result<bool> {
        let Ok(position) = libc::off_t::try_from(position) else { return Ok(false) };
        let sought = self.on_helper(move |raw| {
            // SAFETY: lseek takes no pointers. Nobody uses where the descriptor is.
            if unsafe { libc::lseek(raw, position, libc::SEEK_DATA) } < 0 { -1 } else { 0 }
        });
        match sought.await {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// The file's length now.
    pub async fn length(&self) -> io::Result<u64> {
        // The inode of an open file is in memory: this does not wait.
        // SAFETY: a stat of zeros is valid, and the kernel fills it.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `status` lives over the call.
        if unsafe { libc::fstat(self.raw(), &mut status) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(u64::try_from(status.st_size).unwrap_or(0))
    }

    async fn on_helper(&self, call: impl FnOnce(RawFd) -> libc::c_int + Send + 'static) -> io::Result<()> {
        // A descriptor of its own: the job also runs when this future is dropped and the file closed.
        let descriptor =
            self.descriptor.descriptor.as_ref().expect("open until it is dropped").try_clone()?;
        self.descriptor
            .helper
            .run(
                move || {
                    if call(descriptor.as_raw_fd()) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
                },
            )
            .await
    }

    fn raw(&self) -> RawFd {
        self.descriptor.raw()
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File({})", self.raw())
    }
}

/// The kernel transfers at most `MAX_RW_COUNT` at once; a smaller, aligned cap keeps the rest aligned too.
fn transfer_length(rest: usize) -> u32 {
    rest.min(1 << 30) as u32
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

#[cfg(test)]
mod tests;
