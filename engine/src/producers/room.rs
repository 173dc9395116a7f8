//! How many producers all partitions of a core keep together.

use std::cell::Cell;
use std::rc::Rc;

/// Room for producers. Whoever can connect can have any number of ids, and write with each of them to any number of
/// partitions.
///
/// While it is full, a partition that keeps more than an even share of it lets some of its own go for one that it does
/// not know. So all of them keep at most twice as many as there is room for, and one each where there are more
/// partitions than that.
#[derive(Debug)]
pub(crate) struct ProducerRoom {
    max: usize,
    kept: Cell<usize>,
}

impl ProducerRoom {
    pub(crate) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { max, kept: Cell::new(0) })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.kept.get() >= self.max
    }

    /// How many each of `partitions` may keep while it is full; at least 1.
    pub(crate) fn share(&self, partitions: usize) -> usize {
        (self.max / partitions.max(1)).max(1)
    }
}

/// What one partition keeps. It no longer counts once this is dropped.
#[derive(Debug)]
pub(crate) struct ProducersKept {
    room: Rc<ProducerRoom>,
    count: Cell<usize>,
}

impl ProducersKept {
    pub(crate) fn new(room: &Rc<ProducerRoom>, count: usize) -> Self {
        room.kept.set(room.kept.get() + count);
        Self { room: room.clone(), count: Cell::new(count) }
    }

    /// The partition keeps so many now.
    pub(crate) fn set(&self, count: usize) {
        let before = self.count.replace(count);
        self.room.kept.set(self.room.kept.get() - before + count);
    }
}

impl Drop for ProducersKept {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_with_what_all_keep() {
        let room = ProducerRoom::new(10);
        let first = ProducersKept::new(&room, 4);
        let second = ProducersKept::new(&room, 0);
        for (kept_by_second, is_full) in [(5, false), (6, true), (60, true), (5, false)] {
            second.set(kept_by_second);
            assert_eq!(room.is_full(), is_full, "{kept_by_second}");
        }
        first.set(5);
        assert!(room.is_full());
        drop(second);
        assert!(!room.is_full(), "a partition is gone");
        assert_eq!([0, 1, 3, 10, 11, 100].map(|partitions| room.share(partitions)), [10, 10, 3, 1, 1, 1]);
    }
}
