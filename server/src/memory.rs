//! Memory for the bodies of requests: bounded for each core, whatever its connections announce.
//!
//! A body's first 16 KiB cost nothing but the connection's own place; the rest is asked for all at once when
//! data beyond them is on its way, so nobody holds some memory while waiting for more. When it is used up,
//! connections are not read. An eighth is kept for what is no Produce.

use crate::semaphore::{Permit, Semaphore};

/// Bytes of a request that need no permit.
pub const FREE_BYTES: usize = 16 << 10;

/// The request memory of one core.
pub struct RequestMemory {
    produce: Semaphore,
    produce_bytes: usize,
    other: Semaphore,
    other_bytes: usize,
}

impl RequestMemory {
    /// `bytes` of memory, at least a few large requests' worth.
    pub fn new(bytes: usize) -> Self {
        let other_bytes = bytes / 8;
        let produce_bytes = bytes - other_bytes;
        Self {
            produce: Semaphore::new(produce_bytes),
            produce_bytes,
            other: Semaphore::new(other_bytes),
            other_bytes,
        }
    }

    /// Waits for memory for a request of `bytes`. One that is larger than all of it gets all of it.
    pub async fn reserve(&self, bytes: usize, is_produce: bool) -> Permit {
        let (semaphore, all) = match is_produce {
            true => (&self.produce, self.produce_bytes),
            false => (&self.other, self.other_bytes),
        };
        semaphore.acquire(bytes.min(all)).await
    }

    /// How many bytes are taken.
    pub fn used_bytes(&self) -> usize {
        self.produce_bytes - self.produce.available() + self.other_bytes - self.other.available()
    }
}
