//! From a time to the offset to begin at.

use super::{IndexError, sound_entries};
use crate::types::{Offset, Timestamp};

/// Bytes of an entry.
pub const TIME_ENTRY_BYTES: usize = 12;

/// The largest timestamp of a segment up to an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest timestamp so far.
    pub timestamp: Timestamp,
    /// The last offset of the batch that it is in.
    pub offset: Offset,
}

/// The largest timestamp of a segment, as it rose.
///
/// Invariant: timestamps rise strictly, offsets do not fall.
#[derive(Debug, Clone)]
pub struct TimeIndex {
    base: Offset,
    /// Timestamp, and offset relative to `base`.
    entries: Vec<(i64, u32)>,
    /// The last of them, beside what every batch looks at.
    newest: Option<(i64, u32)>,
}

impl TimeIndex {
    /// No entry.
    pub fn new(base: Offset) -> Self {
        Self::of(base, Vec::new())
    }

    fn of(base: Offset, entries: Vec<(i64, u32)>) -> Self {
        Self { base, newest: entries.last().copied(), entries }
    }

    /// The entries of a file, a tail of zeros left out.
    pub fn from_bytes(base: Offset, bytes: &[u8]) -> Result<Self, IndexError> {
        let entry = |index: usize| {
            let at = index * TIME_ENTRY_BYTES;
            let timestamp = i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            let offset = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes"));
            (timestamp, offset)
        };
        let rises = |index: usize| match index.checked_sub(1) {
            None => i32::try_from(entry(0).1).is_ok(),
            Some(before) => {
                let (before, after) = (entry(before), entry(index));
                before.0 < after.0 && before.1 <= after.1 && i32::try_from(after.1).is_ok()
            }
        };
        let count = sound_entries(bytes, TIME_ENTRY_BYTES, rises)?;
        Ok(Self::of(base, (0..count).map(entry).collect()))
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * TIME_ENTRY_BYTES);
        for (timestamp, offset) in &self.entries {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&offset.to_be_bytes());
        }
        bytes
    }

    /// Adds an entry; one that does not rise, or lies too far from the base, is left out.
    pub fn push(&mut self, entry: TimeEntry) {
        let relative = i32::try_from(entry.offset.0 - self.base.0).ok().and_then(|it| u32::try_from(it).ok());
        let Some(relative) = relative else { return };
        if self.newest.is_none_or(|newest| newest.0 < entry.timestamp.0 && newest.1 <= relative) {
            self.entries.push((entry.timestamp.0, relative));
            self.newest = Some((entry.timestamp.0, relative));
        }
    }

    /// Where to begin to look for the first record of `target` or later: every record before that offset is
    /// earlier. The segment's start if no entry says more.
    pub fn lookup(&self, target: Timestamp) -> Offset {
        let reached = self.entries.partition_point(|entry| entry.0 < target.0);
        match reached.checked_sub(1) {
            None => self.base,
            Some(index) => self.entry(index).offset,
        }
    }

    /// Adds the entries of a later part of the same segment.
    pub fn extend_from(&mut self, later: &Self) {
        for index in 0..later.len() {
            self.push(later.entry(index));
        }
    }

    /// The newest entry.
    pub fn last(&self) -> Option<TimeEntry> {
        self.newest.map(|newest| self.absolute(newest))
    }

    /// Removes the entries of `end` and behind it.
    pub fn truncate_to(&mut self, end: Offset) {
        let kept = self.entries.partition_point(|entry| self.base.0 + i64::from(entry.1) < end.0);
        self.entries.truncate(kept);
        self.newest = self.entries.last().copied();
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What they take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(i64, u32)>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&self, index: usize) -> TimeEntry {
        self.absolute(self.entries[index])
    }

    fn absolute(&self, (timestamp, offset): (i64, u32)) -> TimeEntry {
        TimeEntry { timestamp: Timestamp(timestamp), offset: Offset(self.base.0 + i64::from(offset)) }
    }
}
