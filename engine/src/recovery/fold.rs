//! Folding the journals into the segments.
//!
//! The newest whole group of a journal is the last that may have been acknowledged: one group was under way at a
//! time. Everything from its tail on must be whole; a gap is damage. Its own bytes that went straight to
//! segments are checked against their CRC: if they are not all there, the group was never acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flumen_ring::AlignedBuffer;
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use super::{Recovered, RecoveryError, read_small};
use crate::checkpoint::Checkpoint;
use crate::checkpoints::decode_partition_metadata;
use crate::journal::JOURNAL_FOLDER;
use crate::journal::format::{
    BLOCK_BYTES, Entry, EntryBytes, Group, JournalId, crc32c, decode_file_header, decode_group,
};
use crate::layout::{FolderState, PARTITION_METADATA, PartitionFolder, SegmentFile, SegmentFileKind};
use crate::partition::Point;
use crate::storage::{DataFile, Directory, OpenMode, Runtime, StorageError, StorageErrorKind, WriteSource};
use crate::{Offset, PartitionId};

/// Files are read in pieces of this many bytes.
const READ_BYTES: usize = 1 << 20;
/// So many of them at a time.
const READS_MAX: usize = 8;
/// So many partitions are folded at a time.
const FOLDS_MAX: usize = 32;

/// One journal, read whole.
struct Image {
    path: String,
    journal: JournalId,
    bytes: Vec<u8>,
}

/// What the journals hold of one partition: entries in order, each with its group and its copied bytes.
#[derive(Default)]
struct Pieces {
    entries: Vec<Piece>,
}

struct Piece {
    entry: Entry,
    journal: JournalId,
    sequence: u64,
    bytes: Option<Vec<u8>>,
}

/// Writes what the journals hold and the checkpoints do not into the segments, durably.
pub(super) async fn fold(
    _runtime: &Rc<dyn Runtime>,
    directory: &Rc<dyn Directory>,
    checkpoints: &[Checkpoint],
    recovered: &mut Recovered,
) -> Result<(), RecoveryError> {
    let listed = match directory.list(Path::new(JOURNAL_FOLDER)).await {
        Ok(listed) => listed,
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut folders = None;
    for file in listed.into_iter().filter(|entry| !entry.is_directory) {
        let path = Path::new(JOURNAL_FOLDER).join(&file.name);
        let Some(image) = read_image(&**directory, &path).await? else { continue };
        let mut groups = live_groups(&image)?;
        if groups.is_empty() {
            continue;
        }
        if folders.is_none() {
            folders = Some(partition_folders(&**directory).await?);
        }
        let folders = folders.as_ref().expect("just read");
        if let Some((position, newest)) = groups.last()
            && !is_in_segments(&**directory, folders, newest).await?
        {
            tracing::info!(journal = image.path, position, "the newest group was not finished");
            groups.pop();
        }
        let pieces = pieces_of(&image, &groups, checkpoints);
        for (id, pieces) in &pieces {
            if let Some(last) = pieces.entries.last() {
                recovered.durable.insert(*id, end_of(&last.entry));
            }
        }
        iter(pieces)
            .map(|(id, pieces)| fold_partition(directory.clone(), folders.get(&id), pieces))
            .buffer_unordered(FOLDS_MAX)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

fn end_of(entry: &Entry) -> Point {
    Point { segment: entry.segment_base, position: entry.end_position(), offset: entry.end_offset }
}

async fn read_image(directory: &dyn Directory, path: &Path) -> Result<Option<Image>, StorageError> {
    let file = directory.open(path, OpenMode::Existing).await?;
    let length = file.length().await?;
    let mut bytes = Vec::with_capacity(length as usize);
    let pieces = iter((0..length).step_by(READ_BYTES)).map(|position| {
        let (file, left) = (file.clone(), (length - position) as usize);
        async move { read_range(&*file, position, left.min(READ_BYTES)).await }
    });
    let mut pieces = pieces.buffered(READS_MAX);
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    drop(pieces);
    let path = path.display().to_string();
    let Some(journal) = decode_file_header(&bytes) else {
        // Its header is written and flushed before the first group: nothing was ever acknowledged by it.
        tracing::info!(journal = path, "a journal that was never ready");
        return Ok(None);
    };
    Ok(Some(Image { path, journal, bytes }))
}

/// The groups that are still needed, oldest first, with their positions.
fn live_groups(image: &Image) -> Result<Vec<(usize, Group)>, RecoveryError> {
    let mut found: BTreeMap<u64, (usize, Group)> = BTreeMap::new();
    let mut position = BLOCK_BYTES;
    while position < image.bytes.len() {
        match decode_group(image.journal, &image.bytes[position..]) {
            Ok(group) => {
                let length = group.length;
                found.insert(group.header.sequence, (position, group));
                position += length;
            }
            Err(_) => position += BLOCK_BYTES,
        }
    }
    let Some((_, (_, newest))) = found.last_key_value() else { return Ok(Vec::new()) };
    let (newest, tail) = (newest.header.sequence, newest.header.tail_sequence);
    let damaged = |position: usize, reason: String| RecoveryError::Damaged {
        path: image.path.clone(),
        position: position as u64,
        reason,
    };
    let mut live: Vec<(usize, Group)> = Vec::new();
    for sequence in tail..=newest {
        let Some((position, group)) = found.remove(&sequence) else {
            let behind = live.last().map_or(0, |(position, group)| position + group.length);
            return Err(damaged(behind, format!("group {sequence} of {tail}..={newest} is missing")));
        };
        if let Some((_, before)) = live.last()
            && group.header.previous_crc != before.crc
        {
            return Err(damaged(position, format!("group {sequence} does not continue the one before")));
        }
        live.push((position, group));
    }
    Ok(live)
}

/// Whether the bytes that a group says are in segments are there.
async fn is_in_segments(
    directory: &dyn Directory,
    folders: &BTreeMap<PartitionId, PathBuf>,
    group: &Group,
) -> Result<bool, StorageError> {
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
    }
    Ok(true)
}

fn pieces_of(
    image: &Image,
    groups: &[(usize, Group)],
    checkpoints: &[Checkpoint],
) -> BTreeMap<PartitionId, Pieces> {
    let mut said = BTreeMap::new();
    for checkpoint in checkpoints.iter().rev() {
        for partition in &checkpoint.partitions {
            said.insert(partition.id, (checkpoint.journal, partition));
        }
    }
    let mut pieces: BTreeMap<PartitionId, Pieces> = BTreeMap::new();
    for (position, group) in groups {
        for (entry, at) in &group.entries {
            if let Some((journal, partition)) = said.get(&entry.partition) {
                let end = end_of(entry);
                let flushed =
                    (end.segment, end.position) <= (partition.recovery.segment, partition.recovery.position);
                let void = *journal == image.journal && group.header.sequence <= partition.void_through;
                if flushed || void {
                    continue;
                }
            }
            let bytes = match entry.bytes {
                EntryBytes::Copied => {
                    let from = position + at;
                    Some(image.bytes[from..from + entry.length as usize].to_vec())
                }
                EntryBytes::InSegment { .. } => None,
            };
            let piece =
                Piece { entry: *entry, journal: image.journal, sequence: group.header.sequence, bytes };
            pieces.entry(entry.partition).or_default().entries.push(piece);
        }
    }
    pieces
}

/// Every partition's folder in use, by topic id and index.
async fn partition_folders(
    directory: &dyn Directory,
) -> Result<BTreeMap<PartitionId, PathBuf>, StorageError> {
    let folders: Vec<(String, i32)> = directory
        .list(Path::new(""))
        .await?
        .into_iter()
        .filter(|entry| entry.is_directory)
        .filter_map(|entry| {
            let folder = PartitionFolder::parse(&entry.name)?;
            (folder.state == FolderState::Live).then_some((entry.name, folder.partition))
        })
        .collect();
    let ids = iter(folders).map(|(name, partition)| async move {
        let path = PathBuf::from(&name);
        let Some(bytes) = read_small(directory, path.join(PARTITION_METADATA)).await? else {
            return Ok(None);
        };
        Ok(decode_partition_metadata(&bytes).ok().map(|topic| (PartitionId { topic, partition }, path)))
    });
    let found: Vec<Option<(PartitionId, PathBuf)>> = ids.buffer_unordered(FOLDS_MAX).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn fold_partition(
    directory: Rc<dyn Directory>,
    folder: Option<&PathBuf>,
    pieces: Pieces,
) -> Result<(), RecoveryError> {
    // Without a folder the partition was deleted; its entries mean nothing.
    let Some(folder) = folder else { return Ok(()) };
    let mut by_segment: BTreeMap<Offset, Vec<Piece>> = BTreeMap::new();
    for piece in pieces.entries {
        by_segment.entry(piece.entry.segment_base).or_default().push(piece);
    }
    for (base, pieces) in by_segment {
        let path = folder.join(SegmentFile::live(base, SegmentFileKind::Log).name());
        let file = match directory.open(&path, OpenMode::Existing).await {
            Ok(file) => file,
            Err(error) if error.kind == StorageErrorKind::NotFound => {
                directory.open(&path, OpenMode::CreateNew).await?
            }
            Err(error) => return Err(error.into()),
        };
        for run in runs_of(&pieces) {
            write_run(&*file, run.0, &run.1).await?;
        }
        if let Some(last) = pieces.last() {
            tracing::debug!(path = %path.display(), journal = %last.journal, group = last.sequence, "folded");
        }
    }
    Ok(())
}

/// Copied bytes that lie side by side, joined, as (position, bytes).
fn runs_of(pieces: &[Piece]) -> Vec<(u64, Vec<u8>)> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for piece in pieces {
        let Some(bytes) = &piece.bytes else { continue };
        match runs.last_mut() {
            Some((position, run)) if *position + run.len() as u64 == piece.entry.position.0 => {
                run.extend_from_slice(bytes);
            }
            _ => runs.push((piece.entry.position.0, bytes.clone())),
        }
    }
    runs
}

/// Writes bytes at any position of a file that is written in whole blocks.
async fn write_run(file: &dyn DataFile, position: u64, bytes: &[u8]) -> Result<(), StorageError> {
    let block = BLOCK_BYTES as u64;
    let from = position / block * block;
    let to = (position + bytes.len() as u64).next_multiple_of(block);
    let mut buffer = AlignedBuffer::zeroed((to - from) as usize);
    for at in [from, to - block] {
        let found = read_range(file, at, BLOCK_BYTES).await?;
        let start = (at - from) as usize;
        buffer[start..start + found.len()].copy_from_slice(&found);
    }
    let start = (position - from) as usize;
    buffer[start..start + bytes.len()].copy_from_slice(bytes);
    file.write(WriteSource::Buffer(buffer), from).await.0
}

/// Up to `length` bytes at any position; fewer at the end of the file.
pub(super) async fn read_range(
    file: &dyn DataFile,
    position: u64,
    length: usize,
) -> Result<Vec<u8>, StorageError> {
    let block = BLOCK_BYTES as u64;
    let end = position + length as u64;
    let mut out = Vec::with_capacity(length);
    let mut at = position / block * block;
    while at < end {
        let wanted = ((end - at) as usize).next_multiple_of(BLOCK_BYTES).min(READ_BYTES);
        let (result, buffer) = file.read(AlignedBuffer::zeroed(wanted), at, wanted).await;
        let read = result?;
        let skip = position.saturating_sub(at) as usize;
        let upto = read.min((end - at) as usize);
        if skip < upto {
            out.extend_from_slice(&buffer[skip..upto]);
        }
        if read < wanted {
            break;
        }
        at += wanted as u64;
    }
    Ok(out)
}
