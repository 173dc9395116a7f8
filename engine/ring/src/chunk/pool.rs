//! The pool of one core: which chunks are ready, raw, in use, retired or ghosts.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::CHUNK_BYTES;
use super::helpers::ChunkHelpers;
use super::mapping::Mapping;
use super::returns::Returns;
use crate::buffer::{AlignedBuffer, BUFFER_ALIGNMENT, Memory, Region};

/// Chunks that are prepared ahead of their use, since preparing one takes 0.1 ms, and the helper has other work.
const READY_AHEAD: usize = 8;
/// The same of chunks that never had memory, where there is no other: each takes time of the core that waits for it.
const HURRIED_AHEAD: usize = 2;
/// So long whoever hurries leaves it to the idle helper: longer and the processor is not idle.
const IDLE_PATIENCE: Duration = Duration::from_millis(100);
/// So many chunks get their first memory before they are asked for: what readers that keep up may be behind. The others
/// when readers missed something, or there is no other memory.
const EARLY_CHUNKS: usize = 32;
/// Retired chunks that are looked at for one that no connection pins.
const RETIRED_CHECKS: usize = 16;
/// At most this share of the pool may be pinned by connections, and above it in ghosts everything is sent by copy: so
/// peers that do not read never keep more of it than that.
const GHOST_SHARE_MAX: usize = 4;

/// A pool of chunks cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("a cache of {bytes} bytes in a memfd: {source}")]
pub struct PoolError {
    /// The size asked for.
    pub bytes: usize,
    /// What the system said.
    pub source: io::Error,
}

/// The chunks of a pool by state. They add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkStats {
    /// All there are.
    pub total: usize,
    /// With memory, to be taken at once.
    pub ready: usize,
    /// Without memory, or getting it.
    pub raw: usize,
    /// With memory that was sent by `sendfile`, which is exchanged before the chunk is taken again.
    pub retired: usize,
    /// Taken, and not yet given back by the last region or slice.
    pub in_use: usize,
    /// Punched, and still referenced by the network.
    pub ghosts: usize,
    /// Whether chunks are huge pages, so that they may be sent by `sendfile`.
    pub huge: bool,
}

/// What every chunk and every pin leads to, on any thread.
struct PoolShared {
    /// `None`: chunks are heap memory.
    mapping: Option<Mapping>,
    chunks: Box<[ChunkState]>,
    /// Chunks whose last region and slice are gone.
    returned: Returns,
    /// Chunks that the prompt helper has prepared.
    prepared: Returns,
    /// Chunks that the idle helper has prepared.
    grown: Returns,
    /// Chunks that the helper has punched.
    punched: Returns,
    ghosts: AtomicUsize,
    /// Chunks with pins.
    pinned: AtomicUsize,
}

#[derive(Default)]
struct ChunkState {
    /// Its memory is one huge page.
    huge: AtomicBool,
    /// It was sent by `sendfile` since it was taken.
    sent: AtomicBool,
    /// Punched, or about to be.
    ghost: AtomicBool,
    /// Connections that took a part of it by `sendfile` and have not drained since.
    pins: AtomicU32,
}

/// The chunks of one core's cache, a bounded number. See the module for a chunk's life.
pub struct ChunkPool {
    shared: Arc<PoolShared>,
    /// `Some` iff there is a mapping.
    helpers: Option<ChunkHelpers>,
    ready: VecDeque<u32>,
    raw: Vec<u32>,
    preparing: usize,
    in_use: usize,
    /// Given back, and sent by `sendfile` before. Their memory is exchanged when it is needed, and not before: what
    /// is freed and taken at once is warm, and what lies free a hypervisor may take back.
    retired: VecDeque<u32>,
    /// Punched, and pinned by connections.
    ghosts: Vec<u32>,
    /// Chunks that get their first memory when the processor is idle.
    growing: usize,
    /// Since when none of them came.
    growing_since: Instant,
    /// Chunks that readers, or who hurried, missed: so many may get their first memory.
    missed: usize,
    huge: bool,
}

impl ChunkPool {
    /// `count` chunks of ordinary memory, which is never sent by `sendfile`. Memory is taken with each chunk
    /// and given back with it.
    pub fn heap(count: usize) -> Self {
        let mut pool = Self::new(count, None, None);
        pool.ready.extend(0..count as u32);
        pool
    }

    /// `count` chunks of a memfd, on huge pages where the kernel grants them. `helpers` prepare and punch
    /// them. Blocks for milliseconds: the first chunk shows whether huge pages work, and is the only one that is ready
    /// before some are taken, or [`ChunkPool::prepare_early`] is called.
    pub fn memfd(count: usize, helpers: &ChunkHelpers) -> Result<Self, PoolError> {
        let failed = |source| PoolError { bytes: count.saturating_mul(CHUNK_BYTES), source };
        let count = count.max(1);
        let mapping = Mapping::new(count).map_err(failed)?;
        let collapsed = mapping.populate(0).map_err(failed)?;
        let huge = collapsed && mapping.huge_bytes().is_ok_and(|bytes| bytes >= CHUNK_BYTES as u64);
        let mut pool = Self::new(count, Some(mapping), Some(helpers.clone()));
        pool.huge = huge;
        pool.shared.chunks[0].huge.store(huge, Ordering::Relaxed);
        pool.ready.push_back(0);
        pool.raw.extend((1..count as u32).rev());
        Ok(pool)
    }

    /// Has the first chunks get their memory before anybody needs them. It takes much of a processor for some tenths of a
    /// second: to be called when a start is over.
    pub fn prepare_early(&mut self) {
        self.prepare_ahead(HURRIED_AHEAD);
    }

    fn new(count: usize, mapping: Option<Mapping>, helpers: Option<ChunkHelpers>) -> Self {
        assert!(u32::try_from(count).is_ok_and(|count| count < u32::MAX), "{count} chunks have numbers");
        let shared = PoolShared {
            mapping,
            chunks: (0..count).map(|_| ChunkState::default()).collect(),
            returned: Returns::new(count),
            prepared: Returns::new(count),
            grown: Returns::new(count),
            punched: Returns::new(count),
            ghosts: AtomicUsize::new(0),
            pinned: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
            helpers,
            ready: VecDeque::new(),
            raw: Vec::new(),
            preparing: 0,
            in_use: 0,
            retired: VecDeque::new(),
            ghosts: Vec::new(),
            growing: 0,
            growing_since: Instant::now(),
            missed: 0,
            huge: false,
        }
    }

    /// A chunk, if one is ready. If none is, some may be getting ready: it is worth to ask again soon. Beyond the first
    /// ones chunks that never had memory get it only if they are missed; see [`ChunkPool::miss`] and [`ChunkPool::hurry`].
    pub fn take(&mut self) -> Option<Chunk> {
        self.collect();
        let index = self.ready.pop_front();
        // Also when there was none: else there never would be.
        self.prepare_ahead(0);
        let index = index?;
        self.in_use += 1;
        let memory = ChunkMemory {
            base: match &self.shared.mapping {
                Some(mapping) => mapping.chunk(index),
                None => NonNull::dangling(),
            },
            heap: self.shared.mapping.is_none().then(|| AlignedBuffer::zeroed(CHUNK_BYTES)),
            shared: self.shared.clone(),
            index,
        };
        Some(Chunk { memory: Arc::new(memory.with_base()) })
    }

    /// Has chunks prepared soon: there is no other memory than that which nobody has used yet. By the idle helper, if
    /// it gets to it.
    pub fn hurry(&mut self) {
        self.collect();
        let is_never_idle = self.growing > 0 && self.growing_since.elapsed() > IDLE_PATIENCE;
        self.prepare_ahead(if is_never_idle { HURRIED_AHEAD } else { 0 });
        let coming = self.ready.len() + self.preparing + self.growing;
        if coming < HURRIED_AHEAD {
            self.miss(HURRIED_AHEAD - coming);
            self.grow();
        }
    }

    /// A reader missed what `chunks` more of them would have held: as many may get their memory.
    pub fn miss(&mut self, chunks: usize) {
        self.missed = (self.missed + chunks).min(self.raw.len());
    }

    /// The chunks by state, now.
    pub fn stats(&mut self) -> ChunkStats {
        self.collect();
        ChunkStats {
            total: self.shared.chunks.len(),
            ready: self.ready.len(),
            raw: self.raw.len() + self.preparing + self.growing,
            retired: self.retired.len(),
            in_use: self.in_use,
            ghosts: self.ghosts.len(),
            huge: self.huge,
        }
    }

    /// Takes in what came back from other threads and the helper.
    fn collect(&mut self) {
        let shared = self.shared.clone();
        shared.prepared.take(|index| {
            self.preparing -= 1;
            self.ready.push_back(index);
        });
        shared.grown.take(|index| {
            self.growing -= 1;
            self.growing_since = Instant::now();
            self.ready.push_back(index);
        });
        shared.returned.take(|index| {
            self.in_use -= 1;
            let state = &shared.chunks[index as usize];
            if state.sent.load(Ordering::Relaxed) {
                self.retired.push_back(index);
            } else {
                self.ready.push_back(index);
            }
        });
        shared.punched.take(|index| {
            self.preparing -= 1;
            self.ghosts.push(index);
        });
        self.ghosts.retain(|index| {
            let state = &shared.chunks[*index as usize];
            // Acquire: the pin's holder is done with it.
            if state.pins.load(Ordering::Acquire) > 0 {
                return true;
            }
            state.ghost.store(false, Ordering::Relaxed);
            state.sent.store(false, Ordering::Relaxed);
            state.huge.store(false, Ordering::Relaxed);
            self.raw.push(*index);
            false
        });
        shared.ghosts.store(self.ghosts.len(), Ordering::Relaxed);
    }

    /// Has chunks prepared until enough are ready or getting ready: those that nobody pins, those without memory,
    /// and then those that connections pin, which become ghosts first. Until `prompt` are, memory is found promptly.
    fn prepare_ahead(&mut self, prompt: usize) {
        while self.helpers.is_some() && self.ready.len() + self.preparing < READY_AHEAD {
            let may_wait = self.ready.len() + self.preparing >= prompt;
            if let Some(index) = self.unpinned_retired() {
                self.exchange(index);
            } else if !self.raw.is_empty() && may_wait {
                return self.grow();
            } else if let Some(index) = self.raw.pop() {
                self.prepare(index);
            } else if let Some(index) = self.retired.pop_front() {
                self.exchange(index);
            } else {
                return;
            }
        }
    }

    /// Has chunks get their first memory when the processor is idle: the first ones before anybody needs them, and as
    /// many as were missed.
    fn grow(&mut self) {
        loop {
            let is_early = self.shared.chunks.len() - self.raw.len() < EARLY_CHUNKS;
            let is_missed = self.missed > 0 && self.ready.len() + self.preparing + self.growing < READY_AHEAD;
            if !is_early && !is_missed {
                return;
            }
            let Some(index) = self.raw.pop() else { return };
            if !is_early {
                self.missed -= 1;
            }
            if self.growing == 0 {
                self.growing_since = Instant::now();
            }
            self.growing += 1;
            let job = self.job(move |shared, mapping, wants_huge| {
                shared.populate(mapping, index, wants_huge);
                shared.grown.push(index);
            });
            self.helpers().with_memory_when_idle(job);
        }
    }

    fn unpinned_retired(&mut self) -> Option<u32> {
        let unpinned = |index: &u32| {
            // Acquire: the pin's holder is done with it.
            self.shared.chunks[*index as usize].pins.load(Ordering::Acquire) == 0
        };
        let place = self.retired.iter().take(RETIRED_CHECKS).position(unpinned)?;
        self.retired.remove(place)
    }

    /// Has a chunk punched that the network may still refer to, and given other memory unless a connection pins
    /// what it had: then it is a ghost.
    fn exchange(&mut self, index: u32) {
        self.shared.chunks[index as usize].ghost.store(true, Ordering::Relaxed);
        let job = self.job(move |shared, mapping, wants_huge| {
            // A chunk that cannot be punched stays out for good: its pages may be on their way to a peer.
            if mapping.punch(index).is_err() {
                return;
            }
            let state = &shared.chunks[index as usize];
            if state.pins.load(Ordering::Acquire) > 0 {
                shared.punched.push(index);
                return;
            }
            state.ghost.store(false, Ordering::Relaxed);
            state.sent.store(false, Ordering::Relaxed);
            shared.populate(mapping, index, wants_huge);
            shared.prepared.push(index);
        });
        self.preparing += 1;
        self.helpers().promptly(job);
    }

    fn prepare(&mut self, index: u32) {
        let job = self.job(move |shared, mapping, wants_huge| {
            shared.populate(mapping, index, wants_huge);
            shared.prepared.push(index);
        });
        self.preparing += 1;
        self.helpers().with_memory(job);
    }

    /// What a helper does for a chunk, which is then in `prepared`, `grown` or `punched`.
    fn job(
        &self,
        work: impl FnOnce(&PoolShared, &Mapping, bool) + Send + 'static,
    ) -> impl FnOnce() + Send + 'static {
        let (shared, wants_huge) = (self.shared.clone(), self.huge);
        move || {
            let mapping = shared.mapping.as_ref().expect("a pool with helpers has a mapping");
            work(&shared, mapping, wants_huge);
        }
    }

    fn helpers(&self) -> &ChunkHelpers {
        self.helpers.as_ref().expect("chunks of a mapping are prepared by its helpers")
    }
}

impl PoolShared {
    /// Gives a chunk memory.
    fn populate(&self, mapping: &Mapping, index: u32, wants_huge: bool) {
        // Without memory now, the first touch of each page finds it or the kernel kills: as for any memory of the
        // process.
        let huge = mapping.populate(index).unwrap_or(false);
        self.chunks[index as usize].huge.store(huge && wants_huge, Ordering::Relaxed);
    }
}

impl fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkPool({} chunks, {} in use)", self.shared.chunks.len(), self.in_use)
    }
}

/// The memory of a chunk that is in use. Dropping the last handle gives the chunk back to its pool.
pub(crate) struct ChunkMemory {
    base: NonNull<u8>,
    /// `Some` in a pool of heap memory.
    heap: Option<AlignedBuffer>,
    shared: Arc<PoolShared>,
    index: u32,
}

// SAFETY: the memory is the chunk's alone while it is in use; who may touch which part of it is the regions' to
// keep, as for any memory.
unsafe impl Send for ChunkMemory {}
// SAFETY: as above.
unsafe impl Sync for ChunkMemory {}

impl ChunkMemory {
    fn with_base(mut self) -> Self {
        if let Some(heap) = &mut self.heap {
            self.base = NonNull::new(heap.as_mut_ptr()).expect("an allocation has an address");
        }
        self
    }

    /// Which chunk of its pool it is.
    pub(crate) fn number(&self) -> u32 {
        self.index
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The file and where this chunk begins in it, if it may be sent by `sendfile` now.
    pub(crate) fn file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        let mapping = self.shared.mapping.as_ref()?;
        let (state, all) = (&self.shared.chunks[self.index as usize], self.shared.chunks.len());
        let ghosts = self.shared.ghosts.load(Ordering::Relaxed);
        // Cores that look at the same time may all go ahead: a few more than the share.
        let may_pin = state.pins.load(Ordering::Relaxed) > 0
            || self.shared.pinned.load(Ordering::Relaxed) * GHOST_SHARE_MAX < all;
        let sendable = state.huge.load(Ordering::Relaxed) && ghosts * GHOST_SHARE_MAX <= all && may_pin;
        sendable.then(|| (mapping.descriptor(), u64::from(self.index) * CHUNK_BYTES as u64))
    }

    /// Says that a connection is about to take a part of it by `sendfile`.
    pub(crate) fn pin(&self) -> ChunkPin {
        let state = &self.shared.chunks[self.index as usize];
        // Both are seen by the owner no later than the return of the chunk, which happens after this.
        state.sent.store(true, Ordering::Relaxed);
        if state.pins.fetch_add(1, Ordering::Relaxed) == 0 {
            self.shared.pinned.fetch_add(1, Ordering::Relaxed);
        }
        ChunkPin { shared: self.shared.clone(), index: self.index }
    }
}

impl Drop for ChunkMemory {
    fn drop(&mut self) {
        self.shared.returned.push(self.index);
    }
}

/// A connection's share of a chunk that it sent a part of, until the peer has acknowledged that part.
pub(crate) struct ChunkPin {
    shared: Arc<PoolShared>,
    index: u32,
}

impl ChunkPin {
    /// Whether the chunk was evicted: its memory waits for this connection, among others.
    pub(crate) fn is_ghost(&self) -> bool {
        self.state().ghost.load(Ordering::Relaxed)
    }

    /// Whether both are of the same chunk.
    pub(crate) fn is_same(&self, memory: &ChunkMemory) -> bool {
        self.index == memory.index && Arc::ptr_eq(&self.shared, &memory.shared)
    }

    fn state(&self) -> &ChunkState {
        &self.shared.chunks[self.index as usize]
    }
}

impl Drop for ChunkPin {
    fn drop(&mut self) {
        if self.state().pins.fetch_sub(1, Ordering::Release) == 1 {
            self.shared.pinned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A chunk that was taken and not yet put to use. Dropping it gives it back.
pub struct Chunk {
    memory: Arc<ChunkMemory>,
}

impl Chunk {
    /// The whole chunk as one region. Its slices may be sent by `sendfile`.
    pub fn into_region(self) -> Region {
        Region::within(Memory::Chunk(self.memory), 0, CHUNK_BYTES, true)
    }

    /// The chunk in regions of `extent_bytes`. Their slices are sent by copy only, so that each region may be
    /// re-used in place, whatever became of its neighbours. The chunk goes back with the last of them.
    ///
    /// # Panics
    /// If the extents are not aligned or do not fill the chunk.
    pub fn into_extents(self, extent_bytes: usize) -> Vec<Region> {
        let fits = extent_bytes.is_multiple_of(BUFFER_ALIGNMENT) && CHUNK_BYTES.is_multiple_of(extent_bytes);
        assert!(fits, "extents of {extent_bytes} bytes");
        (0..CHUNK_BYTES / extent_bytes)
            .map(|number| {
                Region::within(Memory::Chunk(self.memory.clone()), number * extent_bytes, extent_bytes, false)
            })
            .collect()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({})", self.memory.index)
    }
}

#[cfg(test)]
mod tests;
