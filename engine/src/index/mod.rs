//! The indexes of one segment: from an offset to a position, from a time to an offset.
//!
//! Owned by the partition's core; held in memory while the segment is active, written when it is rolled or
//! closed, read back on first use. A crash may leave none, an old one, or one that ends in zeros (Kafka
//! preallocates 10 MiB): what cannot be proved sound is rebuilt from the log. Both are sparse, and only say where
//! to begin to look.
//!
//! ```text
//! .index      { relative offset u32, position u32 }          8 bytes, big-endian
//!             last offset of a batch − base offset, where that batch starts
//! .timeindex  { timestamp i64, relative offset u32 }        12 bytes, big-endian
//!             largest timestamp so far, last offset of its batch − base offset
//! ```
//! Source: Kafka's `OffsetIndex`, `TimeIndex`, `LogSegment.append`.

mod offset;
mod time;
mod transaction;

pub use offset::{OFFSET_ENTRY_BYTES, OffsetEntry, OffsetIndex};
pub use time::{TIME_ENTRY_BYTES, TimeEntry, TimeIndex};
pub use transaction::{AbortedEntry, TransactionIndex};

use crate::types::{Offset, Position, Timestamp};

/// What is wrong with an index file. It is rebuilt from the log; nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Not a multiple of the entry's size.
    #[error("{length} bytes are no whole number of entries")]
    Length {
        /// The file's length.
        length: usize,
    },
    /// An entry does not rise above the one before it, and is not part of a tail of zeros.
    #[error("entry {index} does not rise")]
    Order {
        /// The entry, from 0.
        index: usize,
    },
    /// An entry points behind the end of the log.
    #[error("entry {index} lies behind the end of the log")]
    BehindLog {
        /// The entry, from 0.
        index: usize,
    },
    /// A transaction entry of a version that is not known.
    #[error("version {version} of entry {index} is not known")]
    Version {
        /// The version found.
        version: i16,
        /// The entry, from 0.
        index: usize,
    },
}

/// The indexes of a segment as its batches come in.
#[derive(Debug, Clone)]
pub struct SegmentIndexes {
    /// Offset to position.
    pub offsets: OffsetIndex,
    /// Time to offset.
    pub times: TimeIndex,
    /// Bytes of log behind the newest entry.
    bytes_since_entry: u64,
    /// The largest timestamp so far and the last offset of its batch.
    max: Option<TimeEntry>,
}

impl SegmentIndexes {
    /// Those of an empty segment.
    pub fn new(base: Offset) -> Self {
        Self { offsets: OffsetIndex::new(base), times: TimeIndex::new(base), bytes_since_entry: 0, max: None }
    }

    /// Those read from the files of a segment that goes on; `max` is the largest timestamp in its log.
    pub fn from_indexes(offsets: OffsetIndex, times: TimeIndex, max: Option<TimeEntry>) -> Self {
        let max = max.or(times.last());
        Self { offsets, times, bytes_since_entry: 0, max }
    }

    /// Notes a batch of `length` bytes at `position`, and gives it an entry in both indexes if more than
    /// `interval_bytes` (`index.interval.bytes`) lie behind the last one.
    pub fn note_batch(
        &mut self,
        position: Position,
        length: u64,
        last_offset: Offset,
        max_timestamp: Timestamp,
        interval_bytes: u32,
    ) {
        if self.max.is_none_or(|max| max_timestamp > max.timestamp) {
            self.max = Some(TimeEntry { timestamp: max_timestamp, offset: last_offset });
        }
        if self.bytes_since_entry > u64::from(interval_bytes) {
            self.offsets.push(last_offset, position);
            if let Some(max) = self.max {
                self.times.push(max);
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += length;
    }

    /// The largest timestamp in the segment and the last offset of its batch.
    pub fn max_timestamp(&self) -> Option<TimeEntry> {
        self.max
    }

    /// Adds what a segment that takes no more batches still lacks: its largest timestamp, which Kafka looks for in
    /// the last entry.
    pub fn seal(&mut self) {
        if let Some(max) = self.max {
            self.times.push(max);
        }
    }

    /// Whether an index would pass `bytes_max` (`segment.index.bytes`) with one more entry.
    pub fn is_full(&self, bytes_max: u32) -> bool {
        let bytes_max = bytes_max as usize;
        (self.offsets.len() + 1) * OFFSET_ENTRY_BYTES > bytes_max
            || (self.times.len() + 1) * TIME_ENTRY_BYTES > bytes_max
    }

    /// The log now ends before `end`. `max` is the largest timestamp that is left, if the caller knows it; the
    /// newest entry's otherwise.
    pub fn truncate_to(&mut self, end: Offset, max: Option<TimeEntry>) {
        self.offsets.truncate_to(end);
        self.times.truncate_to(end);
        self.max = max.or(self.times.last());
        self.bytes_since_entry = 0;
    }
}

/// Where entries of `SIZE` bytes end and zeros begin, if the whole of the rest is zeros; `rises` tells whether
/// entry `index` rises above the one before it.
fn sound_entries(bytes: &[u8], size: usize, rises: impl Fn(usize) -> bool) -> Result<usize, IndexError> {
    if !bytes.len().is_multiple_of(size) {
        return Err(IndexError::Length { length: bytes.len() });
    }
    let count = bytes.len() / size;
    for index in 0..count {
        let is_zero = bytes[index * size..(index + 1) * size].iter().all(|byte| *byte == 0);
        if is_zero && bytes[index * size..].iter().all(|byte| *byte == 0) {
            return Ok(index);
        }
        if !rises(index) {
            return Err(IndexError::Order { index });
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
