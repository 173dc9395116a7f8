//! Who wants to know when there is news for readers.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Partition;
use crate::Offset;

/// The watches of one partition.
#[derive(Default)]
pub(crate) struct Watchers {
    /// How often there were news.
    version: Cell<u64>,
    next_id: Cell<u64>,
    waiting: RefCell<Vec<(u64, Waker)>>,
}

impl Watchers {
    /// There are news: everybody who waits is woken, once.
    pub(crate) fn notify(&self) {
        self.version.set(self.version.get() + 1);
        let mut waiting = self.waiting.take();
        for (_, waker) in waiting.drain(..) {
            waker.wake();
        }
        // The vector's room is kept for the next round, unless a waker came back in the meantime.
        let mut now = self.waiting.borrow_mut();
        if now.is_empty() {
            *now = waiting;
        }
    }
}

/// Completes when there may be news for a reader; see [`Partition::watch`].
pub struct Watch {
    partition: Partition,
    from: Offset,
    version: u64,
    id: Option<u64>,
}

impl Watch {
    pub(super) fn new(partition: Partition, from: Offset) -> Self {
        let version = partition.inner().watchers.version.get();
        Self { partition, from, version, id: None }
    }

    fn leave(&mut self) {
        if let Some(id) = self.id.take() {
            self.partition.inner().watchers.waiting.borrow_mut().retain(|(waiting, _)| *waiting != id);
        }
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let watchers = &this.partition.inner().watchers;
        let closed = this.partition.is_closed();
        if closed || watchers.version.get() != this.version || this.partition.high_watermark() != this.from {
            this.leave();
            return Poll::Ready(());
        }
        let mut waiting = watchers.waiting.borrow_mut();
        match this.id.and_then(|id| waiting.iter_mut().find(|(waiting, _)| *waiting == id)) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => {
                let id = watchers.next_id.get();
                watchers.next_id.set(id + 1);
                waiting.push((id, context.waker().clone()));
                drop(waiting);
                this.id = Some(id);
            }
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.leave();
    }
}
