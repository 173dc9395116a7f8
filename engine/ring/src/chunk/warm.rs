//! Finding memory for a huge page in small steps.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::CHUNK_BYTES;
use crate::huge::HugePages;

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
    page: HugePages,
}

impl Warmer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { page: HugePages::new(CHUNK_BYTES)? })
    }

    /// Finds memory for a huge page and frees it. Takes milliseconds.
    ///
    /// By touching it, since MADV_POPULATE_WRITE keeps the lock of the whole address space, which a reactor waits for
    /// when its allocator grows; a page fault keeps that of this mapping only. A thread may free the page that another
    /// one has just found, which then finds it again.
    pub(super) fn warm(&self) {
        // SAFETY: the page is mapped as long as this exists, and is accessed here only, by atomic stores.
        unsafe { AtomicU8::from_ptr(self.page.base().as_ptr()).store(1, Ordering::Relaxed) };
        self.page.empty();
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
            let mut resident = vec![0; CHUNK_BYTES / 4096];
            let page = warmer.page.base().as_ptr().cast();
            // SAFETY: one byte for each page of the mapping.
            let asked = unsafe { libc::mincore(page, CHUNK_BYTES, resident.as_mut_ptr()) };
            assert_eq!(asked, 0, "{}", io::Error::last_os_error());
            assert!(resident.iter().all(|page| page & 1 == 0));
        }
    }
}
