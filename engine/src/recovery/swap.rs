//! What Apache Kafka leaves when it dies while it compacts, splits or deletes segments, put right as Kafka's own
//! loader does.
//!
//! A compaction writes `N.log.cleaned`, renames it to `N.log.swap` when it is whole and durable, renames the segments
//! that it replaces to `.deleted`, and takes the `.swap` off. So:
//! - `.deleted` and `.cleaned` go, the former when there is time;
//! - a `.swap` at or behind the first `.cleaned` is of a split that was not finished: it goes too, and what it would
//!   have replaced is still there (KAFKA-6264);
//! - any other `.swap` counts: the segments that it covers go, and it takes its name.
//!
//! Each step may be cut off and be done again: segments go before a `.swap` is renamed, and a `.log.swap` is renamed
//! after its indexes.

use std::path::Path;
use std::rc::Rc;

use super::scan::next_offset;
use crate::Offset;
use crate::core::Core;
use crate::layout::{SegmentFile, SegmentFileKind, SegmentFileState};
use crate::storage::{DirectoryEntry, OpenMode, StorageError};

/// What is in the folder once it is put right.
pub(super) async fn settle(
    core: &Rc<Core>,
    folder: &Path,
    entries: Vec<DirectoryEntry>,
) -> Result<Vec<DirectoryEntry>, StorageError> {
    let is_settled = |entry: &DirectoryEntry| {
        SegmentFile::parse(&entry.name).is_none_or(|file| file.state == SegmentFileState::Live)
    };
    if entries.iter().all(is_settled) {
        return Ok(entries);
    }
    let split_at = first_cleaned(&entries);
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let goes = match SegmentFile::parse(&entry.name).map(|file| (file.state, file.offset)) {
            None | Some((SegmentFileState::Live, _)) => false,
            Some((SegmentFileState::Deleted, _)) => {
                core.reclaim_file(&folder.join(&entry.name));
                continue;
            }
            Some((SegmentFileState::Cleaned, _)) => true,
            Some((SegmentFileState::Swap, offset)) => split_at.is_some_and(|split_at| offset >= split_at),
        };
        if goes {
            core.directory.remove_file(&folder.join(&entry.name)).await?;
        } else {
            kept.push(entry);
        }
    }
    if let Some((from, to)) = covered(core, folder, &kept).await? {
        let mut left = Vec::with_capacity(kept.len());
        for entry in kept {
            let is_replaced = SegmentFile::parse(&entry.name).is_some_and(|file| {
                file.state == SegmentFileState::Live && from <= file.offset && file.offset < to
            });
            if is_replaced {
                tracing::info!(?folder, file = entry.name, "compacted before the crash");
                core.directory.remove_file(&folder.join(&entry.name)).await?;
            } else {
                left.push(entry);
            }
        }
        kept = left;
    }
    // Whatever the renames leave after a crash: what is replaced must not be there beside them.
    core.sync_directory(folder).await?;
    kept.sort_by_key(|entry| {
        SegmentFile::parse(&entry.name).is_some_and(|file| file.kind == SegmentFileKind::Log)
    });
    for entry in &mut kept {
        let Some(file) = SegmentFile::parse(&entry.name) else { continue };
        if file.state == SegmentFileState::Swap {
            let name = SegmentFile::live(file.offset, file.kind).name();
            tracing::info!(?folder, file = name, "taken from an interrupted compaction");
            core.directory.rename(&folder.join(&entry.name), &folder.join(&name)).await?;
            entry.name = name;
        }
    }
    core.sync_directory(folder).await?;
    Ok(kept)
}

/// The smallest offset of a `.cleaned` file.
fn first_cleaned(entries: &[DirectoryEntry]) -> Option<Offset> {
    entries
        .iter()
        .filter_map(|entry| SegmentFile::parse(&entry.name))
        .filter(|file| file.state == SegmentFileState::Cleaned)
        .map(|file| file.offset)
        .min()
}

/// The offsets that the `.log.swap` files cover, from the first to behind the last.
async fn covered(
    core: &Rc<Core>,
    folder: &Path,
    entries: &[DirectoryEntry],
) -> Result<Option<(Offset, Offset)>, StorageError> {
    let mut covered: Option<(Offset, Offset)> = None;
    for entry in entries {
        let swap = SegmentFile::parse(&entry.name)
            .filter(|file| file.state == SegmentFileState::Swap && file.kind == SegmentFileKind::Log);
        let Some(swap) = swap else { continue };
        let file = core.directory.open(&folder.join(&entry.name), OpenMode::Existing).await?;
        let end = next_offset(&file, entry.length, swap.offset).await?;
        covered = Some(covered.map_or((swap.offset, end), |(from, to)| (from.min(swap.offset), to.max(end))));
    }
    Ok(covered)
}
