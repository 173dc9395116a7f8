//! Producer ids for the idempotent producers of one core: out of a block of its own, so that giving one
//! costs nothing; another block comes from the controller when it is used up. What is left of a block at a
//! stop or crash is never given again.

use std::cell::Cell;
use std::rc::Rc;

use flumen_ring::gate::Turn;

use crate::metadata::controller::{AdminError, PRODUCER_ID_BLOCK};
use crate::shard::Shard;

/// The ids of one core that nobody has yet.
pub struct ProducerIds {
    next: Cell<i64>,
    /// Invariant: `next <= end`.
    end: Cell<i64>,
    /// Held by whoever asks for another block.
    refill: Turn,
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self { next: Cell::new(0), end: Cell::new(0), refill: Turn::default() }
    }
}

impl ProducerIds {
    /// An id that nobody else gets.
    pub async fn allocate(&self, shard: &Rc<Shard>) -> Result<i64, AdminError> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let _refilling = self.refill.take().await;
            // Whoever was before may have refilled it.
            if self.next == self.end {
                let first = shard
                    .with_controller(async |controller| controller.allocate_producer_ids().await)
                    .await?;
                self.next.set(first);
                self.end.set(first + PRODUCER_ID_BLOCK);
            }
        }
    }

    fn take(&self) -> Option<i64> {
        let id = self.next.get();
        (id < self.end.get()).then(|| {
            self.next.set(id + 1);
            id
        })
    }
}
