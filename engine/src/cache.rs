//! The memory of one core that published bytes live in until nobody needs them there.
//!
//! Extents are handed out to segments, which evict them once they are clean. An extent that a reader still
//! holds when it is given back is a *ghost*: it counts against the bound until its last reader is gone, so the
//! cache never takes more than `bytes_max`, whoever holds its memory.

use flumen_ring::Region;

/// The sizes that extents come in, in bytes.
pub(crate) const EXTENT_CLASSES: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, 2 << 20];

/// Gives out extents, up to a bound.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    /// Invariant: the capacity of every extent that is out, ghosts included; never above `bytes_max`.
    bytes_used: usize,
    ghosts: Vec<Region>,
}

impl Cache {
    /// A cache of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes_used: 0, ghosts: Vec::new() }
    }

    /// An empty extent of the class that holds `bytes_wanted` (or the largest class), if there is room.
    pub(crate) fn extent(&mut self, bytes_wanted: usize) -> Option<Region> {
        let class = EXTENT_CLASSES.into_iter().find(|class| *class >= bytes_wanted);
        let bytes = class.unwrap_or(EXTENT_CLASSES[EXTENT_CLASSES.len() - 1]);
        if self.bytes_used + bytes > self.bytes_max {
            self.sweep();
        }
        if self.bytes_used + bytes > self.bytes_max {
            return None;
        }
        self.bytes_used += bytes;
        Some(Region::on_heap(bytes))
    }

    /// Takes an extent back. Its memory is free once no slice of it is alive.
    pub(crate) fn release(&mut self, region: Region) {
        if region.is_shared() {
            self.ghosts.push(region);
        } else {
            self.bytes_used -= region.capacity();
        }
    }

    /// The capacity of every extent that is out, ghosts included.
    pub(crate) fn bytes_used(&self) -> usize {
        self.bytes_used
    }

    fn sweep(&mut self) {
        let used = &mut self.bytes_used;
        self.ghosts.retain(|ghost| {
            let shared = ghost.is_shared();
            if !shared {
                *used -= ghost.capacity();
            }
            shared
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_counts_until_its_reader_is_gone() {
        let mut cache = Cache::new(32 << 10);
        let mut first = cache.extent(1).expect("room");
        let _second = cache.extent(16 << 10).expect("room");
        assert!(cache.extent(1).is_none());
        let slice = first.append(b"read me");
        cache.release(first);
        assert!(cache.extent(1).is_none(), "a reader holds the ghost");
        drop(slice);
        assert!(cache.extent(1).is_some());
        assert_eq!(cache.bytes_used(), 32 << 10);
    }
}
