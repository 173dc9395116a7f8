//! Which groups of a journal are live, and their bytes.
//!
//! A core's checkpoint says where its first live group is or would be ([`Cursor`]); from there each group leads to
//! the next: it lies behind it or, if it did not fit there, at the first block, and repeats its CRC. So what is read
//! is what is live, and not the file.
//!
//! ```text
//! block 1                cursor                                end of the chain        the longest group from here
//! ├─ stale ───────────────┼─ 41 ─┼─ 42 ─┼─ 43 ─┼─ 44, torn ─ stale ─────────────────────────────┤ stale ─
//! ```
//! What ends the chain is the newest group, cut off, or nothing; if it was damage, a group behind it shows that, and
//! begins no farther behind it than a group is long at most. Without a checkpoint of the journal all of it is read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

use super::RecoveryError;
use super::blocks::read_range;
use super::read_ahead::ReadAhead;
use crate::checkpoint::Checkpoint;
use crate::journal::format::{
    BLOCK_BYTES, Cursor, EntryBytes, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, Group, JournalId, crc32c,
    decode_file_header, decode_group, peek_group,
};
use crate::storage::{DataFile, Directory, OpenMode, StorageError};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The live groups of one journal, oldest first.
pub(super) struct LiveGroups {
    pub(super) path: String,
    pub(super) file: Rc<dyn DataFile>,
    pub(super) journal: JournalId,
    pub(super) groups: Vec<LiveGroup>,
    /// How much of the file was read.
    pub(super) read_bytes: u64,
}

/// One of them.
pub(super) struct LiveGroup {
    pub(super) position: u64,
    pub(super) group: Group,
    pub(super) bytes: GroupBytes,
}

/// What is left of a group's bytes.
pub(super) enum GroupBytes {
    /// All of them, from its header on.
    Kept(Bytes),
    /// They are in the file. CRC-32C of what it holds of each of its entries, or of what it says to be in a segment.
    InFile(Vec<u32>),
}

/// How many more bytes of all journals may be kept. What is beyond is read again when it is folded.
type MayKeep<'a> = &'a Cell<u64>;

/// A journal's groups, wherever they are.
struct Groups<'a> {
    journal: JournalId,
    file: ReadAhead,
    may_keep: MayKeep<'a>,
}

impl<'a> Groups<'a> {
    fn new(journal: JournalId, file: &Rc<dyn DataFile>, file_bytes: u64, may_keep: MayKeep<'a>) -> Self {
        Self { journal, file: ReadAhead::new(file, file_bytes), may_keep }
    }

    /// The whole group at `position`, if one is there.
    async fn at(&mut self, position: u64) -> Result<Option<LiveGroup>, StorageError> {
        let header = self.file.at(position, GROUP_HEADER_BYTES).await?;
        let Some((_, used)) = peek_group(self.journal, &header) else { return Ok(None) };
        if used > GROUP_BYTES_MAX {
            return Ok(None);
        }
        let bytes = self.file.at(position, used.next_multiple_of(BLOCK_BYTES)).await?;
        let Ok(group) = decode_group(self.journal, &bytes) else { return Ok(None) };
        Ok(Some(LiveGroup { position, group, bytes: GroupBytes::Kept(bytes) }))
    }

    /// Lets go the bytes of a group that is live, if no more may be kept.
    fn hold(&self, mut found: LiveGroup) -> LiveGroup {
        let GroupBytes::Kept(bytes) = &found.bytes else { return found };
        match self.may_keep.get().checked_sub(bytes.len() as u64) {
            Some(left) => self.may_keep.set(left),
            None => {
                let crcs = found.group.entries.iter().map(|(entry, at)| match entry.bytes {
                    EntryBytes::Copied => crc32c(&bytes[*at..*at + entry.length as usize]),
                    EntryBytes::InSegment { crc } => crc,
                });
                found.bytes = GroupBytes::InFile(crcs.collect());
            }
        }
        found
    }

    /// The group that `cursor` means, if it is at `position`.
    async fn next(&mut self, cursor: &Cursor, position: u64) -> Result<Option<LiveGroup>, StorageError> {
        let found = self.at(position).await?;
        Ok(found.filter(|LiveGroup { group: Group { header, .. }, .. }| {
            header.sequence == cursor.sequence && header.previous_crc == cursor.previous_crc
        }))
    }

    /// A whole group of this number or a later one that starts in `within`.
    async fn later(&mut self, sequence: u64, within: Range<u64>) -> Result<Option<LiveGroup>, StorageError> {
        for position in within.step_by(BLOCK_BYTES) {
            let header = self.file.at(position, GROUP_HEADER_BYTES).await?;
            if header.is_empty() {
                break;
            }
            let is_later = peek_group(self.journal, &header).is_some_and(|(number, _)| number >= sequence);
            if is_later && let Some(found) = self.at(position).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The live groups of the journal at `path`; `None` if it was never ready.
pub(super) async fn read_live(
    directory: &dyn Directory,
    path: &Path,
    checkpoints: &[Checkpoint],
    may_keep: MayKeep<'_>,
) -> Result<Option<LiveGroups>, RecoveryError> {
    let file = directory.open(path, OpenMode::Existing).await?;
    let file_bytes = file.length().await?;
    let path = path.display().to_string();
    let header = read_range(&*file, 0, BLOCK_BYTES).await?;
    let said = decode_file_header(&header);
    for checkpoint in checkpoints {
        // Where the header does not hold, a checkpoint may still know the file.
        if checkpoint.journal != 0 && said.is_none_or(|said| said == checkpoint.journal) {
            let live =
                follow(&file, file_bytes, &path, checkpoint.journal, checkpoint.cursor, may_keep).await?;
            if said.is_some() || !live.groups.is_empty() {
                if cfg!(debug_assertions) {
                    assert_nothing_is_left_out(&live, &file, file_bytes, checkpoint.cursor).await;
                }
                return Ok(Some(live));
            }
        }
    }
    match said {
        Some(journal) => Ok(Some(search(&file, file_bytes, &path, journal, may_keep).await?)),
        None => {
            // Its header is written and flushed before the first group: nothing was ever acknowledged by it.
            tracing::info!(journal = path, "a journal that was never ready");
            Ok(None)
        }
    }
}

/// From group to group, from the cursor on.
async fn follow(
    file: &Rc<dyn DataFile>,
    file_bytes: u64,
    path: &str,
    journal: JournalId,
    cursor: Cursor,
    may_keep: MayKeep<'_>,
) -> Result<LiveGroups, RecoveryError> {
    let mut groups = Groups::new(journal, file, file_bytes, may_keep);
    let mut at = cursor;
    let mut started_again = false;
    let mut live = Vec::new();
    loop {
        let mut found = groups.next(&at, at.position).await?;
        if found.is_none() && !started_again && may_start_again(&at) {
            found = groups.next(&at, BLOCK).await?;
            started_again = found.is_some();
        }
        let Some(found) = found else { break };
        at = Cursor {
            sequence: at.sequence + 1,
            position: found.position + found.group.length as u64,
            previous_crc: found.group.crc,
            capacity: found.group.header.capacity,
        };
        live.push(groups.hold(found));
    }
    let mut later = groups.later(at.sequence, at.position..at.position + GROUP_BYTES_MAX as u64).await?;
    if later.is_none() && !started_again && may_start_again(&at) {
        later = groups.later(at.sequence, BLOCK..BLOCK + GROUP_BYTES_MAX as u64).await?;
    }
    if let Some(later) = later {
        let (sequence, position) = (later.group.header.sequence, later.position);
        let reason = format!("group {} is missing, but {sequence} is at {position}", at.sequence);
        return Err(RecoveryError::Damaged { path: path.to_owned(), position: at.position, reason });
    }
    let read_bytes = groups.file.read_bytes;
    Ok(LiveGroups { path: path.to_owned(), file: file.clone(), journal, groups: live, read_bytes })
}

/// Whether the group of the cursor may be at the first block: only one that does not fit goes there, and the ring
/// does not shrink.
fn may_start_again(cursor: &Cursor) -> bool {
    cursor.position + GROUP_BYTES_MAX as u64 > cursor.capacity
}

/// The newest group, wherever it is, and those that it says were needed.
async fn search(
    file: &Rc<dyn DataFile>,
    file_bytes: u64,
    path: &str,
    journal: JournalId,
    may_keep: MayKeep<'_>,
) -> Result<LiveGroups, RecoveryError> {
    let mut groups = Groups::new(journal, file, file_bytes, may_keep);
    let mut found: BTreeMap<u64, LiveGroup> = BTreeMap::new();
    let mut position = BLOCK;
    while position < file_bytes {
        match groups.at(position).await? {
            Some(group) => {
                position += group.group.length as u64;
                found.insert(group.group.header.sequence, groups.hold(group));
            }
            None => position += BLOCK,
        }
    }
    let read_bytes = groups.file.read_bytes;
    let mut live =
        LiveGroups { path: path.to_owned(), file: file.clone(), journal, groups: Vec::new(), read_bytes };
    let Some((_, newest)) = found.last_key_value() else { return Ok(live) };
    let (newest, tail) = (newest.group.header.sequence, newest.group.header.tail_sequence);
    let damaged =
        |position: u64, reason: String| RecoveryError::Damaged { path: path.to_owned(), position, reason };
    for sequence in tail..=newest {
        let before = live.groups.last();
        let Some(next) = found.remove(&sequence) else {
            let behind = before.map_or(0, |last| last.position + last.group.length as u64);
            return Err(damaged(behind, format!("group {sequence} of {tail}..={newest} is missing")));
        };
        if before.is_some_and(|before| next.group.header.previous_crc != before.group.crc) {
            let reason = format!("group {sequence} does not continue the one before");
            return Err(damaged(next.position, reason));
        }
        live.groups.push(next);
    }
    Ok(live)
}

/// Both ways find the same newest group, and the same groups behind the cursor.
async fn assert_nothing_is_left_out(
    live: &LiveGroups,
    file: &Rc<dyn DataFile>,
    file_bytes: u64,
    cursor: Cursor,
) {
    // Damage that only one of them sees is none of the other's.
    let Ok(whole) = search(file, file_bytes, &live.path, live.journal, &Cell::new(0)).await else { return };
    let numbers = |groups: &[LiveGroup]| -> Vec<u64> {
        let numbers = groups.iter().map(|found| found.group.header.sequence);
        numbers.filter(|number| *number >= cursor.sequence).collect()
    };
    assert_eq!(numbers(&live.groups), numbers(&whole.groups), "{}", live.path);
}

#[cfg(test)]
mod tests;
