//! Finding memory for a huge page in small steps.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use super::CHUNK_BYTES;

/// Address space of one huge page, which has memory only while [`Warmer::warm`] runs.
///
/// Where a hypervisor has to find the memory of a huge page, its first use takes 5 ms. A collapse clears the page in one
/// go (`collapse_file`, mm/khugepaged.c), and a kernel that is not preempted in system calls gives the processor to
/// nobody meanwhile. A page fault clears it in 512 steps, between which others may have the processor
/// (`folio_zero_user`, mm/memory.c). So the memory is found by a page fault and freed at once, and the next huge page
/// that this processor asks for is made of it: freed ones are kept for that, the last one first (mm/page_alloc.c).
/// Memory that is at hand costs 0.1 ms for being cleared twice.
#[derive(Debug)]
pub(super) struct Warmer {
    base: NonNull<u8>,
    page: NonNull<u8>,
}

// SAFETY: nobody reads the memory, and it is written by atomic stores only.
unsafe impl Send for Warmer {}
// SAFETY: as above. A thread may free the page that another one has just found, which then finds it again.
unsafe impl Sync for Warmer {}

/// So much that an aligned huge page fits.
const MAPPED_BYTES: usize = 2 * CHUNK_BYTES;

impl Warmer {
    pub(super) fn new() -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), MAPPED_BYTES, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = base.addr().next_multiple_of(CHUNK_BYTES) - base.addr();
        // SAFETY: within the mapping. Advice only: a kernel that refuses it finds a small page.
        let page = unsafe {
            let page = base.byte_add(before);
            libc::madvise(page, CHUNK_BYTES, libc::MADV_HUGEPAGE);
            page
        };
        let not_null =
            |address: *mut libc::c_void| NonNull::new(address.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory);
        Ok(Self { base: not_null(base)?, page: not_null(page)? })
    }

    /// Finds memory for a huge page and frees it. Takes milliseconds.
    ///
    /// By touching it, since MADV_POPULATE_WRITE keeps the lock of the whole address space, which a reactor waits for
    /// when its allocator grows; a page fault keeps that of this mapping only.
    pub(super) fn warm(&self) {
        // SAFETY: the page is mapped as long as this exists, and is accessed here only.
        unsafe {
            AtomicU8::from_ptr(self.page.as_ptr()).store(1, Ordering::Relaxed);
            libc::madvise(self.page.as_ptr().cast(), CHUNK_BYTES, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody uses any longer.
        unsafe { libc::munmap(self.base.as_ptr().cast(), MAPPED_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_what_was_found() {
        let warmer = Warmer::new().expect("address space");
        for _ in 0..3 {
            warmer.warm();
            let mut resident = vec![0; MAPPED_BYTES / 4096];
            // SAFETY: one byte for each page of the mapping.
            let asked =
                unsafe { libc::mincore(warmer.base.as_ptr().cast(), MAPPED_BYTES, resident.as_mut_ptr()) };
            assert_eq!(asked, 0, "{}", io::Error::last_os_error());
            assert!(resident.iter().all(|page| page & 1 == 0));
        }
    }
}
