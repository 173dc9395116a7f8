//! A memfd mapped at an address where huge pages fit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::CHUNK_BYTES;
use crate::buffer::BUFFER_ALIGNMENT;
use crate::huge;

/// The mapping of a pool. Unmapped when the last handle of any of its chunks is gone.
#[derive(Debug)]
pub(super) struct Mapping {
    descriptor: OwnedFd,
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is shared memory of the process; who may touch which part of it is the pool's to keep.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `chunks` chunks of address space. Takes no memory yet.
    pub(super) fn new(chunks: usize) -> io::Result<Self> {
        // SAFETY: the name is a C string.
        let raw = unsafe { libc::memfd_create(c"flumen-cache".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and has no other owner.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        let length = chunks.checked_mul(CHUNK_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let file_length = libc::off_t::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: ftruncate takes no pointers.
        if unsafe { libc::ftruncate(raw, file_length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let base = map_aligned(&descriptor, length)?;
        let mapping = Self { descriptor, base, length };
        // Advice only: a kernel that refuses it works as well.
        mapping.advise(0, length, libc::MADV_DONTDUMP).ok();
        mapping.advise(0, length, libc::MADV_HUGEPAGE).ok();
        Ok(mapping)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Where chunk `index` begins.
    pub(super) fn chunk(&self, index: u32) -> NonNull<u8> {
        let at = index as usize * CHUNK_BYTES;
        assert!(at < self.length, "chunk {index} of a mapping of {} bytes", self.length);
        // SAFETY: within the mapping.
        unsafe { self.base.add(at) }
    }

    /// Gives a chunk memory, a huge page if possible. Whether it is one: the memory is usable anyway.
    ///
    /// One small page is enough for the collapse, which clears the rest itself: 0.14 ms of CPU time a chunk,
    /// against 6 ms where all 512 small pages are there first and have to be taken apart.
    pub(super) fn populate(&self, index: u32) -> io::Result<bool> {
        let at = index as usize * CHUNK_BYTES;
        self.advise(at, BUFFER_ALIGNMENT, libc::MADV_POPULATE_WRITE)?;
        for _ in 0..3 {
            match self.advise(at, CHUNK_BYTES, libc::MADV_COLLAPSE) {
                Ok(()) => return Ok(true),
                // A page is in use elsewhere for the moment (migration, an LRU batch).
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {}
                Err(_) => break,
            }
        }
        self.advise(at, CHUNK_BYTES, libc::MADV_POPULATE_WRITE)?;
        Ok(false)
    }

    /// Takes the pages of a whole chunk out of the file. It reads as zeros afterwards.
    pub(super) fn punch(&self, index: u32) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let at = (index as usize * CHUNK_BYTES) as libc::off_t;
        loop {
            // SAFETY: fallocate takes no pointers; no region of this chunk exists, so nobody reads it.
            if unsafe { libc::fallocate(self.descriptor.as_raw_fd(), mode, at, CHUNK_BYTES as libc::off_t) }
                == 0
            {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// How much of the mapping the kernel maps by huge pages, in bytes, as `/proc/self/smaps` says.
    pub(super) fn huge_bytes(&self) -> io::Result<u64> {
        let smaps = std::fs::read_to_string("/proc/self/smaps")?;
        let (start, end) = (self.base.addr().get(), self.base.addr().get() + self.length);
        let mut inside = false;
        let mut total = 0;
        for line in smaps.lines() {
            if let Some(range) = address_range(line) {
                inside = range.0 < end && range.1 > start;
            } else if inside && let Some(kibibytes) = line.strip_prefix("ShmemPmdMapped:") {
                let kibibytes: u64 = kibibytes.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0);
                total += kibibytes * 1024;
            }
        }
        Ok(total)
    }

    fn advise(&self, at: usize, length: usize, advice: libc::c_int) -> io::Result<()> {
        assert!(at + length <= self.length);
        // SAFETY: the range is within the mapping; none of the advices used here changes its contents.
        let result = unsafe { libc::madvise(self.base.as_ptr().add(at).cast(), length, advice) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; every handle that could lead here is gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// Maps the file at a multiple of the chunk size: over address space that was reserved there.
fn map_aligned(descriptor: &OwnedFd, length: usize) -> io::Result<NonNull<u8>> {
    let reserved = huge::reserve(length, libc::PROT_NONE)?.as_ptr().cast();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
    // SAFETY: the target is the reservation just made, which nothing else uses.
    let base = unsafe { libc::mmap(reserved, length, protection, flags, descriptor.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED {
        let error = io::Error::last_os_error();
        // SAFETY: the reservation, which nothing uses.
        unsafe { libc::munmap(reserved, length) };
        return Err(error);
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// The addresses in the first line of a mapping in smaps, `7f00-7f10 rw-s …`.
fn address_range(line: &str) -> Option<(usize, usize)> {
    let (range, _) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}
