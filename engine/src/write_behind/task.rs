//! The task that decides when to write, to flush and to say so.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_ring::gate::TurnGuard;
use futures_util::future::{Either, join, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::flush::{flush, flush_together};
use super::write::{Extent, write_failed, write_out};
use super::{Asked, CoreHandle, FORGOTTEN, QUIET, SETTLED, is_large, large_bytes};
use crate::PartitionId;
use crate::checkpoint;
use crate::journal::journal_path;
use crate::partition::{Partition, Status};
use crate::storage::StorageError;
use crate::turns::Turns;

/// How often what is pending is looked at, while there is any.
const TICK: Duration = Duration::from_millis(500);
/// The same, while appends wait for room.
const STARVING_TICK: Duration = Duration::from_millis(10);
/// So many partitions are written at a time.
const JOBS_MAX: usize = 8;
/// The same, where what is dirty becomes too much: small writes wait for the core to look at each more than for the disk.
const JOBS_BEHIND_MAX: usize = 32;
/// So many are written before the ring is looked at again.
const WRITES_BEFORE_A_LOOK_MAX: usize = 128;
/// So many partitions are flushed for one checkpoint, when the ring fills.
const PRESSED_FLUSHES_MAX: usize = 64;
/// The same, in a hurry.
const HURRIED_FLUSHES_MAX: usize = 128;
/// So many partitions are flushed at once: nobody else has their files meanwhile.
const TOGETHER_MAX: usize = 64;
/// After so many flushed bytes the checkpoint is written, so that recovery has little to read.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// At most so long the checkpoint stays behind what is flushed.
const CHECKPOINT_AGE: Duration = Duration::from_secs(3);

/// What is done to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Write,
    WriteAll,
    Flush,
}

/// What is done now.
#[derive(Default)]
struct Jobs {
    writes: Vec<(Partition, Job)>,
    /// Each once, though there may be several reasons for it.
    flushes: BTreeMap<PartitionId, Partition>,
}

/// Writes behind until the engine has ended or the log directory is lost.
pub(crate) async fn run(core: CoreHandle) {
    let mut last_checkpoint = core.runtime.monotonic();
    let mut last_look = Duration::ZERO;
    loop {
        // A commit that waits for room still needs this task.
        if core.is_offline() || (core.is_ended() && core.journal.is_idle()) {
            core.write_behind.clear();
            return;
        }
        let pressed = core.write_behind.pressed.take();
        if pressed && core.journal.wants_to_grow() {
            let growing = core.clone();
            core.runtime.spawn(Box::pin(async move { growing.journal.grow(&growing).await }));
        }
        // Between the ticks only those are looked at that have enough.
        let now = core.runtime.monotonic();
        let looks_at_all = pressed
            || core.is_starving()
            || core.journal.is_pressed()
            || now.saturating_sub(last_look) >= TICK;
        let jobs = if looks_at_all {
            last_look = now;
            choose(&core, core.write_behind.take_all(), pressed).await
        } else {
            choose(&core, core.write_behind.take_ready(), pressed).await
        };
        let idle = jobs.writes.is_empty() && jobs.flushes.is_empty();
        run_jobs(&core, jobs).await;
        if looks_at_all {
            cool(&core).await;
        }
        if checkpoint_is_due(&core, last_checkpoint) {
            if let Err(error) = checkpoint::write(&core).await {
                tracing::warn!(%error, "no checkpoint was written");
            }
            last_checkpoint = core.runtime.monotonic();
        }
        if core.is_offline() || (core.is_ended() && core.journal.is_idle()) {
            continue;
        }
        give_up(&core, idle);
        if core.is_starving() {
            // Readers on other cores let go of memory without a word.
            core.cleaned();
        }
        let quiet = core.write_behind.pending.borrow().is_empty()
            && !core.is_starving()
            && !core.write_behind.checkpoint_is_stale.get();
        if quiet {
            core.write_behind.signal.wait().await;
        } else if idle || !core.write_behind.pressed.get() {
            let wait = Box::pin(core.write_behind.signal.wait());
            let tick = if core.is_starving() { STARVING_TICK } else { TICK };
            match select(wait, core.runtime.sleep(tick)).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }
}

/// Who is written now, and how.
async fn choose(core: &CoreHandle, pending: Vec<(Partition, Asked)>, pressed: bool) -> Jobs {
    let now = core.runtime.monotonic();
    let large_bytes = large_bytes(core);
    let ring_is_full = core.journal.is_pressed();
    let is_short = core.is_starving() || (pressed && !ring_is_full);
    let mut jobs = Jobs::default();
    let mut oldest = Vec::new();
    let mut turns = Turns::default();
    for (partition, asked) in pending {
        turns.took(core, 0).await;
        let log = partition.inner().log.borrow();
        if !matches!(log.status, Status::Online | Status::Full) {
            continue;
        }
        let dirty = log.end() != log.flushed();
        let unwritten = log.dirty_bytes();
        let age = now.saturating_sub(log.last_append);
        let flush_due = log.config.flush_ms != i64::MAX
            && dirty
            && now.saturating_sub(log.last_flush) >= Duration::from_millis(log.config.flush_ms.max(0) as u64);
        let enough = is_large(log.active(), log.active().end, large_bytes)
            || log.segments.len() > 1 && !log.segments[log.segments.len() - 2].is_sealed;
        if ring_is_full && let Some(entry) = log.journaled.front() {
            oldest.push((entry.sequence, partition.clone()));
        }
        if asked == Asked::Flush || flush_due || (dirty && age >= SETTLED) {
            drop(log);
            jobs.flushes.insert(partition.id(), partition);
            continue;
        }
        let job = if ring_is_full && !is_short && !log.journaled.is_empty() {
            // The ring waits for its flush, or will: that writes as much as any write, and nothing else gives room.
            continue;
        } else if unwritten > 0 && (age >= QUIET || is_short) {
            Job::WriteAll
        } else if enough {
            Job::Write
        } else {
            continue;
        };
        drop(log);
        jobs.writes.push((partition, job));
    }
    // Those whose entries the ring meets first. Each checkpoint takes as long as a few flushes.
    oldest.sort_unstable_by_key(|(sequence, partition)| (*sequence, partition.id()));
    oldest.truncate(if core.journal.is_hurried() { HURRIED_FLUSHES_MAX } else { PRESSED_FLUSHES_MAX });
    jobs.flushes.extend(oldest.into_iter().map(|(_, partition)| (partition.id(), partition)));
    jobs.writes.retain(|(partition, _)| !jobs.flushes.contains_key(&partition.id()));
    put_off(core, &mut jobs.writes);
    jobs
}

/// Leaves no more writes than the ring may wait for, those that follow the last ones by their ids. The rest come next.
fn put_off(core: &CoreHandle, writes: &mut Vec<(Partition, Job)>) {
    if writes.len() <= WRITES_BEFORE_A_LOOK_MAX {
        return;
    }
    let behind = &core.write_behind;
    let last = behind.written_last.get();
    let next = writes.iter().position(|(partition, _)| Some(partition.id()) > last).unwrap_or(0);
    writes.rotate_left(next);
    let later = writes.split_off(WRITES_BEFORE_A_LOOK_MAX);
    behind.written_last.set(writes.last().map(|(partition, _)| partition.id()));
    behind.ready.borrow_mut().extend(later.into_iter().map(|(partition, _)| (partition.id(), partition)));
    behind.wake();
}

async fn run_jobs(core: &CoreHandle, jobs: Jobs) {
    let (alone, together): (Vec<_>, Vec<_>) = if jobs.flushes.len() < core.config.flushed_together_min {
        (jobs.flushes.into_values().collect(), Vec::new())
    } else {
        // An exact log's commits need its files: it never waits for others' flushes.
        jobs.flushes.into_values().partition(|partition| partition.inner().is_exact)
    };
    let alone = alone.into_iter().map(|partition| (partition, Job::Flush));
    join(run_each(core, jobs.writes.into_iter().chain(alone)), run_together(core, together)).await;
}

async fn run_each(core: &CoreHandle, jobs: impl IntoIterator<Item = (Partition, Job)>) {
    let mut running = FuturesUnordered::new();
    for (partition, job) in jobs {
        if running.len() >= jobs_max(core) {
            running.next().await;
        }
        running.push(run_job(core, partition, job));
    }
    while running.next().await.is_some() {}
}

/// How many are written at a time. More would be in the way of commits, whose writes are the same disk's.
fn jobs_max(core: &CoreHandle) -> usize {
    match core.dirty_bytes.get() > core.config.dirty_bytes_max as u64 / 2 {
        true => JOBS_BEHIND_MAX,
        false => JOBS_MAX,
    }
}

/// Flushes many partitions, some at a time.
async fn run_together(core: &CoreHandle, partitions: Vec<Partition>) {
    for some in partitions.chunks(TOGETHER_MAX) {
        let held = some.iter().filter_map(|partition| Some((partition.clone(), take_turn(core, partition)?)));
        flush_together(core, held.collect()).await;
    }
}

/// The turn of whoever works on the partition's files, unless another has it; what was asked for is done with it.
fn take_turn(core: &CoreHandle, partition: &Partition) -> Option<TurnGuard> {
    // Whoever holds the files may wait for the journal, and the journal for this task.
    let turn = partition.inner().io.try_take()?;
    if let Some((_, asked)) = core.write_behind.pending.borrow_mut().get_mut(&partition.id()) {
        *asked = Asked::InTime;
    }
    Some(turn)
}

async fn run_job(core: &CoreHandle, partition: Partition, job: Job) {
    let Some(turn) = take_turn(core, &partition) else { return };
    let extent = match job {
        Job::Flush => {
            flush(core, &partition, &turn).await;
            return;
        }
        Job::Write => {
            Extent::Large { end: partition.inner().log.borrow().end(), large_bytes: large_bytes(core) }
        }
        Job::WriteAll => Extent::UpTo(partition.inner().log.borrow().end()),
    };
    if let Err(error) = write_out(core, &partition, extent, &turn).await {
        write_failed(core, &partition, &error);
    }
}

/// Gives back the extents of partitions that have been quiet, and forgets those that need nothing more. Whole
/// chunks stay for [`FORGOTTEN`], unless somebody waits for memory: most readers come soon, and what they find
/// here they need not read from the disk.
async fn cool(core: &CoreHandle) {
    let now = core.runtime.monotonic();
    let mut turns = Turns::default();
    for (partition, _) in core.write_behind.all() {
        turns.took(core, 0).await;
        let mut log = partition.inner().log.borrow_mut();
        let age = now.saturating_sub(log.last_append);
        if age >= QUIET {
            let keeps_chunks = age < FORGOTTEN && !core.is_starving();
            let mut freed: Vec<_> = log.spare.drain(..).collect();
            for index in 0..log.segments.len() {
                let settled = log.settled_in(log.segments[index].base);
                let segment = &mut log.segments[index];
                while !(keeps_chunks && segment.holds_whole_chunks())
                    && let Some(region) = segment.evict(settled, true)
                {
                    freed.push(region);
                }
            }
            let done = log.end() == log.flushed()
                && log.journaled.is_empty()
                && log.segments.iter().all(|segment| !segment.has_extents());
            if done {
                // An idle partition holds no descriptor either, and no index that a file has.
                for segment in log.segments.iter_mut() {
                    segment.file = None;
                    if segment.is_sealed {
                        segment.lookup = None;
                    }
                }
            }
            let lost = !matches!(log.status, Status::Online | Status::Full);
            drop(log);
            // Before its memory is given to those who wait: the first of them may be this very partition, which then
            // has something to be looked after again.
            if done {
                core.write_behind.forget(&partition.id());
            }
            let any = !freed.is_empty();
            for region in freed {
                core.release(region);
            }
            if any {
                core.cleaned();
            }
            // What it could not write is in the journal if it was acknowledged, and nobody reads it any more. Somebody may
            // still be at it.
            if lost && let Some(_turn) = partition.inner().io.try_take() {
                partition.drop_memory();
                core.write_behind.forget(&partition.id());
            }
        }
    }
}

/// The commit waits for room that only a lost partition's entries could give: acknowledged bytes have no other
/// place than the ring, so nothing more can be acknowledged.
fn give_up(core: &CoreHandle, idle: bool) {
    let is_stuck = core.journal.is_stuck() && !core.journal.is_growing();
    if !idle || !is_stuck || core.write_behind.checkpoint_is_stale.get() {
        return;
    }
    let lost = core.partitions.borrow().iter().any(|partition| {
        let log = partition.inner().log.borrow();
        log.status == Status::Poisoned && !log.journaled.is_empty()
    });
    if lost {
        core.take_offline(&StorageError::refused("write", journal_path(core.config.core)));
    }
}

fn checkpoint_is_due(core: &CoreHandle, last: Duration) -> bool {
    let behind = &core.write_behind;
    behind.checkpoint_is_stale.get()
        && (core.journal.is_pressed()
            || behind.flushed_bytes.get() >= CHECKPOINT_BYTES
            || core.runtime.monotonic().saturating_sub(last) >= CHECKPOINT_AGE)
}
