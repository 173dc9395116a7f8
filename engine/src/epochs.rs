//! The leader epochs of one partition: which epoch began at which offset.
//!
//! Owned by the partition's core. A crash leaves the last durable copy of it (Kafka's `leader-epoch-checkpoint`,
//! or the engine's own checkpoint), and the epochs in the batches behind that copy bring it up to date.
//! Source: Kafka's `LeaderEpochFileCache` (KIP-101, KIP-279).

use crate::types::{LeaderEpoch, Offset};

/// An epoch, and the offset of the first record appended in it, or that would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start: Offset,
}

/// The epochs of one partition, oldest first.
///
/// Invariant: both epochs and offsets rise strictly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    starts: Vec<EpochStart>,
    /// The last of them, beside what every append looks at.
    latest: Option<EpochStart>,
}

/// What Kafka answers where it knows neither epoch nor offset.
pub const UNDEFINED: (LeaderEpoch, Offset) = (LeaderEpoch(-1), Offset(-1));

impl LeaderEpochs {
    /// The epochs of a checkpoint; entries that go back are dropped, as they would be when assigned in order.
    pub fn from_starts(starts: impl IntoIterator<Item = EpochStart>) -> Self {
        let mut epochs = Self::default();
        for start in starts {
            epochs.assign(start.epoch, start.start);
        }
        epochs
    }

    /// Oldest first.
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// Notes that `epoch` appended the record at `start`, or is to append it. Says whether that was news. Entries that
    /// contradict it go. A negative epoch (a batch of a Kafka before 0.11) says nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.0 < 0 || start.0 < 0 {
            return false;
        }
        if let Some(latest) = self.latest
            && epoch == latest.epoch
            && start >= latest.start
        {
            return false;
        }
        while self.starts.pop_if(|held| held.epoch >= epoch || held.start >= start).is_some() {}
        self.starts.push(EpochStart { epoch, start });
        self.latest = self.starts.last().copied();
        true
    }

    /// The newest epoch; it may have no records yet.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.latest.map(|latest| latest.epoch)
    }

    /// The epoch that a record was appended in.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let behind = self.starts.partition_point(|held| held.start <= offset);
        Some(self.starts[behind.checked_sub(1)?].epoch)
    }

    /// The largest epoch that is not newer than `requested`, and where it ends; [`UNDEFINED`] if that is not
    /// known. Kafka: OffsetForLeaderEpoch.
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if requested.0 < 0 {
            return UNDEFINED;
        }
        if self.latest() == Some(requested) {
            return (requested, log_end);
        }
        let newer = self.starts.partition_point(|held| held.epoch <= requested);
        match (newer.checked_sub(1), self.starts.get(newer)) {
            (_, None) => UNDEFINED,
            // Its records are gone: what followed it began here.
            (None, Some(next)) => (requested, next.start),
            (Some(floor), Some(next)) => (self.starts[floor].epoch, next.start),
        }
    }

    /// The log now ends at `end`: epochs that began there or later go. Says whether any did.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self.starts.partition_point(|held| held.start < end);
        let removed = kept < self.starts.len();
        self.starts.truncate(kept);
        self.latest = self.starts.last().copied();
        removed
    }

    /// The log now starts at `start`: epochs that ended before go, and the one that goes on begins there. Says
    /// whether anything changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let passed = self.starts.partition_point(|held| held.start <= start);
        let Some(current) = passed.checked_sub(1) else { return false };
        let changed = current > 0 || self.starts[current].start != start;
        self.starts[current].start = start;
        self.starts.drain(..current);
        self.latest = self.starts.last().copied();
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
        let start = |&(epoch, start)| EpochStart { epoch: LeaderEpoch(epoch), start: Offset(start) };
        LeaderEpochs::from_starts(starts.iter().map(start))
    }

    fn end_of(epochs: &LeaderEpochs, requested: i32) -> (i32, i64) {
        let (epoch, end) = epochs.end_offset_for(LeaderEpoch(requested), Offset(100));
        (epoch.0, end.0)
    }

    #[test]
    fn answers_are_those_of_kafka() {
        let held = epochs(&[(2, 10), (4, 20), (5, 30)]);
        assert_eq!(end_of(&held, -1), (-1, -1));
        assert_eq!(end_of(&held, 1), (1, 10));
        assert_eq!(end_of(&held, 2), (2, 20));
        assert_eq!(end_of(&held, 3), (2, 20));
        assert_eq!(end_of(&held, 5), (5, 100));
        assert_eq!(end_of(&held, 6), (-1, -1));
        assert_eq!(end_of(&epochs(&[]), 0), (-1, -1));
        assert_eq!(held.epoch_of(Offset(9)), None);
        assert_eq!(held.epoch_of(Offset(29)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn a_newer_epoch_removes_what_contradicts_it() {
        let mut held = epochs(&[(2, 10), (4, 20), (5, 30)]);
        assert!(held.assign(LeaderEpoch(6), Offset(15)));
        assert_eq!(held, epochs(&[(2, 10), (6, 15)]));
        assert!(!held.assign(LeaderEpoch(6), Offset(40)));
        assert!(held.assign(LeaderEpoch(7), Offset(15)));
        assert_eq!(held, epochs(&[(2, 10), (7, 15)]));
    }

    #[test]
    fn both_ends_are_cut() {
        let mut held = epochs(&[(2, 10), (4, 20), (5, 30)]);
        assert!(!held.truncate_from_end(Offset(31)));
        assert!(held.truncate_from_end(Offset(30)));
        assert!(!held.truncate_from_start(Offset(5)));
        assert!(held.truncate_from_start(Offset(12)));
        assert_eq!(held, epochs(&[(2, 12), (4, 20)]));
        assert!(held.truncate_from_start(Offset(25)));
        assert_eq!(held, epochs(&[(4, 25)]));
        assert!(!held.truncate_from_start(Offset(25)));
    }

    proptest! {
        /// Against a map from offset to epoch.
        #[test]
        fn agrees_with_a_map(
            steps in proptest::collection::vec((0i32..3, 0i64..8, 0u8..6), 1..60)
        ) {
            let mut held = LeaderEpochs::default();
            let mut model: BTreeMap<i64, i32> = BTreeMap::new();
            let (mut epoch, mut start, mut end) = (0, 0, 0i64);
            for (bump, count, kind) in steps {
                match kind {
                    0 => {
                        end = (end - count).max(start);
                        held.truncate_from_end(Offset(end));
                        model.retain(|offset, _| *offset < end);
                    }
                    1 => {
                        start = (start + count).min(end);
                        held.truncate_from_start(Offset(start));
                        model.retain(|offset, _| *offset >= start);
                    }
                    _ => {
                        epoch += bump;
                        for offset in end..end + count {
                            held.assign(LeaderEpoch(epoch), Offset(offset));
                            model.insert(offset, epoch);
                        }
                        end += count;
                    }
                }
                for (offset, epoch) in &model {
                    prop_assert_eq!(held.epoch_of(Offset(*offset)), Some(LeaderEpoch(*epoch)));
                }
            }
        }
    }
}
