//! Where in a segment an offset or a time is, as far as is known: Kafka's indexes, held in memory.
//!
//! After a crash the part of the active segment below the recovery point is not covered; whoever looks there
//! loads the whole look-up first.

use crate::index::{OffsetIndex, SegmentIndexes, TimeEntry, TimeIndex};
use crate::{Offset, Position, Timestamp};

/// The look-ups of one segment.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) indexes: SegmentIndexes,
    /// Positions below this are not covered.
    covered_from: Position,
    /// The offset at `covered_from`.
    covered_offset: Offset,
    /// Whether the offsets' positions are from the log itself. A file's have no checksum: a bit that flipped may say
    /// any position.
    is_proved: bool,
}

impl Lookup {
    /// An empty look-up that covers the segment from `covered_from` on.
    pub(crate) fn new(base: Offset, covered_from: Position, covered_offset: Offset) -> Self {
        Self { indexes: SegmentIndexes::new(base), covered_from, covered_offset, is_proved: true }
    }

    /// From the contents of the two files, if they are sound for a segment of `log_bytes`.
    pub(crate) fn from_files(
        base: Offset,
        offset_index: &[u8],
        time_index: &[u8],
        log_bytes: u64,
    ) -> Option<Self> {
        let offsets = OffsetIndex::from_bytes(base, offset_index, log_bytes).ok()?;
        let times = TimeIndex::from_bytes(base, time_index).ok()?;
        let indexes = SegmentIndexes::from_indexes(offsets, times, None);
        Some(Self { indexes, covered_from: Position(0), covered_offset: base, is_proved: false })
    }

    /// Whether its positions are from the log itself, and not from a file that may say anything.
    pub(crate) fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// Takes the positions below `upto` from `walked`, which has seen every batch there.
    pub(crate) fn prove(&mut self, walked: Lookup, upto: Position) {
        let mut offsets = walked.indexes.offsets;
        offsets.extend_from(&self.indexes.offsets, upto);
        self.indexes.offsets = offsets;
        self.is_proved = true;
    }

    /// Whether it knows where `offset` is.
    pub(crate) fn covers(&self, offset: Offset) -> bool {
        offset >= self.covered_offset
    }

    /// Whether it knows the whole segment.
    pub(crate) fn is_complete(&self) -> bool {
        self.covered_from == Position(0)
    }

    /// What it takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.indexes.offsets.memory_bytes() + self.indexes.times.memory_bytes()
    }

    /// Bytes at the start of the segment that it does not cover.
    pub(crate) fn unknown_bytes(&self) -> u64 {
        self.covered_from.0
    }

    /// A position at or before the batch that holds `offset`, which is covered: start there and walk.
    pub(crate) fn floor(&self, offset: Offset) -> Position {
        self.indexes.offsets.lookup(offset).position.max(self.covered_from)
    }

    /// The start of a batch at or before `position`, as near as is known.
    pub(crate) fn floor_of_position(&self, position: Position) -> Position {
        self.indexes.offsets.floor_of_position(position).max(self.covered_from)
    }

    /// An offset at or before the first record of `timestamp` or later: start there and walk.
    pub(crate) fn floor_of_time(&self, timestamp: Timestamp) -> Offset {
        self.indexes.times.lookup(timestamp)
    }

    /// The largest timestamp, and the last offset of its batch.
    pub(crate) fn largest(&self) -> Option<TimeEntry> {
        self.indexes.max_timestamp()
    }

    /// Adds what is known of a later part of the same segment.
    pub(crate) fn continue_with(&mut self, later: Lookup) {
        let (mut offsets, mut times) = (self.indexes.offsets.clone(), self.indexes.times.clone());
        offsets.extend_from(&later.indexes.offsets, Position(0));
        let (mine, its) = (self.largest(), later.largest());
        // An entry says that all before it is no later. The later part knows that of its own batches only: what is
        // not above the largest time of this part is left out.
        if let Some(mine) = mine.filter(|_| later.indexes.times.last().is_some()) {
            times.push(mine);
        }
        times.extend_from(&later.indexes.times);
        let largest = match (mine, its) {
            (Some(mine), Some(its)) if its.timestamp > mine.timestamp => Some(its),
            (None, its) => its,
            (mine, _) => mine,
        };
        self.indexes = SegmentIndexes::from_indexes(offsets, times, largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_part_hides_no_larger_time_of_an_earlier_one() {
        let part = |from: u64, first: i64, times: &[i64]| {
            let mut part = Lookup::new(Offset(0), Position(from), Offset(first));
            for (number, time) in times.iter().enumerate() {
                let position = Position(from + 1_000 * number as u64);
                let offset = Offset(first + number as i64);
                part.indexes.note_batch(position, 1_000, offset, Timestamp(*time), 0);
            }
            part
        };
        // 50 has no entry: its batch is within the interval.
        let mut whole = Lookup::new(Offset(0), Position(0), Offset(0));
        whole.indexes.note_batch(Position(0), 1_000, Offset(0), Timestamp(50), 4_096);
        whole.continue_with(part(1_000, 1, &[30, 40, 45, 60, 70]));
        for earlier in [31, 41, 50] {
            assert_eq!(whole.floor_of_time(Timestamp(earlier)), Offset(0), "50 lies at offset 0");
        }
        assert!(whole.floor_of_time(Timestamp(61)) <= Offset(5));
        assert_eq!(whole.largest().map(|entry| entry.timestamp), Some(Timestamp(70)));
    }
}
