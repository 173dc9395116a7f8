//! The bytes of a journal: its header block and its commit groups. Pure; see `docs/disk-format.md`.
//!
//! ```text
//! file    ┌────────────┬─────────┬─────────┬───────┬─ stale or zero ─┐
//!         │ header 4K  │ group 7 │ group 8 │ …     │                 │   every part starts at 4 KiB
//!         └────────────┴─────────┴─────────┴───────┴─────────────────┘
//! group   header (64) · entries (72 each) · bytes of the copied entries · zeros to 4 KiB
//! ```
//! All numbers are little-endian. A group's CRC-32C covers all of it but the CRC field and the padding, and
//! so the CRC of the group before, which its header repeats: a stale block of an earlier lap never continues
//! the chain.

use uuid::Uuid;

use crate::{LeaderEpoch, Offset, PartitionId, Position};

/// Groups start and end at multiples of this, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Length of a group's header, in bytes.
pub const GROUP_HEADER_BYTES: usize = 64;
/// Length of one entry, in bytes.
pub const ENTRY_BYTES: usize = 72;

const FILE_MAGIC: [u8; 8] = *b"FLUMJRN1";
const GROUP_MAGIC: [u8; 8] = *b"FLUMGRP1";
const CRC_AT: usize = 52;

/// A group has at most this many entries.
pub const GROUP_ENTRIES_MAX: usize = 16 << 10;
/// A group copies at most this many bytes.
pub const GROUP_COPIED_BYTES_MAX: usize = 8 << 20;
/// No group is longer: whoever looks for the one behind a lost one need look no farther.
pub const GROUP_BYTES_MAX: usize =
    (GROUP_HEADER_BYTES + GROUP_ENTRIES_MAX * ENTRY_BYTES + GROUP_COPIED_BYTES_MAX)
        .next_multiple_of(BLOCK_BYTES);

/// A journal's identity: random, new for each file.
pub type JournalId = u128;

/// Where an entry's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryBytes {
    /// In the group itself, behind the entries.
    Copied,
    /// In the segment already, written and flushed in this very group; `crc` is the CRC-32C over them.
    InSegment {
        /// CRC-32C over the entry's bytes.
        crc: u32,
    },
}

/// A range of one segment that a group makes durable: whole batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose log.
    pub partition: PartitionId,
    /// The leader's epoch when the group was written.
    pub leader_epoch: LeaderEpoch,
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset behind the last record: the log's end with this entry.
    pub end_offset: Offset,
    /// The base offset of the segment.
    pub segment_base: Offset,
    /// Where the range starts in the segment's file.
    pub position: Position,
    /// Its length in bytes.
    pub length: u32,
    /// Where its bytes are.
    pub bytes: EntryBytes,
}

impl Entry {
    /// Where the range ends in the segment's file.
    pub fn end_position(&self) -> Position {
        Position(self.position.0 + u64::from(self.length))
    }

    /// Whether it holds nothing, and says that the log ends where it stands: what groups before say of its partition
    /// from there on was never in the segment, or was cut off.
    pub fn is_revocation(&self) -> bool {
        self.length == 0 && self.base_offset == self.end_offset && self.bytes == EntryBytes::Copied
    }

    /// How many bytes of it the group holds.
    pub fn copied_bytes(&self) -> usize {
        match self.bytes {
            EntryBytes::Copied => self.length as usize,
            EntryBytes::InSegment { .. } => 0,
        }
    }
}

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// The file that it belongs to.
    pub journal: JournalId,
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// The oldest group that was still needed when this one was written; at most `sequence`.
    pub tail_sequence: u64,
    /// CRC of the group before; 0 for the first.
    pub previous_crc: u32,
    /// The end of the ring when it was written: one that goes on before it did not start again at the first block.
    pub capacity: u64,
}

/// Where a group is, or will be: at `position`, or at the first block if it does not fit there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The group's number.
    pub sequence: u64,
    /// Behind the group before.
    pub position: u64,
    /// CRC of the group before; 0 for the first.
    pub previous_crc: u32,
    /// The end of the ring, which may have grown since.
    pub capacity: u64,
}

/// A group that was found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its header.
    pub header: GroupHeader,
    /// Its CRC, which the next group repeats.
    pub crc: u32,
    /// Its length with padding, in bytes.
    pub length: usize,
    /// Its entries, in the order in which they were placed; with where the copied bytes start in the group.
    pub entries: Vec<(Entry, usize)>,
}

/// Why bytes are no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No group starts here, or one of another journal.
    #[error("no group starts here")]
    Absent,
    /// A group started here, but it is torn, overwritten or damaged.
    #[error("a group starts here, but it is not whole")]
    Torn,
}

/// CRC-32C, as Kafka's batches have it.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// How long a group is with padding.
pub fn group_bytes(entries: usize, copied_bytes: usize) -> usize {
    (GROUP_HEADER_BYTES + entries * ENTRY_BYTES + copied_bytes).next_multiple_of(BLOCK_BYTES)
}

/// The header block of a journal.
pub fn encode_file_header(journal: JournalId, out: &mut [u8]) {
    out[..BLOCK_BYTES].fill(0);
    out[..8].copy_from_slice(&FILE_MAGIC);
    out[8..24].copy_from_slice(&journal.to_le_bytes());
    let crc = crc32c(&out[..24]);
    out[24..28].copy_from_slice(&crc.to_le_bytes());
}

/// The journal's identity, if the block is a sound header.
pub fn decode_file_header(block: &[u8]) -> Option<JournalId> {
    if block.len() < 28 || block[..8] != FILE_MAGIC || u32_at(block, 24) != crc32c(&block[..24]) {
        return None;
    }
    Some(u128::from_le_bytes(block[8..24].try_into().expect("16 bytes")))
}

/// Writes the header and the entries of a group in front of the copied bytes, which must be in `out` already,
/// behind room for both. Fills the padding. Returns the group's CRC.
///
/// # Panics
/// If `out` is not as long as [`group_bytes`] says.
pub fn encode_group(header: &GroupHeader, entries: &[Entry], out: &mut [u8]) -> u32 {
    let copied: usize = entries.iter().map(Entry::copied_bytes).sum();
    let used = GROUP_HEADER_BYTES + entries.len() * ENTRY_BYTES + copied;
    assert_eq!(out.len(), used.next_multiple_of(BLOCK_BYTES), "a group of {used} bytes");
    out[..GROUP_HEADER_BYTES].fill(0);
    out[..8].copy_from_slice(&GROUP_MAGIC);
    out[8..24].copy_from_slice(&header.journal.to_le_bytes());
    out[24..32].copy_from_slice(&header.sequence.to_le_bytes());
    out[32..40].copy_from_slice(&header.tail_sequence.to_le_bytes());
    out[40..44].copy_from_slice(&(used as u32).to_le_bytes());
    out[44..48].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    out[48..52].copy_from_slice(&header.previous_crc.to_le_bytes());
    out[56..64].copy_from_slice(&header.capacity.to_le_bytes());
    for (index, entry) in entries.iter().enumerate() {
        let at = GROUP_HEADER_BYTES + index * ENTRY_BYTES;
        encode_entry(entry, &mut out[at..at + ENTRY_BYTES]);
    }
    out[used..].fill(0);
    let crc = group_crc(&out[..used]);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The number and the used bytes of the group that seems to start at the start of `bytes`. Only
/// [`decode_group`] knows whether it does.
pub fn peek_group(journal: JournalId, bytes: &[u8]) -> Option<(u64, usize)> {
    let starts = bytes.len() >= GROUP_HEADER_BYTES
        && bytes[..8] == GROUP_MAGIC
        && bytes[8..24] == journal.to_le_bytes();
    starts.then(|| (u64_at(bytes, 24), u32_at(bytes, 40) as usize))
}

/// The group that starts at the start of `bytes`, if it is whole and of `journal`.
pub fn decode_group(journal: JournalId, bytes: &[u8]) -> Result<Group, GroupError> {
    let Some((sequence, used)) = peek_group(journal, bytes) else { return Err(GroupError::Absent) };
    let count = u32_at(bytes, 44) as usize;
    let entries_end = count
        .checked_mul(ENTRY_BYTES)
        .and_then(|entries| entries.checked_add(GROUP_HEADER_BYTES))
        .filter(|end| *end <= used)
        .ok_or(GroupError::Torn)?;
    let used_bytes = bytes.get(..used).ok_or(GroupError::Torn)?;
    let crc = u32_at(bytes, CRC_AT);
    if group_crc(used_bytes) != crc {
        return Err(GroupError::Torn);
    }
    let mut entries = Vec::with_capacity(count);
    let mut data_at = entries_end;
    for entry in used_bytes[GROUP_HEADER_BYTES..entries_end].chunks_exact(ENTRY_BYTES) {
        let entry = decode_entry(entry).ok_or(GroupError::Torn)?;
        entries.push((entry, data_at));
        data_at += entry.copied_bytes();
    }
    let header = GroupHeader {
        journal,
        sequence,
        tail_sequence: u64_at(bytes, 32),
        previous_crc: u32_at(bytes, 48),
        capacity: u64_at(bytes, 56),
    };
    if data_at != used || header.tail_sequence > header.sequence {
        return Err(GroupError::Torn);
    }
    Ok(Group { header, crc, length: used.next_multiple_of(BLOCK_BYTES), entries })
}

/// Covers what stands before the CRC field and what stands behind it.
fn group_crc(used: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&used[..CRC_AT]);
    digest.update(&used[CRC_AT + 4..]);
    digest.finalize() as u32
}

fn encode_entry(entry: &Entry, out: &mut [u8]) {
    let (kind, crc) = match entry.bytes {
        EntryBytes::Copied => (0u32, 0),
        EntryBytes::InSegment { crc } => (1, crc),
    };
    out[..16].copy_from_slice(entry.partition.topic.as_bytes());
    out[16..20].copy_from_slice(&entry.partition.partition.to_le_bytes());
    out[20..24].copy_from_slice(&entry.leader_epoch.0.to_le_bytes());
    out[24..32].copy_from_slice(&entry.base_offset.0.to_le_bytes());
    out[32..40].copy_from_slice(&entry.end_offset.0.to_le_bytes());
    out[40..48].copy_from_slice(&entry.segment_base.0.to_le_bytes());
    out[48..56].copy_from_slice(&entry.position.0.to_le_bytes());
    out[56..60].copy_from_slice(&entry.length.to_le_bytes());
    out[60..64].copy_from_slice(&kind.to_le_bytes());
    out[64..68].copy_from_slice(&crc.to_le_bytes());
    out[68..72].fill(0);
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let topic: [u8; 16] = bytes[..16].try_into().expect("16 bytes");
    let stored = match u32_at(bytes, 60) {
        0 => EntryBytes::Copied,
        1 => EntryBytes::InSegment { crc: u32_at(bytes, 64) },
        _ => return None,
    };
    let entry = Entry {
        partition: PartitionId { topic: Uuid::from_bytes(topic), partition: u32_at(bytes, 16) as i32 },
        leader_epoch: LeaderEpoch(u32_at(bytes, 20) as i32),
        base_offset: Offset(u64_at(bytes, 24) as i64),
        end_offset: Offset(u64_at(bytes, 32) as i64),
        segment_base: Offset(u64_at(bytes, 40) as i64),
        position: Position(u64_at(bytes, 48)),
        length: u32_at(bytes, 56),
        bytes: stored,
    };
    let sound = 0 <= entry.segment_base.0
        && entry.segment_base <= entry.base_offset
        && (entry.base_offset < entry.end_offset || entry.is_revocation())
        && entry.position.0 < 1 << 40;
    sound.then_some(entry)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: EntryBytes, length: u32) -> Entry {
        Entry {
            partition: PartitionId { topic: Uuid::from_u128(7), partition: 3 },
            leader_epoch: LeaderEpoch(5),
            base_offset: Offset(100),
            end_offset: Offset(103),
            segment_base: Offset(90),
            position: Position(4000),
            length,
            bytes,
        }
    }

    fn group() -> (GroupHeader, Vec<Entry>, Vec<u8>) {
        let header =
            GroupHeader { journal: 42, sequence: 9, tail_sequence: 4, previous_crc: 77, capacity: 65_536 };
        let entries = vec![entry(EntryBytes::Copied, 5), entry(EntryBytes::InSegment { crc: 1 }, 70_000)];
        let mut out = vec![0xff; group_bytes(2, 5)];
        let at = GROUP_HEADER_BYTES + 2 * ENTRY_BYTES;
        out[at..at + 5].copy_from_slice(b"batch");
        encode_group(&header, &entries, &mut out);
        (header, entries, out)
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let (header, entries, bytes) = group();
        let group = decode_group(42, &bytes).expect("a whole group");
        assert_eq!(group.header, header);
        assert_eq!(group.length, BLOCK_BYTES);
        let read: Vec<Entry> = group.entries.iter().map(|(entry, _)| *entry).collect();
        assert_eq!(read, entries);
        let at = group.entries[0].1;
        assert_eq!(&bytes[at..at + 5], b"batch");
        assert_eq!(decode_group(43, &bytes), Err(GroupError::Absent));
    }

    #[test]
    fn no_flipped_bit_of_the_used_bytes_goes_unnoticed() {
        let (.., bytes) = group();
        let used = GROUP_HEADER_BYTES + 2 * ENTRY_BYTES + 5;
        for bit in 0..used * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_group(42, &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_golden_bytes_of_a_header_do_not_change() {
        let (.., bytes) = group();
        let header: String = bytes[..64].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            header,
            "464c554d47525031\
             2a000000000000000000000000000000\
             0900000000000000\
             0400000000000000\
             d5000000\
             02000000\
             4d000000\
             "
            .to_owned()
                + &header[104..112]
                + "0000010000000000"
        );
        let mut block = vec![0; BLOCK_BYTES];
        encode_file_header(42, &mut block);
        assert_eq!(decode_file_header(&block), Some(42));
        block[9] ^= 1;
        assert_eq!(decode_file_header(&block), None);
    }
}
