//! Opening one partition: its folder, what lies behind its recovery point, and the cut of its torn end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use uuid::Uuid;

use super::blocks::{read_range, write_again};
use super::held::HeldLog;
use super::scan::{CHUNK_BYTES, ScanState, Stop, batch_bytes, check_batch, scan};
use super::small_files::SmallFiles;
use super::survey::visit;
use super::{Recovered, RecoveredJournal, RecoveryError, Vouched};
use crate::checkpoint::PartitionCheckpoint;
use crate::checkpoints::{decode_epochs, encode_partition_metadata};
use crate::core::Core;
use crate::engine::OpenPartition;
use crate::epochs::LeaderEpochs;
use crate::layout::{
    FolderState, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, PartitionFolder, SegmentFile, SegmentFileKind,
    SegmentFileState, retired_folder,
};
use crate::partition::{Log, Partition, Point};
use crate::producers::Producers;
use crate::segment::{BLOCK_BYTES, Lookup, Segment, Written, align_down};
use crate::storage::{DataFile, DirectoryEntry, OpenMode, StorageError, StorageErrorKind};
use crate::{Offset, Position, Timestamp};

/// The live files of a partition's folder.
struct Listing {
    /// Base offset and length of every `.log`, by offset.
    logs: Vec<(Offset, u64)>,
    /// When each of them was last written, where that was before this start.
    written: BTreeMap<Offset, Timestamp>,
    /// Offsets of the snapshots, rising.
    snapshots: Vec<Offset>,
    /// Base offsets of the index files.
    indexes: BTreeSet<Offset>,
}

impl Listing {
    fn of(entries: &[DirectoryEntry]) -> Self {
        let mut listing = Self {
            logs: Vec::new(),
            written: BTreeMap::new(),
            snapshots: Vec::new(),
            indexes: BTreeSet::new(),
        };
        for entry in entries {
            let live = SegmentFile::parse(&entry.name).filter(|file| file.state == SegmentFileState::Live);
            let Some(file) = live else { continue };
            match file.kind {
                SegmentFileKind::Log => {
                    listing.logs.push((file.offset, entry.length));
                    let written = entry.modified_ms.map(|modified_ms| (file.offset, Timestamp(modified_ms)));
                    listing.written.extend(written);
                }
                SegmentFileKind::ProducerSnapshot => listing.snapshots.push(file.offset),
                SegmentFileKind::OffsetIndex
                | SegmentFileKind::TimeIndex
                | SegmentFileKind::TransactionIndex => {
                    listing.indexes.insert(file.offset);
                }
            }
        }
        listing.logs.sort_unstable();
        listing.snapshots.sort_unstable();
        listing
    }
}

/// Where the scan starts, and what is known there.
struct Start {
    point: Point,
    /// A clean stop said that everything below is durable, and that the log reaches this: what does not count there is
    /// damage, not a torn end.
    durable_below: Offset,
    /// Nothing below was torn by a crash, and so nothing of it is cut; but the log may end before this. The segment that
    /// it is in, and its offset.
    sound_below: Point,
    /// Only Kafka's files tell of it, whose logs may have gaps between any two segments.
    is_foreign: bool,
    /// What a log that is found damaged keeps, as later starts are told.
    kept: Point,
    epochs: LeaderEpochs,
    producers: Producers,
    /// The producers are as of here: batches below are in them.
    producers_at: Offset,
    log_start: Offset,
    lookup: Option<Lookup>,
    /// The point's segment, if it was looked into.
    opened: Option<OpenedSegment>,
}

/// A segment whose end was read to find where the scan starts.
struct OpenedSegment {
    file: Rc<dyn DataFile>,
    /// What was read of it.
    held: HeldLog,
}

/// What the journals tell of a log.
struct FromJournals<'a> {
    /// How far it had been durable.
    proven: Point,
    /// What was flushed or folded, unless everything was.
    vouched: Option<&'a [Vouched]>,
    /// What folding has in memory.
    held: HeldLog,
}

/// Renames a folder that is of another partition of this name: nothing of it may come back to life in this one, and
/// nothing that nobody knows is ever removed.
async fn set_aside(core: &Rc<Core>, name: &str) -> Result<(), StorageError> {
    let Some(folder) = PartitionFolder::parse(name) else { return Ok(()) };
    let unique = Uuid::from_u64_pair(core.runtime.random(), core.runtime.random());
    let stray = retired_folder(&folder.topic, folder.partition, unique, FolderState::Stray);
    tracing::warn!(folder = name, stray, "the folder is of another partition; it is set aside");
    core.directory.rename(Path::new(name), Path::new(&stray)).await?;
    core.sync_folders().await
}

/// Makes a partition's folder, durably, and its empty log.
pub(crate) async fn create_partition(
    core: &Rc<Core>,
    open: OpenPartition,
) -> Result<Partition, StorageError> {
    let folder = Path::new(&open.name);
    let is_new = match core.directory.list(folder).await {
        Ok(held) if held.iter().any(|entry| SegmentFile::parse(&entry.name).is_some()) => {
            set_aside(core, &open.name).await?;
            true
        }
        Ok(_) => false,
        Err(error) if error.kind == StorageErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    if let Err(error) = make_folder(core, folder, open.id.topic).await {
        // Half a folder is in nobody's way only if it is gone.
        if is_new && let Err(stays) = core.directory.remove_directory(folder).await {
            tracing::warn!(error = %stays, "a folder that could not be made stays");
        }
        return Err(error);
    }
    let log = Log::new(
        [Segment::new(Offset(0))],
        Offset(0),
        open.leader_epoch,
        LeaderEpochs::default(),
        Producers::default(),
        open.config,
    );
    Ok(Partition::new(core.clone(), open.id, open.name, open.exact, log))
}

async fn make_folder(core: &Rc<Core>, folder: &Path, topic: Uuid) -> Result<(), StorageError> {
    core.directory.create_directory(folder).await?;
    let metadata = encode_partition_metadata(topic);
    core.directory.replace_later(&folder.join(PARTITION_METADATA), metadata.into_bytes()).await?;
    core.sync_all().await
}

/// Opens a partition that may be there; creates it if it is not.
pub(crate) async fn open_partition(
    core: &Rc<Core>,
    open: OpenPartition,
    recovered: &RecoveredJournal,
) -> Result<Partition, RecoveryError> {
    let folder = PathBuf::from(&open.name);
    let surveyed = match recovered.inner.survey.folders.get(&open.name) {
        Some(surveyed) => Some(surveyed.clone()),
        None => visit(&*core.directory, &folder, open.id.partition).await?,
    };
    let Some(surveyed) = surveyed else { return Ok(create_partition(core, open).await?) };
    let said = surveyed.topic();
    if said.is_some_and(|topic| topic != open.id.topic) {
        set_aside(core, &open.name).await?;
        return Ok(create_partition(core, open).await?);
    }
    if said.is_none() {
        let metadata = encode_partition_metadata(open.id.topic);
        core.directory.replace(&folder.join(PARTITION_METADATA), metadata.into_bytes()).await?;
    }
    let listing = Listing::of(&super::swap::settle(core, &folder, surveyed.entries).await?);
    let recovered = &*recovered.inner;
    let start = find_start(core, &folder, &listing, &open, recovered).await?;
    let proven = proven_end(&listing, &open, recovered, start.point);
    let known = PartitionCheckpoint {
        id: open.id,
        log_start: start.log_start,
        recovery: start.point,
        proven: proven.max(start.kept),
        void_through: 0,
        epochs: start.epochs.clone(),
        producers: start.producers.clone(),
    };
    // After a clean stop everything was flushed.
    let vouched = recovered.vouched.get(&open.id).map_or(&[][..], Vec::as_slice);
    let vouched = (!recovered.clean).then_some(vouched);
    let journals = FromJournals { proven, vouched, held: recovered.held.take(open.id) };
    match open_log(core, &folder, &listing, &open, start, journals).await {
        Ok(log) => {
            let partition = Partition::new(core.clone(), open.id, open.name, open.exact, log);
            note_sealed(&partition);
            Ok(partition)
        }
        Err(error) => {
            if let RecoveryError::Damaged { .. } = error {
                core.damaged.borrow_mut().insert(open.id, known);
            }
            Err(error)
        }
    }
}

/// What the scan left open of segments that take no more is as if readers had come.
fn note_sealed(partition: &Partition) {
    let scanned: Vec<Offset> = {
        let log = partition.inner().log.borrow();
        let is_open = |segment: &&Segment| segment.is_sealed && segment.file.is_some();
        log.segments.iter().filter(is_open).map(|segment| segment.base).collect()
    };
    for base in scanned {
        partition.core().note_opened(partition, base);
        partition.core().note_lookup(partition, base);
    }
}

/// How far the log had been durable: the least that a sound one holds.
fn proven_end(listing: &Listing, open: &OpenPartition, recovered: &Recovered, start: Point) -> Point {
    if recovered.clean {
        // Everything was, when it was stopped.
        return listing.logs.last().map_or(start, |(base, length)| {
            start.max(Point { segment: *base, position: Position(*length), offset: *base })
        });
    }
    let said = recovered.checkpoints.get(&open.id).map(|said| said.proven);
    let durable = recovered.durable.get(&open.id).copied();
    [said, durable].into_iter().flatten().fold(start, Point::max)
}

/// The newest point from which on everything is read, and the state there.
async fn find_start(
    core: &Rc<Core>,
    folder: &Path,
    listing: &Listing,
    open: &OpenPartition,
    recovered: &Recovered,
) -> Result<Start, RecoveryError> {
    let first = listing.logs.first().map_or(Offset(0), |(base, _)| *base);
    let segment_of = |offset: Offset| {
        let index = listing.logs.partition_point(|(base, _)| *base <= offset);
        index.checked_sub(1).map_or(first, |index| listing.logs[index].0)
    };
    if !recovered.clean
        && let Some(said) = recovered.checkpoints.get(&open.id)
    {
        let mut epochs = said.epochs.clone();
        epochs.truncate_from_end(said.recovery.offset);
        let mut producers = said.producers.clone();
        producers.truncate_to(said.recovery.offset);
        return Ok(Start {
            point: said.recovery,
            durable_below: said.recovery.offset,
            sound_below: said.recovery.max(said.proven),
            is_foreign: false,
            kept: said.proven,
            epochs,
            producers,
            producers_at: said.recovery.offset,
            log_start: said.log_start.max(first),
            lookup: None,
            opened: None,
        });
    }
    // A partition that Kafka's checkpoints speak of has a log; without one, they speak of an earlier partition of
    // this name.
    let has_log = !listing.logs.is_empty();
    let said_start = recovered.log_starts.get(&open.name).copied().filter(|_| has_log);
    let said_point = recovered.recovery_points.get(&open.name).copied().filter(|_| has_log);
    let log_start = said_start.unwrap_or(first).max(first);
    let last = listing.logs.last().map_or(first, |(base, _)| *base);
    // After a clean stop all is durable, and only the end of the last segment is looked at: unless the recovery point
    // is not the log's end, which says that the log is damaged somewhere behind it.
    let point = said_point.unwrap_or(first);
    let is_sound = recovered.clean && said_point.is_none_or(|point| point >= last);
    let begin = if is_sound { last } else { segment_of(point.max(first)).min(last) };
    // A snapshot behind the log's end is of a log that was cut since.
    let may_count =
        |snapshot: &&Offset| **snapshot <= point.max(begin) || (said_point.is_none() && recovered.clean);
    let snapshots: Vec<Offset> = listing.snapshots.iter().rev().filter(may_count).copied().collect();
    let mut wanted = vec![LEADER_EPOCH_CHECKPOINT.to_owned()];
    wanted.extend(snapshots.first().map(|newest| name_of(*newest, SegmentFileKind::ProducerSnapshot)));
    if is_sound {
        wanted.extend(LOOKUP_KINDS.map(|kind| name_of(last, kind)));
    }
    let mut files = SmallFiles::read(&core.directory, folder, wanted).await?;
    let epochs = files.take(LEADER_EPOCH_CHECKPOINT).await?;
    let mut epochs =
        epochs.map_or_else(LeaderEpochs::default, |bytes| decode_epochs(&bytes).unwrap_or_default());
    let mut producers = Producers::default();
    let mut known_at = first;
    for snapshot in snapshots {
        let bytes =
            files.take(&name_of(snapshot, SegmentFileKind::ProducerSnapshot)).await?.unwrap_or_default();
        if let Ok(read) = Producers::from_snapshot(&bytes) {
            producers = read;
            known_at = snapshot;
            break;
        }
    }
    let (mut lookup, mut opened) = (None, None);
    let mut start = Point { segment: begin, position: Position(0), offset: begin };
    if recovered.clean {
        if is_sound && let Some((length, found)) = read_lookup(&mut files, listing).await? {
            let last = found.indexes.offsets.last();
            let is_known = |offset: Offset| said_point.is_none_or(|point| offset < point);
            if let Some(last) = last.filter(|last| last.position.0 < length && is_known(last.offset)) {
                // The entry is the last offset of the batch; its first is read from the batch itself. Where none is, the
                // index is wrong, and the whole segment says where it ends.
                let (offset, segment) = look_into(core, folder, begin, last.position, length).await?;
                opened = Some(segment);
                if let Some(offset) = offset.filter(|offset| begin <= *offset && *offset <= last.offset) {
                    start = Point { segment: begin, position: last.position, offset };
                    lookup = Some(found);
                }
            }
        } else if let (Some(point), Some((_, length))) = (said_point, listing.logs.last())
            && point > last
        {
            // A stop that came soon after a crash leaves no indexes that it would have had to read the whole log for.
            // Where the log ends is said.
            start = Point { segment: last, position: Position(*length), offset: point };
        }
    } else if known_at < begin {
        let segment = segment_of(known_at);
        start = Point { segment, position: Position(0), offset: segment };
        if segment > known_at || listing.snapshots.is_empty() {
            start = Point { segment: first, position: Position(0), offset: first };
            // Without a snapshot Kafka starts producers anew too; what is durable is not read for their sake.
            if listing.snapshots.is_empty() {
                start = Point { segment: begin, position: Position(0), offset: begin };
            }
        }
    }
    // The scan begins with the epoch of its first batch, and tells of those that follow.
    epochs.truncate_from_end(start.offset);
    let durable_below = said_point.filter(|_| recovered.clean).unwrap_or(start.offset);
    // Kafka reads nothing below its recovery point again, however it stopped, and takes a point behind the log's end for
    // that end (`LogLoader.recoverLog`): it died between cutting the log and saying so. What it cut ends with a batch.
    let sound_below = said_point.map_or(start, |point| {
        start.max(Point { segment: segment_of(point), position: Position(0), offset: point })
    });
    Ok(Start {
        point: start,
        durable_below,
        sound_below,
        is_foreign: true,
        kept: sound_below.max(Point { segment: last, position: Position(0), offset: last }),
        epochs,
        producers,
        producers_at: known_at,
        log_start,
        lookup,
        opened,
    })
}

/// What a lookup is read from.
const LOOKUP_KINDS: [SegmentFileKind; 2] = [SegmentFileKind::OffsetIndex, SegmentFileKind::TimeIndex];

fn name_of(base: Offset, kind: SegmentFileKind) -> String {
    SegmentFile::live(base, kind).name()
}

/// The lookup of the last segment, and the segment's length.
async fn read_lookup(
    files: &mut SmallFiles,
    listing: &Listing,
) -> Result<Option<(u64, Lookup)>, StorageError> {
    let Some((base, length)) = listing.logs.last().copied() else { return Ok(None) };
    let [offsets, times] = LOOKUP_KINDS.map(|kind| name_of(base, kind));
    let (offsets, times) = (files.take(&offsets).await?, files.take(&times).await?);
    let (Some(offsets), Some(times)) = (offsets, times) else { return Ok(None) };
    Ok(Lookup::from_files(base, &offsets, &times, length).map(|lookup| (length, lookup)))
}

/// Opens a segment of `length` bytes and reads what a scan from `position` on begins with; the offset of the batch that
/// begins there, if a sound one does.
async fn look_into(
    core: &Rc<Core>,
    folder: &Path,
    base: Offset,
    position: Position,
    length: u64,
) -> Result<(Option<Offset>, OpenedSegment), StorageError> {
    let file =
        core.directory.open(&folder.join(name_of(base, SegmentFileKind::Log)), OpenMode::Existing).await?;
    let block = align_down(position.0);
    let in_block = (position.0 - block) as usize;
    let left = usize::try_from(length - block).unwrap_or(usize::MAX);
    let mut bytes = read_range(&*file, block, left.min(CHUNK_BYTES)).await?;
    let end = in_block + bytes.get(in_block..).and_then(batch_bytes).unwrap_or(0);
    if bytes.len() < end && end <= left {
        bytes = read_range(&*file, block, end).await?;
    }
    let batch = bytes.get(in_block..end).and_then(|batch| check_batch(batch, base, None).ok());
    let held = HeldLog::of([(base, block, Bytes::from(bytes))].into_iter());
    Ok((batch.map(|batch| batch.base_offset), OpenedSegment { file, held }))
}

/// Scans from the start on, cuts what does not count, writes once more what is not `vouched` for, and builds the log.
async fn open_log(
    core: &Rc<Core>,
    folder: &Path,
    listing: &Listing,
    open: &OpenPartition,
    start: Start,
    journals: FromJournals<'_>,
) -> Result<Log, RecoveryError> {
    let FromJournals { proven, vouched, held } = journals;
    let Start { point, durable_below, sound_below, is_foreign, producers_at, log_start, .. } = start;
    let Start { mut epochs, mut producers, mut lookup, opened, .. } = start;
    // Where nothing was folded.
    let (mut opened, held) = opened.map_or((None, held), |OpenedSegment { file, held }| (Some(file), held));
    let path_of = |base: Offset| folder.join(SegmentFile::live(base, SegmentFileKind::Log).name());
    let damaged = |base: Offset, position: u64, reason: String| RecoveryError::Damaged {
        path: path_of(base).display().to_string(),
        position,
        reason,
    };
    let now = Timestamp(core.runtime.wall_ms());
    let written_at = |base: Offset, length: u64| {
        (length > 0).then(|| Written::once(listing.written.get(&base).copied().unwrap_or(now)))
    };
    let has_start = listing.logs.iter().any(|(base, _)| *base == point.segment);
    // All that had been durable lay below the log's start, and a start that was cut off has removed it, or some of it.
    let is_below_start =
        !has_start && point.offset < log_start && listing.logs.iter().all(|(base, _)| *base < log_start);
    // What is left of it goes with what else is no part of the log, once nothing was found damaged.
    let mut unneeded = Vec::new();
    let (point, logs) = if is_below_start {
        unneeded.extend(listing.logs.iter().map(|(base, _)| *base));
        (Point { segment: log_start, position: Position(0), offset: log_start }, &[][..])
    } else {
        (point, &listing.logs[..])
    };
    if !has_start && (point.position.0 > 0 || logs.last().is_some_and(|last| last.0 > point.segment)) {
        return Err(damaged(point.segment, point.position.0, "the segment is missing".to_owned()));
    }
    let mut segments = VecDeque::new();
    let mut logs = logs.iter().copied().peekable();
    // Below the start all is durable; how it ends is said by what follows.
    while let Some((base, length)) = logs.next_if(|(base, _)| *base < point.segment) {
        let next = logs.peek().map_or(point.segment, |(next, _)| *next);
        let mut segment = Segment::recovered(base, next, length, Vec::new());
        segment.is_sealed = true;
        segment.written_at = written_at(base, length);
        segments.push_back(segment);
    }
    let mut at = point;
    let mut has_ended = false;
    while let Some((base, length)) = logs.next() {
        if has_ended || base != at.segment {
            unneeded.push(base);
            continue;
        }
        if length < at.position.0 {
            return Err(damaged(base, length, format!("the file ends before its durable {}", at.position)));
        }
        let file = match opened.take_if(|_| base == point.segment) {
            Some(file) => file,
            None => core.directory.open(&path_of(base), OpenMode::Existing).await?,
        };
        let mut state = ScanState {
            epochs: &mut epochs,
            producers: &mut producers,
            producers_at,
            index_interval_bytes: open.config.index_interval_bytes,
        };
        let likely_end = if proven.segment == base { proven.position } else { at.position };
        let scanned = scan(&file, length, at, likely_end, &held, &mut state).await?;
        let end = scanned.end;
        if let Some(stop @ Stop::OldFormat(_)) = &scanned.stopped {
            return Err(damaged(base, end.position.0, stop.to_string()));
        }
        let goes_on = logs.peek().is_some_and(|(next, _)| {
            // Compaction leaves a segment to end before the next one. Here one begins where the one before ends: what
            // lies behind a gap was there before, and so is proven, or is what a cut left.
            let may_leave_gap = is_foreign || *next <= proven.segment;
            *next == end.offset || (*next > end.offset && scanned.stopped.is_none() && may_leave_gap)
        });
        if end.position.0 < length {
            let is_proven =
                (proven.segment, proven.position) > (base, end.position) || sound_below.offset > end.offset;
            if is_proven && !(goes_on && proven.segment.max(sound_below.offset) > base) {
                let reason = scanned.stopped.map_or_else(String::new, |stop| stop.to_string());
                return Err(damaged(base, end.position.0, reason));
            }
            if !goes_on {
                // Before what shows that they are behind a torn end goes.
                let behind = logs.by_ref().map(|(base, _)| base).collect();
                remove_segments(core, folder, behind).await?;
            }
            // What was reserved for the active segment and never written to may stay for what comes next, which asks for it
            // once more: it may be a hole. Anything else would come back to life behind that.
            let is_reserved = !goes_on
                && !open.exact
                && scanned.ends_in_zeros
                && !file.holds_data_from(end.position.0.next_multiple_of(BLOCK_BYTES)).await?;
            if !is_reserved {
                file.truncate(end.position.0).await?;
                core.was_cut.set(true);
            }
        }
        if let Some(vouched) = vouched {
            let here = vouched.iter().filter(|vouched| vouched.base == base);
            let sound = here.map(|vouched| vouched.positions.clone());
            if write_again(&*file, at.position.0, end.position.0, sound).await? {
                core.was_cut.set(true);
            }
        }
        let mut segment = Segment::recovered(base, end.offset, end.position.0, scanned.tail);
        segment.largest = scanned.largest;
        segment.first_timestamp = scanned.first_timestamp.filter(|_| at.position == Position(0));
        segment.written_at = written_at(base, end.position.0);
        segment.file = Some(file);
        segment.is_sealed = goes_on;
        if goes_on && listing.indexes.contains(&base) {
            // They may be of a clean stop while the segment still grew.
            for kind in [SegmentFileKind::OffsetIndex, SegmentFileKind::TimeIndex] {
                core.directory.remove_file(&folder.join(SegmentFile::live(base, kind).name())).await?;
            }
            core.directory.sync_directory(folder).await?;
        }
        segment.look_up_by(match lookup.take() {
            // What the files say below the scan, and what the scan saw.
            Some(mut files) => {
                files.continue_with(scanned.lookup);
                files
            }
            None => scanned.lookup,
        });
        if let Some(largest) = segment.lookup.as_ref().and_then(Lookup::largest) {
            segment.largest = (largest.timestamp, largest.offset);
        }
        segments.push_back(segment);
        if goes_on {
            let next = logs.peek().expect("it goes on").0;
            at = Point { segment: next, position: Position(0), offset: next };
        } else {
            at = end;
            has_ended = true;
        }
    }
    if (proven.segment, proven.position) > (at.segment, at.position) {
        let reason =
            format!("the log ends here; it was durable up to {} in {}", proven.position, proven.segment);
        return Err(damaged(at.segment, at.position.0, reason));
    }
    if durable_below > at.offset {
        let reason = format!("the log ends with offset {}; it was durable up to {durable_below}", at.offset);
        return Err(damaged(at.segment, at.position.0, reason));
    }
    remove_segments(core, folder, unneeded).await?;
    if segments.back().is_some_and(|last| last.next < log_start) {
        // Its start was moved behind what turned out to be durable: nothing that is left is asked for.
        let below = segments.drain(..).map(|segment| segment.base).collect();
        remove_segments(core, folder, below).await?;
    }
    if segments.back().is_none_or(|last| last.is_sealed) {
        segments.push_back(Segment::new(at.segment.max(log_start)));
    }
    let end = segments.back().expect("there is one").next;
    epochs.truncate_from_start(log_start);
    let mut log = Log::new(segments, log_start, open.leader_epoch, epochs, producers, open.config.clone());
    log.last_append = core.runtime.monotonic();
    log.producers.advance_high_watermark(end);
    Ok(log)
}

/// Removes segments that are no part of the log, durably, the newest first.
async fn remove_segments(core: &Rc<Core>, folder: &Path, bases: Vec<Offset>) -> Result<(), StorageError> {
    for base in bases.iter().rev() {
        tracing::warn!(?folder, base = base.0, "the segment is no part of the log any more; it is removed");
        remove_segment(core, folder, *base).await?;
    }
    if !bases.is_empty() {
        core.sync_directory(folder).await?;
    }
    Ok(())
}

/// Removes a segment's files.
async fn remove_segment(core: &Rc<Core>, folder: &Path, base: Offset) -> Result<(), StorageError> {
    for kind in [
        SegmentFileKind::Log,
        SegmentFileKind::OffsetIndex,
        SegmentFileKind::TimeIndex,
        SegmentFileKind::TransactionIndex,
        SegmentFileKind::ProducerSnapshot,
    ] {
        core.directory.remove_file(&folder.join(SegmentFile::live(base, kind).name())).await?;
    }
    Ok(())
}
