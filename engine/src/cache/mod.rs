//! The memory of one core that published bytes live in until nobody needs them there.
//!
//! Extents are handed out to segments, which give them back once they are clean. They come in four classes:
//! the largest is a whole chunk of the pool, the others are carved from chunks of one class each. Who still
//! reads an extent that was given back keeps its memory out: a small one is used again in place when its last
//! reader is gone; a chunk goes back to the pool by itself, where it may first have to be a ghost.
//!
//! **Invariant:** chunks that are out (ghosts included) and heap extents never add up to more than `bytes_max`.
//! When that is reached nothing fails: there is no extent until one is given back.

mod carved;
mod holders;

use flumen_ring::{CHUNK_BYTES, ChunkPool, Region};

use carved::Carved;
pub(crate) use holders::{Holder, Holders, Listing};

/// The sizes that extents come in, in bytes.
pub(crate) const EXTENT_CLASSES: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, CHUNK_BYTES];

/// Extents given back that are looked at for each extent that is asked for.
const RETIRED_CHECKS: usize = 32;

/// The largest extent of ordinary memory: the allocator clears it on the core's own thread.
const HEAP_EXTENT_BYTES_MAX: usize = EXTENT_CLASSES[2];

/// Gives out extents, up to a bound.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    pool: ChunkPool,
    /// The classes below a whole chunk.
    carved: [Carved; EXTENT_CLASSES.len() - 1],
    /// Bytes of extents that are out and are not of the pool: given while no chunk was ready, or because the
    /// whole cache is smaller than a chunk.
    heap_bytes: usize,
    /// Heap extents that were given back while somebody read them.
    heap_retired: Vec<Region>,
    /// Bytes that readers missed, less than a chunk.
    missed_bytes: usize,
}

impl Cache {
    /// A cache of at most `bytes_max` bytes, of the chunks of `pool` as far as they go.
    pub(crate) fn new(pool: ChunkPool, bytes_max: usize) -> Self {
        let carved = [EXTENT_CLASSES[0], EXTENT_CLASSES[1], EXTENT_CLASSES[2]].map(Carved::new);
        Self { bytes_max, pool, carved, heap_bytes: 0, heap_retired: Vec::new(), missed_bytes: 0 }
    }

    /// Has memory found for the first extents, before anybody needs them: once the start is over.
    pub(crate) fn prepare_early(&mut self) {
        self.pool.prepare_early();
    }

    /// An empty extent of the class that holds `bytes_wanted` (or the largest class), if there is one at once.
    pub(crate) fn extent(&mut self, bytes_wanted: usize) -> Option<Region> {
        let class = class_of(bytes_wanted);
        if let Some(region) = self.free_extent(class) {
            return Some(region);
        }
        if self.bytes_used() + CHUNK_BYTES > self.bytes_max {
            // What readers of other classes let go of may make a chunk whole again.
            for carved in &mut self.carved {
                carved.collect(RETIRED_CHECKS);
            }
        }
        if self.bytes_used() + CHUNK_BYTES > self.bytes_max {
            return None;
        }
        let chunk = self.pool.take()?;
        Some(match self.carved.get_mut(class) {
            Some(carved) => carved.carve(chunk),
            None => chunk.into_region(),
        })
    }

    /// A smaller extent than asked for, where there is no other: the largest that is free.
    pub(crate) fn smaller_extent(&mut self, bytes_wanted: usize) -> Option<Region> {
        (0..class_of(bytes_wanted)).rev().find_map(|smaller| self.free_extent(smaller))
    }

    /// An extent that was carved before and is free now.
    fn free_extent(&mut self, class: usize) -> Option<Region> {
        self.carved.get_mut(class)?.take(RETIRED_CHECKS)
    }

    /// An extent of ordinary memory, which may be smaller than asked for: for when there is room, but no chunk ready. Some
    /// get ready meanwhile ([`ChunkPool::hurry`]).
    pub(crate) fn heap_extent(&mut self, bytes_wanted: usize) -> Option<Region> {
        let bytes = EXTENT_CLASSES[class_of(bytes_wanted)].min(HEAP_EXTENT_BYTES_MAX);
        self.sweep_heap();
        if self.bytes_used() + bytes > self.bytes_max {
            return None;
        }
        self.pool.hurry();
        self.heap_bytes += bytes;
        Some(Region::on_heap(bytes))
    }

    fn sweep_heap(&mut self) {
        let heap_bytes = &mut self.heap_bytes;
        self.heap_retired.retain(|region| {
            let shared = region.is_shared();
            if !shared {
                *heap_bytes -= region.capacity();
            }
            shared
        });
    }

    /// Takes an extent back. Its memory is free once no slice of it is alive; says whether that is now.
    pub(crate) fn release(&mut self, region: Region) -> bool {
        let is_free = !region.is_shared();
        if region.chunk_number().is_none() {
            self.heap_retired.push(region);
            self.sweep_heap();
        } else if let Some(carved) = self.carved.iter_mut().find(|carved| carved.is_of_class(&region)) {
            carved.release(region);
        }
        // A whole chunk goes back to the pool with its last slice.
        is_free
    }

    /// Readers had to read `bytes` from the disk that this cache would still hold, had it taken all the memory that it
    /// may take: it takes more of it soon.
    pub(crate) fn miss(&mut self, bytes: usize) {
        self.missed_bytes += bytes;
        self.pool.miss(self.missed_bytes / CHUNK_BYTES);
        self.missed_bytes %= CHUNK_BYTES;
    }

    /// Bytes that are out, with those that wait for their readers and what is not used of carved chunks.
    pub(crate) fn bytes_used(&mut self) -> usize {
        let chunks = self.pool.stats();
        (chunks.in_use + chunks.ghosts) * CHUNK_BYTES + self.heap_bytes
    }

    /// The bound.
    #[cfg(test)]
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

fn class_of(bytes_wanted: usize) -> usize {
    let class = EXTENT_CLASSES.iter().position(|bytes| *bytes >= bytes_wanted);
    class.unwrap_or(EXTENT_CLASSES.len() - 1)
}

#[cfg(test)]
mod tests;
