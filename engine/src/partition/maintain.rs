//! Cutting the log at either end, and looking into it by time.

use std::collections::BTreeSet;

use flumen_ring::Region;

use super::log::{Log, Point};
use super::{Partition, segment_path};
use crate::batch::{BatchHeader, batches, records};
use crate::checkpoint;
use crate::checkpoints::encode_epochs;
use crate::engine::CloseError;
use crate::layout::{LEADER_EPOCH_CHECKPOINT, SegmentFile, SegmentFileKind};
use crate::read::{ReadError, ReadLimit, TimestampedOffset};
use crate::recovery::{ClosedPartition, next_offset};
use crate::retention::retire_segment;
use crate::segment::{Lookup, Segment};
use crate::storage::{OpenMode, StorageError, StorageErrorKind};
use crate::write_behind::{self, Durability, Extent};
use crate::{Offset, Position, Timestamp};

/// Batches are read in pieces of this many bytes when a record is looked for.
const LOOK_BYTES: usize = 64 << 10;

impl Partition {
    /// What is appended from now on goes to a new segment, if the active one holds anything.
    pub fn roll(&self) {
        let mut log = self.inner.log.borrow_mut();
        if log.is_online() && log.active().end > 0 {
            log.roll();
        }
    }

    /// Moves the log's start up to `before`, durably, and returns it. Above the high watermark: out of range.
    /// Segments that lie below go by and by.
    pub async fn delete_records(&self, before: Offset) -> Result<Offset, ReadError> {
        {
            let mut log = self.inner.log.borrow_mut();
            let end = log.high_watermark.offset;
            if let Some(refusal) = log.read_refusal() {
                return Err(refusal);
            }
            if before > end || before.0 < 0 {
                let log_start_offset = log.log_start;
                return Err(ReadError::OutOfRange { offset: before, log_start_offset, end });
            }
            // What is not durable yet, because that failed or is under way, is not done.
            if before <= log.durable_start() {
                return Ok(log.log_start);
            }
            log.raise_start(before);
        }
        self.tell_watchers();
        self.core().write_behind.checkpoint_is_stale.set(true);
        checkpoint::write(self.core()).await?;
        self.remove_old_segments().await?;
        Ok(self.log_start_offset())
    }

    /// Removes the files of segments that lie wholly below the log's start, oldest first. The checkpoint that says so
    /// is durable before, so no entry of the journal brings one back.
    pub(crate) async fn remove_old_segments(&self) -> Result<(), StorageError> {
        let turn = self.inner.io.take().await;
        let core = self.core().clone();
        // Retention may just have rolled it.
        write_behind::flush(&core, self, &turn).await;
        // Of one that is closed, what its files are is said already.
        if self.is_closed() || !self.inner.log.borrow().has_removable() {
            return Ok(());
        }
        core.journal.barrier(&core).await?;
        let removed = self.retire_removable().await;
        core.cleaned();
        removed
    }

    /// One whose files cannot be renamed stays the oldest of the log. Had it gone from memory only, a clean stop would
    /// not know that the log starts behind it, and those that go after it would leave a hole.
    async fn retire_removable(&self) -> Result<(), StorageError> {
        loop {
            let oldest = self.inner.log.borrow_mut().take_removable();
            let Some(mut segment) = oldest else { return Ok(()) };
            for region in segment.drop_extents() {
                self.core().release(region);
            }
            if let Err(error) = retire_segment(self, segment.base).await {
                self.inner.log.borrow_mut().segments.push_oldest(segment);
                return Err(error);
            }
        }
    }

    /// Cuts the log so that `end` is its end, or leaves it when it ends before that. A batch that holds `end`
    /// goes whole. Durable when it returns; appends wait meanwhile.
    pub async fn truncate_to(&self, end: Offset) -> Result<(), StorageError> {
        let turn = self.inner.freezing.take().await;
        self.inner.log.borrow_mut().is_frozen = true;
        let result = self.truncate_frozen(end).await;
        self.inner.log.borrow_mut().is_frozen = false;
        drop(turn);
        if !self.append_queued() {
            // Who waited for the cut waits for room now.
            self.core().starve(self);
        }
        result
    }

    async fn truncate_frozen(&self, end: Offset) -> Result<(), StorageError> {
        let core = self.core().clone();
        // Everything that was placed is durable first: then the journal says nothing that the files do not.
        let turn = self.inner.io.take().await;
        if !write_behind::flush(&core, self, &turn).await {
            return Err(core.failure().unwrap_or_else(|| self.refused("truncate")));
        }
        // A group that was taken before the flush may still be on its way; the next one is not.
        core.journal.settle_group().await;
        let Some(cut) = self.find_cut(end).await? else { return Ok(()) };
        let (removed, freed) = {
            let mut log = self.inner.log.borrow_mut();
            log.void_through = core.journal.next_sequence() - 1;
            core.journal.forget(log.journaled.drain(..).map(|entry| entry.sequence));
            let gone = log.cut_at(cut);
            self.inner.producers_kept.set(log.producers.len());
            gone
        };
        for region in freed {
            core.release(region);
        }
        self.tell_watchers();
        // What the files hold behind the cut would come back to life in what is appended from now on.
        let finished = self.finish_cut(cut, removed).await;
        finished.inspect_err(|error| {
            tracing::error!(partition = self.name(), %error, "the cut was not finished: the partition is offline");
            self.poison();
        })?;
        drop(turn);
        Ok(())
    }

    /// Brings the files, the checkpoint and the journal to where the log in memory was cut.
    async fn finish_cut(&self, cut: Point, removed: Vec<Segment>) -> Result<(), StorageError> {
        let core = self.core().clone();
        core.write_behind.checkpoint_is_stale.set(true);
        checkpoint::write(&core).await?;
        if self.inner.is_exact {
            core.journal.barrier(&core).await?;
        } else {
            core.journal.say_cut(&core, self, cut).await?;
        }
        for mut segment in removed.into_iter().rev() {
            for region in segment.drop_extents() {
                core.release(region);
            }
            retire_segment(self, segment.base).await?;
        }
        let file = match self.segment_file(cut.segment).await {
            Ok(file) => file,
            Err(ReadError::Storage(error)) if error.kind == StorageErrorKind::NotFound => return Ok(()),
            Err(ReadError::Storage(error)) => return Err(error),
            Err(_) => return Err(self.refused("truncate")),
        };
        file.truncate(cut.position.0).await?;
        core.sync(&file).await?;
        self.remove_snapshots(|offset| offset > cut.offset).await?;
        // Should it be rolled and its new indexes not be written, these must not be taken for them.
        self.remove_indexes(cut.segment).await?;
        core.sync_directory(self.folder()).await?;
        if let Some(segment) = self.inner.log.borrow_mut().segment_mut(cut.segment) {
            segment.allocated = cut.position.0;
        }
        Ok(())
    }

    /// Removes the producer snapshots of these offsets; a later one would be taken for newer than it is.
    async fn remove_snapshots(&self, goes: impl Fn(Offset) -> bool) -> Result<(), StorageError> {
        let directory = &self.core().directory;
        let listed = match directory.list(self.folder()).await {
            Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        for entry in listed {
            let is_old = SegmentFile::parse(&entry.name)
                .is_some_and(|file| file.kind == SegmentFileKind::ProducerSnapshot && goes(file.offset));
            if is_old {
                directory.remove_file(&self.folder().join(&entry.name)).await?;
            }
        }
        Ok(())
    }

    /// Where the batch that holds `end` starts, with the bytes of its block kept.
    async fn find_cut(&self, end: Offset) -> Result<Option<Point>, StorageError> {
        let (start, log_end) = {
            let log = self.inner.log.borrow();
            (log.log_start, log.end())
        };
        if end >= log_end.offset {
            return Ok(None);
        }
        let end = end.max(start);
        let point = match self.cut_point(end).await {
            Ok(point) => point,
            Err(ReadError::Storage(error)) => return Err(error),
            Err(_) => return Err(self.refused("truncate")),
        };
        // The tail moves to memory of its own: what readers hold of the old one does not change.
        let block = crate::segment::align_down(point.position.0);
        let in_block = (point.position.0 - block) as usize;
        let tail = if in_block == 0 {
            Vec::new()
        } else {
            let file = match self.segment_file(point.segment).await {
                Ok(file) => file,
                Err(ReadError::Storage(error)) => return Err(error),
                Err(_) => return Err(self.refused("truncate")),
            };
            let (result, buffer) = file
                .read(
                    flumen_ring::AlignedBuffer::zeroed(crate::segment::BLOCK_BYTES as usize),
                    block,
                    crate::segment::BLOCK_BYTES as usize,
                )
                .await;
            let read = result?;
            if read < in_block {
                return Err(self.refused("truncate"));
            }
            buffer[..in_block].to_vec()
        };
        self.inner.log.borrow_mut().cut_tail = tail;
        Ok(Some(point))
    }

    /// The start of the batch that holds `end`. In or behind a gap that compaction left, the end of the batch before
    /// it: a start finds no other end.
    async fn cut_point(&self, end: Offset) -> Result<Point, ReadError> {
        let (_, found) = self.read_from(end, 1, true, ReadLimit::LogEnd).await?;
        let (segment, point) = {
            let log = self.inner.log.borrow();
            let index = log.segment_index_of(end).ok_or(ReadError::Offline)?;
            let Segment { base, end: bytes, .. } = log.segments[index];
            let is_here = found.filter(|found| found.segment == base);
            (base, is_here.unwrap_or(Point { segment: base, position: Position(bytes), offset: end }))
        };
        if point.position == Position(0) {
            return Ok(Point { offset: segment, ..point });
        }
        let before = self.look_at(Offset(point.offset.0 - 1), 1, ReadLimit::LogEnd).await?;
        let bytes: Vec<u8> = before.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let last = batches(&bytes).next().and_then(Result::ok).map(|(header, _)| header.last_offset());
        if point.offset <= end && last.is_some_and(|last| last.0 + 1 == point.offset.0) {
            return Ok(point);
        }
        let file = self.segment_file(segment).await?;
        let offset = next_offset(&file, point.position.0, segment).await?;
        Ok(Point { offset, ..point })
    }

    fn refused(&self, operation: &'static str) -> StorageError {
        let active = self.inner.log.borrow().active().base;
        StorageError::refused(operation, segment_path(self, active, SegmentFileKind::Log))
    }

    /// Gives back all memory: the partition is deleted, or lost for this life.
    pub(crate) fn drop_memory(&self) {
        let core = self.core();
        let freed: Vec<Region> = {
            let mut log = self.inner.log.borrow_mut();
            let dirty = log.dirty_bytes();
            core.dirty_bytes.set(core.dirty_bytes.get() - dirty);
            for segment in log.segments.iter_mut() {
                segment.written = segment.end;
            }
            let spare: Vec<Region> = log.spare.drain(..).collect();
            log.segments.iter_mut().flat_map(Segment::drop_extents).chain(spare).collect()
        };
        for region in freed {
            core.release(region);
        }
        core.cleaned();
    }

    /// The last steps of a clean stop: written, cut to the exact length, with all that Kafka looks for beside it.
    /// Durable once the whole directory is flushed.
    pub(crate) async fn close_files(&self) -> Result<ClosedPartition, CloseError> {
        let core = self.core().clone();
        let turn = self.inner.io.take().await;
        if self.is_offline() {
            return Err(CloseError::Offline);
        }
        let (active, end, is_settled) = {
            let log = self.inner.log.borrow();
            (log.active().base, log.end(), log.is_settled())
        };
        // The commit left out what had to wait for these files. It stays in the log, so whoever waits for it is told: a
        // producer that sent it again would find that the snapshot of a stop knows its last batch only.
        if !is_settled && !write_behind::flush(&core, self, &turn).await && self.is_offline() {
            return Err(CloseError::Offline);
        }
        write_behind::write_out(&core, self, Extent::UpTo(end), &turn).await?;
        if let Some(closed) = self.closed_unwritten() {
            self.close();
            return Ok(closed);
        }
        let is_created = self.inner.log.borrow().active().is_created;
        let file = if is_created {
            match self.segment_file(active).await {
                Ok(file) => file,
                Err(ReadError::Storage(error)) => return Err(error.into()),
                Err(_) => return Err(CloseError::Offline),
            }
        } else {
            let path = segment_path(self, active, SegmentFileKind::Log);
            core.directory.open(&path, OpenMode::CreateOrOpen).await?
        };
        file.truncate(end.position.0).await?;
        if self.take_walk(active) {
            write_behind::seal_index(self, active, Durability::Later).await?;
        } else {
            // Whoever starts next makes them from the log, when somebody asks for them.
            self.remove_indexes(active).await?;
        }
        let (snapshot, bases, epochs, closed) = {
            let log = self.inner.log.borrow();
            // Kafka starts from the newest there is.
            let bases: BTreeSet<Offset> = log.segments.iter().map(|segment| segment.base).collect();
            let snapshot =
                (!log.producers.is_empty() || bases.len() > 1).then(|| log.producers.to_snapshot());
            let closed = ClosedPartition {
                name: self.name().to_owned(),
                log_start: log.log_start,
                first_segment: log.first_base(),
                high_watermark: log.high_watermark.offset,
                end: end.offset,
            };
            (snapshot, bases, encode_epochs(&log.epochs), closed)
        };
        // Where the log starts may not change any more: it is said by what was just put together.
        self.close();
        if let Some(snapshot) = snapshot {
            let path = segment_path(self, end.offset, SegmentFileKind::ProducerSnapshot);
            core.directory.replace_later(&path, snapshot).await?;
        }
        self.remove_snapshots(|offset| offset != end.offset && !bases.contains(&offset)).await?;
        let path = self.folder().join(LEADER_EPOCH_CHECKPOINT);
        core.directory.replace_later(&path, epochs.into_bytes()).await?;
        Ok(closed)
    }

    /// Whether the look-ups of a segment are known, or may be read from its log: a stop reads so much for all
    /// partitions together, and no more.
    fn take_walk(&self, base: Offset) -> bool {
        let log = self.inner.log.borrow();
        let Some(segment) = log.segment(base) else { return true };
        let unknown = segment.lookup.as_ref().map_or(segment.end, Lookup::unknown_bytes);
        let left = self.core().close_walk_bytes.get().checked_sub(unknown);
        if let Some(left) = left {
            self.core().close_walk_bytes.set(left);
        }
        left.is_some()
    }

    async fn remove_indexes(&self, base: Offset) -> Result<(), StorageError> {
        for kind in [SegmentFileKind::OffsetIndex, SegmentFileKind::TimeIndex] {
            self.core().directory.remove_file(&segment_path(self, base, kind)).await?;
        }
        Ok(())
    }

    /// What a partition leaves that nothing was ever written to: no file of it is needed.
    fn closed_unwritten(&self) -> Option<ClosedPartition> {
        let log = self.inner.log.borrow();
        let is_unwritten = log.segments.len() == 1
            && !log.active().is_created
            && log.end().offset == Offset(0)
            && log.producers.is_empty();
        is_unwritten.then(|| ClosedPartition {
            name: self.name().to_owned(),
            log_start: log.log_start,
            first_segment: log.first_base(),
            high_watermark: log.high_watermark.offset,
            end: log.end().offset,
        })
    }

    /// The first record below `limit` whose timestamp is at or after `timestamp`.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        limit: ReadLimit,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let (start, end, bases) = {
            let log = self.inner.log.borrow();
            if let Some(refusal) = log.read_refusal() {
                return Err(refusal);
            }
            let bases: Vec<Offset> = log.segments.iter().map(|segment| segment.base).collect();
            (log.log_start, Self::limit(&log, limit), bases)
        };
        for base in bases {
            let Some((largest, from)) = self.time_floor(base, timestamp).await? else { continue };
            if largest < timestamp {
                continue;
            }
            if let Some(found) = self.search_time(from.max(start), end, timestamp, limit).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The largest timestamp of a segment, and where to begin to look for `timestamp` in it.
    async fn time_floor(
        &self,
        base: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        loop {
            {
                let log = self.inner.log.borrow();
                let Some(segment) = log.segment(base) else { return Ok(None) };
                if segment.knows_age() && segment.largest.0 < timestamp {
                    // Nobody begins in it.
                    return Ok(Some((segment.largest.0, base)));
                }
                if let Some(lookup) = segment.lookup.as_ref().filter(|lookup| lookup.is_complete()) {
                    return Ok(Some((segment.largest.0, lookup.floor_of_time(timestamp))));
                }
            }
            // A cut meanwhile has it forget what was loaded: then once more.
            match self.load_lookup(base).await {
                Ok(()) => {}
                Err(ReadError::Storage(error)) if error.kind == StorageErrorKind::NotFound => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn search_time(
        &self,
        from: Offset,
        end: Offset,
        timestamp: Timestamp,
        limit: ReadLimit,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let mut at = from;
        while at < end {
            let read = match self.look_at(at, LOOK_BYTES, limit).await {
                // The log's start passed by.
                Err(ReadError::OutOfRange { log_start_offset, .. }) if at < log_start_offset => {
                    at = log_start_offset;
                    continue;
                }
                read => read?,
            };
            let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let before = at;
            for batch in batches(&bytes) {
                let Ok((header, batch)) = batch else { return Ok(None) };
                at = Offset(header.last_offset().0 + 1);
                if header.max_timestamp() >= timestamp
                    && let Some(found) = first_at_or_after(header, batch, timestamp, from)
                {
                    return Ok((found.offset < end).then_some(found));
                }
            }
            if at == before {
                break;
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp: the first one of them in the first segment that has it, if it lies
    /// below `limit`. As in Kafka it may lie below the log's start, for as long as its segment is there; and where no
    /// record has a timestamp, it is the first one of all.
    pub async fn max_timestamp(&self, limit: ReadLimit) -> Result<Option<TimestampedOffset>, ReadError> {
        let (bases, end) = {
            let log = self.inner.log.borrow();
            if let Some(refusal) = log.read_refusal() {
                return Err(refusal);
            }
            let written = log.segments.iter().filter(|segment| segment.end > 0);
            let bases: Vec<Offset> = written.map(|segment| segment.base).collect();
            (bases, Self::limit(&log, limit))
        };
        let mut largest: Option<(Timestamp, Offset)> = None;
        for base in bases {
            if let Some((timestamp, _)) = self.time_floor(base, Timestamp(i64::MAX)).await?
                && largest.is_none_or(|(largest, _)| timestamp > largest)
            {
                largest = Some((timestamp, base));
            }
        }
        let Some((timestamp, base)) = largest else { return Ok(None) };
        match self.time_floor(base, timestamp).await? {
            Some((_, from)) => self.search_time(from, end, timestamp, limit).await,
            None => Ok(None),
        }
    }
}

/// The first record of a batch at or after `timestamp`. The records of a compressed batch are not opened here:
/// its first one stands for them.
fn first_at_or_after(
    header: &BatchHeader,
    batch: &[u8],
    timestamp: Timestamp,
    from: Offset,
) -> Option<TimestampedOffset> {
    let leader_epoch = header.leader_epoch();
    if header.is_log_append_time() {
        let offset = header.base_offset().max(from);
        return Some(TimestampedOffset { offset, timestamp: header.max_timestamp(), leader_epoch });
    }
    if header.is_compressed() {
        let base = Timestamp(header.base_timestamp.get());
        let found = if base >= timestamp { base } else { header.max_timestamp() };
        return Some(TimestampedOffset {
            offset: header.base_offset().max(from),
            timestamp: found,
            leader_epoch,
        });
    }
    records(batch)
        .ok()?
        .flatten()
        .find(|record| record.timestamp >= timestamp && record.offset >= from)
        .map(|record| TimestampedOffset { offset: record.offset, timestamp: record.timestamp, leader_epoch })
}

impl Log {
    /// The log's start rises to `start`.
    pub(crate) fn raise_start(&mut self, start: Offset) {
        self.log_start = self.log_start.max(start);
        self.epochs.truncate_from_start(self.log_start);
    }

    /// Everything behind `cut` goes from memory; the segments that go whole are returned.
    fn cut_at(&mut self, cut: Point) -> (Vec<Segment>, Vec<Region>) {
        self.cuts += 1;
        self.hints.clear();
        let keep = self.segments.partition_point(|segment| segment.base <= cut.segment);
        let removed: Vec<Segment> = self.segments.split_off(keep);
        let mut held = self.segments.pop_newest().expect("the cut is in a segment");
        let mut segment =
            Segment::recovered(cut.segment, cut.offset, cut.position.0, std::mem::take(&mut self.cut_tail));
        segment.allocated = held.allocated;
        segment.file = held.file.clone();
        segment.is_created = held.is_created;
        segment.first_timestamp = held.first_timestamp.filter(|_| cut.position.0 > 0);
        segment.written_at = held.written_at.filter(|_| cut.position.0 > 0);
        // What was the largest timestamp may be cut off: who asks has it looked up again.
        segment.look_up_by(Lookup::new(cut.segment, cut.position, cut.offset));
        self.segments.push(segment);
        let end = Point { segment: cut.segment, position: cut.position, offset: cut.offset };
        self.settled = end;
        self.strict_end = self.strict_end.min(end.offset);
        self.log_start = self.log_start.min(cut.offset);
        self.high_watermark = self.high_watermark.min(end);
        self.epochs.truncate_from_end(cut.offset);
        self.producers.truncate_to(cut.offset);
        (removed, held.drop_extents().collect())
    }

    /// Nothing below this is asked for, now or after a restart.
    fn durable_start(&self) -> Offset {
        self.log_start.min(self.said_start)
    }

    /// Whether the oldest segment lies wholly below the log's start, durably, and recovery does not need it.
    fn has_removable(&self) -> bool {
        let oldest = &self.segments[0];
        let is_old = oldest.next <= self.durable_start() && oldest.base < self.checkpointed;
        self.segments.len() > 1 && oldest.is_sealed && is_old
    }

    /// The oldest segment, if it may go; nobody finds it from here on.
    fn take_removable(&mut self) -> Option<Segment> {
        if !self.has_removable() {
            return None;
        }
        self.cuts += 1;
        self.hints.clear();
        self.segments.pop_oldest()
    }

    /// The base offset of the first segment.
    pub(crate) fn first_base(&self) -> Offset {
        self.segments.oldest().map_or(Offset(0), |segment| segment.base)
    }
}
