//! The memory that a core's logs publish into: who is given an extent, and whose oldest one goes for it.
//!
//! An extent may be evicted once all of it is in its segment's file and no commit group needs it. The last one of a log
//! stays while it is written to.

use std::rc::Rc;

use flumen_ring::{CHUNK_BYTES, Region};

use crate::cache::{EXTENT_CLASSES, Holder};
use crate::core::Core;
use crate::partition::{Log, Partition};
use crate::segment::Segment;

/// Extents that one append evicts although they are being read, so that their memory is not free at once.
const READ_EVICTIONS_MAX: usize = 16;
/// Extents that are evicted for another although there is room for it, because none is ready: not each one that is evicted
/// is of the size that is asked for.
const WARM_EVICTIONS_MAX: usize = 16;
/// What they hold at most.
const WARM_EVICTED_BYTES_MAX: usize = 2 * CHUNK_BYTES;

/// So many entries of extents are looked at for each extent that is given out, once many of them have come back.
const HOLDERS_CHECKED: usize = 4;

impl Core {
    /// What each partition that is written to has of the bytes that may be dirty. Where they took much more memory than that,
    /// much of it would be used for the first time, which costs more than smaller extents and writes do.
    pub(crate) fn dirty_share(&self) -> usize {
        self.config.dirty_bytes_max / self.write_behind.partitions().max(1)
    }

    /// The largest extents below a whole chunk that partitions get for their pace, in bytes: what is at the end of a log is
    /// no more than its share.
    pub(crate) fn shared_extent_bytes_max(&self) -> usize {
        let share = self.dirty_share();
        let mut shared = EXTENT_CLASSES[..EXTENT_CLASSES.len() - 1].iter();
        *shared.rfind(|bytes| **bytes <= share).unwrap_or(&EXTENT_CLASSES[0])
    }

    /// An extent for `partition`, whose log is borrowed by the caller. Evicts the oldest clean ones if there is
    /// no room, and some of them rather than ask for memory that nobody has used yet, which costs more than the bytes
    /// that are to go there; `None` if nothing is clean, or what is clean is being read.
    pub(crate) fn take_extent(
        &self,
        partition: &Partition,
        log: &mut Log,
        bytes_wanted: usize,
    ) -> Option<Region> {
        // Who waits has the first claim to what becomes free.
        if self.is_starving() && !self.is_admitting() {
            return None;
        }
        let (mut still_read, mut evicted, mut evicted_bytes) = (0, 0, 0);
        let mut is_warm = true;
        let region = loop {
            if let Some(region) = self.cache.borrow_mut().extent(bytes_wanted) {
                break region;
            }
            let prefers_warm =
                is_warm && evicted < WARM_EVICTIONS_MAX && evicted_bytes < WARM_EVICTED_BYTES_MAX;
            if !prefers_warm && let Some(region) = self.cache.borrow_mut().heap_extent(bytes_wanted) {
                break region;
            }
            match self.evict_one(partition, log) {
                // Evicting more of what is read frees nothing either, for now.
                Some((bytes, is_free)) if is_free || still_read < READ_EVICTIONS_MAX => {
                    evicted += 1;
                    evicted_bytes += bytes;
                    still_read += usize::from(!is_free);
                }
                // Nothing is warm.
                _ if prefers_warm => is_warm = false,
                _ => break self.cache.borrow_mut().smaller_extent(bytes_wanted)?,
            }
        };
        self.check_holders(partition, log);
        let active = log.active_mut();
        let holder = Rc::downgrade(partition.inner());
        self.holders.borrow_mut().push(holder, active.base, &mut active.listing);
        Some(region)
    }

    /// Evicts the oldest clean extent; says how many bytes it had, and whether its memory is free at once. `None` if
    /// nothing is clean.
    fn evict_one(&self, own: &Partition, own_log: &mut Log) -> Option<(usize, bool)> {
        if self.nothing_clean.get() {
            return None;
        }
        let attempts = self.holders.borrow().len();
        for _ in 0..attempts {
            let Some(holder) = self.holders.borrow_mut().pop() else { break };
            match in_log_of(&holder, own, own_log, evict_from).unwrap_or(Evicted::Gone) {
                Evicted::Region { region, holds_more } => {
                    if holds_more {
                        self.holders.borrow_mut().put_last(holder);
                    }
                    let bytes = region.capacity();
                    self.holders.borrow_mut().came_back();
                    return Some((bytes, self.cache.borrow_mut().release(region)));
                }
                Evicted::InUse => self.holders.borrow_mut().put_last(holder),
                Evicted::Gone => {}
            }
        }
        self.nothing_clean.set(true);
        None
    }

    /// Drops entries of extents that have come back, if there are many.
    fn check_holders(&self, own: &Partition, own_log: &mut Log) {
        for _ in 0..HOLDERS_CHECKED {
            let Some(holder) = self.holders.borrow_mut().next_to_check() else { return };
            if in_log_of(&holder, own, own_log, still_holds).unwrap_or(false) {
                self.holders.borrow_mut().keep(holder);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn holders_known(&self) -> usize {
        self.holders.borrow().len()
    }

    /// Gives an extent's memory back.
    pub(crate) fn release(&self, region: Region) {
        self.cache.borrow_mut().release(region);
        self.holders.borrow_mut().came_back();
        self.nothing_clean.set(false);
    }

    /// Bytes became clean, or memory free: appends that wait may have room now.
    pub(crate) fn cleaned(&self) {
        self.nothing_clean.set(false);
        self.admit();
    }
}

enum Evicted {
    Region {
        region: Region,
        /// The segment has others, and no entry but this one.
        holds_more: bool,
    },
    InUse,
    Gone,
}

/// Looks into the log of a holder, which may be the one that the caller has borrowed; `None` if its partition is gone.
fn in_log_of<T>(
    holder: &Holder,
    own: &Partition,
    own_log: &mut Log,
    look: impl FnOnce(&mut Log, &Holder) -> T,
) -> Option<T> {
    let partition = holder.partition.upgrade()?;
    Some(if Rc::ptr_eq(&partition, own.inner()) {
        look(own_log, holder)
    } else {
        look(&mut partition.log.borrow_mut(), holder)
    })
}

/// The segment of an entry, unless another one has its place.
fn held_segment<'a>(log: &'a mut Log, holder: &Holder) -> Option<&'a mut Segment> {
    log.segment_mut(holder.segment).filter(|segment| holder.is_of(&segment.listing))
}

/// Evicts the oldest extent of the segment, whose entry was taken off the list.
fn evict_from(log: &mut Log, holder: &Holder) -> Evicted {
    let settled = log.settled_in(holder.segment);
    let Some(segment) = held_segment(log, holder) else { return Evicted::Gone };
    if !segment.has_extents() {
        segment.listing.entries -= 1;
        return Evicted::Gone;
    }
    let Some(region) = segment.evict(settled, false) else { return Evicted::InUse };
    // An extent that was taken for the segment before may have no entry of its own.
    let holds_more = segment.has_extents() && segment.listing.entries == 1;
    segment.listing.entries -= usize::from(!holds_more);
    Evicted::Region { region, holds_more }
}

/// Whether the segment has an extent for each of its entries. If not, the entry, which is its oldest, is of one that
/// came back.
fn still_holds(log: &mut Log, holder: &Holder) -> bool {
    let reserved = if holder.segment == log.active().base { log.spare.len() } else { 0 };
    let Some(segment) = held_segment(log, holder) else { return false };
    let is_held = segment.listing.entries <= segment.extents() + reserved;
    segment.listing.entries -= usize::from(!is_held);
    is_held
}
