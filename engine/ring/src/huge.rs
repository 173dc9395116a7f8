//! Address space where huge pages fit.

use std::io;
use std::ptr::{self, NonNull};

/// The size of a huge page that a page table's second level maps, in bytes.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Reserves `length` bytes of address space that begin where a huge page may: anonymous memory, which is zeros, and is
/// there once it is touched. For `munmap` to give back.
pub(crate) fn reserve(length: usize, protection: libc::c_int) -> io::Result<NonNull<u8>> {
    let reserved_length = length.checked_add(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let reserved = unsafe { libc::mmap(ptr::null_mut(), reserved_length, protection, flags, -1, 0) };
    if reserved == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let before = reserved.addr().next_multiple_of(HUGE_PAGE_BYTES) - reserved.addr();
    let behind = HUGE_PAGE_BYTES - before;
    // SAFETY: the parts of the reservation before and behind the range, which nothing uses.
    let base = unsafe {
        let base = reserved.byte_add(before);
        if before > 0 {
            libc::munmap(reserved, before);
        }
        if behind > 0 {
            libc::munmap(base.byte_add(length), behind);
        }
        base
    };
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Memory of its own, in huge pages where the kernel has some, for what is read in large pieces: the first use of 2 MiB
/// is one page fault, and not 512, and the kernel holds one page while a disk writes to it.
#[derive(Debug)]
pub(crate) struct HugePages {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: it owns its mapping, and nothing about it is tied to a thread.
unsafe impl Send for HugePages {}
// SAFETY: it gives out an address only.
unsafe impl Sync for HugePages {}

impl HugePages {
    /// Zeros, rounded up to whole huge pages.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let length = length.max(1).next_multiple_of(HUGE_PAGE_BYTES);
        let base = reserve(length, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the range is the mapping just made. Advice only: a kernel that refuses it gives small pages.
        unsafe { libc::madvise(base.as_ptr().cast(), length, libc::MADV_HUGEPAGE) };
        Ok(Self { base, length })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Gives the memory back, and keeps the address space: it is zeros again.
    pub(crate) fn empty(&self) {
        // SAFETY: the range is this mapping.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.length, libc::MADV_DONTNEED) };
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody uses any longer.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_where_a_huge_page_may() {
        for length in [1, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, 5 * HUGE_PAGE_BYTES] {
            let pages = HugePages::new(length).expect("address space");
            assert!(pages.base().addr().get().is_multiple_of(HUGE_PAGE_BYTES));
            assert_eq!(pages.length, length.next_multiple_of(HUGE_PAGE_BYTES));
            // SAFETY: the mapping is this test's alone.
            let bytes = unsafe { std::slice::from_raw_parts_mut(pages.base().as_ptr(), pages.length) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(7);
            pages.empty();
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
    }
}
