//! Writing one partition: which step is next, and what it leaves when it is done.

use std::rc::Rc;

use flumen_ring::AlignedBuffer;

use super::{CoreHandle, flushed, is_large};
use crate::Offset;
use crate::append::AppendError;
use crate::core::count;
use crate::layout::SegmentFileKind;
use crate::partition::{Log, Partition, Point, Status, segment_path};
use crate::segment::{Allocation, BLOCK_BYTES, align_down};
use crate::storage::{OpenMode, StorageError, StorageErrorKind, WriteSource};
use flumen_ring::gate::TurnGuard;

/// The largest write from one extent, in bytes.
const WRITE_BYTES_MAX: u64 = 1 << 20;
/// Less than this in one extent is gathered from several, in bytes.
const SLICE_BYTES_MIN: u64 = 64 << 10;
/// What is gathered at most, in bytes.
const GATHER_BYTES_MAX: u64 = 256 << 10;

/// How much is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// What is below this point, for as long as there is enough of it for a large write, and in whole blocks; segments
    /// that take no more to their end. What comes in meanwhile is left for later: a writer that followed it would write
    /// every block as soon as it is whole, and nobody else's.
    Large { end: Point, large_bytes: u64 },
    /// Everything below this point, its partial block padded.
    UpTo(Point),
}

/// When small files have to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before the call returns.
    Now,
    /// When the whole directory is flushed.
    Later,
}

enum Step {
    Done,
    Open { base: Offset, create: bool },
    Allocate { base: Offset, allocation: Allocation },
    Write { base: Offset, source: WriteSource, position: u64, written: u64 },
    Seal { base: Offset },
}

/// Writes what is published to the segments, as far as `extent` says; rolls the files behind the log.
pub(crate) async fn write_out(
    core: &CoreHandle,
    partition: &Partition,
    extent: Extent,
    turn: &TurnGuard,
) -> Result<(), StorageError> {
    loop {
        let step = next_step(&partition.inner().log.borrow(), extent);
        if matches!(step, Step::Done) {
            return Ok(());
        }
        take_step(core, partition, step, turn).await?;
    }
}

/// Opens and allocates what `write_out` up to `end` needs, so that it cannot fail for want of space.
pub(crate) async fn prepare(
    core: &CoreHandle,
    partition: &Partition,
    end: Point,
    turn: &TurnGuard,
) -> Result<(), StorageError> {
    loop {
        let step = next_step(&partition.inner().log.borrow(), Extent::UpTo(end));
        let base = match &step {
            Step::Done => return Ok(()),
            Step::Write { base, .. } => *base,
            Step::Open { .. } | Step::Allocate { .. } | Step::Seal { .. } => Offset(-1),
        };
        if base == end.segment {
            return Ok(());
        }
        take_step(core, partition, step, turn).await?;
    }
}

/// A write of the partition failed: the disk is full, or no file can be opened, and it is tried again; or the partition
/// is lost.
pub(crate) fn write_failed(core: &CoreHandle, partition: &Partition, error: &StorageError) {
    if core.is_offline() {
        return;
    }
    if !error.kind.is_shortage() {
        tracing::error!(partition = partition.name(), %error, "the partition is offline");
        partition.poison();
        return;
    }
    if error.kind != StorageErrorKind::NoSpace {
        // Those that readers left open are the first that can be spared.
        core.close_sealed();
    }
    let refused = {
        let mut log = partition.inner().log.borrow_mut();
        if log.status == Status::Online {
            tracing::error!(partition = partition.name(), %error, "it cannot be written for now");
            log.status = Status::Full;
        }
        std::mem::take(&mut log.queue)
    };
    for queued in refused {
        queued.slot.complete(Err(AppendError::NoSpace));
    }
}

async fn take_step(
    core: &CoreHandle,
    partition: &Partition,
    step: Step,
    _turn: &TurnGuard,
) -> Result<(), StorageError> {
    match step {
        Step::Done => {}
        Step::Open { base, create } => {
            let path = segment_path(partition, base, SegmentFileKind::Log);
            let mode = if create { OpenMode::CreateOrOpen } else { OpenMode::Existing };
            let file = core.directory.open(&path, mode).await?;
            if create {
                core.sync_directory(partition.folder()).await?;
            }
            if let Some(segment) = partition.inner().log.borrow_mut().segment_mut(base) {
                segment.is_created = true;
                segment.file.get_or_insert(file);
            }
        }
        Step::Allocate { base, allocation } => allocate(partition, base, allocation).await?,
        Step::Write { base, source, position, written } => {
            let Some(file) = open_file(partition, base) else { return Ok(()) };
            let length = match &source {
                WriteSource::Slice(slice) => slice.len(),
                WriteSource::Buffer(buffer) => buffer.len(),
            };
            let (result, source) = file.write(source, position).await;
            drop(source);
            result?;
            count(&core.counters.segment_bytes_written, length as u64);
            count(&core.counters.segment_writes, 1);
            written_to(core, partition, base, written);
        }
        Step::Seal { base } => seal(core, partition, base).await?,
    }
    Ok(())
}

/// Makes room in a segment's file: ahead, or on a nearly full disk no more than is needed.
async fn allocate(partition: &Partition, base: Offset, allocation: Allocation) -> Result<(), StorageError> {
    let Some(file) = open_file(partition, base) else { return Ok(()) };
    let Allocation { position, length, length_min } = allocation;
    let (result, length) = match file.allocate(position, length).await {
        Err(error) if error.kind == StorageErrorKind::NoSpace && length_min < length => {
            (file.allocate(position, length_min).await, length_min)
        }
        result => (result, length),
    };
    result?;
    if let Some(segment) = partition.inner().log.borrow_mut().segment_mut(base) {
        segment.allocated_to(position + length);
    }
    Ok(())
}

fn written_to(core: &CoreHandle, partition: &Partition, base: Offset, written: u64) {
    let by = {
        let mut log = partition.inner().log.borrow_mut();
        let by = log.segment_mut(base).map_or(0, |segment| {
            let by = written.saturating_sub(segment.written);
            segment.written += by;
            by
        });
        if log.end().position.0 == written && log.active().base == base {
            log.dirty_since = None;
        }
        by
    };
    core.dirty_bytes.set(core.dirty_bytes.get() - by);
    core.cleaned();
}

/// Cuts a segment that takes no more to its exact size, and makes that durable.
async fn seal(core: &CoreHandle, partition: &Partition, base: Offset) -> Result<(), StorageError> {
    let (file, end) = {
        let log = partition.inner().log.borrow();
        let Some(segment) = log.segment(base) else { return Ok(()) };
        (segment.file.clone().expect("a segment that was written is open"), segment.end)
    };
    file.truncate(end).await?;
    core.sync(&file).await?;
    seal_index(partition, base, Durability::Now).await?;
    write_snapshot(partition, base).await;
    let point = {
        let mut log = partition.inner().log.borrow_mut();
        let Some(segment) = log.segment_mut(base) else { return Ok(()) };
        segment.allocated = end;
        segment.is_sealed = true;
        Point { segment: base, position: crate::Position(end), offset: segment.next }
    };
    // From now on only readers use what is in memory of it.
    core.note_opened(partition, base);
    core.note_lookup(partition, base);
    flushed(core, partition, point);
    Ok(())
}

/// Writes the producers as of the end of a segment, which is the base of the next: what Kafka, and a log that is cut,
/// begin from. Durable by the clean stop; until then the checkpoint knows the producers, and a torn file its CRC.
async fn write_snapshot(partition: &Partition, base: Offset) {
    let next = {
        let mut log = partition.inner().log.borrow_mut();
        let next = log.segments.iter_mut().find(|segment| segment.base > base);
        next.and_then(|next| Some((next.base, next.snapshot.take()?)))
    };
    let Some((offset, snapshot)) = next else { return };
    let path = segment_path(partition, offset, SegmentFileKind::ProducerSnapshot);
    if let Err(error) = partition.core().directory.replace_later(&path, snapshot).await {
        tracing::warn!(%error, "a snapshot of producers was not written");
    }
}

/// Writes the index files of a segment that takes no more, durably, before the recovery point can pass it: older
/// ones, of a clean stop while it still grew, would be taken for whole. Where they cannot be written there are
/// none, and they are made anew from the log.
pub(crate) async fn seal_index(
    partition: &Partition,
    base: Offset,
    durability: Durability,
) -> Result<(), StorageError> {
    let directory = partition.core().directory.clone();
    let written = match sealed_indexes(partition, base).await {
        Some(files) => {
            let mut written = Ok(());
            for (kind, bytes) in files {
                if written.is_ok() {
                    let path = segment_path(partition, base, kind);
                    written = match durability {
                        Durability::Now => directory.replace(&path, bytes).await,
                        Durability::Later => directory.replace_later(&path, bytes).await,
                    };
                }
            }
            written.inspect_err(|error| tracing::warn!(%error, "an index was not written")).is_ok()
        }
        None => false,
    };
    if !written {
        for kind in [SegmentFileKind::OffsetIndex, SegmentFileKind::TimeIndex] {
            directory.remove_file(&segment_path(partition, base, kind)).await?;
        }
        if durability == Durability::Now {
            directory.sync_directory(partition.folder()).await?;
        }
    }
    Ok(())
}

/// The contents of both files; `None` if they cannot be known now.
async fn sealed_indexes(partition: &Partition, base: Offset) -> Option<[(SegmentFileKind, Vec<u8>); 2]> {
    if let Err(error) = partition.load_lookup(base).await {
        tracing::warn!(partition = partition.name(), segment = base.0, %error, "no index was written");
        return None;
    }
    let mut log = partition.inner().log.borrow_mut();
    let lookup = log.segment_mut(base)?.lookup.as_mut().filter(|lookup| lookup.is_complete())?;
    lookup.indexes.seal();
    Some([
        (SegmentFileKind::OffsetIndex, lookup.indexes.offsets.to_bytes()),
        (SegmentFileKind::TimeIndex, lookup.indexes.times.to_bytes()),
    ])
}

fn open_file(partition: &Partition, base: Offset) -> Option<Rc<dyn crate::storage::DataFile>> {
    partition.inner().log.borrow().segment(base).and_then(|segment| segment.file.clone())
}

/// What to do next; pure.
fn next_step(log: &Log, extent: Extent) -> Step {
    let active = log.active().base;
    let first = log.segments.partition_point(|segment| segment.is_sealed);
    for segment in log.segments.iter().skip(first) {
        let base = segment.base;
        let target = match extent {
            Extent::Large { end, .. } | Extent::UpTo(end) if base > end.segment => return Step::Done,
            Extent::Large { end, large_bytes } if base == active => {
                if !is_large(segment, end.position.0, large_bytes) {
                    return Step::Done;
                }
                align_down(end.position.0)
            }
            Extent::UpTo(point) if base == point.segment => point.position.0,
            Extent::Large { .. } | Extent::UpTo(_) => segment.end,
        };
        if segment.written < target {
            if segment.file.is_none() {
                return Step::Open { base, create: !segment.is_created };
            }
            if let Some(allocation) = segment.allocation_for(target) {
                return Step::Allocate { base, allocation };
            }
            return next_write(segment, target);
        }
        let is_last = matches!(extent, Extent::UpTo(point) if base == point.segment);
        if is_last || segment.written < segment.end {
            // Whatever it took since the point was taken is not asked for, though some of it may have come along
            // in the last block: who asked may be about to cut the file there.
            return Step::Done;
        }
        if base != active {
            if segment.file.is_none() {
                return Step::Open { base, create: !segment.is_created };
            }
            return Step::Seal { base };
        }
    }
    Step::Done
}

fn next_write(segment: &crate::segment::Segment, target: u64) -> Step {
    let base = segment.base;
    let from = align_down(segment.written);
    let goes_on = target.is_multiple_of(BLOCK_BYTES);
    let most = target.min(from + GATHER_BYTES_MAX);
    let to = segment.gathered_to(from, most, SLICE_BYTES_MIN, goes_on);
    // Whole blocks from the cache itself, where there are enough of them side by side, or all that is wanted.
    let enough =
        segment.whole_blocks_at(from, WRITE_BYTES_MAX).filter(|it| it.len() as u64 >= SLICE_BYTES_MIN);
    let all = || segment.whole_blocks_at(from, to - from).filter(|it| from + it.len() as u64 == to);
    if let Some(slice) = enough.or_else(all) {
        let written = from + slice.len() as u64;
        return Step::Write { base, source: WriteSource::Slice(slice), position: from, written };
    }
    // The rest, and the last block, from a copy. It is padded, so all that is in it may come along.
    let to = if to == target { target.next_multiple_of(BLOCK_BYTES).min(segment.end) } else { to };
    let mut buffer = AlignedBuffer::recycled((to - from) as usize);
    segment.copy_blocks(from, to, &mut buffer);
    Step::Write { base, source: WriteSource::Buffer(buffer), position: from, written: to }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use flumen_ring::Region;

    use super::*;
    use crate::segment::{Reading, Segment};

    const KIB: u64 = 1 << 10;

    /// A segment of so many bytes in extents of these sizes.
    fn segment(extents: &[u64], bytes: u64) -> Segment {
        let mut segment = Segment::new(Offset(0));
        let mut spare: VecDeque<_> = extents.iter().map(|bytes| Region::on_heap(*bytes as usize)).collect();
        segment.publish(&vec![7; bytes as usize], Reading::Soon, &mut spare, Duration::ZERO);
        segment
    }

    /// The writes up to `target`: where each begins, in KiB, and whether it needs no copy.
    fn writes(segment: &mut Segment, target: u64) -> Vec<(u64, bool)> {
        let mut writes = Vec::new();
        while segment.written < target {
            let Step::Write { source, position, written, .. } = next_write(segment, target) else {
                panic!("a write");
            };
            assert!(written > segment.written && written <= segment.end);
            writes.push((position / KIB, matches!(source, WriteSource::Slice(_))));
            segment.written = written;
        }
        writes
    }

    #[test]
    fn a_write_that_begins_with_an_extent_needs_no_copy() {
        let mut earning = segment(&[16 * KIB, 64 * KIB, 64 * KIB, 64 * KIB], 150 * KIB);
        assert_eq!(writes(&mut earning, 64 * KIB), [(0, true), (16, true)], "the second to its extent's end");
        assert_eq!(earning.written, 80 * KIB);
        assert_eq!(writes(&mut earning, 144 * KIB), [(80, true)]);
        // A flush begins and ends anywhere, and what follows finds its way back.
        let mut flushed = segment(&[64 * KIB, 64 * KIB, 64 * KIB], 170 * KIB);
        assert_eq!(writes(&mut flushed, 20 * KIB + 100), [(0, true)]);
        flushed.written = 20 * KIB + 100;
        assert_eq!(writes(&mut flushed, 84 * KIB), [(20, true), (64, true)]);
        assert_eq!(flushed.written, 128 * KIB);
    }

    #[test]
    fn small_extents_are_gathered_up_to_a_large_one() {
        let small = [16 * KIB, 16 * KIB, 16 * KIB, 64 * KIB, 16 * KIB, 16 * KIB];
        let mut gathered = segment(&small, 140 * KIB);
        assert_eq!(writes(&mut gathered, 140 * KIB), [(0, false), (48, true), (112, false)]);
        // Up to the end of an extent where more follows; all of it, padded, where not.
        let mut whole = segment(&[16 * KIB; 6], 90 * KIB);
        assert_eq!(writes(&mut whole, 72 * KIB), [(0, false), (64, true)]);
        let mut padded = segment(&[16 * KIB; 6], 90 * KIB);
        assert_eq!(writes(&mut padded, 70 * KIB + 1), [(0, false)]);
        assert_eq!(padded.written, 72 * KIB);
    }
}
