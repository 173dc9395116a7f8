//! Memory for the bodies of requests: bounded for each core, whatever its connections announce.
//!
//! A body's first 16 KiB cost nothing but the connection's own place; the rest is asked for all at once when
//! data beyond them is on its way, so nobody holds some memory while waiting for more; or with the request's first bytes,
//! where the connection's last such body was half as large and came whole. When it is used up,
//! connections are not read, and whoever holds some of it must send: [`RequestMemory::is_wanted`]. An eighth is kept
//! for what is no Produce.
//!
//! Answers to fetches hold the bytes that they send, in the cache or beside it, until the last one has left.
//! Nobody waits for room there, or a few slow consumers would stop all others: instead each answer is smaller
//! the more is held already, down to [`ANSWER_BYTES_MIN`]. So the bound is the limit, and beyond it one batch
//! or that minimum for each connection.

use std::cell::Cell;
use std::rc::Rc;

use flumen_ring::semaphore::{Permit, Semaphore};

/// Bytes of a request that need no permit.
pub const FREE_BYTES: usize = 16 << 10;

/// The request memory of one core.
pub struct RequestMemory {
    produce: Semaphore,
    other: Semaphore,
}

impl RequestMemory {
    /// `bytes` of memory, at least a few large requests' worth.
    pub fn new(bytes: usize) -> Self {
        let other_bytes = bytes / 8;
        Self { produce: Semaphore::new(bytes - other_bytes), other: Semaphore::new(other_bytes) }
    }

    /// Waits for memory for a request of `bytes`. One that is larger than all of it gets all of it.
    pub async fn reserve(&self, bytes: usize, is_produce: bool) -> Permit {
        self.share(is_produce).acquire(bytes).await
    }

    /// Whether somebody waits for memory of that kind.
    pub fn is_wanted(&self, is_produce: bool) -> bool {
        self.share(is_produce).is_wanted()
    }

    fn share(&self, is_produce: bool) -> &Semaphore {
        if is_produce { &self.produce } else { &self.other }
    }

    /// How many bytes are taken.
    pub fn used_bytes(&self) -> usize {
        self.produce.held() + self.other.held()
    }
}

/// Bytes that an answer may have however much is held.
pub const ANSWER_BYTES_MIN: usize = 64 << 10;

/// No answer takes more than this fraction of what is left.
const ANSWER_SHARE: usize = 8;

/// What the answers of one core hold.
pub struct AnswerMemory {
    limit_bytes: usize,
    held_bytes: Rc<Cell<usize>>,
}

impl AnswerMemory {
    /// Nothing held, of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, held_bytes: Rc::default() }
    }

    /// How large the next answer may be.
    pub fn answer_bytes_max(&self) -> usize {
        let left = self.limit_bytes.saturating_sub(self.held_bytes.get());
        (left / ANSWER_SHARE).max(ANSWER_BYTES_MIN)
    }

    /// Counts an answer's bytes, from before they are read until the hold is dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        self.held_bytes.set(self.held_bytes.get() + bytes);
        Held { held_bytes: self.held_bytes.clone(), bytes }
    }
}

/// Bytes of an answer that has not left yet.
pub struct Held {
    held_bytes: Rc<Cell<usize>>,
    bytes: usize,
}

impl Held {
    /// The answer turned out to be of `bytes`.
    pub fn resize(&mut self, bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held_bytes.set(self.held_bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_shrink_as_memory_is_held_and_grow_again() {
        let memory = AnswerMemory::new(64 << 20);
        let mut held = Vec::new();
        let first = memory.answer_bytes_max();
        assert_eq!(first, 8 << 20);
        for _ in 0..1000 {
            let bytes = memory.answer_bytes_max();
            held.push(memory.hold(bytes));
        }
        assert_eq!(memory.answer_bytes_max(), ANSWER_BYTES_MIN);
        let all: usize = held.iter().map(|held| held.bytes).sum();
        assert!(all <= (64 << 20) + 1000 * ANSWER_BYTES_MIN, "{all}");
        held.truncate(1);
        held[0].resize(32 << 20);
        assert_eq!(memory.answer_bytes_max(), 4 << 20);
        held.clear();
        assert_eq!(memory.answer_bytes_max(), first);
    }
}
