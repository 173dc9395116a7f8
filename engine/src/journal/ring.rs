//! Which blocks of the journal's file hold what: where the next group goes, and when its room is free again.
//!
//! Pure bookkeeping. Invariants:
//! - Groups are contiguous; one that does not fit before the end of the file starts at the first block.
//! - A group's room is used again only once a *durable* group says that it is no longer needed
//!   (`tail_sequence`): so whatever newest group recovery finds, all that it still needs are whole.
//! - One block stays in reserve, for an empty group that only moves the tail; so a full ring can always go on.

use std::collections::VecDeque;

use super::format::{BLOCK_BYTES, Cursor};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The ring of one journal.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The end of the file's part that is written over; grows up to the configured length.
    capacity: u64,
    /// Where the next group would go, if it fits before `capacity`.
    head: u64,
    /// The number that the next group gets.
    next_sequence: u64,
    /// CRC of the newest group.
    previous_crc: u32,
    /// Groups that recovery may need, oldest first, up to the newest.
    live: VecDeque<LiveGroup>,
    /// The oldest group that is still needed, or `next_sequence`.
    tail_sequence: u64,
    /// Bytes of the groups from `tail_sequence` on.
    needed_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct LiveGroup {
    sequence: u64,
    position: u64,
    length: u64,
    previous_crc: u32,
}

impl Ring {
    /// An empty ring: the header block, then `capacity` − 4 KiB for groups.
    pub(crate) fn new(capacity: u64) -> Self {
        assert!(capacity >= 4 * BLOCK && capacity.is_multiple_of(BLOCK), "a journal of {capacity} bytes");
        Self {
            capacity,
            head: BLOCK,
            next_sequence: 1,
            previous_crc: 0,
            live: VecDeque::new(),
            tail_sequence: 1,
            needed_bytes: 0,
        }
    }

    /// Where a group of `length` bytes can go now. `reserve`: leave room for one more block behind it.
    pub(crate) fn place(&self, length: usize, reserve: bool) -> Option<u64> {
        let length = length as u64;
        let position = self.place_behind(self.head, length)?;
        if reserve && self.place_behind_after(position, length).is_none() {
            return None;
        }
        Some(position)
    }

    /// The number and the chained CRC that the next group carries.
    pub(crate) fn next(&self) -> (u64, u32) {
        (self.next_sequence, self.previous_crc)
    }

    /// The oldest group that is still needed, as the next group's header says.
    pub(crate) fn tail_sequence(&self) -> u64 {
        self.tail_sequence.min(self.next_sequence)
    }

    /// A group was placed; it is in the file, or under way.
    pub(crate) fn push(&mut self, position: u64, length: usize, crc: u32) {
        self.live.push_back(LiveGroup {
            sequence: self.next_sequence,
            position,
            length: length as u64,
            previous_crc: self.previous_crc,
        });
        self.head = position + length as u64;
        self.needed_bytes += length as u64;
        self.next_sequence += 1;
        self.previous_crc = crc;
    }

    /// Where the group of this number is: one that is live, or the next one.
    pub(crate) fn cursor(&self, sequence: u64) -> Cursor {
        let oldest = self.live.front().map_or(self.next_sequence, |group| group.sequence);
        assert!(oldest <= sequence && sequence <= self.next_sequence, "{sequence} of {}", self.next_sequence);
        let (position, previous_crc) = self
            .live
            .get((sequence - oldest) as usize)
            .map_or((self.head, self.previous_crc), |group| (group.position, group.previous_crc));
        Cursor { sequence, position, previous_crc, capacity: self.capacity }
    }

    /// Groups below `sequence` are no longer needed; their room is free once a durable group says so.
    pub(crate) fn release(&mut self, sequence: u64) {
        assert!(sequence <= self.next_sequence, "{sequence} of {}", self.next_sequence);
        let oldest = self.live.front().map_or(self.next_sequence, |group| group.sequence);
        while self.tail_sequence < sequence {
            let index = self.tail_sequence - oldest;
            self.needed_bytes -= self.live[index as usize].length;
            self.tail_sequence += 1;
        }
    }

    /// A group whose header says `tail_sequence` is durable.
    pub(crate) fn committed(&mut self, tail_sequence: u64) {
        while self.live.front().is_some_and(|group| group.sequence < tail_sequence) {
            self.live.pop_front();
        }
    }

    /// Whether an empty group would free room.
    pub(crate) fn can_move_tail(&self) -> bool {
        self.live.front().is_some_and(|group| group.sequence < self.tail_sequence)
    }

    /// How many bytes groups take that are still needed, from the oldest to the newest.
    pub(crate) fn needed_bytes(&self) -> u64 {
        self.needed_bytes
    }

    /// The end of the part that is written over.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// More of the file is ready to be written over. Room is added behind the lap's end, so it may be added
    /// at any time.
    pub(crate) fn grow(&mut self, capacity: u64) {
        assert!(capacity >= self.capacity && capacity.is_multiple_of(BLOCK));
        self.capacity = capacity;
    }

    fn place_behind(&self, head: u64, length: u64) -> Option<u64> {
        let Some(tail) = self.live.front().map(|group| group.position) else {
            return if head + length <= self.capacity {
                Some(head)
            } else {
                (BLOCK + length <= self.capacity).then_some(BLOCK)
            };
        };
        Self::fit(head, tail, self.capacity, length)
    }

    fn place_behind_after(&self, position: u64, length: u64) -> Option<u64> {
        let tail = self.live.front().map_or(position, |group| group.position);
        Self::fit(position + length, tail, self.capacity, BLOCK)
    }

    /// Room between a head and the oldest block in use. `head == tail` with something in use is full.
    fn fit(head: u64, tail: u64, capacity: u64, length: u64) -> Option<u64> {
        if head > tail {
            if head + length <= capacity {
                return Some(head);
            }
            return (BLOCK + length <= tail).then_some(BLOCK);
        }
        (head + length <= tail).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a model that owns every block: no live block is written over, and the ring never locks up.
        #[test]
        fn a_live_group_is_never_written_over(
            steps in prop::collection::vec((1usize..6, 0u64..8, prop::bool::ANY), 1..300),
        ) {
            let blocks = 24usize;
            let mut ring = Ring::new(blocks as u64 * BLOCK);
            let mut owner = vec![0u64; blocks];
            let mut durable_tail = 1;
            for (length, lag, reserve_only) in steps {
                // The reserve is for a group that moves the tail, and for nothing else.
                let reserve_only = reserve_only && ring.can_move_tail();
                let bytes = if reserve_only { BLOCK_BYTES } else { length * BLOCK_BYTES };
                let position = match ring.place(bytes, !reserve_only) {
                    Some(position) => Some((position, bytes)),
                    None if ring.can_move_tail() => {
                        Some((ring.place(BLOCK_BYTES, false).expect("the reserve"), BLOCK_BYTES))
                    }
                    None => {
                        // Full of what is needed: all of it is flushed, as write-behind would do.
                        ring.release(ring.next().0);
                        Some((ring.place(BLOCK_BYTES, false).expect("the reserve"), BLOCK_BYTES))
                    }
                };
                let (position, bytes) = position.expect("placed");
                let (sequence, _) = ring.next();
                let tail = ring.tail_sequence();
                let first = (position / BLOCK) as usize;
                for block in &mut owner[first..first + bytes / BLOCK_BYTES] {
                    prop_assert!(*block == 0 || *block < durable_tail, "group {} at {first}", *block);
                    *block = sequence;
                }
                prop_assert!(first >= 1);
                ring.push(position, bytes, sequence as u32);
                ring.committed(tail);
                durable_tail = tail;
                ring.release((sequence + 1).saturating_sub(lag).max(1));
            }
        }
    }
}
