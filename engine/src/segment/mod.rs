//! One segment: a range of the log in one file, from the first published byte to the exact, sealed file.
//!
//! Owned by its partition, on its core. Positions, each a byte count from the start of the file:
//!
//! ```text
//! 0 ........ flushed ........ written ........ end              allocated
//! └ fdatasynced ┘└ in the file ┘└ in the cache only ┘└ not there yet ┘
//! ```
//!
//! Invariants: `flushed <= written <= end`; bytes below `end` never change; the extents are contiguous, end at
//! `end`, and hold at least everything behind `align_down(written)`. The file is written in whole blocks; its
//! last one comes from a zero-padded copy and is written again when more follows: the bytes that were there
//! are the same, so a torn block loses nothing.
//!
//! A crash leaves a file with `flushed` sound bytes, then anything, then zeros to its allocated length.

mod lookup;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use flumen_ring::{BUFFER_ALIGNMENT, CHUNK_BYTES, Region, Slice};

pub(crate) use lookup::Lookup;

use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::cache::{EXTENT_CLASSES, Listing};
use crate::sequence::Sequence;
use crate::storage::DataFile;
use crate::{Offset, Position, Timestamp};

/// Files are written in multiples of this, in bytes.
pub(crate) const BLOCK_BYTES: u64 = BUFFER_ALIGNMENT as u64;
/// The first step in which a segment's file is allocated, in bytes; each is twice the one before.
const ALLOCATION_BYTES_MIN: u64 = 64 << 10;
/// The largest step.
const ALLOCATION_BYTES_MAX: u64 = 32 << 20;
/// An extent that fills within this earns the next class.
const EXTENT_FILL_TIME: Duration = Duration::from_secs(1);
/// A Whole chunk is for partitions that fill its quarter within this: about 2 MiB/s.
const WHOLE_FILL_TIME: Duration = Duration::from_millis(125);

/// An extent that was earned is not made smaller than so many batches: a write that begins and ends within one needs no
/// copy.
const BATCHES_IN_EXTENT: usize = 4;

/// Who reads so near the end finds what is appended in the processor's caches.
const READ_ALONG_BYTES: u64 = 4 << 20;

/// One segment of a partition's log.
pub(crate) struct Segment {
    /// The offset of its first record, and its file's name.
    pub(crate) base: Offset,
    /// The offset behind its last record.
    pub(crate) next: Offset,
    /// Published bytes.
    pub(crate) end: u64,
    /// Bytes that a completed write put into the file.
    pub(crate) written: u64,
    /// Bytes that a completed fdatasync covers.
    pub(crate) flushed: u64,
    /// The offset at `flushed`, which is the end of a batch.
    pub(crate) flushed_next: Offset,
    /// Bytes that the file has room for.
    pub(crate) allocated: u64,
    /// The open file; `None` before its first use.
    pub(crate) file: Option<Rc<dyn DataFile>>,
    /// Whether the file is there, its name durable.
    pub(crate) is_created: bool,
    /// Whether it is cut to its exact size and flushed: nothing is ever written again.
    pub(crate) is_sealed: bool,
    /// The largest timestamp, and the last offset of the batch that has it.
    pub(crate) largest: (Timestamp, Offset),
    /// The first batch's largest timestamp, by which the segment ages; `None` while it is empty, and of one that an
    /// earlier life began until it is asked for.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// When it was written; `None` while it is empty.
    pub(crate) written_at: Option<Written>,
    /// Whether `largest` is of the whole segment, not of a part behind a recovery or a cut.
    knows_age: bool,
    /// Offsets and times to positions; `None` for a sealed segment that nobody looked into for a while. Its index files
    /// say the same.
    pub(crate) lookup: Option<Lookup>,
    /// What its core had appended in all, in bytes, when this was last appended to; `None` in an earlier life.
    pub(crate) appended_at: Option<u64>,
    /// The producers as of its base, to be written beside it.
    pub(crate) snapshot: Option<Vec<u8>>,
    /// Up to where it was read; `None` where it was not.
    pub(crate) read_to: Cell<Option<Position>>,
    /// Its entries in the list of those that hold extents.
    pub(crate) listing: Listing,
    extents: Sequence<Extent>,
    /// The bytes from `align_down(end)` to `end`, while no extent holds them.
    tail: Vec<u8>,
    allocation_bytes: u64,
    extent_bytes: usize,
    /// Since then, and in how many bytes of extents, it fills what it earned.
    paced_since: Duration,
    paced_bytes: usize,
}

/// When a segment was written, by the broker's clock: by this it ages where its records have no timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its first batch; of an earlier life only the last one is known.
    pub(crate) first: Timestamp,
    /// Its last batch; in an earlier life, its file.
    pub(crate) last: Timestamp,
}

impl Written {
    /// At this moment.
    pub(crate) fn once(at: Timestamp) -> Self {
        Self { first: at, last: at }
    }
}

/// When what is published is most likely read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// While the processor's caches may have it.
    Soon,
    /// Not before much else was published.
    Late,
}

/// Room that a segment's file needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) position: u64,
    /// With what is likely to be needed next, in bytes.
    pub(crate) length: u64,
    /// What a nearly full disk has to have, in bytes.
    pub(crate) length_min: u64,
}

struct Extent {
    start: u64,
    region: Region,
}

impl Extent {
    fn end(&self) -> u64 {
        self.start + self.region.len() as u64
    }
}

impl Segment {
    /// A segment that starts now: no file yet.
    pub(crate) fn new(base: Offset) -> Self {
        Self {
            base,
            next: base,
            end: 0,
            written: 0,
            flushed: 0,
            flushed_next: base,
            allocated: 0,
            file: None,
            is_created: false,
            is_sealed: false,
            largest: (Timestamp(-1), base),
            first_timestamp: None,
            written_at: None,
            knows_age: true,
            lookup: Some(Lookup::new(base, Position(0), base)),
            appended_at: None,
            snapshot: None,
            read_to: Cell::new(None),
            listing: Listing::default(),
            extents: Sequence::new(),
            tail: Vec::new(),
            allocation_bytes: ALLOCATION_BYTES_MIN,
            extent_bytes: EXTENT_CLASSES[0],
            paced_since: Duration::ZERO,
            paced_bytes: 0,
        }
    }

    /// A segment that recovery found: `end` durable bytes up to `next`; `tail` is its last partial block.
    pub(crate) fn recovered(base: Offset, next: Offset, end: u64, tail: Vec<u8>) -> Self {
        assert!(tail.is_empty() || tail.len() as u64 == end % BLOCK_BYTES);
        Self {
            next,
            end,
            written: end,
            flushed: end,
            flushed_next: next,
            allocated: end,
            is_created: true,
            knows_age: false,
            lookup: None,
            tail,
            allocation_bytes: allocation_after(end),
            ..Self::new(base)
        }
    }

    /// How large the next extent should be for `length` more bytes, beside extents with `room`; `None` if they suffice.
    /// Asked before anything is placed, so that a batch is placed whole or not at all. What the segment earned by its
    /// pace it gets if that is a whole chunk; else at most `shared_max` bytes, or what holds [`BATCHES_IN_EXTENT`] like this.
    pub(crate) fn extent_wanted(
        &self,
        length: usize,
        room: usize,
        shared_max: impl FnOnce() -> usize,
    ) -> Option<usize> {
        let have = room + self.tail_room();
        let start_overhead = if self.extents.is_empty() { (self.end % BLOCK_BYTES) as usize } else { 0 };
        let need = length + start_overhead;
        (need > have).then(|| {
            let earned = if self.extent_bytes < CHUNK_BYTES {
                self.extent_bytes.min(shared_max().max(BATCHES_IN_EXTENT * length))
            } else {
                CHUNK_BYTES
            };
            earned.max((need - have).min(CHUNK_BYTES))
        })
    }

    fn tail_room(&self) -> usize {
        self.extents.newest().map_or(0, |extent| extent.region.capacity() - extent.region.len())
    }

    /// Whether somebody reads what is appended soon after.
    pub(crate) fn is_read_along(&self) -> bool {
        self.read_to.get().is_some_and(|to| self.end - to.0 <= READ_ALONG_BYTES)
    }

    /// Publishes `bytes` behind the end. `spare` has extents enough; they are taken from its front.
    pub(crate) fn publish(
        &mut self,
        mut bytes: &[u8],
        reading: Reading,
        spare: &mut VecDeque<Region>,
        now: Duration,
    ) {
        while !bytes.is_empty() {
            let room = self.tail_room();
            if room == 0 {
                self.start_extent(spare, now);
                continue;
            }
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            let extent = self.extents.newest_mut().expect("there is room in it");
            match reading {
                Reading::Soon => extent.region.publish(head),
                Reading::Late => extent.region.publish_unread(head),
            }
            self.end += head.len() as u64;
            bytes = rest;
        }
    }

    fn start_extent(&mut self, spare: &mut VecDeque<Region>, now: Duration) {
        let mut region = spare.pop_front().expect("extents were reserved before");
        match self.extents.newest() {
            Some(full) => {
                self.paced_bytes += full.region.capacity();
                self.earn_class(now);
            }
            None => (self.paced_since, self.paced_bytes) = (now, 0),
        }
        let start = align_down(self.end);
        if start < self.end {
            assert_eq!(self.tail.len() as u64, self.end - start, "the tail block is kept");
            region.publish(&self.tail);
            self.tail = Vec::new();
        }
        self.extents.push(Extent { start, region });
    }

    /// By how long it takes to fill an extent of what it earned before, whatever it got.
    fn earn_class(&mut self, now: Duration) {
        let filled_in = now.saturating_sub(self.paced_since);
        if self.paced_bytes < self.extent_bytes && filled_in <= 4 * EXTENT_FILL_TIME {
            return;
        }
        (self.paced_since, self.paced_bytes) = (now, 0);
        let class = EXTENT_CLASSES.iter().position(|class| *class >= self.extent_bytes).unwrap_or(0);
        let limit = if class + 2 == EXTENT_CLASSES.len() { WHOLE_FILL_TIME } else { EXTENT_FILL_TIME };
        if filled_in <= limit && class + 1 < EXTENT_CLASSES.len() {
            self.extent_bytes = EXTENT_CLASSES[class + 1];
        } else if filled_in > 4 * EXTENT_FILL_TIME {
            self.extent_bytes = EXTENT_CLASSES[0];
        }
    }

    /// Where the cache begins: everything from here to the end is in memory.
    pub(crate) fn cached_from(&self) -> u64 {
        self.extents.oldest().map_or(self.end, |extent| extent.start)
    }

    /// The bytes of a cached range, in order.
    ///
    /// # Panics
    /// If it is not in the cache.
    pub(crate) fn cached(&self, from: u64, to: u64) -> Vec<Slice> {
        assert!(self.cached_from() <= from && to <= self.end, "{from}..{to} of {}", self.end);
        let mut slices = Vec::with_capacity(1);
        let mut at = from;
        let first = self.extents.partition_point(|extent| extent.end() <= from);
        for extent in self.extents.iter().skip(first) {
            if at >= to {
                break;
            }
            let upto = extent.end().min(to);
            slices.push(extent.region.slice((at - extent.start) as usize..(upto - extent.start) as usize));
            at = upto;
        }
        slices
    }

    /// The header of the batch at `position`, which is cached and below the end.
    pub(crate) fn cached_header(&self, position: u64) -> BatchHeader {
        let mut bytes = [0; HEADER_BYTES];
        let mut filled = 0;
        for slice in self.cached(position, position + HEADER_BYTES as u64) {
            bytes[filled..filled + slice.len()].copy_from_slice(&slice);
            filled += slice.len();
        }
        zerocopy::transmute!(bytes)
    }

    /// Copies a cached range, block-aligned at its start and zero-padded to whole blocks, for a write.
    pub(crate) fn copy_blocks(&self, from: u64, to: u64, out: &mut [u8]) {
        let mut at = 0;
        for slice in self.cached(from, to) {
            out[at..at + slice.len()].copy_from_slice(&slice);
            at += slice.len();
        }
        out[at..].fill(0);
    }

    /// The whole blocks from `from`, an aligned position, that lie in one extent.
    pub(crate) fn whole_blocks_at(&self, from: u64, length_max: u64) -> Option<Slice> {
        let index = self.extents.partition_point(|extent| extent.end() <= from);
        let extent = self.extents.get(index)?;
        let to = align_down(extent.end().min(from + length_max));
        (extent.start <= from && from < to)
            .then(|| extent.region.slice((from - extent.start) as usize..(to - extent.start) as usize))
    }

    /// How far `from..to` is in pieces of extents of less than `enough` bytes, but for the first one: what has to be
    /// gathered for one write. Where more follows on `to`, it ends with an extent if one ends there, so that the next
    /// write begins with one, and needs no copy.
    pub(crate) fn gathered_to(&self, from: u64, to: u64, enough: u64, goes_on: bool) -> u64 {
        let first = self.extents.partition_point(|extent| extent.end() <= from);
        let (mut at, mut extent_end) = (from, None);
        for extent in self.extents.iter().skip(first) {
            let end = extent.end().min(to);
            if at == to || at > from && end - at >= enough {
                break;
            }
            at = end;
            if at == extent.end() && at.is_multiple_of(BLOCK_BYTES) {
                extent_end = Some(at);
            }
        }
        extent_end.filter(|_| goes_on).unwrap_or(at)
    }

    /// How much more the file needs so that `end` fits.
    pub(crate) fn allocation_for(&self, end: u64) -> Option<Allocation> {
        let position = align_down(self.allocated);
        let need = end.next_multiple_of(BLOCK_BYTES);
        (need > self.allocated).then(|| {
            let length_min = need - position.min(need);
            let length = length_min.max(self.allocation_bytes).next_multiple_of(BLOCK_BYTES);
            Allocation { position, length, length_min }
        })
    }

    /// The file has room up to `allocated`.
    pub(crate) fn allocated_to(&mut self, allocated: u64) {
        self.allocated = allocated;
        self.allocation_bytes = (self.allocation_bytes * 2).min(ALLOCATION_BYTES_MAX);
    }

    /// The file was, or is about to be, cut to `length`; what it takes next is allocated in the smallest steps.
    pub(crate) fn cut_back(&mut self, length: u64) {
        self.allocated = length;
        self.allocation_bytes = BLOCK_BYTES;
    }

    /// Bytes that are published and not in the file yet.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.end - self.written
    }

    /// Gives back the oldest extent if all of it is in the file and below `settled` (nobody will ask for it to
    /// be journaled). The last extent goes only with `idle`; its partial block is kept.
    pub(crate) fn evict(&mut self, settled: u64, idle: bool) -> Option<Region> {
        let extent = self.extents.oldest()?;
        let clean = extent.end() <= self.written && extent.end() <= settled;
        let last = self.extents.len() == 1;
        if !clean || (last && !idle && !self.is_sealed) {
            return None;
        }
        if last && !self.is_sealed {
            let from = align_down(self.end);
            self.tail = if from < self.end {
                let start = (from - extent.start) as usize;
                extent.region.slice(start..extent.region.len()).to_vec()
            } else {
                Vec::new()
            };
            self.extent_bytes = EXTENT_CLASSES[0];
        }
        self.extents.pop_oldest().map(|extent| extent.region)
    }

    /// Gives back every extent, whatever its state: the segment goes away.
    pub(crate) fn drop_extents(&mut self) -> impl Iterator<Item = Region> {
        self.tail = Vec::new();
        self.extents.split_off(0).into_iter().map(|extent| extent.region)
    }

    /// Whether `largest` is of the whole segment, not of a part behind a recovery or a cut.
    pub(crate) fn knows_age(&self) -> bool {
        self.knows_age
    }

    /// Has a look-up of what the caller found; `largest` is of as much.
    pub(crate) fn look_up_by(&mut self, lookup: Lookup) {
        self.knows_age |= lookup.is_complete();
        self.lookup = Some(lookup);
    }

    /// Its age's beginning, as in Kafka's `LogSegment.largestTimestamp`: its largest timestamp or, if none of its
    /// records has one, when it was last written. `None` while that is not known.
    pub(crate) fn ages_from(&self) -> Option<Timestamp> {
        match self.largest.0 {
            _ if !self.knows_age() => None,
            largest if largest.0 >= 0 => Some(largest),
            _ => self.written_at.map(|written| written.last),
        }
    }

    /// Something is appended now.
    pub(crate) fn note_written(&mut self, now: Timestamp) {
        self.written_at.get_or_insert(Written::once(now)).last = now;
    }

    /// Whether where its batches start is known from an index file, which may be wrong.
    pub(crate) fn is_looked_up_by_file(&self) -> bool {
        self.lookup.as_ref().is_some_and(|lookup| !lookup.is_proved())
    }

    /// Whether the oldest extent is a chunk of its own with others behind it: readers may come back for it, and
    /// whoever is short of memory can take it.
    pub(crate) fn holds_whole_chunks(&self) -> bool {
        let largest = EXTENT_CLASSES[EXTENT_CLASSES.len() - 1];
        self.extents.len() > 1
            && self.extents.oldest().is_some_and(|oldest| oldest.region.capacity() >= largest)
    }

    /// How many extents are held.
    pub(crate) fn extents(&self) -> usize {
        self.extents.len()
    }

    /// Whether an extent is held.
    pub(crate) fn has_extents(&self) -> bool {
        !self.extents.is_empty()
    }
}

/// The start of the block that holds `position`.
pub(crate) fn align_down(position: u64) -> u64 {
    position / BLOCK_BYTES * BLOCK_BYTES
}

fn allocation_after(length: u64) -> u64 {
    let steps = length.next_power_of_two();
    steps.clamp(ALLOCATION_BYTES_MIN, ALLOCATION_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(sizes: &[usize]) -> VecDeque<Region> {
        sizes.iter().map(|size| Region::on_heap(*size)).collect()
    }

    #[test]
    fn a_batch_may_straddle_extents_and_is_read_as_one() {
        let mut segment = Segment::new(Offset(0));
        let bytes: Vec<u8> = (0..20_000u32).map(|index| index as u8).collect();
        assert_eq!(segment.extent_wanted(bytes.len(), 0, || EXTENT_CLASSES[3]), Some(20_000));
        segment.publish(&bytes, Reading::Soon, &mut spare(&[16 << 10, 16 << 10]), Duration::ZERO);
        let slices = segment.cached(100, 19_000);
        assert_eq!(slices.len(), 2);
        let read: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(read, bytes[100..19_000]);
    }

    #[test]
    fn a_whole_chunk_is_earned_by_the_pace_alone() {
        const SHARED_MAX: usize = 64 << 10;
        // The largest extent that is wanted, if batches of 64 KiB come so often for two seconds.
        let earned_with = |interval: Duration| {
            let mut segment = Segment::new(Offset(0));
            let (mut now, mut spare, mut largest) = (Duration::ZERO, VecDeque::new(), 0);
            while now < Duration::from_secs(2) {
                let batch = [1; (64 << 10) + 100];
                loop {
                    let room = spare.iter().map(Region::capacity).sum();
                    let Some(wanted) = segment.extent_wanted(batch.len(), room, || SHARED_MAX) else { break };
                    largest = largest.max(wanted);
                    // No more than this is free.
                    spare.push_back(Region::on_heap(SHARED_MAX));
                }
                segment.publish(&batch, Reading::Soon, &mut spare, now);
                now += interval;
            }
            largest
        };
        let whole = EXTENT_CLASSES[EXTENT_CLASSES.len() - 1];
        assert_eq!(earned_with(Duration::from_millis(20)), whole, "3.2 MB/s");
        let slower = earned_with(Duration::from_millis(50));
        assert_eq!(slower, EXTENT_CLASSES[2], "what was earned is bounded by four batches, not by the share");
        assert!(slower < whole, "{slower} for 1.3 MB/s, though each batch fills an extent at once");
    }

    #[test]
    fn an_idle_segment_keeps_its_last_partial_block_only() {
        let mut segment = Segment::new(Offset(0));
        segment.publish(&[7; 5000], Reading::Soon, &mut spare(&[16 << 10]), Duration::ZERO);
        assert!(segment.evict(u64::MAX, true).is_none(), "it is dirty");
        segment.written = 5000;
        assert!(segment.evict(4999, true).is_none(), "its last byte is not settled");
        assert!(segment.evict(5000, false).is_none(), "its last extent stays while it is in use");
        assert!(segment.evict(5000, true).is_some());
        assert_eq!((segment.tail.len(), segment.cached_from()), (904, 5000));
        segment.publish(&[8; 10], Reading::Soon, &mut spare(&[16 << 10]), Duration::ZERO);
        assert_eq!(segment.cached_from(), 4096);
        let read: Vec<u8> = segment.cached(4096, 5010).iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(read, [vec![7; 904], vec![8; 10]].concat());
    }

    #[test]
    fn allocation_doubles_from_64_kib() {
        let mut segment = Segment::new(Offset(0));
        let mut steps = Vec::new();
        for end in [1, 70_000, 200_000] {
            let Allocation { position, length, .. } = segment.allocation_for(end).expect("more is needed");
            segment.allocated_to(position + length);
            steps.push((position, length));
        }
        assert_eq!(steps, [(0, 65_536), (65_536, 131_072), (196_608, 262_144)]);
        assert_eq!(segment.allocation_for(300_000), None);
    }
}
