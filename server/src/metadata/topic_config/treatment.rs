//! What is done to the batches that producers send to a topic, beyond the checks that every batch gets.

use flumen_engine::batch::{BatchSummary, Codec};

use crate::compression::Compression;

/// How a topic's batches are treated before they are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Treatment {
    /// Whether a record without a key is refused (`cleanup.policy` has `compact`).
    pub needs_keys: bool,
    /// What batches are stored as (`compression.type`); `None` for as they came.
    pub compression: Option<Compression>,
    /// Whether batches get the broker's time, so that theirs does not matter (`message.timestamp.type`).
    pub is_stamped: bool,
    /// `max.message.bytes`: a batch that is larger is refused as it came.
    pub message_bytes_max: u32,
}

impl Treatment {
    /// Whether there is anything to do for any batch.
    pub fn is_any(&self) -> bool {
        self.needs_keys || self.compression.is_some()
    }

    /// Whether a batch must be opened, or compressed anew.
    pub fn concerns(&self, batch: &BatchSummary) -> bool {
        let is_to_open = self.needs_keys && batch.codec != Codec::None;
        let is_to_date = batch.is_misdated() && !self.is_stamped;
        let is_to_change = self.compression.is_some_and(|compression| compression.codec != batch.codec);
        (is_to_open || is_to_date || is_to_change) && batch.length <= self.message_bytes_max as usize
    }
}
