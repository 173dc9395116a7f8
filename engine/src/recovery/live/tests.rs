//! Journals made by hand, read by their cursor and as a whole.

use super::super::memory_file::MemoryFile;
use super::*;
use crate::journal::format::{GroupHeader, encode_file_header, encode_group, group_bytes};

const JOURNAL: JournalId = 42;

/// A ring that writes groups of some blocks each, the tail `lag` groups behind, and notes where each is.
struct Written {
    bytes: Vec<u8>,
    cursors: Vec<Cursor>,
}

fn write(file_blocks: usize, lengths: impl IntoIterator<Item = usize>, lag: u64) -> Written {
    let mut bytes = vec![0; file_blocks * BLOCK_BYTES];
    encode_file_header(JOURNAL, &mut bytes[..BLOCK_BYTES]);
    let capacity = bytes.len() as u64;
    let mut cursors = vec![Cursor { sequence: 1, position: BLOCK, previous_crc: 0, capacity }];
    let mut needed: Vec<(u64, Range<u64>)> = Vec::new();
    for blocks in lengths {
        let at = *cursors.last().expect("there is one");
        let length = (blocks * BLOCK_BYTES) as u64;
        let position = if at.position + length <= capacity { at.position } else { BLOCK };
        let room = position..position + length;
        // As of the ring: what the group before it calls needed is not written over, for this one may be torn.
        for (sequence, taken) in &needed {
            let is_free = room.end <= taken.start || taken.end <= room.start;
            assert!(is_free, "group {} at {room:?}, where {sequence} is needed", at.sequence);
        }
        let header = GroupHeader {
            journal: JOURNAL,
            sequence: at.sequence,
            tail_sequence: at.sequence.saturating_sub(lag).max(1),
            previous_crc: at.previous_crc,
            capacity,
        };
        let crc = encode_long_group(&header, &mut bytes[room.start as usize..room.end as usize]);
        needed.push((header.sequence, room));
        needed.retain(|(sequence, _)| *sequence >= header.tail_sequence);
        cursors.push(Cursor {
            sequence: at.sequence + 1,
            position: position + length,
            previous_crc: crc,
            capacity,
        });
    }
    Written { bytes, cursors }
}

/// A group that fills `out`, with one entry that has the bytes.
fn encode_long_group(header: &GroupHeader, out: &mut [u8]) -> u32 {
    use crate::journal::format::{Entry, EntryBytes};
    use crate::{LeaderEpoch, Offset, PartitionId, Position};
    let length = (out.len() - group_bytes(1, 0) + 1) as u32;
    let entry = Entry {
        partition: PartitionId { topic: uuid::Uuid::from_u128(7), partition: 0 },
        leader_epoch: LeaderEpoch(0),
        base_offset: Offset(header.sequence as i64),
        end_offset: Offset(header.sequence as i64 + 1),
        segment_base: Offset(0),
        position: Position(0),
        length,
        bytes: EntryBytes::Copied,
    };
    assert_eq!(group_bytes(1, length as usize), out.len());
    out.fill(header.sequence as u8);
    encode_group(header, &[entry], out)
}

struct Outcome {
    sequences: Result<Vec<u64>, String>,
    read_bytes: u64,
}

fn outcome(
    bytes: &[u8],
    read: impl AsyncFnOnce(&Rc<dyn DataFile>) -> Result<LiveGroups, RecoveryError>,
) -> Outcome {
    let memory = Rc::new(MemoryFile::new(bytes.to_vec()));
    let file: Rc<dyn DataFile> = memory.clone();
    let live = run(read(&file));
    let sequences = live.map_err(|error| error.to_string()).map(|live| {
        for found in &live.groups {
            let group = &bytes[found.position as usize..][..found.group.length];
            assert_eq!(decode_group(JOURNAL, group).as_ref(), Ok(&found.group));
            let held = found.group.entries.iter().map(|(entry, at)| &group[*at..*at + entry.length as usize]);
            match &found.bytes {
                GroupBytes::Kept(kept) => assert_eq!(kept, group),
                GroupBytes::InFile(crcs) => assert_eq!(*crcs, held.map(crc32c).collect::<Vec<u32>>()),
            }
        }
        live.groups.iter().map(|found| found.group.header.sequence).collect()
    });
    Outcome { sequences, read_bytes: memory.read_bytes.get() }
}

/// Nothing here waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
    }
}

/// What may be kept of a journal: half of it, so that both ways are gone.
fn half_of(journal: &[u8]) -> Cell<u64> {
    Cell::new(journal.len() as u64 / 2)
}

fn followed(bytes: &[u8], cursor: Cursor) -> Outcome {
    outcome(bytes, async |file| {
        follow(file, bytes.len() as u64, "core-0", JOURNAL, cursor, &half_of(bytes)).await
    })
}

fn searched(bytes: &[u8]) -> Outcome {
    outcome(bytes, async |file| search(file, bytes.len() as u64, "core-0", JOURNAL, &half_of(bytes)).await)
}

#[test]
fn of_a_long_journal_only_what_is_live_is_read() {
    let blocks = (64 << 20) / BLOCK_BYTES;
    let written = write(blocks, std::iter::repeat_n(16, 2500), 10);
    let live = followed(&written.bytes, written.cursors[2490]);
    assert_eq!(live.sequences, Ok((2491..=2500).collect()));
    assert!(live.read_bytes < 16 << 20, "{}", live.read_bytes);
    let nothing = followed(&written.bytes, written.cursors[2500]);
    assert_eq!(nothing.sequences, Ok(Vec::new()));
    assert!(nothing.read_bytes < 16 << 20, "{}", nothing.read_bytes);
}

#[test]
fn no_more_is_kept_than_may_be() {
    let written = write(64, [3; 20], 20);
    let memory = Rc::new(MemoryFile::new(written.bytes.clone()));
    let file: Rc<dyn DataFile> = memory;
    // Of two journals.
    let may_keep = Cell::new(25 * 3 * BLOCK_BYTES as u64);
    for kept in [20, 5] {
        let length = written.bytes.len() as u64;
        let live =
            run(follow(&file, length, "core-0", JOURNAL, written.cursors[0], &may_keep)).expect("sound");
        let is_kept = |found: &LiveGroup| matches!(found.bytes, GroupBytes::Kept(_));
        assert_eq!(live.groups.len(), 20);
        assert_eq!(live.groups.iter().filter(|found| is_kept(found)).count(), kept);
    }
    assert_eq!(followed(&written.bytes, written.cursors[0]).sequences, Ok((1..=20).collect()));
}

#[test]
fn the_chain_goes_on_at_the_first_block() {
    // Fifteen blocks: the fourth group does not fit behind the third, and takes the place of the first.
    let written = write(16, [5, 5, 4, 3, 1], 1);
    assert_eq!(followed(&written.bytes, written.cursors[1]).sequences, Ok(vec![2, 3, 4, 5]));
    assert_eq!(followed(&written.bytes, written.cursors[3]).sequences, Ok(vec![4, 5]));
    assert_eq!(followed(&written.bytes, written.cursors[5]).sequences, Ok(Vec::new()));
    // And where nothing is live, behind the last of a lap.
    let written = write(13, [5, 5], 0);
    assert_eq!(followed(&written.bytes, written.cursors[2]).sequences, Ok(Vec::new()));
}

#[test]
fn a_torn_group_at_the_end_is_dropped() {
    let mut written = write(64, [3, 3, 3], 2);
    let torn = written.cursors[2].position as usize + 2 * BLOCK_BYTES;
    written.bytes[torn] ^= 1;
    assert_eq!(followed(&written.bytes, written.cursors[0]).sequences, Ok(vec![1, 2]));
}

#[test]
fn damage_before_the_newest_group_is_told_from_its_end() {
    for (blocks, lengths) in [(64, [3, 3, 3, 3]), (10, [3, 3, 3, 2])] {
        // In the header, so that nothing says where the next group is; and in the bytes.
        for at in [3, 2 * BLOCK_BYTES] {
            for damaged in 0..3 {
                let mut written = write(blocks, lengths, 1);
                if blocks == 10 && damaged == 0 {
                    // The fourth lies where the first was.
                    continue;
                }
                let group = written.cursors[damaged];
                written.bytes[group.position as usize + at] ^= 1;
                let from = usize::from(blocks == 10);
                let found = followed(&written.bytes, written.cursors[from]).sequences;
                let error = found.expect_err("a later group is there");
                assert!(error.contains(&format!("group {} is missing", group.sequence)), "{error}");
            }
        }
    }
}

#[test]
fn what_another_journal_left_is_no_group() {
    let written = write(64, [2, 2, 2], 0);
    let live = outcome(&written.bytes, async |file| {
        follow(file, written.bytes.len() as u64, "core-0", JOURNAL + 1, written.cursors[1], &Cell::new(0))
            .await
    });
    assert_eq!(live.sequences, Ok(Vec::new()));
}

proptest::proptest! {
    /// Whatever was written: following the chain finds what a look at the whole file finds.
    #[test]
    fn both_ways_find_the_same(
        // The header, six groups (the tail, four behind it and the next), and what is left at the end of a lap.
        blocks in 1 + 6 * 5 + 4usize..60,
        lengths in proptest::collection::vec(1usize..6, 0..120),
        lag in 0u64..5,
        torn in proptest::option::of(0usize..5),
    ) {
        let count = lengths.len();
        let mut written = write(blocks, lengths.iter().copied(), lag);
        if let (Some(block), Some(last)) = (torn, lengths.last()) {
            let newest = written.cursors[count];
            let start = newest.position as usize - last * BLOCK_BYTES;
            written.bytes[start + block % last * BLOCK_BYTES + 60] ^= 1;
        }
        let whole = searched(&written.bytes);
        let tail = match &whole.sequences {
            Ok(live) => live.first().copied().unwrap_or(count as u64 + 1).min(count as u64 + 1),
            Err(error) => panic!("{error}"),
        };
        let live = followed(&written.bytes, written.cursors[tail as usize - 1]);
        proptest::prop_assert_eq!(live.sequences, whole.sequences);
    }
}
