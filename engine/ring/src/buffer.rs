//! Memory whose address the kernel may hold: aligned buffers, append-only regions and slices of them.
//!
//! No system call is made here, but for huge pages, so that loom and miri can run it. A [`Region`] is the only
//! writer of its bytes and only ever writes behind what it has published; a [`Slice`] only ever covers published
//! bytes. So a slice is immutable for as long as it lives, on whatever core it lives.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
#[cfg(not(loom))]
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

#[cfg(not(loom))]
use crate::chunk::ChunkMemory;
use crate::copy::{PAST_CACHES_BYTES_MIN, copy_past_caches};
#[cfg(not(loom))]
use crate::huge::{HUGE_PAGE_BYTES, HugePages};
use crate::sync::Arc;

/// The alignment of every buffer, in bytes: enough for O_DIRECT on any device.
pub const BUFFER_ALIGNMENT: usize = 4096;

/// Initialised memory aligned for direct I/O, owned by one holder.
pub struct AlignedBuffer {
    pointer: NonNull<u8>,
    length: usize,
    /// How much was allocated. Invariant: at least `length`.
    capacity: usize,
    /// What the memory is of, unless it was allocated.
    #[cfg(not(loom))]
    huge: Option<HugePages>,
}

// SAFETY: the buffer owns its allocation, and nothing about it is tied to a thread.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// `length` zeroed bytes, rounded up to the alignment; at least one block.
    pub fn zeroed(length: usize) -> Self {
        let length = length.max(1).next_multiple_of(BUFFER_ALIGNMENT);
        Self::allocate(length, length)
    }

    /// As [`AlignedBuffer::zeroed`], but with whatever bytes an earlier buffer of this thread left there: for
    /// what is written over anyway. Large buffers come from memory that is mapped and warm.
    pub fn recycled(length: usize) -> Self {
        let length = length.max(1).next_multiple_of(BUFFER_ALIGNMENT);
        let capacity = length.next_power_of_two();
        match recycling::take(capacity) {
            Some(pointer) => Self::of(pointer, length, capacity),
            None => Self::allocate(length, capacity),
        }
    }

    /// As [`AlignedBuffer::recycled`], for megabytes that are kept: what fills a huge page is in huge pages of its own,
    /// where there are some, whose first use costs a small part.
    #[cfg(not(loom))]
    pub fn large(length: usize) -> Self {
        if length < HUGE_PAGE_BYTES {
            return Self::recycled(length);
        }
        let length = length.next_multiple_of(BUFFER_ALIGNMENT);
        match HugePages::new(length) {
            Ok(huge) => Self { pointer: huge.base(), length, capacity: length, huge: Some(huge) },
            Err(_) => Self::allocate(length, length),
        }
    }

    fn allocate(length: usize, capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer) else { handle_alloc_error(layout) };
        Self::of(pointer, length, capacity)
    }

    /// A buffer of allocated memory.
    fn of(pointer: NonNull<u8>, length: usize, capacity: usize) -> Self {
        Self {
            pointer,
            length,
            capacity,
            #[cfg(not(loom))]
            huge: None,
        }
    }

    /// The memory's address, for the kernel.
    pub fn as_ptr(&self) -> *const u8 {
        self.pointer.as_ptr()
    }

    /// The memory's address, for the kernel to write to.
    #[cfg(not(loom))]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.pointer.as_ptr()
    }

    fn layout(length: usize) -> Layout {
        Layout::from_size_align(length, BUFFER_ALIGNMENT).expect("a buffer is smaller than the address space")
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes were allocated and initialised; `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.length) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.length) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        #[cfg(not(loom))]
        if self.huge.is_some() {
            return;
        }
        if recycling::keep(self.pointer, self.capacity) {
            return;
        }
        // SAFETY: it was allocated with this capacity, and nobody else holds it.
        unsafe { free(self.pointer, self.capacity) }
    }
}

/// # Safety
/// `pointer` is the memory of a buffer of this capacity, and nobody uses it any more.
unsafe fn free(pointer: NonNull<u8>, capacity: usize) {
    // SAFETY: it was allocated with this very layout.
    unsafe { dealloc(pointer.as_ptr(), AlignedBuffer::layout(capacity)) }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.length)
    }
}

/// Freed buffers of this thread that are used again, a bounded amount of them.
#[cfg(not(loom))]
mod recycling {
    use std::cell::RefCell;
    use std::ptr::NonNull;

    use super::{BUFFER_ALIGNMENT, free};

    /// What a thread keeps at most, in bytes: what two consumers of a few partitions have under way from the disk.
    const KEPT_BYTES_MAX: usize = 32 << 20;
    /// Sizes that are kept: powers of two from one block to 2 MiB.
    const CLASSES: usize = 10;

    #[derive(Default)]
    struct Kept {
        classes: [Vec<NonNull<u8>>; CLASSES],
        bytes: usize,
    }

    thread_local! {
        static KEPT: RefCell<Kept> = RefCell::default();
    }

    fn class_of(capacity: usize) -> Option<usize> {
        let blocks = capacity / BUFFER_ALIGNMENT;
        let class = blocks.trailing_zeros() as usize;
        (blocks.is_power_of_two() && capacity.is_multiple_of(BUFFER_ALIGNMENT) && class < CLASSES)
            .then_some(class)
    }

    fn capacity_of(class: usize) -> usize {
        BUFFER_ALIGNMENT << class
    }

    /// Memory of exactly this capacity, initialised.
    pub(super) fn take(capacity: usize) -> Option<NonNull<u8>> {
        let class = class_of(capacity)?;
        let taken = KEPT.try_with(|kept| {
            let kept = &mut *kept.borrow_mut();
            let pointer = kept.classes[class].pop()?;
            kept.bytes -= capacity;
            Some(pointer)
        });
        taken.ok().flatten()
    }

    /// Keeps freed memory; false if the caller has to free it.
    pub(super) fn keep(pointer: NonNull<u8>, capacity: usize) -> bool {
        let Some(class) = class_of(capacity) else { return false };
        // A thread that ends keeps nothing.
        let kept = KEPT.try_with(|kept| {
            let kept = &mut *kept.borrow_mut();
            while kept.bytes + capacity > KEPT_BYTES_MAX {
                if !kept.free_one(class) {
                    return false;
                }
            }
            kept.bytes += capacity;
            kept.classes[class].push(pointer);
            true
        });
        kept.unwrap_or(false)
    }

    impl Kept {
        /// Frees a buffer of the class that has most, unless that is `own`: what is used now takes the place of what was
        /// used once.
        fn free_one(&mut self, own: usize) -> bool {
            let bytes = |class: &usize| self.classes[*class].len() * capacity_of(*class);
            let Some(most) = (0..CLASSES).max_by_key(bytes).filter(|most| *most != own) else { return false };
            let Some(pointer) = self.classes[most].pop() else { return false };
            self.bytes -= capacity_of(most);
            // SAFETY: what is kept in a class was allocated with its capacity, and is in no other hands.
            unsafe { free(pointer, capacity_of(most)) }
            true
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            for (class, pointers) in self.classes.iter_mut().enumerate() {
                for pointer in pointers.drain(..) {
                    // SAFETY: as above.
                    unsafe { free(pointer, capacity_of(class)) }
                }
            }
        }
    }
}

/// Under loom nothing is kept: its threads are not the system's.
#[cfg(loom)]
mod recycling {
    use std::ptr::NonNull;

    pub(super) fn take(_capacity: usize) -> Option<NonNull<u8>> {
        None
    }

    pub(super) fn keep(_pointer: NonNull<u8>, _capacity: usize) -> bool {
        false
    }
}

/// Memory that regions are carved from. Dropping the last handle frees it.
pub(crate) enum Memory {
    /// Of one region alone.
    Heap(AlignedBuffer),
    /// A chunk, perhaps shared by the regions in it.
    #[cfg(not(loom))]
    Chunk(Arc<ChunkMemory>),
}

impl Memory {
    fn base(&self) -> NonNull<u8> {
        match self {
            Self::Heap(buffer) => buffer.pointer,
            #[cfg(not(loom))]
            Self::Chunk(chunk) => chunk.base(),
        }
    }
}

/// The append-only writer of one range of memory.
///
/// What an append needs is in the handle itself, so that one whose slices nobody asks for touches no other memory but
/// where its bytes go.
///
/// Invariant: bytes below `published` never change until `try_clear` finds no slice alive.
pub struct Region {
    /// That of `shared`.
    base: NonNull<u8>,
    capacity: usize,
    published: usize,
    shared: Arc<RegionShared>,
}

// SAFETY: the pointer leads to memory that `shared` keeps alive. Only `&mut self` writes to it, and only where no
// slice reaches.
unsafe impl Send for Region {}
// SAFETY: shared access only makes slices, of bytes that never change while they live.
unsafe impl Sync for Region {}

#[cfg_attr(loom, allow(dead_code))]
struct RegionShared {
    /// Where the region begins. Invariant: its capacity in bytes from here belongs to this region alone, and `memory`
    /// keeps them alive.
    base: NonNull<u8>,
    /// Keeps the bytes alive.
    memory: Memory,
    /// Where it begins in `memory`.
    start: usize,
    /// Slices may be sent by `sendfile`: the region is a whole chunk.
    sendable: bool,
}

// SAFETY: the pointer leads to memory of the process that `memory` keeps alive; who may touch which part of it
// is said at `Region::published`.
unsafe impl Send for RegionShared {}
// SAFETY: as above.
unsafe impl Sync for RegionShared {}

impl RegionShared {
    fn new(memory: Memory, start: usize, sendable: bool) -> Self {
        // SAFETY: the caller gives a range within the memory.
        let base = unsafe { memory.base().add(start) };
        Self { base, memory, start, sendable }
    }
}

impl Region {
    /// A region of its own heap memory, `capacity` bytes rounded up to the alignment.
    pub fn on_heap(capacity: usize) -> Self {
        let buffer = AlignedBuffer::zeroed(capacity);
        let capacity = buffer.len();
        Self::within(Memory::Heap(buffer), 0, capacity, false)
    }

    /// A region of `capacity` bytes of `memory` from `start`, which no other region covers.
    pub(crate) fn within(memory: Memory, start: usize, capacity: usize, sendable: bool) -> Self {
        let shared = RegionShared::new(memory, start, sendable);
        Self { base: shared.base, capacity, published: 0, shared: Arc::new(shared) }
    }

    /// How many bytes fit, in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many bytes are published.
    pub fn len(&self) -> usize {
        self.published
    }

    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.published == 0
    }

    /// Whether a slice of this region is alive anywhere.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Has the next `length` bytes filled, and publishes them. Panics if they do not fit.
    fn publish_with(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) {
        let at = self.published;
        assert!(length <= self.capacity - at, "append of {length} bytes at {at} of {}", self.capacity);
        // SAFETY: `at + length` is within the region, whose memory its handle keeps alive. No slice reaches above
        // `published` and this region is the only writer (`&mut self`), so the borrow is exclusive.
        let tail = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(at), length) };
        fill(tail);
        self.published = at + length;
    }

    /// Copies `bytes` behind what is published, and publishes them.
    ///
    /// # Panics
    /// If they do not fit: the caller asks `capacity` and `len` first.
    pub fn publish(&mut self, bytes: &[u8]) {
        self.publish_with(bytes.len(), |tail| tail.copy_from_slice(bytes));
    }

    /// As [`Region::publish`], for what is most likely not looked at before much else was: much of it goes past the
    /// processor's caches.
    pub fn publish_unread(&mut self, bytes: &[u8]) {
        if bytes.len() < PAST_CACHES_BYTES_MIN {
            return self.publish(bytes);
        }
        self.publish_with(bytes.len(), |tail| copy_past_caches(tail, bytes));
    }

    /// Fills the next `length` bytes and publishes them; those, as a slice. Panics as [`Region::publish`].
    pub fn append_with(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) -> Slice {
        let at = self.published;
        self.publish_with(length, fill);
        self.slice(at..at + length)
    }

    /// As [`Region::publish`]; those bytes, as a slice.
    pub fn append(&mut self, bytes: &[u8]) -> Slice {
        self.append_with(bytes.len(), |tail| tail.copy_from_slice(bytes))
    }

    /// A view of published bytes.
    ///
    /// # Panics
    /// If the range passes what is published.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.published, "{range:?} of {}", self.published);
        Slice { region: self.shared.clone(), start: range.start, length: range.end - range.start }
    }

    /// The number, in its pool, of the chunk that this region is of; `None` for heap memory of its own.
    #[cfg(not(loom))]
    pub fn chunk_number(&self) -> Option<u32> {
        match &self.shared.memory {
            Memory::Chunk(chunk) => Some(chunk.number()),
            Memory::Heap(_) => None,
        }
    }

    /// Empties the region if no slice of it is alive; says whether it did.
    pub fn try_clear(&mut self) -> bool {
        // What was read through a slice that is gone happened before what is written next.
        let is_alone = Arc::get_mut(&mut self.shared).is_some();
        if is_alone {
            self.published = 0;
        }
        is_alone
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} of {} bytes)", self.len(), self.capacity())
    }
}

/// Published bytes of a region: immutable, cheap to clone, good on any core.
#[derive(Clone)]
pub struct Slice {
    region: Arc<RegionShared>,
    start: usize,
    length: usize,
}

impl Slice {
    /// The first `length` bytes of a buffer that was read from a disk.
    pub fn from_buffer(buffer: AlignedBuffer, length: usize) -> Self {
        assert!(length <= buffer.len(), "{length} of {} bytes", buffer.len());
        let shared = RegionShared::new(Memory::Heap(buffer), 0, false);
        Self { region: Arc::new(shared), start: 0, length }
    }

    /// A part of this slice, by positions within it.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} of {}", self.length);
        Self { region: self.region.clone(), start: self.start + range.start, length: range.end - range.start }
    }
}

#[cfg(not(loom))]
impl Slice {
    /// The file that holds these bytes and where, if they may be sent by `sendfile` now. They may not in
    /// memory of small pages, in a chunk shared by several regions, or while too much memory is ghosts.
    pub fn file_range(&self) -> Option<(BorrowedFd<'_>, u64)> {
        let (descriptor, chunk_start) = self.chunk()?.file()?;
        Some((descriptor, chunk_start + (self.region.start + self.start) as u64))
    }

    /// The chunk, if `sendfile` is possible at all.
    pub(crate) fn chunk(&self) -> Option<&ChunkMemory> {
        match &self.region.memory {
            Memory::Chunk(chunk) if self.region.sendable => Some(chunk),
            _ => None,
        }
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range was published when the slice was made (which reached this thread by a synchronising
        // hand-over), it never changes while a slice is alive, and the handle keeps the memory alive.
        unsafe { std::slice::from_raw_parts(self.region.base.as_ptr().add(self.start), self.length) }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_on_its_thread() {
        let mut first = AlignedBuffer::recycled(10_000);
        assert_eq!(first.len(), 12_288);
        first.fill(7);
        let address = first.as_ptr();
        drop(first);
        let second = AlignedBuffer::recycled(16_384);
        assert_eq!((second.as_ptr(), second.len()), (address, 16_384));
        let other = std::thread::spawn(|| AlignedBuffer::recycled(16_384)).join().expect("no panic");
        assert_ne!(other.as_ptr(), address);
        drop((second, other));
        assert!(AlignedBuffer::zeroed(16_384).iter().all(|byte| *byte == 0));
        // Large ones, and many, are given back.
        drop(AlignedBuffer::recycled(64 << 20));
        drop((0..100).map(|_| AlignedBuffer::recycled(1 << 20)).collect::<Vec<_>>());
        // What is kept of them makes room for what is used now.
        let now = AlignedBuffer::recycled(100_000);
        let address = now.as_ptr();
        drop(now);
        assert_eq!(AlignedBuffer::recycled(100_000).as_ptr(), address);
    }

    #[cfg(not(loom))]
    #[test]
    fn large_buffers_are_zeros_and_are_not_kept() {
        for length in [2 << 20, (2 << 20) + 1] {
            let mut buffer = AlignedBuffer::large(length);
            assert_eq!(buffer.len(), length.next_multiple_of(BUFFER_ALIGNMENT));
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(7);
            let address = buffer.as_ptr();
            drop(buffer);
            assert_ne!(AlignedBuffer::recycled(length).as_ptr(), address);
        }
        let buffer = AlignedBuffer::large(5000);
        let address = buffer.as_ptr();
        drop(buffer);
        assert_eq!(AlignedBuffer::recycled(5000).as_ptr(), address);
    }

    #[test]
    fn a_slice_keeps_its_bytes_while_the_region_grows() {
        let mut region = Region::on_heap(8192);
        let first = region.append(b"first");
        let second = region.append(b"second");
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        assert!(!region.try_clear());
        drop((first, second));
        assert!(region.try_clear());
        assert!(region.is_empty());
    }
}
