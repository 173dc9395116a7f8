//! Extents of one small class, carved from chunks.

use std::collections::{BTreeMap, VecDeque};

use flumen_ring::{CHUNK_BYTES, Chunk, Region};

/// The extents of one class that are not out.
#[derive(Debug)]
pub(super) struct Carved {
    extent_bytes: usize,
    /// Empty extents nobody reads, by the chunk that they are of. Taken from the first chunk, so that the others
    /// may become free as a whole, and go back to the pool.
    free: BTreeMap<u32, Vec<Region>>,
    /// Given back while somebody read them, oldest first.
    retired: VecDeque<Region>,
}

impl Carved {
    pub(super) fn new(extent_bytes: usize) -> Self {
        Self { extent_bytes, free: BTreeMap::new(), retired: VecDeque::new() }
    }

    pub(super) fn is_of_class(&self, region: &Region) -> bool {
        region.capacity() == self.extent_bytes
    }

    /// Cuts a chunk into extents; the first of them.
    pub(super) fn carve(&mut self, chunk: Chunk) -> Region {
        let mut regions = chunk.into_extents(self.extent_bytes);
        let first = regions.swap_remove(0);
        for region in regions {
            self.put(region);
        }
        first
    }

    /// A free extent. Looks at no more than `checks` of the retired ones.
    pub(super) fn take(&mut self, checks: usize) -> Option<Region> {
        if self.free.is_empty() {
            self.collect(checks);
        }
        let mut first = self.free.first_entry()?;
        let region = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        region
    }

    /// Takes an extent back.
    pub(super) fn release(&mut self, mut region: Region) {
        if region.try_clear() {
            self.put(region);
        } else {
            self.retired.push_back(region);
        }
        // Each extent that comes back looks after two, so that all are looked after.
        self.collect(2);
    }

    /// Frees the retired extents that nobody reads any longer, of the `checks` oldest.
    pub(super) fn collect(&mut self, checks: usize) {
        for _ in 0..checks.min(self.retired.len()) {
            let Some(mut region) = self.retired.pop_front() else { return };
            if region.try_clear() {
                self.put(region);
            } else {
                self.retired.push_back(region);
            }
        }
    }

    fn put(&mut self, region: Region) {
        let chunk = region.chunk_number().expect("carved extents are of chunks");
        let free = self.free.entry(chunk).or_default();
        free.push(region);
        if free.len() == CHUNK_BYTES / self.extent_bytes {
            // Nothing of the chunk is out: back to the pool with it.
            self.free.remove(&chunk);
        }
    }
}
