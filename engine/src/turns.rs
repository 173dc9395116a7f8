//! Long work of one core over all of its partitions, in turns: others of the core go on in between.

use crate::core::Core;

/// So many partitions are looked at before others have their turn, if nothing of them is encoded.
const TURN_PARTITIONS_MAX: usize = 128;
/// So many bytes are encoded, about.
const TURN_BYTES: usize = 64 << 10;

/// How much was done since others had their turn.
#[derive(Default)]
pub(crate) struct Turns {
    partitions: usize,
    bytes: usize,
}

impl Turns {
    /// One more partition was looked at, and so many bytes of it were encoded.
    pub(crate) async fn took(&mut self, core: &Core, bytes: usize) {
        self.partitions += 1;
        self.bytes += bytes;
        if self.partitions >= TURN_PARTITIONS_MAX || self.bytes >= TURN_BYTES {
            *self = Self::default();
            core.runtime.yield_now().await;
        }
    }
}
