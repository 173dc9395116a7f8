//! The producers of one partition: what makes their retries idempotent, and their open transactions.
//!
//! Owned by the partition's core. Kept in memory; a crash leaves the newest durable copy of it (the engine's
//! checkpoint, which keeps the last five batches of each, or Kafka's `.snapshot`, which keeps one), and the
//! batches behind that copy bring it up to date.
//!
//! Bounded three times: a producer that was silent for `producer.id.expiration.ms` goes, and those that were silent
//! longest beyond [`PRODUCERS_MAX`] of a partition and where the core has no more room (`room`). A producer that is not
//! known may begin with any sequence.
//! Source: Kafka's `ProducerStateManager`, `ProducerAppendInfo` (KIP-98, KIP-360, KIP-890's fields left out).

mod entry;
mod room;
mod snapshot;

use std::collections::BTreeMap;
use std::ops::Bound;

pub use entry::{BATCHES_MAX, ProducerBatch, ProducerEntry, last_sequence};
pub(crate) use room::{ProducerRoom, ProducersKept};
pub use snapshot::SnapshotError;

use crate::append::AppendOrigin;
use crate::batch::{BatchSummary, ControlType};
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// How many of one partition are kept; at this number the eighth part of them that was silent longest goes.
pub const PRODUCERS_MAX: usize = 65_536;

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// OUT_OF_ORDER_SEQUENCE_NUMBER.
    #[error("producer {producer}: sequence {found} where {expected} was expected")]
    OutOfOrderSequence {
        /// The producer.
        producer: ProducerId,
        /// The sequence that would follow.
        expected: i32,
        /// What came.
        found: i32,
    },
    /// INVALID_PRODUCER_EPOCH.
    #[error("producer {producer}: epoch {found} is below {newest}")]
    InvalidEpoch {
        /// The producer.
        producer: ProducerId,
        /// The newest epoch seen.
        newest: ProducerEpoch,
        /// What came.
        found: ProducerEpoch,
    },
    /// INVALID_TXN_STATE: a batch outside of the transaction that its producer has open here.
    #[error("producer {producer} has a transaction open, but the batch is not part of it")]
    InvalidTransactionState {
        /// The producer.
        producer: ProducerId,
    },
    /// TRANSACTION_COORDINATOR_FENCED.
    #[error("producer {producer}: coordinator epoch {found} is below {newest}")]
    CoordinatorFenced {
        /// The producer.
        producer: ProducerId,
        /// The newest epoch seen.
        newest: i32,
        /// What came.
        found: i32,
    },
}

/// What to do with a batch that is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    Append,
    /// It is there already: answer as for the first time.
    Duplicate(ProducerBatch),
}

/// A marker that ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Committed, or aborted.
    pub commit: bool,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
}

impl TransactionEnd {
    /// The marker in a control batch; `None` for other control batches. Kafka: `EndTransactionMarker`.
    pub fn of_batch(batch: &[u8]) -> Option<Self> {
        let record = crate::batch::records(batch).ok()?.next()?.ok()?;
        let commit = match ControlType::of_key(record.key?)? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return None,
        };
        let epoch = record.value?.get(2..6)?;
        let coordinator_epoch = i32::from_be_bytes(epoch.try_into().expect("four bytes"));
        Some(Self { commit, coordinator_epoch })
    }
}

/// A transaction that a marker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedTransaction {
    /// Its producer.
    pub producer: ProducerId,
    /// Its first record.
    pub first: Offset,
    /// Its marker.
    pub last: Offset,
    /// Whether its records count.
    pub commit: bool,
}

/// The producers of one partition.
#[derive(Debug, Clone)]
pub struct Producers {
    entries: BTreeMap<ProducerId, ProducerEntry>,
    /// At least 1.
    producers_max: usize,
    /// Open transactions, by their first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended ones whose marker is not below the high watermark yet: first offset → marker.
    ended: BTreeMap<Offset, Offset>,
}

impl Default for Producers {
    fn default() -> Self {
        Self::bounded(PRODUCERS_MAX)
    }
}

impl Producers {
    /// None yet, and never more than so many, at least 1.
    fn bounded(producers_max: usize) -> Self {
        Self { entries: BTreeMap::new(), producers_max, open: BTreeMap::new(), ended: BTreeMap::new() }
    }

    /// Whether a batch may be appended, or is there already. A batch without a producer always may.
    ///
    /// Only what a client sends has its sequence checked; a replica's batches were checked by their leader.
    pub fn check(&self, batch: &BatchSummary, origin: AppendOrigin) -> Result<Verdict, ProducerError> {
        let Some(stamp) = batch.producer else { return Ok(Verdict::Append) };
        if origin == AppendOrigin::Replica {
            return Ok(Verdict::Append);
        }
        let Some(entry) = self.entries.get(&stamp.id) else { return Ok(Verdict::Append) };
        let is_data = origin == AppendOrigin::Client && !batch.control;
        if is_data {
            let last = last_sequence(stamp.base_sequence, batch.offsets);
            if let Some(duplicate) = entry.find(stamp.epoch, stamp.base_sequence, last) {
                return Ok(Verdict::Duplicate(duplicate));
            }
        }
        if stamp.epoch < entry.epoch {
            let (newest, found) = (entry.epoch, stamp.epoch);
            return Err(ProducerError::InvalidEpoch { producer: stamp.id, newest, found });
        }
        if is_data {
            let expected = entry.next_sequence(stamp.epoch);
            if stamp.base_sequence != expected {
                let found = stamp.base_sequence;
                return Err(ProducerError::OutOfOrderSequence { producer: stamp.id, expected, found });
            }
        }
        if entry.transaction_first.is_some() && !batch.transactional && !batch.control {
            return Err(ProducerError::InvalidTransactionState { producer: stamp.id });
        }
        Ok(Verdict::Append)
    }

    /// Whether a marker may be appended.
    pub fn check_end(&self, producer: ProducerId, end: &TransactionEnd) -> Result<(), ProducerError> {
        match self.entries.get(&producer) {
            Some(entry) if entry.coordinator_epoch > end.coordinator_epoch => {
                let (newest, found) = (entry.coordinator_epoch, end.coordinator_epoch);
                Err(ProducerError::CoordinatorFenced { producer, newest, found })
            }
            _ => Ok(()),
        }
    }

    /// Notes a batch that was appended at `base_offset`, with its marker if it is one. `max_timestamp` is the one
    /// in the header as it lies in the log. Returns the transaction that it ended.
    pub fn note(
        &mut self,
        batch: &BatchSummary,
        base_offset: Offset,
        max_timestamp: Timestamp,
        end: Option<TransactionEnd>,
    ) -> Option<CompletedTransaction> {
        let stamp = batch.producer?;
        if batch.control && end.is_none() {
            return None;
        }
        if !self.entries.contains_key(&stamp.id) {
            self.make_room(self.producers_max);
        }
        let last_offset = Offset(base_offset.0 + i64::from(batch.offsets) - 1);
        let entry = self.entries.entry(stamp.id).or_insert_with(|| ProducerEntry::new(stamp.epoch));
        entry.last_timestamp = max_timestamp;
        if let Some(end) = end {
            entry.end_transaction(stamp.epoch, end.coordinator_epoch);
            let first = entry.transaction_first.take()?;
            self.open.remove(&first);
            self.ended.insert(first, last_offset);
            let commit = end.commit;
            return Some(CompletedTransaction { producer: stamp.id, first, last: last_offset, commit });
        }
        entry.push(
            stamp.epoch,
            ProducerBatch {
                last_sequence: last_sequence(stamp.base_sequence, batch.offsets),
                last_offset,
                offset_delta: batch.offsets as i32 - 1,
                timestamp: max_timestamp,
            },
        );
        if batch.transactional && entry.transaction_first.is_none() {
            entry.transaction_first = Some(base_offset);
            self.open.insert(base_offset, stamp.id);
        }
        None
    }

    /// The high watermark is here now: what ended below it is settled.
    pub fn advance_high_watermark(&mut self, high_watermark: Offset) {
        self.ended.retain(|_, marker| *marker >= high_watermark);
    }

    /// The first record of a transaction that is open, or ended by a marker that is not below the high watermark:
    /// where the last stable offset stops.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let open = self.open.keys().next().copied();
        let ended = self.ended.keys().next().copied();
        open.into_iter().chain(ended).min()
    }

    /// The last stable offset of the log once `completed` counts as ended: what a `.txnindex` entry says.
    pub fn last_stable_after(&self, completed: &CompletedTransaction) -> Offset {
        let other = self.open.iter().find(|(_, producer)| **producer != completed.producer);
        other.map_or(Offset(completed.last.0 + 1), |(first, _)| *first)
    }

    /// Looks at up to `count` of those with an id above `last`, and removes the ones that wrote nothing for
    /// `expiration_ms` and have no transaction open. Returns the last id that it has looked at, if there may be more.
    pub fn remove_expired(
        &mut self,
        last: Option<ProducerId>,
        count: usize,
        now: Timestamp,
        expiration_ms: i64,
    ) -> Option<ProducerId> {
        let mut looked_at = Vec::with_capacity(count.min(self.entries.len()));
        looked_at.extend(
            self.entries_after(last)
                .take(count)
                .map(|(id, entry)| (id, entry.is_expired(now, expiration_ms))),
        );
        for (id, _) in looked_at.iter().filter(|(_, is_expired)| *is_expired) {
            self.entries.remove(id);
        }
        looked_at.last().map(|(id, _)| *id).filter(|_| looked_at.len() == count)
    }

    /// The log now ends at `end`: batches behind it go, and so do producers of which nothing is left.
    pub fn truncate_to(&mut self, end: Offset) {
        self.entries.retain(|_, entry| entry.truncate_to(end));
        self.open.retain(|first, _| *first < end);
        self.ended.retain(|_, marker| *marker < end);
    }

    /// Forgets all: the log was cut, and its state is made anew from a snapshot and the batches behind it.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.open.clear();
        self.ended.clear();
    }

    /// Every producer, by id.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (ProducerId, &ProducerEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Every producer with an id above `last`, by id; `None` for all. For those who look at them in turns.
    pub fn entries_after(
        &self,
        last: Option<ProducerId>,
    ) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        let above = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((above, Bound::Unbounded)).map(|(id, entry)| (*id, entry))
    }

    /// What is known of one.
    pub fn entry(&self, producer: ProducerId) -> Option<&ProducerEntry> {
        self.entries.get(&producer)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none: then a snapshot says nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn load(&mut self, producer: ProducerId, entry: ProducerEntry) {
        if let Some(first) = entry.transaction_first {
            self.open.insert(first, producer);
        }
        self.entries.insert(producer, entry);
    }

    /// With at least `max` of them, the eighth part that was silent longest goes, so that room is not made for each one
    /// alone. Producers with an open transaction stay.
    pub(crate) fn make_room(&mut self, max: usize) {
        if self.entries.len() < max {
            return;
        }
        let idle = self.entries.iter().filter(|(_, entry)| entry.transaction_first.is_none());
        let mut silent: Vec<_> = idle.map(|(id, entry)| (entry.newest_offset(), *id)).collect();
        let going = self.entries.len().div_ceil(8);
        if going < silent.len() {
            silent.select_nth_unstable(going);
            silent.truncate(going);
        }
        for (_, id) in silent {
            self.entries.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
