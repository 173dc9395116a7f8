//! The way in: validate, place, and say when it is acknowledged.
//!
//! Everything here happens in one step, without an await: what is validated is placed, or nothing is. An append
//! that finds no room waits in the partition's queue, and every later one behind it.

use std::rc::Rc;
use std::time::Duration;

use zerocopy::FromBytes;

use super::Partition;
use super::log::{Log, Point, QueuedAppend, Waiter};
use crate::append::{Append, AppendError, AppendOrigin, AppendSlot, Appended};
use crate::batch::{BatchHeader, CheckedBatches, HEADER_BYTES, Placement, TimestampType};
use crate::core::count;
use crate::producers::{TransactionEnd, Verdict};
use crate::read::ReadLimit;
use crate::segment::Reading;
use crate::{LogConfig, Offset, Position, ProducerId, Timestamp};

/// How long after a partition's first append its segment's age is looked for.
const LEARN_DELAY: Duration = Duration::from_secs(1);

/// Why batches were not placed in this step.
enum Refusal {
    /// There is no room now.
    NoRoom,
    Error(AppendError),
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Self::Error(error)
    }
}

/// What became of batches that were accepted.
enum Outcome {
    /// Placed; acknowledged once durable.
    Durable(Appended),
    /// Placed; acknowledged now.
    Relaxed(Appended),
    /// They had been placed before; acknowledged once those are.
    Duplicate(Appended),
}

impl Partition {
    /// Validates and places `batches`, in this very call, unless appends wait for room or earlier appends
    /// wait before this one; then in the order of the calls. The future completes once they are acknowledged.
    pub fn append(&self, batches: CheckedBatches, origin: AppendOrigin) -> Append {
        let slot = Rc::new(AppendSlot::default());
        let mut log = self.inner.log.borrow_mut();
        if log.lacks_first_timestamp() && !self.core().is_closing() && !self.inner.learns_age.replace(true) {
            self.core().runtime.spawn(Box::pin(self.clone().learn_first_timestamp()));
        }
        if log.queue.is_empty() && !log.is_frozen {
            match self.try_append(&mut log, &batches, origin) {
                Ok(outcome) => {
                    let relaxed = self.accept(&mut log, outcome, &slot);
                    drop(log);
                    self.appended(relaxed);
                }
                Err(Refusal::Error(error)) => slot.complete(Err(error)),
                Err(Refusal::NoRoom) => {
                    log.queue.push_back(QueuedAppend { batches, origin, slot: slot.clone() });
                    drop(log);
                    self.core().starve(self);
                }
            }
        } else {
            log.queue.push_back(QueuedAppend { batches, origin, slot: slot.clone() });
        }
        Append::waiting(slot)
    }

    /// Places what waits in the queue, for as long as there is room. Says whether the queue is empty.
    pub(crate) fn append_queued(&self) -> bool {
        let mut placed = false;
        let mut relaxed = false;
        let empty = loop {
            let mut log = self.inner.log.borrow_mut();
            if log.is_frozen {
                // Whoever froze it lets the queue in.
                break true;
            }
            let Some(queued) = log.queue.pop_front() else { break true };
            match self.try_append(&mut log, &queued.batches, queued.origin) {
                Ok(outcome) => {
                    relaxed |= self.accept(&mut log, outcome, &queued.slot);
                    placed = true;
                }
                Err(Refusal::Error(error)) => {
                    drop(log);
                    queued.slot.complete(Err(error));
                }
                Err(Refusal::NoRoom) => {
                    log.queue.push_front(queued);
                    break false;
                }
            }
        };
        if placed {
            self.appended(relaxed);
        }
        empty
    }

    /// Reads by which batch the active segment ages, which is of an earlier life. Nobody waits for it, and it comes when
    /// the first appends of a start are through; until then the segment does not age.
    async fn learn_first_timestamp(self) {
        self.core().runtime.sleep(LEARN_DELAY).await;
        let base = self.inner.log.borrow().active().base;
        let read = self.look_at(base, 1, ReadLimit::LogEnd).await;
        let first = read.ok().and_then(|read| {
            let bytes: Vec<u8> =
                read.slices.iter().flat_map(|slice| slice.iter().copied()).take(HEADER_BYTES).collect();
            BatchHeader::read_from_bytes(&bytes).ok()
        });
        self.inner.learns_age.set(false);
        let mut log = self.inner.log.borrow_mut();
        let lacks_it = log.lacks_first_timestamp();
        let active = log.active_mut();
        if lacks_it && active.base == base {
            // One that cannot be read ages by what is known of it.
            let timestamp = first.map_or(active.largest.0, |header| header.max_timestamp());
            active.first_timestamp = Some(timestamp);
        }
    }

    /// Leaves the acknowledgement to whom it is due. Says whether something became visible now.
    fn accept(&self, log: &mut Log, outcome: Outcome, slot: &Rc<AppendSlot>) -> bool {
        match outcome {
            Outcome::Relaxed(appended) => {
                slot.complete(Ok(appended));
                true
            }
            Outcome::Duplicate(appended) if appended.last_offset < log.settled.offset => {
                slot.complete(Ok(appended));
                false
            }
            Outcome::Durable(appended) | Outcome::Duplicate(appended) => {
                let last_offset = appended.last_offset;
                let at = log.waiters.partition_point(|waiter| waiter.last_offset <= last_offset);
                log.waiters.insert(at, Waiter { last_offset, appended, slot: slot.clone() });
                false
            }
        }
    }

    /// Something was placed: tells those who carry it on.
    fn appended(&self, relaxed: bool) {
        if relaxed {
            self.tell_watchers();
        }
        let (wants_commit, wants_flush) = {
            let log = self.inner.log.borrow();
            (!log.is_settled(), log.unflushed_records >= log.config.flush_messages)
        };
        if wants_commit {
            self.core().journal.enqueue(self);
        }
        self.core().write_behind.dirtied(self, wants_flush && !wants_commit);
    }

    fn try_append(
        &self,
        log: &mut Log,
        batches: &CheckedBatches,
        origin: AppendOrigin,
    ) -> Result<Outcome, Refusal> {
        if let Some(refusal) = log.append_refusal() {
            return Err(refusal.into());
        }
        if self.core().is_closing() {
            return Err(AppendError::Deleted.into());
        }
        let now_ms = self.core().runtime.turn_wall_ms();
        match origin {
            AppendOrigin::Client => validate(&log.config, batches, now_ms)?,
            AppendOrigin::Coordinator => {
                validate_size(&log.config, batches)?;
                validate_fit(&log.config, batches)?;
            }
            AppendOrigin::Replica => validate_verbatim(log, batches)?,
        }
        self.core().check_fits(batches.length())?;
        if origin != AppendOrigin::Replica
            && let Some(appended) = Self::check_producers(log, batches, origin)?
        {
            return Ok(Outcome::Duplicate(appended));
        }
        self.make_room(log, batches, now_ms)?;
        Ok(self.place(log, batches, origin, now_ms))
    }

    /// Whether the batches follow what their producer wrote; the place of the first one if they were written
    /// before.
    fn check_producers(
        log: &Log,
        batches: &CheckedBatches,
        origin: AppendOrigin,
    ) -> Result<Option<Appended>, AppendError> {
        let mut duplicate = None;
        for summary in batches.summaries() {
            if summary.control
                && let (Some(stamp), Some(end)) =
                    (summary.producer, TransactionEnd::of_batch(&batches.bytes()[summary.range()]))
            {
                log.producers.check_end(stamp.id, &end)?;
            }
            if let Verdict::Duplicate(batch) = log.producers.check(summary, origin)? {
                duplicate.get_or_insert(batch);
            }
        }
        Ok(duplicate.map(|batch| Appended {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset,
            // As in Kafka, whoever set the time of the batch.
            log_append_time: batch.timestamp,
            log_start_offset: log.log_start,
        }))
    }

    /// Rolls the segment if these batches ask for it, and reserves the memory that they need.
    fn make_room(&self, log: &mut Log, batches: &CheckedBatches, now_ms: i64) -> Result<(), Refusal> {
        let core = self.core();
        let length = batches.length();
        let dirty = core.dirty_bytes.get();
        if dirty > 0 && dirty + length as u64 > core.config.dirty_bytes_max as u64 {
            return Err(Refusal::NoRoom);
        }
        if self.must_roll(log, batches, now_ms) {
            log.roll();
        }
        loop {
            let room = log.spare.iter().map(|region| region.capacity()).sum();
            let shared_max = || core.shared_extent_bytes_max();
            let Some(wanted) = log.active().extent_wanted(length, room, shared_max) else { return Ok(()) };
            match core.take_extent(self, log, wanted) {
                Some(region) => log.spare.push_back(region),
                None => {
                    // What one holds while it waits, another could use; only the first may collect.
                    if !core.is_admitting() {
                        for region in log.spare.drain(..) {
                            core.release(region);
                        }
                    }
                    return Err(Refusal::NoRoom);
                }
            }
        }
    }

    fn must_roll(&self, log: &Log, batches: &CheckedBatches, now_ms: i64) -> bool {
        let active = log.active();
        if active.end == 0 {
            return false;
        }
        let config = &log.config;
        let length = batches.length() as u64;
        let last_offset = log.active().next.0 + batches.offsets() as i64;
        let largest = batches.summaries().iter().map(|summary| summary.max_timestamp.0).max().unwrap_or(-1);
        // Kafka compares the records' own times; where the first batch has none, its own clock.
        let age_ms = match active.first_timestamp {
            Some(first) if first.0 >= 0 => largest.max(if largest < 0 { now_ms } else { -1 }) - first.0,
            Some(_) => active.written_at.map_or(0, |written| now_ms - written.first.0),
            None => 0,
        };
        active.end + length > u64::from(config.segment_bytes)
            || last_offset - active.base.0 > i64::from(i32::MAX)
            || age_ms > config.segment_ms
            || active.lookup.as_ref().is_some_and(|lookup| lookup.indexes.is_full(config.segment_index_bytes))
    }

    /// Where the core remembers as many producers as it may, others go for one that is not known here.
    fn make_room_for(&self, producer: ProducerId, log: &mut Log) {
        let core = self.core();
        if core.producer_room.is_full() && log.producers.entry(producer).is_none() {
            log.producers.make_room(core.producer_room.share(core.partitions.borrow().len()));
        }
    }

    /// Copies the batches behind the log's end, with their offsets and epoch.
    fn place(&self, log: &mut Log, batches: &CheckedBatches, origin: AppendOrigin, now_ms: i64) -> Outcome {
        let now = self.core().runtime.turn_began();
        let base_offset = match origin {
            AppendOrigin::Replica => batches.summaries()[0].base_offset,
            AppendOrigin::Client | AppendOrigin::Coordinator => log.active().next,
        };
        let append_time =
            (log.config.log_append_time && origin != AppendOrigin::Replica).then_some(Timestamp(now_ms));
        let was_settled = log.is_settled();
        for summary in batches.summaries() {
            let (header, placement) = match origin {
                AppendOrigin::Replica => {
                    let placement = Placement {
                        base_offset: summary.base_offset,
                        leader_epoch: summary.leader_epoch,
                        log_append_time: None,
                    };
                    // One that began here has no records, and the leader's may be an older one.
                    let next = log.active().next;
                    log.epochs.truncate_from_end(next);
                    (batches.verbatim_header(summary), placement)
                }
                AppendOrigin::Client | AppendOrigin::Coordinator => {
                    let placement = Placement {
                        base_offset: log.active().next,
                        leader_epoch: log.leader_epoch,
                        log_append_time: append_time,
                    };
                    (batches.placed_header(summary, &placement), placement)
                }
            };
            let end = if summary.control {
                TransactionEnd::of_batch(&batches.bytes()[summary.range()])
            } else {
                None
            };
            let max_timestamp = placement.log_append_time.unwrap_or(summary.max_timestamp);
            log.epochs.assign(placement.leader_epoch, placement.base_offset);
            if let Some(stamp) = summary.producer {
                self.make_room_for(stamp.id, log);
                log.producers.note(summary, placement.base_offset, max_timestamp, end);
                self.inner.producers_kept.set(log.producers.len());
            }
            let last_offset = Offset(placement.base_offset.0 + i64::from(summary.offsets) - 1);
            publish(log, last_offset, max_timestamp, [&header, batches.body(summary)], now);
        }
        log.active_mut().note_written(Timestamp(now_ms));
        let end = log.end();
        let (batch_count, bytes) = (batches.summaries().len() as u64, batches.length() as u64);
        let core = self.core();
        count(&core.counters.batches_appended, batch_count);
        count(&core.counters.bytes_appended, bytes);
        log.active_mut().appended_at = Some(core.counters.bytes_appended.get());
        core.dirty_bytes.set(core.dirty_bytes.get() + bytes);
        log.dirty_since.get_or_insert(now);
        log.last_append = now;
        let appended = Appended {
            base_offset,
            last_offset: Offset(end.offset.0 - 1),
            log_append_time: append_time.unwrap_or(Timestamp(-1)),
            log_start_offset: log.log_start,
        };
        // A relaxed class may not overtake batches that still wait for their commit group.
        let relaxed = log.is_relaxed() && !self.inner.is_exact && was_settled;
        if relaxed {
            log.unflushed_records += batches.offsets() as i64;
            log.relaxed_end = Some(end);
            log.settle(end);
            log.raise_high_watermark(end);
            Outcome::Relaxed(appended)
        } else {
            Outcome::Durable(appended)
        }
    }
}

/// Copies one batch behind the log's end.
fn publish(log: &mut Log, last_offset: Offset, max_timestamp: Timestamp, bytes: [&[u8]; 2], now: Duration) {
    let interval_bytes = log.config.index_interval_bytes;
    let mut spare = std::mem::take(&mut log.spare);
    let reading = log.reading();
    let active = log.active_mut();
    let position = active.end;
    for part in bytes {
        active.publish(part, reading, &mut spare, now);
    }
    active.next = Offset(last_offset.0 + 1);
    if position == 0 {
        active.first_timestamp = Some(max_timestamp);
    }
    if max_timestamp > active.largest.0 {
        active.largest = (max_timestamp, last_offset);
    }
    let length = active.end - position;
    if let Some(lookup) = &mut active.lookup {
        lookup.indexes.note_batch(Position(position), length, last_offset, max_timestamp, interval_bytes);
    }
    log.spare = spare;
}

impl Log {
    /// Whether the active segment ages by a batch that nobody has looked at in this life.
    fn lacks_first_timestamp(&self) -> bool {
        let active = self.active();
        active.first_timestamp.is_none()
            && active.end > 0
            && self.config.segment_ms < i64::MAX
            && self.is_online()
    }

    /// When what is appended now is most likely read: a commit group copies what it holds; but what is relaxed nobody
    /// looks at again except readers, and writes are the disk's own.
    pub(crate) fn reading(&self) -> Reading {
        match self.is_relaxed() && !self.active().is_read_along() {
            true => Reading::Late,
            false => Reading::Soon,
        }
    }

    /// Consumers see everything below `point`.
    pub(crate) fn raise_high_watermark(&mut self, point: Point) -> bool {
        let raised = point > self.high_watermark;
        if raised {
            self.high_watermark = point;
            self.producers.advance_high_watermark(point.offset);
        }
        raised
    }
}

/// What only a client can get wrong.
fn validate(config: &LogConfig, batches: &CheckedBatches, now_ms: i64) -> Result<(), AppendError> {
    validate_size(config, batches)?;
    for summary in batches.summaries() {
        if config.compact && summary.has_keyless == Some(true) {
            return Err(AppendError::KeylessOnCompacted);
        }
        // Only the broker says that a time is its own; where the records have none, the header's is looked at first.
        let is_append_time = summary.timestamp_type == TimestampType::LogAppendTime;
        if is_append_time && (config.log_append_time || summary.max_timestamp == Timestamp(-1)) {
            return Err(AppendError::AppendTimeOfClient);
        }
        if config.log_append_time {
            continue;
        }
        let earliest = Timestamp(now_ms.saturating_sub(config.timestamp_before_max_ms));
        let latest = Timestamp(now_ms.saturating_add(config.timestamp_after_max_ms));
        for timestamp in [summary.min_timestamp, summary.max_timestamp] {
            if timestamp != Timestamp(-1) && !(earliest..=latest).contains(&timestamp) {
                return Err(AppendError::InvalidTimestamp { timestamp, earliest, latest });
            }
        }
    }
    validate_fit(config, batches)
}

fn validate_size(config: &LogConfig, batches: &CheckedBatches) -> Result<(), AppendError> {
    for summary in batches.summaries() {
        if summary.length > config.max_message_bytes as usize {
            return Err(AppendError::TooLarge {
                length: summary.length,
                length_max: config.max_message_bytes as usize,
            });
        }
    }
    Ok(())
}

/// A log's segments begin with a batch, so that none may be larger than one.
fn validate_fit(config: &LogConfig, batches: &CheckedBatches) -> Result<(), AppendError> {
    let (length, length_max) = (batches.length(), config.segment_bytes as usize);
    if length > length_max {
        return Err(AppendError::LargerThanSegment { length, length_max });
    }
    Ok(())
}

/// What a follower fetched goes on where its log ends.
fn validate_verbatim(log: &Log, batches: &CheckedBatches) -> Result<(), AppendError> {
    let first = batches.summaries()[0];
    if first.base_offset < log.active().next {
        return Err(AppendError::Misplaced { reason: "the offsets do not follow the log's end" });
    }
    // Of the last record, not the one that began here: it is the leader's word that counts.
    let newest = log.epochs.epoch_of(Offset(log.active().next.0 - 1));
    if newest.is_some_and(|newest| first.leader_epoch < newest) {
        return Err(AppendError::Misplaced { reason: "the leader epoch goes back" });
    }
    Ok(())
}
