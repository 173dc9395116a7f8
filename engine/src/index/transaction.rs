//! The aborted transactions of a segment: what a `read_committed` consumer has to leave out.
//!
//! ```text
//! .txnindex  { version i16 = 0, producer id i64, first offset i64, last offset i64, last stable offset i64 }
//!            34 bytes, big-endian, in the order of the last offset
//! ```
//! Source: Kafka's `TransactionIndex`, `AbortedTxn`.

use super::IndexError;
use crate::types::{Offset, ProducerId};

/// Bytes of an entry.
const ENTRY_BYTES: usize = 34;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedEntry {
    /// Its producer.
    pub producer: ProducerId,
    /// Its first record.
    pub first: Offset,
    /// Its marker.
    pub last: Offset,
    /// The last stable offset once the marker was appended.
    pub last_stable: Offset,
}

/// The aborted transactions whose markers lie in one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionIndex {
    entries: Vec<AbortedEntry>,
}

impl TransactionIndex {
    /// The entries of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return Err(IndexError::Length { length: bytes.len() });
        }
        let mut index = Self::default();
        for (number, entry) in bytes.chunks(ENTRY_BYTES).enumerate() {
            let version = i16::from_be_bytes(entry[..2].try_into().expect("two bytes"));
            if version != 0 {
                return Err(IndexError::Version { version, index: number });
            }
            let field = |at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
            let entry = AbortedEntry {
                producer: ProducerId(field(2)),
                first: Offset(field(10)),
                last: Offset(field(18)),
                last_stable: Offset(field(26)),
            };
            if index.entries.last().is_some_and(|before| before.last >= entry.last) {
                return Err(IndexError::Order { index: number });
            }
            index.entries.push(entry);
        }
        Ok(index)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            bytes.extend_from_slice(&0i16.to_be_bytes());
            for field in [entry.producer.0, entry.first.0, entry.last.0, entry.last_stable.0] {
                bytes.extend_from_slice(&field.to_be_bytes());
            }
        }
        bytes
    }

    /// Adds a transaction that was aborted.
    ///
    /// # Panics
    /// If its marker does not lie behind the last one.
    pub fn push(&mut self, entry: AbortedEntry) {
        let rises = self.entries.last().is_none_or(|before| before.last < entry.last);
        assert!(rises, "markers are appended in order");
        self.entries.push(entry);
    }

    /// In the order of their markers.
    pub fn entries(&self) -> &[AbortedEntry] {
        &self.entries
    }

    /// Those that have records in `from..to`, and whether a later segment cannot hold more of them.
    pub fn aborted_in(&self, from: Offset, to: Offset) -> (Vec<AbortedEntry>, bool) {
        let overlaps = |entry: &&AbortedEntry| entry.last >= from && entry.first < to;
        let found = self.entries.iter().filter(overlaps).copied().collect();
        (found, self.entries.iter().any(|entry| entry.last_stable >= to))
    }

    /// Removes those whose markers are at `end` or behind it.
    pub fn truncate_to(&mut self, end: Offset) {
        self.entries.retain(|entry| entry.last < end);
    }

    /// Whether there is none: then there is no file.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
