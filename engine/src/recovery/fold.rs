//! Folding the journals into the segments.
//!
//! The newest whole group of a journal is the last that may have been acknowledged: one group was under way at a
//! time. Everything from its tail on must be whole; a gap is damage. Its own bytes that went straight to
//! segments are checked against their CRC: if they are not all there, the group was never acknowledged.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use flumen_ring::AlignedBuffer;
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use super::blocks::{read_range, write_run};
use super::held::HeldLog;
use super::live::{GroupBytes, LiveGroup, LiveGroups, read_live};
use super::survey::Survey;
use super::{Recovered, RecoveryError, Vouched};
use crate::checkpoint::{Checkpoint, PartitionCheckpoint};
use crate::journal::JOURNAL_FOLDER;
use crate::journal::format::{BLOCK_BYTES, Entry, EntryBytes, Group, JournalId, crc32c};
use crate::layout::{SegmentFile, SegmentFileKind};
use crate::partition::Point;
use crate::segment::align_down;
use crate::storage::{Directory, OpenMode, StorageError, StorageErrorKind};
use crate::{Offset, PartitionId};

/// So many partitions are folded at a time.
const FOLDS_MAX: usize = 64;
/// Entries are folded together until they have this many bytes.
const FOLD_BYTES: usize = 1 << 20;
/// So many such writes of a partition are read ahead of the one that is written.
const FOLDS_AHEAD: usize = 2;

/// What the journals hold of one partition: entries in order, each with its group and where its copied bytes are.
#[derive(Default)]
struct Pieces {
    entries: Vec<Piece>,
}

impl Pieces {
    /// The log ends at `end` from here on.
    fn cut_back(&mut self, end: Point) {
        let end_at = (end.segment, end.position);
        self.entries.retain(|piece| (piece.entry.segment_base, piece.entry.position) < end_at);
        for Piece { entry, copy, .. } in &mut self.entries {
            if entry.segment_base == end.segment && end.position < entry.end_position() {
                entry.length = (end.position.0 - entry.position.0) as u32;
                entry.end_offset = end.offset;
                if let Some(copy) = copy {
                    copy.used = entry.length as usize;
                }
            }
        }
    }

    /// What of them is in memory.
    fn held(&self) -> HeldLog {
        HeldLog::of(self.entries.iter().filter_map(|Piece { entry, copy, .. }| match copy {
            Some(Copied { from: CopiedFrom::Memory(bytes), used }) if *used > 0 => {
                Some((entry.segment_base, entry.position.0, bytes.slice(..*used)))
            }
            _ => None,
        }))
    }
}

struct Piece {
    entry: Entry,
    journal: JournalId,
    sequence: u64,
    copy: Option<Copied>,
}

/// The bytes of an entry.
#[derive(Debug, Clone)]
struct Copied {
    from: CopiedFrom,
    /// So many of them still count.
    used: usize,
}

#[derive(Debug, Clone)]
enum CopiedFrom {
    Memory(Bytes),
    /// The journal's file.
    File {
        position: u64,
        length: usize,
        crc: u32,
    },
}

/// What the checkpoints say of partitions, each with the journal that it goes with; the first that knows one counts.
///
/// Of a partition that none knows, because it was new in the life before, Kafka's recovery point says what is flushed,
/// if a stop came that far. Below it nothing is written, neither folded nor again: whole blocks are written, and nobody
/// will look for the ends of those files once more.
struct Known<'a>(BTreeMap<PartitionId, (JournalId, &'a PartitionCheckpoint)>);

impl<'a> Known<'a> {
    fn of(checkpoints: &'a [Checkpoint]) -> Self {
        let of_all = checkpoints.iter().rev().flat_map(|checkpoint| {
            checkpoint.partitions.iter().map(|partition| (partition.id, (checkpoint.journal, partition)))
        });
        Self(of_all.collect())
    }

    /// Where an entry ends, as seen from the recovery point that a checkpoint says.
    fn end_from_recovery(&self, entry: &Entry) -> Option<Ordering> {
        let (_, partition) = self.0.get(&entry.partition)?;
        let (end, flushed) = (end_of(entry), partition.recovery);
        Some((end.segment, end.position).cmp(&(flushed.segment, flushed.position)))
    }

    /// Whether a checkpoint says that all of the entry is durable in its segment.
    fn is_flushed(&self, entry: &Entry) -> bool {
        self.end_from_recovery(entry).is_some_and(Ordering::is_le)
    }

    /// Whether a checkpoint says that more is, behind the entry.
    fn is_passed(&self, entry: &Entry) -> bool {
        self.end_from_recovery(entry).is_some_and(Ordering::is_lt)
    }

    /// Whether the log was cut after the group, so that the entry says nothing any more.
    fn is_void(&self, entry: &Entry, journal: JournalId, sequence: u64) -> bool {
        let known = self.0.get(&entry.partition);
        known.is_some_and(|(counted_in, partition)| {
            *counted_in == journal && sequence <= partition.void_through
        })
    }
}

/// What is live of every journal, up to `memory_bytes` of it with its bytes.
pub(super) async fn read_journals(
    directory: &dyn Directory,
    checkpoints: &[Checkpoint],
    memory_bytes: u64,
) -> Result<Vec<LiveGroups>, RecoveryError> {
    let listed = match directory.list(Path::new(JOURNAL_FOLDER)).await {
        Ok(listed) => listed,
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let files = listed.into_iter().filter(|entry| !entry.is_directory);
    let may_keep = &Cell::new(memory_bytes);
    let journals = try_join_all(files.map(|file| async move {
        read_live(directory, &Path::new(JOURNAL_FOLDER).join(&file.name), checkpoints, may_keep).await
    }));
    Ok(journals.await?.into_iter().flatten().collect())
}

/// Writes what the journals hold and the checkpoints do not into the segments.
pub(super) async fn fold(
    directory: &Rc<dyn Directory>,
    checkpoints: &[Checkpoint],
    journals: Vec<LiveGroups>,
    recovered: &mut Recovered,
) -> Result<(), RecoveryError> {
    let folders = recovered.survey.by_id();
    let known = Known::of(checkpoints);
    for mut live in journals {
        if live.groups.is_empty() {
            continue;
        }
        let is_sealed = |entry: &Entry| {
            let folder = folders.get(&entry.partition).and_then(|folder| folder.to_str());
            let point = folder.and_then(|name| recovered.recovery_points.get(name));
            !known.0.contains_key(&entry.partition) && point.is_some_and(|point| entry.end_offset <= *point)
        };
        if let Some(newest) = live.groups.last()
            && !is_in_segments(&**directory, &folders, &newest.group, |entry| {
                is_sealed(entry) || known.is_flushed(entry)
            })
            .await?
        {
            let position = newest.position;
            tracing::info!(journal = live.path, position, "the newest group was not finished");
            live.groups.pop();
        }
        let pieces = pieces_of(&live, &known, is_sealed);
        for (id, pieces) in &pieces {
            if let Some(last) = pieces.entries.last() {
                recovered.durable.insert(*id, end_of(&last.entry));
            }
            let vouched = recovered.vouched.entry(*id).or_default();
            vouched.extend(vouched_by(pieces));
            if folders.contains_key(id) {
                recovered.held.keep(*id, pieces.held());
            }
        }
        // Without a folder the partition was deleted; its entries mean nothing.
        let pieces = pieces.into_iter().filter_map(|(id, pieces)| Some((folders.get(&id)?.clone(), pieces)));
        let survey = &recovered.survey;
        let folded: Vec<(PathBuf, Vec<FoldedLog>)> = iter(pieces)
            .map(|(folder, pieces)| fold_partition(directory.clone(), &live, survey, folder, pieces))
            .buffer_unordered(FOLDS_MAX)
            .try_collect()
            .await?;
        for (folder, logs) in folded {
            let name = folder.to_string_lossy();
            let Some(surveyed) = recovered.survey.folders.get_mut(name.as_ref()) else { continue };
            for (name, length) in logs {
                surveyed.note_log(name, length);
            }
        }
    }
    Ok(())
}

fn end_of(entry: &Entry) -> Point {
    Point { segment: entry.segment_base, position: entry.end_position(), offset: entry.end_offset }
}

/// What entries vouch for: that they are folded, or were flushed with their group.
fn vouched_by(pieces: &Pieces) -> Vec<Vouched> {
    let mut vouched: Vec<Vouched> = Vec::new();
    for Piece { entry, .. } in &pieces.entries {
        let (base, from) = (entry.segment_base, entry.position.0);
        if entry.is_revocation() {
            vouched.retain(|before| (before.base, before.positions.start) < (base, from));
        } else {
            vouched.push(Vouched { base, positions: from..entry.end_position().0 });
        }
    }
    vouched
}

/// Whether the bytes that a group says are in segments are there; if so, they are written once more. The flush of the
/// newest group may have failed: then what can be read may be lost for good with the power, whatever a later flush
/// says, unless it is written anew. But for what is flushed, as a stop or a checkpoint says: nobody will look for the ends
/// of those files once more.
async fn is_in_segments(
    directory: &dyn Directory,
    folders: &BTreeMap<PartitionId, PathBuf>,
    group: &Group,
    is_flushed: impl Fn(&Entry) -> bool,
) -> Result<bool, StorageError> {
    let mut found = Vec::new();
    for (entry, _) in &group.entries {
        let EntryBytes::InSegment { crc } = entry.bytes else { continue };
        let Some(folder) = folders.get(&entry.partition) else { continue };
        let path = folder.join(SegmentFile::live(entry.segment_base, SegmentFileKind::Log).name());
        let file = match directory.open(&path, OpenMode::Existing).await {
            Ok(file) => file,
            Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let bytes = read_range(&*file, entry.position.0, entry.length as usize).await?;
        if bytes.len() < entry.length as usize || crc32c(&bytes) != crc {
            return Ok(false);
        }
        if !is_flushed(entry) {
            found.push((file, entry.position.0, bytes));
        }
    }
    for (file, position, bytes) in found {
        write_run(&*file, file.length().await?, position, &[&bytes]).await?;
    }
    Ok(true)
}

/// What is not flushed, for each partition.
fn pieces_of(
    live: &LiveGroups,
    known: &Known<'_>,
    is_sealed: impl Fn(&Entry) -> bool,
) -> BTreeMap<PartitionId, Pieces> {
    let mut pieces: BTreeMap<PartitionId, Pieces> = BTreeMap::new();
    for LiveGroup { position, group, bytes } in &live.groups {
        for (number, (entry, at)) in group.entries.iter().enumerate() {
            // What revokes an entry counts although all before it is flushed.
            let is_said = known.is_flushed(entry) && !entry.is_revocation();
            if is_said || known.is_void(entry, live.journal, group.header.sequence) {
                continue;
            }
            let copy = match entry.bytes {
                // The segment where a log ended may be gone, once the log went on behind it.
                EntryBytes::Copied if entry.is_revocation() && known.is_passed(entry) => None,
                EntryBytes::Copied if entry.is_revocation() || !is_sealed(entry) => {
                    let length = entry.length as usize;
                    let from = match bytes {
                        GroupBytes::Kept(bytes) => CopiedFrom::Memory(bytes.slice(*at..*at + length)),
                        GroupBytes::InFile(crcs) => {
                            CopiedFrom::File { position: position + *at as u64, length, crc: crcs[number] }
                        }
                    };
                    Some(Copied { from, used: length })
                }
                _ => None,
            };
            let piece = Piece { entry: *entry, journal: live.journal, sequence: group.header.sequence, copy };
            let held = pieces.entry(entry.partition).or_default();
            if entry.is_revocation() {
                held.cut_back(end_of(entry));
            }
            held.entries.push(piece);
        }
    }
    pieces
}

/// A log's name, and how long it is.
type FoldedLog = (String, u64);

/// Writes the pieces of one partition; says to which logs.
async fn fold_partition(
    directory: Rc<dyn Directory>,
    journal: &LiveGroups,
    survey: &Survey,
    folder: PathBuf,
    pieces: Pieces,
) -> Result<(PathBuf, Vec<FoldedLog>), RecoveryError> {
    let mut folded = Vec::new();
    let mut by_segment: BTreeMap<Offset, Vec<Piece>> = BTreeMap::new();
    for piece in pieces.entries {
        by_segment.entry(piece.entry.segment_base).or_default().push(piece);
    }
    for (base, pieces) in by_segment {
        if pieces.iter().all(|piece| piece.copy.is_none()) {
            continue;
        }
        let name = SegmentFile::live(base, SegmentFileKind::Log).name();
        let path = folder.join(&name);
        let surveyed = folder.to_str().and_then(|folder| survey.folders.get(folder));
        let known_length = surveyed.and_then(|surveyed| surveyed.log_length(&name));
        // Where the log was cut and went on, and was deleted since: that nobody knows without a checkpoint.
        let is_gone = known_length.is_none()
            && pieces.iter().all(|piece| piece.copy.as_ref().is_none_or(|copied| copied.used == 0))
            && surveyed.is_some_and(|surveyed| surveyed.has_log_behind(base));
        if is_gone {
            continue;
        }
        let mode = if known_length.is_some() { OpenMode::Existing } else { OpenMode::CreateNew };
        let file = directory.open(&path, mode).await?;
        let mut length = known_length.unwrap_or(0);
        let mut runs = iter(runs_of(&pieces))
            .map(|(position, run)| async move {
                let read = try_join_all(run.iter().map(|copied| read_copied(journal, copied))).await?;
                Ok::<_, RecoveryError>((position, read))
            })
            .buffered(FOLDS_AHEAD);
        while let Some((position, run)) = runs.try_next().await? {
            let run: Vec<&[u8]> = run.iter().map(|bytes| &**bytes).collect();
            length = write_run(&*file, length, position, &run).await?;
        }
        folded.push((name, length));
        if let Some(last) = pieces.last() {
            tracing::debug!(path = %path.display(), journal = %last.journal, group = last.sequence, "folded");
        }
    }
    Ok((folder, folded))
}

/// Copies that go side by side, as (position in the segment, the copies): as much as is written at a time.
fn runs_of(pieces: &[Piece]) -> Vec<(u64, Vec<Copied>)> {
    let mut runs: Vec<(u64, Vec<Copied>)> = Vec::new();
    let (mut end, mut length) = (0, 0);
    for piece in pieces {
        // One without bytes only says where the log ends.
        let Some(copied) = piece.copy.as_ref().filter(|copied| copied.used > 0) else { continue };
        let position = piece.entry.position.0;
        match runs.last_mut() {
            Some((_, run)) if end == position && length < FOLD_BYTES => run.push(copied.clone()),
            _ => {
                runs.push((position, vec![copied.clone()]));
                length = 0;
            }
        }
        length += copied.used;
        end = position + copied.used as u64;
    }
    runs
}

/// What a journal holds of an entry, which is what it held when its group was found whole.
async fn read_copied(journal: &LiveGroups, copied: &Copied) -> Result<Bytes, RecoveryError> {
    let (position, length, crc) = match &copied.from {
        CopiedFrom::Memory(bytes) => return Ok(bytes.slice(..copied.used)),
        CopiedFrom::File { position, length, crc } => (*position, *length, *crc),
    };
    let from = align_down(position);
    let skip = (position - from) as usize;
    let range = skip..skip + length;
    let wanted = range.end.next_multiple_of(BLOCK_BYTES);
    let (result, buffer) = journal.file.read(AlignedBuffer::recycled(wanted), from, wanted).await;
    let read = result?;
    let found = buffer.get(range.clone()).filter(|_| range.end <= read).map(crc32c);
    if found != Some(crc) {
        let reason = match found {
            Some(found) => format!(
                "{length} bytes of an entry have the CRC {found:#010x}, and had {crc:#010x} when the group was read"
            ),
            None => format!("the file ends {read} bytes behind {from}, within an entry"),
        };
        return Err(RecoveryError::Damaged { path: journal.path.clone(), position, reason });
    }
    Ok(Bytes::copy_from_slice(&buffer[skip..skip + copied.used]))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::memory_file::MemoryFile;
    use super::*;

    /// What is read of an entry at `position`, which had `held` when its group was read.
    fn read(file: &[u8], position: u64, held: &[u8], used: usize) -> Result<Bytes, String> {
        let journal = LiveGroups {
            path: "core-0".to_owned(),
            file: Rc::new(MemoryFile::new(file.to_vec())),
            journal: 42,
            groups: Vec::new(),
            read_bytes: 0,
        };
        let from = CopiedFrom::File { position, length: held.len(), crc: crc32c(held) };
        let read = read_copied(&journal, &Copied { from, used }).now_or_never().expect("nothing waits");
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_not_kept_is_read_again_and_must_be_what_it_was() {
        let file: Vec<u8> = (0..5 * BLOCK_BYTES).map(|at| (at / 13) as u8).collect();
        for (position, length) in [(0, 10), (4096, 4096), (5000, 9000), (20_000, 480)] {
            let held = &file[position as usize..][..length];
            assert_eq!(read(&file, position, held, length), Ok(Bytes::copy_from_slice(held)));
            assert_eq!(read(&file, position, held, 7), Ok(Bytes::copy_from_slice(&held[..7])));
            let mut flipped = file.clone();
            flipped[position as usize + length - 1] ^= 1;
            let error = read(&flipped, position, held, length).expect_err("a bit flipped since");
            assert!(error.contains(&format!("core-0: damaged at {position}")), "{error}");
            let short = &file[..position as usize / BLOCK_BYTES * BLOCK_BYTES];
            let error = read(short, position, held, length).expect_err("the file is shorter");
            assert!(error.contains("the file ends"), "{error}");
        }
    }
}
