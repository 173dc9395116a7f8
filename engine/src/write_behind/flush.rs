//! Making durable what was written to the segments: of one partition, or of many at once.
//!
//! A flush of a file system makes everything on it durable for about what one file costs; but others may have data to
//! write to it, for which it waits. So it is used where many partitions are to be flushed, and not for a while where
//! it took too long: then each file is flushed by itself, as few are in any case.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{StreamExt, iter};

use super::CoreHandle;
use super::write::{Extent, write_failed, write_out};
use crate::core::count;
use crate::journal;
use crate::partition::{Partition, Point, Status};
use crate::storage::{DataFile, StorageError};
use flumen_ring::gate::{Signal, TurnGuard};

/// So many of the partitions that are flushed together are written at a time: each write is one that the commit's may
/// have to wait for.
const WRITES_MAX: usize = 2;
/// The same, in a hurry.
const HURRIED_WRITES_MAX: usize = 8;
/// A flush of the file system that takes longer than this writes what others have.
const PATIENCE: Duration = Duration::from_millis(100);
/// Then it is not tried again for so long.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// What was published of a partition is in its segment, and durable once that is flushed.
struct Written {
    end: Point,
    /// What has to be flushed; nothing if all of it was durable before.
    file: Option<Rc<dyn DataFile>>,
}

/// Writes everything that is published now and flushes it. Failures are dealt with here; says whether it is
/// durable.
pub(crate) async fn flush(core: &CoreHandle, partition: &Partition, turn: &TurnGuard) -> bool {
    let began = core.runtime.monotonic();
    let Some(written) = write_all(core, partition, turn).await else { return false };
    flush_written(core, partition, &written, began).await
}

/// The same for many partitions, by one flush of the file system where that does not take too long.
pub(crate) async fn flush_together(core: &CoreHandle, partitions: Vec<(Partition, TurnGuard)>) {
    let began = core.runtime.monotonic();
    let writes_max = if core.journal.is_hurried() { HURRIED_WRITES_MAX } else { WRITES_MAX };
    let writing = iter(partitions).map(|(partition, turn)| async move {
        let written = write_all(core, &partition, &turn).await?;
        Some((partition, turn, written))
    });
    let written: Vec<_> = writing.buffer_unordered(writes_max).collect().await;
    let written: Vec<_> = written.into_iter().flatten().collect();
    // Some were durable before, or could not be written, or were somebody else's.
    let to_flush = written.iter().filter(|(.., written)| written.file.is_some()).count();
    let all_durable = to_flush >= core.config.flushed_together_min && flush_file_system(core).await;
    for (partition, _turn, written) in written {
        if core.is_offline() {
            // A flush that failed says so once: no later one of a file it was for says anything.
            return;
        }
        if all_durable {
            made_durable(core, &partition, written.end, began);
        } else {
            flush_written(core, &partition, &written, began).await;
        }
    }
}

/// Flushes what was written of a partition; says whether it is durable.
async fn flush_written(core: &CoreHandle, partition: &Partition, written: &Written, began: Duration) -> bool {
    if let Some(file) = &written.file
        && core.sync(file).await.is_err()
    {
        return false;
    }
    made_durable(core, partition, written.end, began);
    true
}

/// Writes everything that is published now; `None` if it cannot be written.
async fn write_all(core: &CoreHandle, partition: &Partition, turn: &TurnGuard) -> Option<Written> {
    let (end, already) = {
        let log = partition.inner().log.borrow();
        if !matches!(log.status, Status::Online | Status::Full) {
            return None;
        }
        // A rolled segment that is durable may still have to be cut.
        let sealed = log.segments.iter().rev().skip(1).all(|segment| segment.is_sealed);
        (log.end(), sealed && log.flushed() == log.end())
    };
    if already {
        return Some(Written { end, file: None });
    }
    if let Err(error) = write_out(core, partition, Extent::UpTo(end), turn).await {
        write_failed(core, partition, &error);
        return None;
    }
    let file = {
        let log = partition.inner().log.borrow();
        log.segment(end.segment).and_then(|segment| segment.file.clone())
    };
    if let Some(file) = &file
        && partition.inner().is_exact
        && let Err(error) = cut_exact(core, partition, file, end).await
    {
        write_failed(core, partition, &error);
        return None;
    }
    Some(Written { end, file })
}

/// Flushes the file system, unless that took too long a short while ago; says whether all that was written before is
/// durable. Where it takes too long it goes on by itself, and nobody waits for it.
async fn flush_file_system(core: &CoreHandle) -> bool {
    let behind = &core.write_behind;
    let began = core.runtime.monotonic();
    if began < behind.file_system_left_alone_until.get() {
        return false;
    }
    let (ended, all_durable) = (Rc::new(Signal::default()), Rc::new(Cell::new(false)));
    let (raised, told, flushing) = (ended.clone(), all_durable.clone(), core.clone());
    core.runtime.spawn(Box::pin(async move {
        told.set(flushing.sync_all().await.is_ok());
        raised.raise();
    }));
    match select(Box::pin(ended.wait()), core.runtime.sleep(PATIENCE)).await {
        Either::Left(_) => all_durable.get(),
        Either::Right(_) => {
            tracing::debug!("the file system has others' data to write: segments are flushed one by one");
            behind.file_system_left_alone_until.set(began + LEFT_ALONE);
            false
        }
    }
}

/// Everything below `end` is durable in the segments, by a flush whose writes `began` then: who waits for it is told.
fn made_durable(core: &CoreHandle, partition: &Partition, end: Point, began: Duration) {
    flushed(core, partition, end);
    // Sealing flushes what no commit group has settled yet.
    journal::settle(partition, end);
    partition.inner().log.borrow_mut().last_flush = began;
}

/// Cuts the file of an exact partition to what ends at `end`. What the last block held beyond is written again.
pub(crate) async fn cut_exact(
    core: &CoreHandle,
    partition: &Partition,
    file: &Rc<dyn DataFile>,
    end: Point,
) -> Result<(), StorageError> {
    // Before the file is short: readers take what is beyond from memory from now on.
    {
        let mut log = partition.inner().log.borrow_mut();
        let mut beyond = 0;
        if let Some(segment) = log.segment_mut(end.segment) {
            beyond = segment.written.saturating_sub(end.position.0);
            segment.written -= beyond;
            segment.cut_back(end.position.0);
        }
        // Reads of the file that are under way begin again.
        log.cuts += u64::from(beyond > 0);
        core.dirty_bytes.set(core.dirty_bytes.get() + beyond);
    }
    file.truncate(end.position.0).await
}

/// Everything below `point` is durable in the segments.
pub(crate) fn flushed(core: &CoreHandle, partition: &Partition, point: Point) {
    let mut log = partition.inner().log.borrow_mut();
    let end = log.end();
    if let Some(segment) = log.segment_mut(point.segment)
        && segment.flushed < point.position.0
    {
        let by = point.position.0 - segment.flushed;
        segment.flushed = point.position.0;
        segment.flushed_next = point.offset;
        core.write_behind.checkpoint_is_stale.set(true);
        count(&core.write_behind.flushed_bytes, by);
    }
    if point == end {
        log.unflushed_records = 0;
    }
    log.relaxed_end = log.relaxed_end.filter(|relaxed| *relaxed > point);
    if log.status == Status::Full {
        log.status = Status::Online;
        drop(log);
        tracing::info!(partition = partition.name(), "it can be written again");
        core.journal.enqueue(partition);
    }
}
