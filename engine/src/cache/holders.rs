//! Which segments hold extents, in the order in which those were given out: the oldest is evicted first.

use std::collections::VecDeque;
use std::rc::Weak;

use crate::Offset;
use crate::partition::PartitionInner;

/// Entries of extents that came back are let be up to this many beyond twice those that are out.
const PASSED_MAX: usize = 64;

/// A segment that was given an extent.
pub(crate) struct Holder {
    pub(crate) partition: Weak<PartitionInner>,
    pub(crate) segment: Offset,
    /// Of its [`Listing`]: another segment may have this base offset by now.
    number: u64,
}

impl Holder {
    /// Whether it is of the segment that has this listing.
    pub(crate) fn is_of(&self, listing: &Listing) -> bool {
        self.number == listing.number
    }
}

/// What a segment knows of its entries.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// 0 before the first one.
    number: u64,
    pub(crate) entries: usize,
}

/// One entry for each extent that was given out.
///
/// Extents come back in any order and without a look at this list. The entries that they leave are found by going
/// through all of them, a few for each that is added; so there are never many more entries than extents were out.
#[derive(Default)]
pub(crate) struct Holders {
    /// Those that were gone through in this round: all of them older than the `rest`.
    kept: VecDeque<Holder>,
    rest: VecDeque<Holder>,
    /// Extents that are out.
    extents: usize,
    /// How many listings were begun.
    listings: u64,
}

impl Holders {
    /// An extent was given to the segment with this listing.
    pub(crate) fn push(&mut self, partition: Weak<PartitionInner>, segment: Offset, listing: &mut Listing) {
        if listing.number == 0 {
            self.listings += 1;
            listing.number = self.listings;
        }
        self.extents += 1;
        listing.entries += 1;
        self.rest.push_back(Holder { partition, segment, number: listing.number });
    }

    /// An extent came back.
    pub(crate) fn came_back(&mut self) {
        self.extents -= 1;
    }

    /// Takes the oldest entry.
    pub(crate) fn pop(&mut self) -> Option<Holder> {
        self.kept.pop_front().or_else(|| self.rest.pop_front())
    }

    /// What was taken is the newest from now on.
    pub(crate) fn put_last(&mut self, holder: Holder) {
        self.rest.push_back(holder);
    }

    /// Takes the next entry to look at, if there are many more than extents; [`Holders::keep`] has it back.
    pub(crate) fn next_to_check(&mut self) -> Option<Holder> {
        if self.len() <= 2 * self.extents + PASSED_MAX {
            return None;
        }
        if self.rest.is_empty() {
            std::mem::swap(&mut self.kept, &mut self.rest);
        }
        self.rest.pop_front()
    }

    /// It is still of an extent that is out.
    pub(crate) fn keep(&mut self, holder: Holder) {
        self.kept.push_back(holder);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.kept.len() + self.rest.len()
    }
}
