//! What stays of sealed segments because somebody used it: open files, look-ups. A bounded amount of it, the latest.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::Offset;
use crate::partition::{Partition, PartitionInner};
use crate::segment::Segment;

/// Segments that keep something in memory, oldest first.
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

struct Entry {
    partition: Weak<PartitionInner>,
    segment: Offset,
    size: usize,
}

impl Entry {
    fn is_of_same(&self, other: &Self) -> bool {
        self.segment == other.segment && self.partition.ptr_eq(&other.partition)
    }
}

impl Recent {
    /// Keeps what is of this size together, and the latest in any case.
    pub(crate) fn new(size_max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, size_max }
    }

    /// The segment keeps something of this size from now on. `let_go` has those give it up that are too much, if they
    /// are sealed. No log may be borrowed.
    pub(crate) fn note(
        &mut self,
        partition: &Partition,
        segment: Offset,
        size: usize,
        let_go: impl Fn(&mut Segment),
    ) {
        self.entries.push_back(Entry { partition: Rc::downgrade(partition.inner()), segment, size });
        self.size += size;
        while self.size > self.size_max && self.entries.len() > 1 {
            self.pop(&let_go);
        }
    }

    /// All of them give it up.
    pub(crate) fn clear(&mut self, let_go: impl Fn(&mut Segment)) {
        while !self.entries.is_empty() {
            self.pop(&let_go);
        }
    }

    fn pop(&mut self, let_go: impl Fn(&mut Segment)) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.size -= oldest.size;
        if self.entries.back().is_some_and(|latest| latest.is_of_same(&oldest)) {
            // It gave it up before, and has it again.
            return;
        }
        if let Some(partition) = oldest.partition.upgrade()
            && let Some(segment) = partition.log.borrow_mut().segment_mut(oldest.segment)
            && segment.is_sealed
        {
            let_go(segment);
        }
    }
}
