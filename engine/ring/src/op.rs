//! One operation as a future that owns what the kernel uses.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use io_uring::squeue;

use crate::driver::{Completion, OnDrop, OperationKey};
use crate::reactor::Ring;

/// Nothing is asked of the kernel: a disk write ends by itself.
pub(crate) const LET_RUN: OnDrop = OnDrop { cancel: false, close_result: false };
/// The kernel is asked to cancel it: a receive may never end by itself.
pub(crate) const CANCEL: OnDrop = OnDrop { cancel: true, close_result: false };
/// As [`CANCEL`], and a result is a descriptor to be closed.
pub(crate) const CANCEL_AND_CLOSE: OnDrop = OnDrop { cancel: true, close_result: true };

/// An operation of one completion. Resolves to what the kernel answered and the resources.
pub(crate) struct Operation<T: 'static> {
    ring: Ring,
    key: OperationKey,
    on_drop: OnDrop,
    /// `None` once the completion was taken.
    resources: Option<T>,
}

// Nothing in it is pinned: the kernel's pointers lead to the heap.
impl<T> Unpin for Operation<T> {}

impl<T: 'static> Operation<T> {
    /// # Safety
    /// What `entry` points to, and the descriptor it names, are owned by `resources`, at addresses that do not
    /// change when `resources` is moved, and nothing else writes (for what the kernel reads) or touches (for
    /// what it writes) that memory until the operation has completed.
    pub(crate) unsafe fn start(ring: &Ring, entry: squeue::Entry, resources: T, on_drop: OnDrop) -> Self {
        // SAFETY: the resources are kept here, and given to `abandon` in drop; forgetting this value leaks them.
        let key = unsafe { ring.driver().borrow_mut().start(entry) };
        Self { ring: ring.clone(), key, on_drop, resources: Some(resources) }
    }

    /// Names it, for [`crate::driver::Driver::cancel`].
    pub(crate) fn key(&self) -> OperationKey {
        self.key
    }
}

impl<T: 'static> Future for Operation<T> {
    type Output = (Completion, T);
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.ring.driver().borrow_mut().poll(self.key, context.waker());
        match polled {
            Some(completion) => {
                let resources = self.resources.take().expect("an operation is not polled after it completed");
                Poll::Ready((completion, resources))
            }
            None => Poll::Pending,
        }
    }
}

impl<T: 'static> Drop for Operation<T> {
    fn drop(&mut self) {
        if let Some(resources) = self.resources.take() {
            let leftovers =
                self.ring.driver().borrow_mut().abandon(self.key, Box::new(resources), self.on_drop);
            drop(leftovers);
        }
    }
}

/// A multishot operation: many completions until the kernel ends it.
pub(crate) struct OperationStream<T: 'static> {
    ring: Ring,
    key: OperationKey,
    on_drop: OnDrop,
    resources: Option<T>,
}

impl<T: 'static> OperationStream<T> {
    /// # Safety
    /// As [`Operation::start`].
    pub(crate) unsafe fn start(ring: &Ring, entry: squeue::Entry, resources: T, on_drop: OnDrop) -> Self {
        // SAFETY: as in `Operation::start`.
        let key = unsafe { ring.driver().borrow_mut().start_stream(entry) };
        Self { ring: ring.clone(), key, on_drop, resources: Some(resources) }
    }

    /// The next completion; `None` when there will be no more: the stream is to be dropped then.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Completion>> {
        if self.resources.is_none() {
            return Poll::Ready(None);
        }
        let polled = self.ring.driver().borrow_mut().poll_stream(self.key, context.waker());
        match polled {
            Some(Some(completion)) => Poll::Ready(Some(completion)),
            Some(None) => {
                self.resources = None;
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }
}

impl<T: 'static> Drop for OperationStream<T> {
    fn drop(&mut self) {
        if let Some(resources) = self.resources.take() {
            let leftovers =
                self.ring.driver().borrow_mut().abandon(self.key, Box::new(resources), self.on_drop);
            drop(leftovers);
        }
    }
}
