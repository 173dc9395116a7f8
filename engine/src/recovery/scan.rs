//! Reading a segment batch by batch: where it ends, and what its batches tell.
//!
//! A batch counts if bounds, magic and CRC hold, its offset is the expected one or, for compaction leaves gaps, lies
//! behind it, and its epoch does not go back. The first that does not count is the end. Whether the log is compacted now
//! does not matter: it may have been once, and so may have been the leader's that it was fetched from.

use std::fmt;
use std::rc::Rc;

use super::held::HeldLog;
use super::small_files::read_small;
use super::window::Window;
use crate::batch::{
    BatchHeader, BatchLimits, BatchSummary, HEADER_BYTES, LOG_OVERHEAD_BYTES, check_one_verbatim,
};
use crate::epochs::LeaderEpochs;
use crate::partition::{Partition, Point};
use crate::producers::{Producers, TransactionEnd};
use crate::read::ReadError;
use crate::segment::{BLOCK_BYTES, Lookup, align_down};
use crate::storage::{DataFile, StorageError};
use crate::{LeaderEpoch, Offset, Position, Timestamp};

/// The file is read in pieces of this many bytes; a larger batch enlarges it.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Where a message of magic 0 or 1 says so, as a batch of magic 2 does.
const OLD_MAGIC_AT: usize = 16;
/// A message of those formats is not longer than this, in bytes: what a request may be long, by default.
const OLD_MESSAGE_BYTES_MAX: usize = 100 << 20;
/// A piece up to the likely end at least: most logs have nothing behind it.
const LAST_CHUNK_BYTES: u64 = 8 << 10;

/// What a scan found.
pub(super) struct Scanned {
    /// Where the sound batches end.
    pub(super) end: Point,
    /// The largest timestamp among them, and the last offset of its batch.
    pub(super) largest: (Timestamp, Offset),
    pub(super) first_timestamp: Option<Timestamp>,
    pub(super) lookup: Lookup,
    /// The bytes from the start of the end's block to the end.
    pub(super) tail: Vec<u8>,
    /// Whether the rest of the end's block is zeros, as far as the file goes.
    pub(super) ends_in_zeros: bool,
    /// Why the batch at the end does not count; `None` at the end of the file.
    pub(super) stopped: Option<Stop>,
}

/// What stands where a scan ends before the file does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// No batch that counts.
    NoBatch(String),
    /// A whole, sound message of this magic, of the formats before magic 2.
    OldFormat(i8),
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBatch(reason) => formatter.write_str(reason),
            Self::OldFormat(magic) => write!(
                formatter,
                "records of the old format of magic {magic}, which is not served; nothing is changed: stop cleanly, \
                 start Apache Kafka here, and copy the records to a new topic"
            ),
        }
    }
}

/// What the batches are applied to, and what they must keep to.
pub(super) struct ScanState<'a> {
    pub(super) epochs: &'a mut LeaderEpochs,
    pub(super) producers: &'a mut Producers,
    /// Batches below are in `producers` already.
    pub(super) producers_at: Offset,
    pub(super) index_interval_bytes: u32,
}

/// Scans from `from` to the end of the sound batches in a file of `length` bytes, which is thought to be at
/// `likely_end`: as much is read at once, but for what is held.
pub(super) async fn scan(
    file: &Rc<dyn DataFile>,
    length: u64,
    from: Point,
    likely_end: Position,
    held: &HeldLog,
    state: &mut ScanState<'_>,
) -> Result<Scanned, StorageError> {
    let mut window = Window::new(file, length).holding(held, from.segment);
    let mut end = from;
    let mut lookup = Lookup::new(from.segment, from.position, from.offset);
    let mut largest = (Timestamp(-1), from.segment);
    let mut first_timestamp = None;
    let chunk_at = |position: u64| {
        if position > likely_end.0 {
            return CHUNK_BYTES;
        }
        // A block more shows that nothing follows.
        let likely = likely_end.0 - align_down(position) + BLOCK_BYTES;
        likely.clamp(LAST_CHUNK_BYTES, CHUNK_BYTES as u64) as usize
    };
    let stopped = loop {
        let position = end.position.0;
        if position >= length {
            break None;
        }
        let chunk = chunk_at(position);
        let Some(batch_bytes) = batch_bytes(window.at(position, HEADER_BYTES, chunk).await?) else {
            break Some("no header of a batch".to_owned());
        };
        if position + batch_bytes as u64 > length {
            break Some(format!("a batch of {batch_bytes} bytes passes the end of the file"));
        }
        let batch = window.at(position, batch_bytes, chunk).await?;
        let newest_epoch = state.epochs.latest();
        let summary = match check_batch(batch, end.offset, newest_epoch) {
            Ok(summary) => summary,
            Err(reason) => break Some(reason),
        };
        let transaction_end = if summary.control { TransactionEnd::of_batch(batch) } else { None };
        let header = BatchHeader::parse(batch).expect("it was checked");
        let (last_offset, timestamp) = (summary.last_offset(), header.max_timestamp());
        state.epochs.assign(summary.leader_epoch, summary.base_offset);
        if summary.base_offset >= state.producers_at {
            state.producers.note(&summary, summary.base_offset, timestamp, transaction_end);
        }
        lookup.indexes.note_batch(
            end.position,
            batch_bytes as u64,
            last_offset,
            timestamp,
            state.index_interval_bytes,
        );
        first_timestamp.get_or_insert(timestamp);
        if timestamp > largest.0 {
            largest = (timestamp, last_offset);
        }
        end.position = Position(position + batch_bytes as u64);
        end.offset = Offset(last_offset.0 + 1);
    };
    let stopped = match stopped {
        Some(reason) => Some(stop_at(&mut window, end.position.0, reason).await?),
        None => None,
    };
    let block = align_down(end.position.0);
    let in_block = (end.position.0 - block) as usize;
    let tail = if in_block == 0 { Vec::new() } else { window.at(block, in_block, 0).await?.to_vec() };
    let rest = (end.position.0.next_multiple_of(BLOCK_BYTES) - end.position.0) as usize;
    let ends_in_zeros = rest == 0 || window.at(end.position.0, rest, 0).await?.iter().all(|byte| *byte == 0);
    Ok(Scanned { end, largest, first_timestamp, lookup, tail, ends_in_zeros, stopped })
}

/// What stands at `position`, where a batch does not count for `reason`. Whatever length stands there, no more is read
/// than a message may have.
async fn stop_at(window: &mut Window<'_>, position: u64, reason: String) -> Result<Stop, StorageError> {
    let start = window.at(position, OLD_MAGIC_AT + 1, 0).await?;
    let length = start.get(8..12).and_then(|length| length.try_into().ok()).map_or(0, i32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(0) + LOG_OVERHEAD_BYTES;
    if !matches!(start.get(OLD_MAGIC_AT), Some(0 | 1)) || length > OLD_MESSAGE_BYTES_MAX {
        return Ok(Stop::NoBatch(reason));
    }
    let message = window.at(position, length, 0).await?;
    Ok(BatchHeader::sound_old_magic(message).map_or(Stop::NoBatch(reason), Stop::OldFormat))
}

/// The length that a header says, if it can be one.
pub(super) fn batch_bytes(header: &[u8]) -> Option<usize> {
    if header.len() < HEADER_BYTES {
        return None;
    }
    let length = i32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
    let bytes = usize::try_from(length).ok()? + LOG_OVERHEAD_BYTES;
    (bytes >= HEADER_BYTES).then_some(bytes)
}

/// A batch that counts, whose first offset is not below the one that is expected, nor its epoch below the newest one.
pub(super) fn check_batch(
    batch: &[u8],
    expected: Offset,
    newest_epoch: Option<LeaderEpoch>,
) -> Result<BatchSummary, String> {
    let limits = BatchLimits { max_message_bytes: u32::MAX };
    let summary = check_one_verbatim(batch, &limits).map_err(|error| error.to_string())?;
    if summary.base_offset < expected {
        return Err(format!("offset {} where {expected} was expected", summary.base_offset));
    }
    if newest_epoch.is_some_and(|newest| summary.leader_epoch < newest) {
        return Err(format!("epoch {} goes back", summary.leader_epoch));
    }
    Ok(summary)
}

/// The offset behind the last whole batch of a file of `length` bytes; `base` if there is none.
pub(crate) async fn next_offset(
    file: &Rc<dyn DataFile>,
    length: u64,
    base: Offset,
) -> Result<Offset, StorageError> {
    let mut window = Window::new(file, length);
    let (mut position, mut next) = (0, base);
    while position < length {
        let header = window.at(position, HEADER_BYTES, CHUNK_BYTES).await?;
        let Some(bytes) = batch_bytes(header).filter(|bytes| position + *bytes as u64 <= length) else {
            break;
        };
        let (first, last, _) = header_facts(header);
        if first < next || last < first {
            break;
        }
        next = Offset(last.0 + 1);
        position += bytes as u64;
    }
    Ok(next)
}

impl Partition {
    /// Loads the look-ups of a segment: its index files, or, if they are not sound, its batches.
    pub(crate) async fn load_lookup(&self, base: Offset) -> Result<(), ReadError> {
        rebuild_lookup(self, base).await
    }

    /// Takes the positions of a segment's look-up from its batches, in the place of an index file that was wrong.
    pub(crate) async fn prove_lookup(&self, base: Offset) -> Result<(), ReadError> {
        let (length, next, interval_bytes, cuts) = {
            let log = self.inner().log.borrow();
            let segment = log.segment(base).ok_or(ReadError::Offline)?;
            (segment.written, segment.next, log.config.index_interval_bytes, log.cuts)
        };
        tracing::warn!(
            partition = self.name(),
            segment = base.0,
            "the offset index is wrong: the log is read"
        );
        let walked = walk(self, base, length, next, interval_bytes).await?;
        let mut log = self.inner().log.borrow_mut();
        // After a cut whoever asked looks anew.
        if log.cuts == cuts
            && let Some(segment) = log.segment_mut(base)
        {
            match segment.lookup.as_mut() {
                Some(lookup) => lookup.prove(walked, Position(length)),
                None => segment.lookup = Some(walked),
            }
        }
        drop(log);
        self.core().note_lookup(self, base);
        Ok(())
    }
}

/// See [`Partition::load_lookup`].
pub(crate) async fn rebuild_lookup(partition: &Partition, base: Offset) -> Result<(), ReadError> {
    let (length, next, is_sealed, interval_bytes, cuts) = {
        let log = partition.inner().log.borrow();
        let segment = log.segment(base).ok_or(ReadError::Offline)?;
        if segment.lookup.as_ref().is_some_and(Lookup::is_complete) {
            return Ok(());
        }
        (segment.written, segment.next, segment.is_sealed, log.config.index_interval_bytes, log.cuts)
    };
    let loaded = if is_sealed { read_index_files(partition, base, length).await? } else { None };
    let lookup = match loaded {
        Some(lookup) => lookup,
        None => walk(partition, base, length, next, interval_bytes).await?,
    };
    let mut log = partition.inner().log.borrow_mut();
    if log.cuts != cuts {
        return Ok(());
    }
    let Some(segment) = log.segment_mut(base) else { return Ok(()) };
    let mut lookup = lookup;
    match segment.lookup.take() {
        Some(held) => lookup.continue_with(held),
        // It was sealed meanwhile, and its index files know the rest.
        None if length < segment.end => return Ok(()),
        None => {}
    }
    if let Some(largest) = lookup.largest()
        && largest.timestamp > segment.largest.0
    {
        segment.largest = (largest.timestamp, largest.offset);
    }
    segment.look_up_by(lookup);
    drop(log);
    partition.core().note_lookup(partition, base);
    Ok(())
}

async fn read_index_files(
    partition: &Partition,
    base: Offset,
    length: u64,
) -> Result<Option<Lookup>, ReadError> {
    use crate::layout::SegmentFileKind::{OffsetIndex, TimeIndex};
    let directory = &partition.core().directory;
    let offsets =
        read_small(&**directory, crate::partition::segment_path(partition, base, OffsetIndex)).await?;
    let times = read_small(&**directory, crate::partition::segment_path(partition, base, TimeIndex)).await?;
    let (Some(offsets), Some(times)) = (offsets, times) else { return Ok(None) };
    // Kafka's are never empty behind the first interval; ours neither.
    if offsets.is_empty() && length > 1 << 20 {
        return Ok(None);
    }
    Ok(Lookup::from_files(base, &offsets, &times, length))
}

/// From the headers of every batch below `length`.
async fn walk(
    partition: &Partition,
    base: Offset,
    length: u64,
    next: Offset,
    interval_bytes: u32,
) -> Result<Lookup, ReadError> {
    let file = partition.segment_file(base).await?;
    let mut window = Window::new(&file, length);
    let mut lookup = Lookup::new(base, Position(0), base);
    let mut position = 0;
    while position < length {
        let header_bytes = window.at(position, HEADER_BYTES, CHUNK_BYTES).await?;
        let Some(bytes) = batch_bytes(header_bytes) else { break };
        let (_, last, timestamp) = header_facts(header_bytes);
        if last >= next {
            break;
        }
        lookup.indexes.note_batch(Position(position), bytes as u64, last, timestamp, interval_bytes);
        position += bytes as u64;
    }
    Ok(lookup)
}

/// Base offset, last offset and largest timestamp of a header.
fn header_facts(bytes: &[u8]) -> (Offset, Offset, Timestamp) {
    let mut copy = [0; HEADER_BYTES];
    copy.copy_from_slice(&bytes[..HEADER_BYTES]);
    let header: BatchHeader = zerocopy::transmute!(copy);
    (header.base_offset(), header.last_offset(), header.max_timestamp())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::super::memory_file::MemoryFile;
    use super::*;
    use crate::batch::BatchBuilder;

    /// Batches of one record with the offsets from 0 on, and where each begins.
    fn batches(count: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut log, mut starts) = (Vec::new(), Vec::new());
        for offset in 0..count {
            let mut builder = BatchBuilder::new();
            builder.append(Timestamp(offset as i64), None, Some(&[offset as u8; 20_000]), &[]);
            let mut batch = builder.build().to_vec();
            batch[..8].copy_from_slice(&(offset as i64).to_be_bytes());
            batch[12..16].copy_from_slice(&0i32.to_be_bytes());
            starts.push(log.len());
            log.extend(batch);
        }
        (log, starts)
    }

    #[test]
    fn of_what_is_held_only_the_end_is_read() {
        let (log, starts) = batches(10);
        let end = log.len() as u64;
        let held = HeldLog::of(starts.iter().enumerate().map(|(number, start)| {
            let next = starts.get(number + 1).copied().unwrap_or(log.len());
            (Offset(0), *start as u64, Bytes::copy_from_slice(&log[*start..next]))
        }));
        // Room that was reserved behind it.
        let file_bytes = [&log[..], &vec![0; 1 << 20]].concat();
        for (held, read_bytes_max) in [(held, 8 << 10), (HeldLog::default(), end + (8 << 10))] {
            let memory = Rc::new(MemoryFile::new(file_bytes.clone()));
            let file: Rc<dyn DataFile> = memory.clone();
            let mut state = ScanState {
                epochs: &mut LeaderEpochs::default(),
                producers: &mut Producers::default(),
                producers_at: Offset(0),
                index_interval_bytes: 4096,
            };
            let from = Point { segment: Offset(0), position: Position(0), offset: Offset(0) };
            let length = file_bytes.len() as u64;
            let scanning = scan(&file, length, from, Position(end), &held, &mut state);
            let scanned = scanning.now_or_never().expect("nothing waits").expect("read");
            assert_eq!((scanned.end.position, scanned.end.offset), (Position(end), Offset(10)));
            assert_eq!(scanned.tail, log[align_down(end) as usize..]);
            let read = memory.read_bytes.get();
            assert!(read <= read_bytes_max, "{read} of {end}");
        }
    }
}
