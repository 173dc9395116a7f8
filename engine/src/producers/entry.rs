//! What is known of one producer.

use crate::types::{Offset, ProducerEpoch, Timestamp};

/// How many of a producer's batches are remembered: as many as it may have in flight.
pub const BATCHES_MAX: usize = 5;

/// One of a producer's last batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Its last offset minus its first.
    pub offset_delta: i32,
    /// Its largest timestamp.
    pub timestamp: Timestamp,
}

impl ProducerBatch {
    /// The offset of its first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.offset_delta))
    }

    /// The sequence of its first record; sequences wrap at 2³¹.
    pub fn base_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

/// The sequence of the last of `records` records; after 2³¹ − 1 comes 0.
pub fn last_sequence(base_sequence: i32, records: u32) -> i32 {
    if base_sequence < 0 {
        return base_sequence;
    }
    ((base_sequence as u32).wrapping_add(records.wrapping_sub(1)) & i32::MAX as u32) as i32
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that ended its last transaction; −1 for none.
    pub coordinator_epoch: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp: Timestamp,
    /// Where its open transaction began.
    pub transaction_first: Option<Offset>,
    /// The newest batches of its epoch, oldest first.
    /// Invariant: those from `batch_count` are `NO_BATCH`.
    batches: [ProducerBatch; BATCHES_MAX],
    /// Invariant: `batch_count <= BATCHES_MAX`.
    batch_count: u8,
}

const NO_BATCH: ProducerBatch =
    ProducerBatch { last_sequence: -1, last_offset: Offset(-1), offset_delta: 0, timestamp: Timestamp(-1) };

impl ProducerEntry {
    /// A producer that has appended nothing.
    pub fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: Timestamp(-1),
            transaction_first: None,
            batches: [NO_BATCH; BATCHES_MAX],
            batch_count: 0,
        }
    }

    /// The newest batches of its epoch, oldest first.
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..usize::from(self.batch_count)]
    }

    /// The last sequence of its epoch, and the offset of that record; −1 and −1 for none.
    pub fn last(&self) -> (i32, Offset) {
        self.batches().last().map_or((-1, Offset(-1)), |batch| (batch.last_sequence, batch.last_offset))
    }

    /// A batch of the same epoch and sequences.
    pub(super) fn find(&self, epoch: ProducerEpoch, first: i32, last: i32) -> Option<ProducerBatch> {
        let same = |batch: &&ProducerBatch| batch.base_sequence() == first && batch.last_sequence == last;
        if epoch == self.epoch { self.batches().iter().find(same).copied() } else { None }
    }

    /// The only first sequence that its next batch may have: 0 in a new epoch (KIP-360).
    pub(super) fn next_sequence(&self, epoch: ProducerEpoch) -> i32 {
        match self.batches().last() {
            Some(last) if epoch == self.epoch => last.last_sequence.wrapping_add(1) & i32::MAX,
            _ => 0,
        }
    }

    /// Forgets the batches at or behind `end`; says whether anything is left.
    pub(super) fn truncate_to(&mut self, end: Offset) -> bool {
        let kept = self.batches().iter().take_while(|batch| batch.last_offset < end).count();
        self.batches[kept..].fill(NO_BATCH);
        self.batch_count = kept as u8;
        self.transaction_first = self.transaction_first.filter(|first| *first < end);
        kept > 0 || self.transaction_first.is_some()
    }

    pub(super) fn push(&mut self, epoch: ProducerEpoch, batch: ProducerBatch) {
        self.enter(epoch);
        if usize::from(self.batch_count) == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.batches[BATCHES_MAX - 1] = batch;
        } else {
            self.batches[usize::from(self.batch_count)] = batch;
            self.batch_count += 1;
        }
    }

    pub(super) fn end_transaction(&mut self, epoch: ProducerEpoch, coordinator_epoch: i32) {
        self.enter(epoch);
        self.coordinator_epoch = coordinator_epoch;
    }

    pub(super) fn is_expired(&self, now: Timestamp, expiration_ms: i64) -> bool {
        self.transaction_first.is_none() && now.0.saturating_sub(self.last_timestamp.0) >= expiration_ms
    }

    /// The newest offset that it wrote: the order in which producers fell silent.
    pub(super) fn newest_offset(&self) -> Offset {
        self.last().1
    }

    fn enter(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches = [NO_BATCH; BATCHES_MAX];
            self.batch_count = 0;
        }
    }
}
