//! The task that commits: one group after the other, for as long as somebody waits.

use std::rc::Rc;

use flumen_ring::{Region, Slice};
use futures_util::future::join_all;

use super::format::{
    ENTRY_BYTES, Entry, EntryBytes, GROUP_BYTES_MAX, GROUP_COPIED_BYTES_MAX, GROUP_ENTRIES_MAX,
    GROUP_HEADER_BYTES, GroupHeader, encode_group, group_bytes,
};
use crate::Offset;
use crate::append::{AppendSlot, Appended};
use crate::core::{Core, count};
use crate::partition::{JournalEntry, Log, Partition, Point, Status};
use crate::storage::{StorageError, WriteSource};
use crate::write_behind::{self, Extent};
use flumen_ring::gate::TurnGuard;

/// A group holds at most this many copied bytes, unless one partition alone has more.
const SHARED_BYTES_MAX: usize = 2 << 20;
/// A group has at most this many partitions.
const GROUP_PARTITIONS_MAX: usize = 4096;
/// So many batches are looked at, at most, where a partition has to be taken bit by bit.
const PIECE_BATCHES_MAX: usize = 1024;

/// What one partition has in a group.
struct Member {
    partition: Partition,
    /// Ranges of its log, one per segment, as (from, to).
    ranges: Vec<(Point, Point)>,
    /// What is copied: held from here on, because a flush on the way would let the cache have it back.
    slices: Vec<Slice>,
    way: Way,
}

/// How a member's bytes become durable.
enum Way {
    /// Through the journal.
    Copied,
    /// Straight to the segment, held for the group's time; an entry says so.
    InSegment(TurnGuard),
    /// As `InSegment`, and the file is cut to its exact length; no entry.
    Exact(TurnGuard),
}

impl Member {
    fn bytes(&self) -> usize {
        unsettled_bytes(&self.ranges)
    }

    fn end(&self) -> Point {
        self.ranges.last().expect("a member has a range").1
    }
}

/// Commits until the engine has ended and nobody waits, or the log directory is lost.
pub(crate) async fn run(core: Rc<Core>) {
    loop {
        let journal = &core.journal;
        let idle = journal.waiting.borrow().is_empty()
            && journal.cuts.borrow().is_empty()
            && !journal.wants_barrier.get();
        if core.is_offline() || (idle && core.is_ended()) {
            journal.clear();
            journal.is_over.set(true);
            journal.done.raise();
            return;
        }
        if idle {
            journal.work.wait().await;
            continue;
        }
        core.journal.is_committing.set(true);
        if let Err(error) = commit(&core).await {
            core.take_offline(&error);
        }
        core.journal.is_committing.set(false);
        core.journal.done.raise();
    }
}

/// One group, from taking its members to answering them.
async fn commit(core: &Rc<Core>) -> Result<(), StorageError> {
    if !core.journal.cuts.borrow().is_empty() {
        return say_cuts(core).await;
    }
    if core.journal.wants_barrier.take() && core.journal.newest.get().1 {
        return write_barrier(core).await;
    }
    flush_relaxed_past(core).await;
    let members = take_members(core).await;
    if members.is_empty() {
        return Ok(());
    }
    let entries = entries_of(&members);
    let copied: usize = entries.iter().map(Entry::copied_bytes).sum();
    let length = group_bytes(entries.len(), copied);
    let is_journaled = !entries.is_empty();
    let position = core.journal.ring.borrow().place(length, true);
    if is_journaled && position.is_none() {
        put_back(core, members);
        return make_room(core).await;
    }

    let write_segments = join_all(members.iter().map(|member| write_member(core, member)));
    let (failed, journal) = match position.filter(|_| is_journaled) {
        None => (write_segments.await, Ok(None)),
        Some(position) => {
            let write_journal = write_group(core, &members, &entries, position, length);
            let (failed, journal) = futures_util::future::join(write_segments, write_journal).await;
            (failed, journal.map(Some))
        }
    };
    let tail_sequence = journal?;
    for (member, failed) in members.iter().zip(&failed) {
        if failed.is_none() && !matches!(member.way, Way::Copied) {
            flush_member(core, member).await?;
        }
    }
    if let Some(tail_sequence) = tail_sequence {
        core.sync_for_commit(&core.journal.file).await?;
        committed(core, &members, &entries, tail_sequence);
    }
    if let Some(error) = failed.iter().flatten().next() {
        let lost = members.iter().zip(&failed).filter(|(_, failed)| failed.is_some());
        let lost: Vec<&Member> = lost.map(|(member, _)| member).collect();
        // Recovery checks what the newest group says of segments, and would drop all of it for the one that
        // failed. Behind another group it is not asked.
        write_revocation(core, &lost, error).await?;
    }
    count(&core.counters.commit_groups, 1);
    for (member, failed) in members.into_iter().zip(failed) {
        match failed {
            None => settle(&member.partition, member.end()),
            Some(error) => {
                tracing::error!(partition = member.partition.name(), %error, "the partition is offline");
                member.partition.poison();
            }
        }
    }
    Ok(())
}

/// They come first in the next group.
fn put_back(core: &Rc<Core>, members: Vec<Member>) {
    for member in members.into_iter().rev() {
        if !member.partition.inner().wants_commit.replace(true) {
            core.journal.waiting.borrow_mut().push_front(member.partition);
        }
    }
}

/// A group that holds all of its bytes: it has none. Others' members would not do, for as long as bulk is written they go
/// to segments; and whoever waits for it holds files that write-behind may need to make room in the ring.
async fn write_barrier(core: &Rc<Core>) -> Result<(), StorageError> {
    if core.journal.ring.borrow().place(group_bytes(0, 0), true).is_some() {
        return write_empty_group(core).await;
    }
    core.journal.wants_barrier.set(true);
    make_room(core).await
}

/// Completes when the ring may have room: moves its tail, or waits for write-behind.
async fn make_room(core: &Rc<Core>) -> Result<(), StorageError> {
    if core.journal.ring.borrow().can_move_tail() {
        return write_empty_group(core).await;
    }
    core.journal.waits_for_room.set(true);
    // No group is under way now.
    core.journal.done.raise();
    core.write_behind.press();
    core.journal.room.wait().await;
    core.journal.waits_for_room.set(false);
    Ok(())
}

/// A group that says of logs which could not be written that they end where the group before began: it was never
/// acknowledged for them, and what is missing is no damage.
async fn write_revocation(
    core: &Rc<Core>,
    lost: &[&Member],
    error: &StorageError,
) -> Result<(), StorageError> {
    let is_journaled = |member: &&&Member| !matches!(member.way, Way::Exact(_));
    let ends: Vec<(&Partition, Point)> =
        lost.iter().filter(is_journaled).map(|member| (&member.partition, member.ranges[0].0)).collect();
    if write_ends(core, &ends).await? { Ok(()) } else { Err(error.clone()) }
}

/// A group that says where logs end that were cut.
async fn say_cuts(core: &Rc<Core>) -> Result<(), StorageError> {
    let mut cuts = core.journal.cuts.take();
    let later = cuts.split_off(cuts.len().min(GROUP_ENTRIES_MAX));
    core.journal.cuts.replace(later);
    let ends: Vec<(&Partition, Point)> = cuts.iter().map(|cut| (&cut.partition, cut.end)).collect();
    if !write_ends(core, &ends).await? {
        core.journal.cuts.borrow_mut().splice(..0, cuts);
        return make_room(core).await;
    }
    for cut in cuts {
        cut.is_said.set(true);
    }
    // Until the next checkpoint the ring may not pass the group.
    core.write_behind.checkpoint_is_stale.set(true);
    core.write_behind.wake();
    Ok(())
}

/// Writes a group that says of logs where they end; not if the ring has no room for it.
async fn write_ends(core: &Rc<Core>, ends: &[(&Partition, Point)]) -> Result<bool, StorageError> {
    let entries: Vec<Entry> = ends
        .iter()
        .map(|(partition, end)| Entry {
            partition: partition.id(),
            leader_epoch: partition.leader_epoch(),
            base_offset: end.offset,
            end_offset: end.offset,
            segment_base: end.segment,
            position: end.position,
            length: 0,
            bytes: EntryBytes::Copied,
        })
        .collect();
    let length = group_bytes(entries.len(), 0);
    let Some(position) = core.journal.ring.borrow().place(length, true) else { return Ok(false) };
    let tail_sequence = write_group(core, &[], &entries, position, length).await?;
    core.sync_for_commit(&core.journal.file).await?;
    committed(core, &[], &entries, tail_sequence);
    let sequence = core.journal.newest.get().0;
    for (partition, end) in ends {
        partition.inner().log.borrow_mut().journaled.push_back(JournalEntry { sequence, end: *end });
    }
    Ok(true)
}

/// A group without entries: it says where the tail is, and that the group before it is done.
async fn write_empty_group(core: &Rc<Core>) -> Result<(), StorageError> {
    let length = group_bytes(0, 0);
    let position = core.journal.ring.borrow().place(length, false).expect("a block is kept in reserve");
    let tail_sequence = write_group(core, &[], &[], position, length).await?;
    core.sync_for_commit(&core.journal.file).await?;
    committed(core, &[], &[], tail_sequence);
    Ok(())
}

/// Partitions that were of a relaxed class have bytes below `settled` that no journal holds. Before anything
/// above them is acknowledged as durable, they are flushed.
async fn flush_relaxed_past(core: &Rc<Core>) {
    let relaxed: Vec<Partition> = {
        let waiting = core.journal.waiting.borrow();
        let past = |partition: &&Partition| {
            let log = partition.inner().log.borrow();
            log.relaxed_end.is_some() && !log.is_settled()
        };
        waiting.iter().filter(past).cloned().collect()
    };
    for partition in relaxed {
        // Whoever holds its files may wait for this group.
        if let Some(turn) = partition.inner().io.try_take() {
            write_behind::flush(core, &partition, &turn).await;
        }
    }
}

/// Takes those who wait, in order, as long as they fit a group.
async fn take_members(core: &Rc<Core>) -> Vec<Member> {
    let mut members = Vec::new();
    let (mut copied, mut entries) = (0, 0);
    let copied_max = core.journal.group_bytes_max();
    let mut left = core.journal.waiting.borrow().len().min(GROUP_PARTITIONS_MAX);
    while left > 0 && (copied < copied_max || members.is_empty()) {
        left -= 1;
        let Some(partition) = core.journal.waiting.borrow_mut().pop_front() else { break };
        partition.inner().wants_commit.set(false);
        let Some(member) = member_of(core, partition).await else { continue };
        let bytes = member.bytes();
        let is_too_much = matches!(member.way, Way::Copied) && copied > 0 && copied + bytes > copied_max;
        entries += member.ranges.len();
        if is_too_much || entries > GROUP_ENTRIES_MAX {
            put_back(core, vec![member]);
            break;
        }
        if matches!(member.way, Way::Copied) {
            copied += bytes;
        }
        members.push(member);
    }
    members
}

/// What the partition has to commit now, and how; `None` if there is nothing, or it has to come again later.
async fn member_of(core: &Rc<Core>, partition: Partition) -> Option<Member> {
    let is_exact = partition.inner().is_exact;
    let wants_segment = {
        let log = partition.inner().log.borrow();
        let online = matches!(log.status, Status::Online | Status::Full);
        if !online || log.is_settled() {
            return None;
        }
        if log.relaxed_end.is_some() {
            if log.status == Status::Online {
                core.journal.retry_later(&partition, core);
            }
            return None;
        }
        let bytes = unsettled_bytes(&log.unsettled());
        is_exact || bytes >= core.config.bulk_bytes_min
    };
    let turn = if wants_segment { partition.inner().io.try_take() } else { None };
    let mut way = Way::Copied;
    if let Some(turn) = turn {
        let end = partition.inner().log.borrow().end();
        match write_behind::prepare(core, &partition, end, &turn).await {
            Ok(()) if is_exact => way = Way::Exact(turn),
            Ok(()) => way = Way::InSegment(turn),
            // On a full disk the journal still has its room.
            Err(error) => write_behind::write_failed(core, &partition, &error),
        }
    }
    let log = partition.inner().log.borrow();
    let mut ranges = log.unsettled();
    if let Way::InSegment(_) | Way::Exact(_) = way {
        // What came while the file was prepared may not fit what was prepared.
        let prepared = log.prepared_end();
        ranges.retain(|(_, to)| *to <= prepared);
    }
    if ranges.is_empty() || !matches!(log.status, Status::Online | Status::Full) {
        return None;
    }
    if ranges.len() > GROUP_ENTRIES_MAX {
        ranges.truncate(GROUP_ENTRIES_MAX);
        core.journal.enqueue(&partition);
    }
    if !matches!(way, Way::Copied) {
        drop(log);
        return Some(Member { partition, ranges, slices: Vec::new(), way });
    }
    let copied_bytes_max = core.journal.copied_bytes_max();
    if unsettled_bytes(&ranges) > copied_bytes_max || is_exact {
        if log.status != Status::Full {
            // Its files are busy: it comes when they are free.
            drop(log);
            core.journal.retry_later(&partition, core);
            return None;
        }
        // On a full disk nothing else can be done for who waits: bit by bit. An exact one waits for space.
        ranges = if is_exact { Vec::new() } else { first_batches(&log, &ranges, copied_bytes_max) };
        if ranges.is_empty() {
            return None;
        }
        core.journal.enqueue(&partition);
    }
    let slices = cached_slices(&log, &ranges);
    drop(log);
    Some(Member { partition, ranges, slices, way })
}

/// Whole batches from the start of what is not settled, of at most `bytes_max` and not many of them.
fn first_batches(log: &Log, ranges: &[(Point, Point)], bytes_max: usize) -> Vec<(Point, Point)> {
    let (mut bytes_left, mut batches_left) = (bytes_max as u64, PIECE_BATCHES_MAX);
    let mut first = Vec::new();
    for (from, to) in ranges {
        let segment = log.segment(from.segment).expect("what is not settled is in a segment");
        let mut end = *from;
        while end.position < to.position && batches_left > 0 {
            let header = segment.cached_header(end.position.0);
            let Some(left) = bytes_left.checked_sub(header.batch_bytes() as u64) else { break };
            (bytes_left, batches_left) = (left, batches_left - 1);
            end.position.0 += header.batch_bytes() as u64;
            end.offset = Offset(header.last_offset().0 + 1);
        }
        if from.position < end.position {
            first.push((*from, end));
        }
        if end.position < to.position {
            break;
        }
    }
    first
}

fn cached_slices(log: &Log, ranges: &[(Point, Point)]) -> Vec<Slice> {
    let mut slices = Vec::with_capacity(1);
    for (from, to) in ranges {
        let segment = log.segment(from.segment).expect("what is not settled is in a segment");
        slices.extend(segment.cached(from.position.0, to.position.0));
    }
    slices
}

fn unsettled_bytes(ranges: &[(Point, Point)]) -> usize {
    ranges.iter().map(|(from, to)| (to.position.0 - from.position.0) as usize).sum()
}

fn entries_of(members: &[Member]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(members.len());
    for member in members {
        let log = member.partition.inner().log.borrow();
        for (from, to) in &member.ranges {
            let bytes = match &member.way {
                Way::Exact(_) => continue,
                Way::Copied => EntryBytes::Copied,
                Way::InSegment(_) => {
                    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
                    for slice in cached_slices(&log, &[(*from, *to)]) {
                        crc.update(&slice);
                    }
                    EntryBytes::InSegment { crc: crc.finalize() as u32 }
                }
            };
            entries.push(Entry {
                partition: member.partition.id(),
                leader_epoch: log.leader_epoch,
                base_offset: from.offset,
                end_offset: to.offset,
                segment_base: from.segment,
                position: from.position,
                length: (to.position.0 - from.position.0) as u32,
                bytes,
            });
        }
    }
    entries
}

/// Puts a group together and writes it. Returns the tail that it says.
async fn write_group(
    core: &Rc<Core>,
    members: &[Member],
    entries: &[Entry],
    position: u64,
    length: usize,
) -> Result<u64, StorageError> {
    let journal = &core.journal;
    let (sequence, previous_crc) = journal.ring.borrow().next();
    let (tail_sequence, capacity) = (journal.ring.borrow().tail_sequence(), journal.ring.borrow().capacity());
    let header = GroupHeader { journal: journal.id, sequence, tail_sequence, previous_crc, capacity };
    assert!(length <= GROUP_BYTES_MAX, "a group of {length} bytes");
    let mut scratch = journal
        .scratch
        .take()
        .filter(|region| region.capacity() >= length)
        .unwrap_or_else(|| Region::on_heap(length.max(64 << 10)));
    let mut crc = 0;
    let slice = scratch.append_with(length, |out| {
        let mut at = GROUP_HEADER_BYTES + entries.len() * ENTRY_BYTES;
        for slice in members.iter().flat_map(|member| &member.slices) {
            out[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        crc = encode_group(&header, entries, out);
    });
    journal.ring.borrow_mut().push(position, length, crc);
    if !entries.is_empty() {
        // From now on, not only from when it is durable: a checkpoint meanwhile must not let the ring pass it.
        journal.needed.borrow_mut().insert(sequence, entries.len());
    }
    let (result, source) = journal.file.write(WriteSource::Slice(slice), position).await;
    drop(source);
    count(&core.counters.journal_bytes_written, length as u64);
    if scratch.try_clear() && scratch.capacity() <= 2 * SHARED_BYTES_MAX {
        journal.scratch.replace(Some(scratch));
    }
    result.map(|()| tail_sequence)
}

async fn write_member(core: &Rc<Core>, member: &Member) -> Option<StorageError> {
    match &member.way {
        Way::Copied => None,
        Way::InSegment(turn) | Way::Exact(turn) => {
            write_behind::write_out(core, &member.partition, Extent::UpTo(member.end()), turn).await.err()
        }
    }
}

async fn flush_member(core: &Rc<Core>, member: &Member) -> Result<(), StorageError> {
    let end = member.end();
    let file = {
        let log = member.partition.inner().log.borrow();
        log.segment(end.segment).and_then(|segment| segment.file.clone()).expect("it was written to")
    };
    if matches!(member.way, Way::Exact(_)) {
        write_behind::cut_exact(core, &member.partition, &file, end).await?;
    }
    core.sync_for_commit(&file).await?;
    write_behind::flushed(core, &member.partition, end);
    Ok(())
}

/// A group is durable.
fn committed(core: &Rc<Core>, members: &[Member], entries: &[Entry], tail_sequence: u64) {
    let journal = &core.journal;
    let sequence = journal.ring.borrow().next().0 - 1;
    journal.ring.borrow_mut().committed(tail_sequence);
    let in_segments = entries.iter().any(|entry| matches!(entry.bytes, EntryBytes::InSegment { .. }));
    journal.newest.set((sequence, in_segments));
    for member in members.iter().filter(|member| !matches!(member.way, Way::Exact(_))) {
        let mut log = member.partition.inner().log.borrow_mut();
        for (_, to) in &member.ranges {
            log.journaled.push_back(JournalEntry { sequence, end: *to });
        }
    }
    if core.journal.is_pressed() {
        core.write_behind.press();
    }
}

/// Everything of the partition below `point` is durable: who waited for that is told.
pub(crate) fn settle(partition: &Partition, point: Point) {
    let (done, raised): (Vec<(Appended, Rc<AppendSlot>)>, bool) = {
        let mut log = partition.inner().log.borrow_mut();
        if !matches!(log.status, Status::Online | Status::Full) {
            return;
        }
        log.settle(point);
        if !partition.inner().is_exact {
            log.settle_relaxed();
        }
        let settled = log.settled;
        let raised = log.raise_high_watermark(settled);
        (log.waiters_done().map(|waiter| (waiter.appended, waiter.slot)).collect(), raised)
    };
    for (appended, slot) in done {
        slot.complete(Ok(appended));
    }
    if raised {
        partition.tell_watchers();
    }
}

impl super::Journal {
    /// A group with more than this would have to wait for too much of the ring at once.
    fn group_bytes_max(&self) -> usize {
        SHARED_BYTES_MAX.min((self.ring.borrow().capacity() / 4) as usize)
    }

    /// More than this of one partition is not copied: it waits until its segment can be written.
    pub(crate) fn copied_bytes_max(&self) -> usize {
        GROUP_COPIED_BYTES_MAX.min((self.ring.borrow().capacity() / 8) as usize)
    }

    /// The partition cannot be part of a group now: it is put back once its files are free.
    fn retry_later(&self, partition: &Partition, core: &Rc<Core>) {
        let partition = partition.clone();
        let core_of_task = core.clone();
        core.runtime.spawn(Box::pin(async move {
            drop(partition.inner().io.take().await);
            core_of_task.journal.enqueue(&partition);
        }));
    }
}
