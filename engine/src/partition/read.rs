//! The way out: from an offset to slices of whole batches, out of the cache or from the disk.
//!
//! A read looks once without waiting. What it needs from the disk it fetches, and looks again: the log may have
//! changed meanwhile, so nothing found before an await is trusted after it.

use std::rc::Rc;

use flumen_ring::{AlignedBuffer, Slice};
use zerocopy::FromBytes;

use super::log::{Log, Point, Status};
use super::{Partition, segment_path};
use crate::batch::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::core::count;
use crate::layout::SegmentFileKind;
use crate::read::{AbortedTransaction, Available, Read, ReadError, ReadLimit};
use crate::segment::{BLOCK_BYTES, Segment, align_down};
use crate::storage::{DataFile, OpenMode};
use crate::{Offset, Position};

/// At most this comes from the disk in one read, unless one batch is larger, in bytes.
const COLD_BYTES_MAX: u64 = 1 << 20;
/// What is read beyond what was asked for, so that the batch that holds the offset is found in the same read.
const COLD_SLACK_BYTES: u64 = 16 << 10;

/// What one look found.
enum Look {
    /// What was asked for.
    Found(Read, Option<Point>),
    /// The look-up of this segment is needed.
    NeedsLookup(Offset),
    /// The look-up of this segment, from its index file, does not say where a batch starts.
    WrongLookup(Offset),
    /// It is on the disk.
    Cold(Cold),
}

/// What one segment holds of what is looked for.
enum Sought {
    /// Whole batches.
    Batches(Batches),
    /// It ends before the offset: the next segment has it.
    Nothing,
    /// There is a batch, which may not be seen yet or is too large.
    NotNow,
    /// It cannot be said yet.
    Elsewhere(Look),
}

struct Batches {
    slices: Vec<Slice>,
    /// Where the first of them starts.
    first: Point,
    /// Where a sequential reader goes on, if that is known.
    next: Option<Point>,
}

/// Where on the disk to look.
#[derive(Clone, Copy)]
struct Cold {
    segment: Offset,
    /// The start of a batch at or before the one that holds the offset.
    start: u64,
    /// Bytes to read at least.
    length: u64,
    /// How often the log was cut when this was planned.
    cuts: u64,
}

/// Bytes of a segment that came from the disk, and what the cache holds behind them.
struct View<'a> {
    segment: &'a Segment,
    /// `None` if nothing came from the disk; then `cold_start` is where the cache begins.
    cold: Option<Slice>,
    cold_start: u64,
}

impl Partition {
    /// What a read of at most `bytes_max` from `from` would find below `limit`.
    pub fn available(
        &self,
        from: Offset,
        bytes_max: usize,
        limit: ReadLimit,
    ) -> Result<Available, ReadError> {
        let log = self.inner.log.borrow();
        let end = Self::limit(&log, limit);
        Self::check_readable(&log, from, end)?;
        if from == end {
            return Ok(Available::default());
        }
        let Some(first) = log.segment_index_of(from) else { return Ok(Available::default()) };
        let (mut available, mut first_batch_bytes) = (0, None);
        for segment in log.segments.iter().skip(first) {
            let mut start = 0;
            if segment.base <= from {
                (start, first_batch_bytes) = position_near(&log, segment, from);
            }
            let upto = limit_position(&log, segment, end).unwrap_or(segment.end);
            available += upto.saturating_sub(start);
            if available >= bytes_max as u64 || segment.next >= end {
                break;
            }
        }
        Ok(Available { bytes: available.min(bytes_max as u64).max(1) as usize, first_batch_bytes })
    }

    /// Reads whole batches from the one that holds `from`, at most `bytes_max`, but at least one batch if
    /// `at_least_one`. At most 1 MiB comes from the disk in one read.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        limit: ReadLimit,
    ) -> Result<Read, ReadError> {
        self.read_from(from, bytes_max, at_least_one, limit).await.map(|(read, _)| read)
    }

    /// As [`Partition::read`], with no regard to the log's start: what lies below it is there for as long as its
    /// segment is. For looking things up; consumers see nothing of it.
    pub async fn look_at(&self, from: Offset, bytes_max: usize, limit: ReadLimit) -> Result<Read, ReadError> {
        let below_start = true;
        let request = Request { from, bytes_max: bytes_max as u64, at_least_one: true, limit, below_start };
        self.serve(&request).await.map(|(read, _)| read)
    }

    /// As [`Partition::read`]; also says where the first batch starts.
    pub(super) async fn read_from(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        limit: ReadLimit,
    ) -> Result<(Read, Option<Point>), ReadError> {
        let below_start = false;
        self.serve(&Request { from, bytes_max: bytes_max as u64, at_least_one, limit, below_start }).await
    }

    async fn serve(&self, request: &Request) -> Result<(Read, Option<Point>), ReadError> {
        let mut cold: Option<(Cold, Slice)> = None;
        loop {
            let look = self.look(request, cold.take())?;
            match look {
                Look::Found(read, first) => return Ok((read, first)),
                Look::NeedsLookup(segment) => self.load_lookup(segment).await?,
                Look::WrongLookup(segment) => self.prove_lookup(segment).await?,
                Look::Cold(wanted) => cold = Some((wanted, self.read_cold(&wanted).await?)),
            }
        }
    }

    fn look(&self, request: &Request, cold: Option<(Cold, Slice)>) -> Result<Look, ReadError> {
        let mut log = self.inner.log.borrow_mut();
        let end = Self::limit(&log, request.limit);
        let start = if request.below_start { log.first_base() } else { log.log_start };
        Self::check_range(&log, start, request.from, end)?;
        let mut read = Read {
            slices: Vec::new(),
            high_watermark: log.high_watermark.offset,
            last_stable_offset: log.last_stable(),
            log_start_offset: log.log_start,
            aborted: Vec::new(),
        };
        if request.from == end {
            return Ok(Look::Found(read, None));
        }
        let mut cold = cold.filter(|(cold, _)| cold.cuts == log.cuts);
        // Where a later segment was read from the disk, those before it hold nothing from the offset on.
        let begin = cold.as_ref().map_or(request.from, |(cold, _)| cold.segment.max(request.from));
        let first = log.segment_index_of(begin).expect("an offset of the log is in a segment");
        // Compaction leaves segments that end before the next one begins, and empty ones.
        for index in first..log.segments.len() {
            let segment = &log.segments[index];
            let here = cold.take_if(|(cold, _)| cold.segment == segment.base);
            let found = match self.look_into(&log, segment, request, end, here)? {
                Sought::Batches(found) => found,
                Sought::Nothing => continue,
                Sought::NotNow => break,
                Sought::Elsewhere(look) => return Ok(look),
            };
            read.slices = found.slices;
            if request.limit == ReadLimit::LastStable {
                read.aborted = log.aborted_from(request.from);
            }
            if let Some(next) = found.next {
                log.remember(next);
            }
            return Ok(Look::Found(read, Some(found.first)));
        }
        Ok(Look::Found(read, None))
    }

    /// Looks for the first batch of `segment` that ends at or behind the offset, and for those behind it.
    fn look_into(
        &self,
        log: &Log,
        segment: &Segment,
        request: &Request,
        end: Offset,
        cold: Option<(Cold, Slice)>,
    ) -> Result<Sought, ReadError> {
        if segment.end == 0 {
            return Ok(Sought::Nothing);
        }
        let limit = limit_position(log, segment, end);
        let (view, start) = match cold {
            Some((cold, bytes)) => {
                (View { segment, cold: Some(bytes), cold_start: align_down(cold.start) }, cold.start)
            }
            None => {
                let Some(start) = start_of(log, segment, request.from) else {
                    return Ok(Sought::Elsewhere(Look::NeedsLookup(segment.base)));
                };
                (View { segment, cold: None, cold_start: segment.cached_from() }, start)
            }
        };
        // What a batch needs is read whole; of what was asked for, only so much at a time.
        let wants = |start: u64, length: u64| {
            let cold = Cold { segment: segment.base, start, length, cuts: log.cuts };
            Ok(Sought::Elsewhere(Look::Cold(cold)))
        };
        // Walk to the batch that holds the offset.
        let mut position = start;
        let first = loop {
            if position == segment.end {
                return Ok(Sought::Nothing);
            }
            let header = match view.header(position) {
                Some(header) => {
                    let checked = self.check_header(segment, position, &header);
                    // It starts at or before the batch that is looked for, or an index file was believed that is wrong.
                    let is_floor = checked.as_ref().is_ok_and(|header| header.base_offset() <= request.from);
                    if position == start && !is_floor && position > 0 && segment.is_looked_up_by_file() {
                        return Ok(Sought::Elsewhere(Look::WrongLookup(segment.base)));
                    }
                    checked?
                }
                None if position + HEADER_BYTES as u64 > segment.end => {
                    return Err(self.no_batch_at(segment, position));
                }
                None => {
                    // Of whole blocks, from the one where this starts: a block more would take twice the memory.
                    let length_max = COLD_BYTES_MAX - (position - align_down(position));
                    return wants(position, (request.bytes_max + COLD_SLACK_BYTES).min(length_max));
                }
            };
            if header.last_offset() >= request.from {
                break header;
            }
            position += header.batch_bytes() as u64;
        };
        if first.base_offset() >= end {
            // What may be seen ends before, in the gap that the offset is in.
            return Ok(Sought::NotNow);
        }
        let first_end = position + first.batch_bytes() as u64;
        let upto = match view.end_of_batches(self, position, request.bytes_max, limit, end)? {
            Some(upto) if upto > position => upto,
            _ if !request.at_least_one => return Ok(Sought::NotNow),
            _ if view.end() < first_end => return wants(position, first.batch_bytes() as u64),
            _ => first_end,
        };
        let next =
            if upto == segment.end { Some(segment.next) } else { view.header(upto).map(|h| h.base_offset()) };
        let base = segment.base;
        segment.read_to.set(segment.read_to.get().max(Some(Position(upto))));
        Ok(Sought::Batches(Batches {
            slices: view.slices(position, upto),
            first: Point { segment: base, position: Position(position), offset: first.base_offset() },
            next: next.map(|offset| Point { segment: base, position: Position(upto), offset }),
        }))
    }

    /// Refuses a header that cannot be one of this segment: the bytes on the disk changed.
    fn check_header(
        &self,
        segment: &Segment,
        position: u64,
        header: &BatchHeader,
    ) -> Result<BatchHeader, ReadError> {
        let (base, last) = (header.base_offset(), header.last_offset());
        let sound = header.magic == 2
            && header.length.get() >= (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32
            && position + header.batch_bytes() as u64 <= segment.end
            && segment.base <= base
            && base <= last
            && last < segment.next;
        if sound {
            return Ok(*header);
        }
        Err(self.no_batch_at(segment, position))
    }

    fn no_batch_at(&self, segment: &Segment, position: u64) -> ReadError {
        ReadError::Corrupt {
            file: segment_path(self, segment.base, SegmentFileKind::Log).display().to_string(),
            position,
            reason: format!("no batch of magic 2 and offsets {}..{} starts here", segment.base, segment.next),
        }
    }

    async fn read_cold(&self, cold: &Cold) -> Result<Slice, ReadError> {
        let file = self.segment_file(cold.segment).await?;
        let core = self.core();
        let (written, is_missed) = {
            let log = self.inner.log.borrow();
            match log.segment(cold.segment) {
                Some(segment) if log.cuts == cold.cuts => {
                    // What a quiet partition gave back is not what memory was too short for.
                    let was_evicted = log.active().has_extents();
                    (segment.written, was_evicted && core.is_recent(segment, cold.start))
                }
                _ => return Ok(Slice::from_buffer(AlignedBuffer::recycled(0), 0)),
            }
        };
        let from = align_down(cold.start);
        let slack = cold.start - from;
        let wanted = (slack + cold.length).min(written.saturating_sub(from));
        let length = wanted.next_multiple_of(BLOCK_BYTES) as usize;
        let _permit = core.cold_read(length).await;
        let (result, buffer) = file.read(AlignedBuffer::recycled(length), from, length).await;
        let read = result.map_err(ReadError::Storage)?;
        count(&core.counters.cold_bytes_read, read as u64);
        if is_missed {
            count(&core.counters.missed_bytes_read, read as u64);
            core.cache.borrow_mut().miss(read);
        }
        let sound = read.min(written.saturating_sub(from) as usize);
        if self.inner.log.borrow().cuts != cold.cuts {
            // What was read may be gone, or not be what it was: it is looked for anew.
            return Ok(Slice::from_buffer(buffer, 0));
        }
        // Whoever looks again where there is less than was written would read the same again and again.
        if (sound as u64) <= slack || (sound as u64) < wanted {
            return Err(ReadError::Corrupt {
                file: segment_path(self, cold.segment, SegmentFileKind::Log).display().to_string(),
                position: cold.start,
                reason: format!("the file ends at {}, its log at {written}", from + read as u64),
            });
        }
        Ok(Slice::from_buffer(buffer, sound))
    }

    /// The open file of a segment; opens it on its first use.
    pub(crate) async fn segment_file(&self, base: Offset) -> Result<Rc<dyn DataFile>, ReadError> {
        let open = {
            let log = self.inner.log.borrow();
            let segment = log.segment(base).ok_or(ReadError::Offline)?;
            segment.file.clone()
        };
        if let Some(file) = open {
            return Ok(file);
        }
        let path = segment_path(self, base, SegmentFileKind::Log);
        let file = self.core().directory.open(&path, OpenMode::Existing).await?;
        self.core().note_opened(self, base);
        if let Some(segment) = self.inner.log.borrow_mut().segment_mut(base) {
            return Ok(segment.file.get_or_insert(file).clone());
        }
        Ok(file)
    }
}

struct Request {
    from: Offset,
    bytes_max: u64,
    at_least_one: bool,
    limit: ReadLimit,
    /// Whether the log's start is no bound.
    below_start: bool,
}

impl View<'_> {
    /// Whether what came from the disk meets what the cache holds.
    fn is_joined(&self) -> bool {
        self.segment.cached_from() <= self.cold_end()
    }

    fn cold_end(&self) -> u64 {
        self.cold_start + self.cold.as_ref().map_or(0, |cold| cold.len() as u64)
    }

    /// The end of what can be seen.
    fn end(&self) -> u64 {
        if self.is_joined() { self.segment.end } else { self.cold_end() }
    }

    fn slices(&self, from: u64, to: u64) -> Vec<Slice> {
        let split = self.cold_end().clamp(from, to);
        let mut slices = Vec::with_capacity(2);
        if let Some(cold) = self.cold.as_ref().filter(|_| from < split) {
            let start = (from - self.cold_start) as usize;
            slices.push(cold.slice(start..start + (split - from) as usize));
        }
        if split < to {
            slices.extend(self.segment.cached(split, to));
        }
        slices
    }

    fn header(&self, position: u64) -> Option<BatchHeader> {
        let upto = position + HEADER_BYTES as u64;
        if position < self.cold_start.min(self.segment.cached_from()) || upto > self.end() {
            return None;
        }
        if self.cold_end() <= position {
            return (self.segment.cached_from() <= position).then(|| self.segment.cached_header(position));
        }
        let mut bytes = [0; HEADER_BYTES];
        let mut filled = 0;
        for slice in self.slices(position, upto) {
            bytes[filled..filled + slice.len()].copy_from_slice(&slice);
            filled += slice.len();
        }
        BatchHeader::read_from_bytes(&bytes).ok()
    }

    /// The end of the last whole batch that starts at or behind `start`, fits `bytes_max` and lies below the
    /// limit; `start` if there is none.
    fn end_of_batches(
        &self,
        partition: &Partition,
        start: u64,
        bytes_max: u64,
        limit: Option<u64>,
        end: Offset,
    ) -> Result<Option<u64>, ReadError> {
        let room = start.saturating_add(bytes_max).min(self.end());
        if let Some(limit) = limit
            && limit <= room
        {
            return Ok(Some(limit));
        }
        // Where the limit is known by its offset only, every batch below it is looked at.
        let jump = match limit {
            Some(_) => self.segment.lookup.as_ref().map(|lookup| lookup.floor_of_position(Position(room)).0),
            None => None,
        };
        // An index file may say any position: none is believed where no batch starts.
        let is_start = |at: u64| {
            self.header(at).is_some_and(|header| partition.check_header(self.segment, at, &header).is_ok())
        };
        let mut at = jump.filter(|at| start < *at && *at <= room && is_start(*at)).unwrap_or(start);
        while let Some(header) = self.header(at) {
            partition.check_header(self.segment, at, &header)?;
            let next = at + header.batch_bytes() as u64;
            if next > room || header.base_offset() >= end {
                break;
            }
            at = next;
            if at == self.segment.end {
                break;
            }
        }
        Ok(Some(at))
    }
}

/// Where the batch that holds `from` is looked for; `None` if the look-up is not there yet.
fn start_of(log: &Log, segment: &Segment, from: Offset) -> Option<u64> {
    if let Some(hint) = log.hint(from).filter(|hint| hint.segment == segment.base) {
        return Some(hint.position.0);
    }
    if from <= segment.base {
        return Some(0);
    }
    let lookup = segment.lookup.as_ref().filter(|lookup| lookup.covers(from))?;
    Some(lookup.floor(from).0)
}

/// Where the batch that holds `from` starts, and its bytes; where only the disk knows, a position before it.
fn position_near(log: &Log, segment: &Segment, from: Offset) -> (u64, Option<usize>) {
    let mut position = start_of(log, segment, from).unwrap_or(0);
    if position < segment.cached_from() {
        return (position, None);
    }
    // Where an index file is wrong, anything may stand; the read will see.
    while position + HEADER_BYTES as u64 <= segment.end {
        let header = segment.cached_header(position);
        if header.last_offset() >= from {
            return (position, Some(header.batch_bytes()));
        }
        position += header.batch_bytes() as u64;
    }
    (position, None)
}

/// The position in `segment` of the end of what may be seen, if it is known without a walk.
fn limit_position(log: &Log, segment: &Segment, end: Offset) -> Option<u64> {
    if segment.next <= end {
        return Some(segment.end);
    }
    let watermark = log.high_watermark;
    (watermark.offset == end && watermark.segment == segment.base).then_some(watermark.position.0)
}

impl Log {
    /// The end of what `read_committed` consumers see.
    pub(crate) fn last_stable(&self) -> Offset {
        let open = self.producers.first_unstable_offset();
        open.map_or(self.high_watermark.offset, |open| open.min(self.high_watermark.offset))
    }

    fn aborted_from(&self, _from: Offset) -> Vec<AbortedTransaction> {
        Vec::new()
    }

    /// Whether it can be read and appended to.
    pub(crate) fn is_online(&self) -> bool {
        self.status == Status::Online
    }
}
