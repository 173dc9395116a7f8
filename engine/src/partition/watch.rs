//! Who wants to know when there is news for readers.
//!
//! [`Watches`] belong to one reader and may stay for long. A partition tells each once and then forgets it, so
//! that a reader who does not come back costs nothing but the memory of its watches.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use super::{Partition, PartitionInner};
use crate::PartitionId;

/// What one reader watches, and what there is news of. Dropping it ends the watches.
#[derive(Default)]
pub struct Watches {
    news: Rc<News>,
    watched: BTreeMap<PartitionId, Watch>,
}

/// What a reader has not been told yet.
#[derive(Default)]
struct News {
    of: RefCell<Vec<PartitionId>>,
    waker: RefCell<Option<Waker>>,
}

/// A partition that is watched. Invariant: it is in the partition's list until there is news.
struct Watch {
    /// Weak: a deleted partition's memory does not wait for a reader who does not come back.
    partition: Weak<PartitionInner>,
    id: u64,
}

/// The watches of one partition.
#[derive(Default)]
pub(crate) struct Watchers {
    next_id: Cell<u64>,
    /// By their ids, which ascend.
    waiting: RefCell<Vec<Waiting>>,
}

struct Waiting {
    id: u64,
    news: Rc<News>,
}

impl Watches {
    /// From now on it is news when the high watermark or the log's start of `partition` moves, its leader epoch
    /// rises, or it is deleted or fails. One that is watched already stays as it is.
    pub fn watch(&mut self, partition: &Partition) {
        if self.watched.contains_key(&partition.id()) {
            return;
        }
        let watchers = &partition.inner().watchers;
        let id = watchers.next_id.get();
        watchers.next_id.set(id + 1);
        self.watched.insert(partition.id(), Watch { partition: Rc::downgrade(partition.inner()), id });
        if partition.is_closed() {
            self.news.tell(partition.id());
        } else {
            watchers.waiting.borrow_mut().push(Waiting { id, news: self.news.clone() });
        }
    }

    /// Ends the watch of a partition, if there is one.
    pub fn forget(&mut self, id: &PartitionId) {
        self.watched.remove(id);
    }

    /// How many partitions are watched.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    /// Whether no partition is watched.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// The partitions that there is news of, each once, in the order of the news. They are no longer watched.
    pub fn take_news(&mut self) -> Vec<PartitionId> {
        let mut partitions = self.news.of.take();
        partitions.retain(|id| self.watched.remove(id).is_some());
        partitions
    }

    /// Completes when there is news to take. Only the latest of these futures is woken.
    pub fn news(&self) -> impl Future<Output = ()> + use<> {
        let news = self.news.clone();
        poll_fn(move |context| {
            if !news.of.borrow().is_empty() {
                return Poll::Ready(());
            }
            *news.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
    }
}

impl News {
    fn tell(&self, id: PartitionId) {
        self.of.borrow_mut().push(id);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(partition) = self.partition.upgrade() {
            let mut waiting = partition.watchers.waiting.borrow_mut();
            if let Ok(place) = waiting.binary_search_by_key(&self.id, |waiting| waiting.id) {
                waiting.remove(place);
            }
        }
    }
}

impl Watchers {
    /// How many watch.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// There is news: everybody who waits for it is told, once.
    pub(crate) fn notify(&self, id: PartitionId) {
        let mut waiting = self.waiting.take();
        for waiting in waiting.drain(..) {
            waiting.news.tell(id);
        }
        // The vector's room is kept for the next round, unless somebody came back in the meantime.
        let mut now = self.waiting.borrow_mut();
        if now.is_empty() {
            *now = waiting;
        }
    }
}
