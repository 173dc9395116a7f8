//! The state of one partition's log: its segments, its watermarks, and who waits for them.
//!
//! Plain data, changed in single steps between awaits by the tasks of its core.
//!
//! Invariants: `log_start <= high_watermark <= settled <= end` (as offsets). Below `settled` no commit group is
//! needed: it is durable, or its class asks for no more. Segments are contiguous, oldest first, never none; only
//! the last one grows; one is sealed only after the one before it.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use flumen_ring::Region;

use crate::append::{AppendError, AppendOrigin, AppendSlot, Appended};
use crate::batch::CheckedBatches;
use crate::epochs::LeaderEpochs;
use crate::producers::Producers;
use crate::read::ReadError;
use crate::segment::Segment;
use crate::sequence::Sequence;
use crate::{LeaderEpoch, LogConfig, Offset, Position};

/// A place in a log, at the start of a batch or at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// The base offset of the segment.
    pub(crate) segment: Offset,
    /// The position in its file.
    pub(crate) position: Position,
    /// The offset of the record that is, or will be, there.
    pub(crate) offset: Offset,
}

/// Whether a log takes appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It does.
    Online,
    /// The disk is full: nothing new is placed until a write succeeded again.
    Full,
    /// A write of this partition failed: nothing is placed or written again in this life.
    Poisoned,
    /// It was deleted, or the engine closes.
    Closed,
}

/// An append that waits for its batches to be durable.
pub(crate) struct Waiter {
    pub(crate) last_offset: Offset,
    pub(crate) appended: Appended,
    pub(crate) slot: Rc<AppendSlot>,
}

/// An append that waits for room, or behind one that does.
pub(crate) struct QueuedAppend {
    pub(crate) batches: CheckedBatches,
    pub(crate) origin: AppendOrigin,
    pub(crate) slot: Rc<AppendSlot>,
}

/// Bytes of this log that the journal holds and the segments do not hold durably, as far as the checkpoint says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalEntry {
    pub(crate) sequence: u64,
    pub(crate) end: Point,
}

/// See the module.
pub(crate) struct Log {
    pub(crate) segments: Sequence<Segment>,
    pub(crate) log_start: Offset,
    /// The log's start as the last durable checkpoint says it.
    pub(crate) said_start: Offset,
    pub(crate) settled: Point,
    pub(crate) high_watermark: Point,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
    pub(crate) config: LogConfig,
    pub(crate) status: Status,
    /// The class was relaxed while the bytes up to here came: they are flushed before a commit group holds more.
    pub(crate) relaxed_end: Option<Point>,
    /// What lies below was appended while the class was D, and is acknowledged once it is durable, whatever the class is
    /// now.
    pub(crate) strict_end: Offset,
    /// Records since the last flush, for `flush.messages` above 1.
    pub(crate) unflushed_records: i64,
    /// When the oldest byte that is not in its segment was published.
    pub(crate) dirty_since: Option<Duration>,
    pub(crate) last_append: Duration,
    pub(crate) last_flush: Duration,
    /// Appends wait: the log is being cut.
    pub(crate) is_frozen: bool,
    /// The partial block that a cut leaves, between finding the cut and making it.
    pub(crate) cut_tail: Vec<u8>,
    /// Entries of the journal up to this group say nothing any more: the log was cut after them.
    pub(crate) void_through: u64,
    pub(crate) spare: VecDeque<Region>,
    pub(crate) queue: VecDeque<QueuedAppend>,
    pub(crate) waiters: VecDeque<Waiter>,
    pub(crate) journaled: VecDeque<JournalEntry>,
    /// The segment that the checkpoint's recovery point is in: those before it are not needed for recovery.
    pub(crate) checkpointed: Offset,
    /// How often bytes were cut off: positions found before a cut mean nothing behind it.
    pub(crate) cuts: u64,
    /// Where recent sequential readers will read next.
    pub(crate) hints: VecDeque<Point>,
}

/// How many sequential readers are remembered.
const HINTS_MAX: usize = 8;

impl Log {
    /// A log of what recovery found, or of one empty segment.
    pub(crate) fn new(
        segments: impl IntoIterator<Item = Segment>,
        log_start: Offset,
        leader_epoch: LeaderEpoch,
        mut epochs: LeaderEpochs,
        producers: Producers,
        config: LogConfig,
    ) -> Self {
        let segments: Sequence<Segment> = segments.into_iter().collect();
        let active = segments.newest().expect("a log has a segment");
        let end = Point { segment: active.base, position: Position(active.end), offset: active.next };
        epochs.assign(leader_epoch, end.offset);
        Self {
            segments,
            log_start,
            said_start: log_start,
            settled: end,
            high_watermark: end,
            leader_epoch,
            epochs,
            producers,
            config,
            status: Status::Online,
            relaxed_end: None,
            strict_end: Offset(0),
            unflushed_records: 0,
            dirty_since: None,
            last_append: Duration::ZERO,
            last_flush: Duration::ZERO,
            is_frozen: false,
            cut_tail: Vec::new(),
            void_through: 0,
            spare: VecDeque::new(),
            queue: VecDeque::new(),
            waiters: VecDeque::new(),
            journaled: VecDeque::new(),
            checkpointed: Offset(0),
            cuts: 0,
            hints: VecDeque::new(),
        }
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.newest().expect("a log has a segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments.newest_mut().expect("a log has a segment")
    }

    /// The log goes on in a new segment, with the producers as they are now beside it.
    pub(crate) fn roll(&mut self) {
        let mut segment = Segment::new(self.active().next);
        segment.snapshot = (!self.producers.is_empty()).then(|| self.producers.to_snapshot());
        self.segments.push(segment);
    }

    /// A leader's epoch begins at the log's end. So the one before has an end although nothing was written in this one
    /// yet. Kafka: `Partition.makeLeader`.
    pub(crate) fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        self.leader_epoch = epoch;
        let end = self.end().offset;
        self.epochs.assign(epoch, end);
    }

    /// The end of what was published.
    pub(crate) fn end(&self) -> Point {
        let active = self.active();
        Point { segment: active.base, position: Position(active.end), offset: active.next }
    }

    /// The segment with this base offset.
    pub(crate) fn segment(&self, base: Offset) -> Option<&Segment> {
        self.segments.get(self.segments.index_of_key(&base, |segment| segment.base)?)
    }

    /// The segment with this base offset.
    pub(crate) fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let index = self.segments.index_of_key(&base, |segment| segment.base)?;
        self.segments.get_mut(index)
    }

    /// The index of the segment that holds `offset`: the last one that starts at or before it.
    pub(crate) fn segment_index_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base <= offset).checked_sub(1)
    }

    /// Why nothing may be appended now.
    pub(crate) fn append_refusal(&self) -> Option<AppendError> {
        match self.status {
            Status::Online => None,
            Status::Full => Some(AppendError::NoSpace),
            Status::Poisoned => Some(AppendError::Offline),
            Status::Closed => Some(AppendError::Deleted),
        }
    }

    /// Why nothing may be read now.
    pub(crate) fn read_refusal(&self) -> Option<ReadError> {
        match self.status {
            Status::Online | Status::Full => None,
            Status::Poisoned => Some(ReadError::Offline),
            Status::Closed => Some(ReadError::Deleted),
        }
    }

    /// The ranges between `settled` and the end, one per segment, as (from, to).
    pub(crate) fn unsettled(&self) -> Vec<(Point, Point)> {
        let mut ranges = Vec::with_capacity(1);
        let first = self.segments.partition_point(|segment| segment.base < self.settled.segment);
        for segment in self.segments.iter().skip(first) {
            let from = if segment.base == self.settled.segment {
                self.settled
            } else {
                Point { segment: segment.base, position: Position(0), offset: segment.base }
            };
            let to = Point { segment: segment.base, position: Position(segment.end), offset: segment.next };
            if from.position < to.position {
                ranges.push((from, to));
            }
        }
        ranges
    }

    /// The end of what is published in the last segment whose file is open and has room for it.
    pub(crate) fn prepared_end(&self) -> Point {
        let active = self.active();
        let room = if active.file.is_some() { active.allocated } else { 0 };
        if active.end <= room {
            return self.end();
        }
        self.settled
    }

    /// Everything below `point` is durable, or as durable as its class asks.
    pub(crate) fn settle(&mut self, point: Point) {
        self.settled = self.settled.max(point);
    }

    /// Settles what only waited for what is settled now, because its class is relaxed. Else there would always be
    /// something that waits, where producers do not wait for each other.
    pub(crate) fn settle_relaxed(&mut self) {
        let end = self.end();
        if self.is_relaxed() && self.strict_end <= self.settled.offset && !self.is_settled() {
            self.unflushed_records += end.offset.0 - self.settled.offset.0;
            self.relaxed_end = Some(end);
            self.settle(end);
        }
    }

    /// Up to where the segment with this base offset is settled, in bytes.
    pub(crate) fn settled_in(&self, base: Offset) -> u64 {
        match base.cmp(&self.settled.segment) {
            Ordering::Less => u64::MAX,
            Ordering::Equal => self.settled.position.0,
            Ordering::Greater => 0,
        }
    }

    /// Whether nothing waits to be settled. By the offset: after a roll the end is in another segment than what came
    /// before it.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.offset == self.end().offset
    }

    /// Whether appends are acknowledged before they are durable.
    pub(crate) fn is_relaxed(&self) -> bool {
        self.config.flush_messages > 1
    }

    /// Takes another configuration.
    pub(crate) fn set_config(&mut self, config: LogConfig) {
        if !self.is_relaxed() {
            self.strict_end = self.end().offset;
        }
        self.config = config;
    }

    /// How far the log is durable in its segments: not beyond one that still has to be cut to its exact size, for
    /// nobody looks for the end of a file that lies below the recovery point.
    pub(crate) fn flushed(&self) -> Point {
        let last = self.segments.len() - 1;
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.flushed < segment.end || (!segment.is_sealed && index < last) {
                // Offsets are known at batch boundaries only; the caller asks for a point that a flush began
                // with, so this is the start of the segment or its recorded flush point.
                return Point {
                    segment: segment.base,
                    position: Position(segment.flushed),
                    offset: segment.flushed_next,
                };
            }
        }
        self.end()
    }

    /// Bytes published and not yet in their segments.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.segments
            .iter()
            .rev()
            .map_while(|segment| {
                (segment.dirty_bytes() > 0 || !segment.is_sealed).then(|| segment.dirty_bytes())
            })
            .sum()
    }

    /// Takes the waiters whose batches lie below `settled`, in order.
    pub(crate) fn waiters_done(&mut self) -> impl Iterator<Item = Waiter> + '_ {
        let settled = self.settled.offset;
        let done = self.waiters.partition_point(|waiter| waiter.last_offset < settled);
        self.waiters.drain(..done)
    }

    /// Remembers where a sequential reader will go on.
    pub(crate) fn remember(&mut self, point: Point) {
        if self.hints.len() == HINTS_MAX {
            self.hints.pop_front();
        }
        self.hints.push_back(point);
    }

    /// Where a sequential reader said it would go on, if this is one.
    pub(crate) fn hint(&self, offset: Offset) -> Option<Point> {
        self.hints.iter().rev().find(|point| point.offset == offset).copied()
    }

    /// The bytes of all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }
}
