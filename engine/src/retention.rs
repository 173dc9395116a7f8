//! What may go from the start of a log, and when: by time, by size, and below the log's start.
//!
//! Looked at every [`crate::EngineConfig::retention_check_interval`]. The log's start rises first, in memory and in the checkpoint; then whole
//! segments below it go, oldest first. A crash in between leaves segments that the next look removes.

use std::rc::Rc;

use crate::checkpoint;
use crate::core::Core;
use crate::layout::{SegmentFile, SegmentFileKind, SegmentFileState};
use crate::partition::Partition;
use crate::segment::Segment;
use crate::storage::{StorageError, StorageErrorKind};
use crate::{Offset, Timestamp};

/// Looks until the engine closes.
pub(crate) async fn run(core: Rc<Core>) {
    while core.rest(core.config.retention_check_interval).await {
        if let Err(error) = check(&core).await {
            tracing::warn!(%error, "old segments stay for now");
        }
    }
}

/// One look at every partition.
pub(crate) async fn check(core: &Rc<Core>) -> Result<(), StorageError> {
    let partitions = core.partitions.borrow().to_vec();
    let now = Timestamp(core.runtime.wall_ms());
    let mut shortened = Vec::new();
    for partition in partitions {
        learn_ages(&partition).await;
        if shorten(&partition, now) {
            partition.tell_watchers();
            shortened.push(partition);
        }
        core.runtime.yield_now().await;
    }
    if shortened.is_empty() {
        return Ok(());
    }
    core.write_behind.checkpoint_is_stale.set(true);
    checkpoint::write(core).await?;
    for partition in shortened {
        partition.remove_old_segments().await?;
    }
    Ok(())
}

/// Raises the log's start; says whether segments lie below it.
fn shorten(partition: &Partition, now: Timestamp) -> bool {
    let mut log = partition.inner().log.borrow_mut();
    // A full disk most of all: this is what frees space.
    if log.read_refusal().is_some() {
        return false;
    }
    if let Some(start) = new_start(&mut log, now) {
        log.raise_start(start);
    }
    log.segments.len() > 1 && log.segments[0].next <= log.log_start
}

/// Loads the largest timestamp of the oldest segments, as far as one is needed. Records without timestamps age with
/// their file.
async fn learn_ages(partition: &Partition) {
    loop {
        let unknown = {
            let log = partition.inner().log.borrow();
            let retention_ms = log.config.retention_ms;
            if !log.config.delete || retention_ms < 0 {
                return;
            }
            let old = partition.core().runtime.wall_ms().saturating_sub(retention_ms);
            log.segments
                .iter()
                .take_while(|segment| segment.ages_from().is_none_or(|from| from.0 < old))
                .find(|segment| !segment.knows_age())
                .map(|segment| segment.base)
        };
        let Some(base) = unknown else { return };
        if partition.load_lookup(base).await.is_err() {
            return;
        }
    }
}

/// Takes a segment out of use: its files are renamed to `.deleted` at once, as in Kafka, and unlinked after
/// `file.delete.delay.ms`, or at the next start. The log goes last: no index is left of one that is not there, and
/// where this fails the segment is still in use.
pub(crate) async fn retire_segment(partition: &Partition, base: Offset) -> Result<(), StorageError> {
    let core = partition.core().clone();
    let mut retired = Vec::new();
    let mut outcome = Ok(());
    for kind in [
        SegmentFileKind::ProducerSnapshot,
        SegmentFileKind::TransactionIndex,
        SegmentFileKind::TimeIndex,
        SegmentFileKind::OffsetIndex,
        SegmentFileKind::Log,
    ] {
        let live = SegmentFile::live(base, kind);
        let name = SegmentFile { state: SegmentFileState::Deleted, ..live }.name();
        let path = partition.folder().join(name);
        match core.directory.rename(&partition.folder().join(live.name()), &path).await {
            Ok(()) => retired.push(path),
            Err(error) if error.kind == StorageErrorKind::NotFound => {}
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    core.clone().after_delete_delay(&partition.config(), async move {
        for path in retired {
            core.reclaim_file(&path);
        }
    });
    outcome
}

/// Where the log should start now, if that is later than it does.
fn new_start(log: &mut crate::partition::Log, now: Timestamp) -> Option<Offset> {
    let config = log.config.clone();
    if !config.delete {
        return None;
    }
    let visible = log.high_watermark.offset;
    let expired = |segment: &Segment| {
        config.retention_ms >= 0
            && segment.ages_from().is_some_and(|from| now.0.saturating_sub(from.0) > config.retention_ms)
    };
    let mut excess = match config.retention_bytes {
        bytes if bytes >= 0 => log.size_bytes() as i64 - bytes,
        _ => -1,
    };
    let mut start = log.log_start;
    let last = log.segments.len() - 1;
    let mut roll = false;
    for (index, segment) in log.segments.iter().enumerate() {
        let by_size = excess >= 0 && excess - segment.end as i64 >= 0 && index < last;
        if segment.next > visible || segment.end == 0 || !(by_size || expired(segment)) {
            break;
        }
        excess -= segment.end as i64;
        start = start.max(segment.next);
        roll = index == last;
    }
    if roll {
        // The last segment goes too: the log goes on in a new one.
        log.roll();
    }
    (start > log.log_start).then_some(start)
}
