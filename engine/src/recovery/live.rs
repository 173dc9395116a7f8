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

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use flumen_ring::AlignedBuffer;
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use super::RecoveryError;
use super::fold::read_range;
use crate::checkpoint::Checkpoint;
use crate::journal::format::{
    BLOCK_BYTES, Cursor, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, Group, JournalId, decode_file_header,
    decode_group, peek_group,
};
use crate::storage::{DataFile, Directory, OpenMode, StorageError};

/// Files are read in pieces of this many bytes.
const READ_BYTES: usize = 1 << 20;
/// So many of them at a time.
const READS_MAX: usize = 8;
/// At least so much is read ahead.
const AHEAD_BYTES: u64 = 4 << 20;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The live groups of one journal, oldest first.
pub(super) struct LiveGroups {
    pub(super) path: String,
    pub(super) journal: JournalId,
    pub(super) groups: Vec<LiveGroup>,
    /// How much of the file was read.
    pub(super) read_bytes: u64,
}

/// One of them.
pub(super) struct LiveGroup {
    pub(super) position: u64,
    pub(super) group: Group,
    /// All of it, from its header on.
    pub(super) bytes: Bytes,
}

/// Part of a file, read from its start on as far as it was asked for.
struct Window<'a> {
    file: &'a Rc<dyn DataFile>,
    file_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a Rc<dyn DataFile>, file_bytes: u64, start: u64) -> Self {
        Self { file, file_bytes, start, bytes: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is at `position`, at least as far as `upto` if the file goes that far.
    async fn at(&mut self, position: u64, upto: u64) -> Result<&[u8], StorageError> {
        if self.end() < upto.min(self.file_bytes) {
            let to = upto.max(self.end() + AHEAD_BYTES).min(self.file_bytes);
            // Address space, of which only what is read becomes memory.
            self.bytes.reserve((self.file_bytes - self.end()) as usize);
            let pieces = iter((self.end()..to).step_by(READ_BYTES)).map(|from| {
                let (file, wanted) = (self.file.clone(), READ_BYTES.min((to - from) as usize));
                async move {
                    let wanted = wanted.next_multiple_of(BLOCK_BYTES);
                    let (result, buffer) = file.read(AlignedBuffer::recycled(wanted), from, wanted).await;
                    result.map(|read| (read, buffer))
                }
            });
            let mut pieces = pieces.buffered(READS_MAX);
            while let Some((read, buffer)) = pieces.try_next().await? {
                self.bytes.extend_from_slice(&buffer[..read]);
            }
            // Cut short meanwhile: there is no more of it.
            self.file_bytes = if self.end() < to { self.end() } else { self.file_bytes };
        }
        let from = position.saturating_sub(self.start).min(self.bytes.len() as u64);
        Ok(&self.bytes[from as usize..])
    }

    /// The whole group at `position`, if one is there.
    async fn group(&mut self, journal: JournalId, position: u64) -> Result<Option<Group>, StorageError> {
        let header = self.at(position, position + GROUP_HEADER_BYTES as u64).await?;
        let Some((_, used)) = peek_group(journal, header) else { return Ok(None) };
        if used > GROUP_BYTES_MAX {
            return Ok(None);
        }
        Ok(decode_group(journal, self.at(position, position + used as u64).await?).ok())
    }

    /// The group that `cursor` means, if it is at `position`.
    async fn next(
        &mut self,
        journal: JournalId,
        cursor: &Cursor,
        position: u64,
    ) -> Result<Option<Group>, StorageError> {
        let group = self.group(journal, position).await?;
        Ok(group.filter(|group| {
            group.header.sequence == cursor.sequence && group.header.previous_crc == cursor.previous_crc
        }))
    }

    /// A whole group of this number or a later one that starts in `within`, as (position, number).
    async fn later(
        &mut self,
        journal: JournalId,
        sequence: u64,
        within: Range<u64>,
    ) -> Result<Option<(u64, u64)>, StorageError> {
        for position in within.step_by(BLOCK_BYTES) {
            let header = self.at(position, position + BLOCK).await?;
            if header.is_empty() {
                break;
            }
            let is_later = peek_group(journal, header).is_some_and(|(number, _)| number >= sequence);
            if is_later && let Some(group) = self.group(journal, position).await? {
                return Ok(Some((position, group.header.sequence)));
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
) -> Result<Option<LiveGroups>, RecoveryError> {
    let file = directory.open(path, OpenMode::Existing).await?;
    let file_bytes = file.length().await?;
    let path = path.display().to_string();
    let header = read_range(&*file, 0, BLOCK_BYTES).await?;
    let said = decode_file_header(&header);
    for checkpoint in checkpoints {
        // Where the header does not hold, a checkpoint may still know the file.
        if checkpoint.journal != 0 && said.is_none_or(|said| said == checkpoint.journal) {
            let live = follow(&file, file_bytes, &path, checkpoint.journal, checkpoint.cursor).await?;
            if said.is_some() || !live.groups.is_empty() {
                if cfg!(debug_assertions) {
                    assert_nothing_is_left_out(&live, &file, file_bytes, checkpoint.cursor).await;
                }
                return Ok(Some(live));
            }
        }
    }
    match said {
        Some(journal) => Ok(Some(search(&file, file_bytes, &path, journal).await?)),
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
) -> Result<LiveGroups, RecoveryError> {
    let mut at = cursor;
    let mut windows = [Window::new(file, file_bytes, at.position), Window::new(file, file_bytes, BLOCK)];
    let mut lap = 0;
    let mut found = Vec::new();
    loop {
        let mut position = at.position;
        let mut group = windows[lap].next(journal, &at, position).await?;
        if group.is_none() && lap == 0 && may_start_again(&at) {
            position = BLOCK;
            group = windows[1].next(journal, &at, position).await?;
            lap = usize::from(group.is_some());
        }
        let Some(group) = group else { break };
        at = Cursor {
            sequence: at.sequence + 1,
            position: position + group.length as u64,
            previous_crc: group.crc,
            capacity: group.header.capacity,
        };
        found.push((lap, position, group));
    }
    let farthest = at.position + GROUP_BYTES_MAX as u64;
    let mut later = windows[lap].later(journal, at.sequence, at.position..farthest).await?;
    if later.is_none() && lap == 0 && may_start_again(&at) {
        later = windows[1].later(journal, at.sequence, BLOCK..BLOCK + GROUP_BYTES_MAX as u64).await?;
    }
    if let Some((position, sequence)) = later {
        let reason = format!("group {} is missing, but {sequence} is at {position}", at.sequence);
        return Err(RecoveryError::Damaged { path: path.to_owned(), position: at.position, reason });
    }
    let read_bytes = windows.iter().map(|window| window.bytes.len() as u64).sum();
    let windows = windows.map(|window| (window.start, Bytes::from(window.bytes)));
    let groups = found.into_iter().map(|(lap, position, group)| {
        let (start, bytes) = &windows[lap];
        let from = (position - start) as usize;
        LiveGroup { position, bytes: bytes.slice(from..(from + group.length).min(bytes.len())), group }
    });
    Ok(LiveGroups { path: path.to_owned(), journal, groups: groups.collect(), read_bytes })
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
) -> Result<LiveGroups, RecoveryError> {
    let mut window = Window::new(file, file_bytes, 0);
    let bytes = Bytes::copy_from_slice(window.at(0, file_bytes).await?);
    let mut found: BTreeMap<u64, (usize, Group)> = BTreeMap::new();
    let mut position = BLOCK_BYTES;
    while position < bytes.len() {
        match decode_group(journal, &bytes[position..]) {
            Ok(group) => {
                let length = group.length;
                found.insert(group.header.sequence, (position, group));
                position += length;
            }
            Err(_) => position += BLOCK_BYTES,
        }
    }
    let mut live =
        LiveGroups { path: path.to_owned(), journal, groups: Vec::new(), read_bytes: bytes.len() as u64 };
    let Some((_, (_, newest))) = found.last_key_value() else { return Ok(live) };
    let (newest, tail) = (newest.header.sequence, newest.header.tail_sequence);
    let damaged =
        |position: u64, reason: String| RecoveryError::Damaged { path: path.to_owned(), position, reason };
    for sequence in tail..=newest {
        let Some((position, group)) = found.remove(&sequence) else {
            let behind = live.groups.last().map_or(0, |last| last.position + last.group.length as u64);
            return Err(damaged(behind, format!("group {sequence} of {tail}..={newest} is missing")));
        };
        if let Some(before) = live.groups.last()
            && group.header.previous_crc != before.group.crc
        {
            let reason = format!("group {sequence} does not continue the one before");
            return Err(damaged(position as u64, reason));
        }
        let end = (position + group.length).min(bytes.len());
        live.groups.push(LiveGroup { position: position as u64, bytes: bytes.slice(position..end), group });
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
    let Ok(whole) = search(file, file_bytes, &live.path, live.journal).await else { return };
    let numbers = |groups: &[LiveGroup]| -> Vec<u64> {
        let numbers = groups.iter().map(|found| found.group.header.sequence);
        numbers.filter(|number| *number >= cursor.sequence).collect()
    };
    assert_eq!(numbers(&live.groups), numbers(&whole.groups), "{}", live.path);
}

#[cfg(test)]
mod tests;
