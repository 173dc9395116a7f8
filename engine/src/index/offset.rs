//! From an offset to the position of the batch to begin at.

use super::{IndexError, sound_entries};
use crate::types::{Offset, Position};

/// Bytes of an entry.
pub const OFFSET_ENTRY_BYTES: usize = 8;

/// A batch of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The offset of its last record.
    pub offset: Offset,
    /// Where it starts.
    pub position: Position,
}

/// Some batches of a segment, in order.
///
/// Invariant: offsets and positions rise strictly.
#[derive(Debug, Clone)]
pub struct OffsetIndex {
    base: Offset,
    /// Offset relative to `base`, and position.
    entries: Vec<(u32, u32)>,
    /// The last of them, beside what every batch looks at.
    newest: Option<(u32, u32)>,
}

impl OffsetIndex {
    /// No entry.
    pub fn new(base: Offset) -> Self {
        Self::of(base, Vec::new())
    }

    fn of(base: Offset, entries: Vec<(u32, u32)>) -> Self {
        Self { base, newest: entries.last().copied(), entries }
    }

    /// The entries of a file, a tail of zeros left out, each checked against the log's length.
    pub fn from_bytes(base: Offset, bytes: &[u8], log_bytes: u64) -> Result<Self, IndexError> {
        let entry = |index: usize| {
            let at = index * OFFSET_ENTRY_BYTES;
            (read_u32(bytes, at), read_u32(bytes, at + 4))
        };
        let rises = |index: usize| match index.checked_sub(1) {
            None => i32::try_from(entry(0).0).is_ok(),
            Some(before) => {
                let (before, after) = (entry(before), entry(index));
                before.0 < after.0 && before.1 < after.1 && i32::try_from(after.0).is_ok()
            }
        };
        let count = sound_entries(bytes, OFFSET_ENTRY_BYTES, rises)?;
        let entries: Vec<_> = (0..count).map(entry).collect();
        match entries.iter().position(|(_, position)| u64::from(*position) >= log_bytes) {
            Some(index) => Err(IndexError::BehindLog { index }),
            None => Ok(Self::of(base, entries)),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * OFFSET_ENTRY_BYTES);
        for (offset, position) in &self.entries {
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        bytes
    }

    /// Adds the batch that ends with `offset` and starts at `position`; one that does not rise, or lies too far
    /// from the base for an entry, is left out.
    pub fn push(&mut self, offset: Offset, position: Position) {
        let relative = i32::try_from(offset.0 - self.base.0).ok().and_then(|it| u32::try_from(it).ok());
        let (Some(relative), Ok(position)) = (relative, u32::try_from(position.0)) else { return };
        if self.newest.is_none_or(|newest| newest.0 < relative && newest.1 < position) {
            self.entries.push((relative, position));
            self.newest = Some((relative, position));
        }
    }

    /// Where to begin to look for `target`: the newest entry that is not behind it, or the segment's start.
    pub fn lookup(&self, target: Offset) -> OffsetEntry {
        let behind = self.entries.partition_point(|entry| self.base.0 + i64::from(entry.0) <= target.0);
        match behind.checked_sub(1) {
            None => OffsetEntry { offset: self.base, position: Position(0) },
            Some(index) => self.entry(index),
        }
    }

    /// The first entry that starts at `position` or behind it: an upper bound for what a read must cover.
    pub fn first_from(&self, position: Position) -> Option<OffsetEntry> {
        let before = self.entries.partition_point(|entry| u64::from(entry.1) < position.0);
        (before < self.entries.len()).then(|| self.entry(before))
    }

    /// Adds the entries of a later part of the same segment that start at `from` or behind it.
    pub fn extend_from(&mut self, later: &Self, from: Position) {
        let entries = (0..later.len()).map(|index| later.entry(index));
        for entry in entries.filter(|entry| entry.position >= from) {
            self.push(entry.offset, entry.position);
        }
    }

    /// Where the newest batch with an entry starts that does not start behind `position`; the segment's start
    /// if there is none.
    pub fn floor_of_position(&self, position: Position) -> Position {
        let behind = self.entries.partition_point(|entry| u64::from(entry.1) <= position.0);
        behind.checked_sub(1).map_or(Position(0), |index| self.entry(index).position)
    }

    /// The newest entry.
    pub fn last(&self) -> Option<OffsetEntry> {
        self.newest.map(|newest| self.absolute(newest))
    }

    /// Removes the entries of `end` and behind it.
    pub fn truncate_to(&mut self, end: Offset) {
        let kept = self.entries.partition_point(|entry| self.base.0 + i64::from(entry.0) < end.0);
        self.entries.truncate(kept);
        self.newest = self.entries.last().copied();
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What they take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(u32, u32)>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&self, index: usize) -> OffsetEntry {
        self.absolute(self.entries[index])
    }

    fn absolute(&self, (offset, position): (u32, u32)) -> OffsetEntry {
        OffsetEntry {
            offset: Offset(self.base.0 + i64::from(offset)),
            position: Position(u64::from(position)),
        }
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
