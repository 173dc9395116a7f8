//! How tasks of one core wait for each other: a signal with one waiter, and a lock that is fair.
//!
//! No system call, no time: what is woken runs when the executor comes to it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Wakes one task. A signal that comes before the wait is kept; several are one.
#[derive(Default)]
pub struct Signal {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the waiter, or the next one that comes.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// Completes once the signal was raised, and lowers it.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| {
            if self.raised.take() {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            if !waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker())) {
                *waiter = Some(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// Any number of tasks that wait for one event, woken all at once.
#[derive(Default)]
pub struct Broadcast {
    /// How often it was raised.
    epoch: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Broadcast {
    /// Wakes all that wait now.
    pub fn raise(&self) {
        self.epoch.set(self.epoch.get() + 1);
        for waiter in self.waiters.take() {
            waiter.wake();
        }
    }

    /// Completes at the next `raise` after this call.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        let epoch = self.epoch.get();
        poll_fn(move |context| {
            if self.epoch.get() != epoch {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
    }
}

/// A lock of one core: one holder, the others in the order in which they came.
#[derive(Default)]
pub struct Turn {
    inner: Rc<TurnInner>,
}

#[derive(Default)]
struct TurnInner {
    held: Cell<bool>,
    next_ticket: Cell<u64>,
    queue: RefCell<VecDeque<(u64, Option<Waker>)>>,
}

/// Holds a [`Turn`] until it is dropped.
pub struct TurnGuard {
    inner: Rc<TurnInner>,
}

impl Turn {
    /// Takes the lock if nobody holds it or waits for it.
    pub fn try_take(&self) -> Option<TurnGuard> {
        if self.inner.held.get() || !self.inner.queue.borrow().is_empty() {
            return None;
        }
        self.inner.held.set(true);
        Some(TurnGuard { inner: self.inner.clone() })
    }

    /// Waits for its turn.
    pub fn take(&self) -> TurnWait {
        let ticket = self.inner.next_ticket.get();
        self.inner.next_ticket.set(ticket + 1);
        self.inner.queue.borrow_mut().push_back((ticket, None));
        TurnWait { inner: self.inner.clone(), ticket, done: false }
    }
}

/// The wait of [`Turn::take`]. Dropping it leaves the queue.
pub struct TurnWait {
    inner: Rc<TurnInner>,
    ticket: u64,
    done: bool,
}

impl Future for TurnWait {
    type Output = TurnGuard;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TurnGuard> {
        let inner = self.inner.clone();
        let mut queue = inner.queue.borrow_mut();
        let first = queue.front().is_some_and(|(ticket, _)| *ticket == self.ticket);
        if first && !inner.held.get() {
            queue.pop_front();
            inner.held.set(true);
            self.done = true;
            return Poll::Ready(TurnGuard { inner: inner.clone() });
        }
        let ticket = self.ticket;
        let place = queue.iter_mut().find(|(waiting, _)| *waiting == ticket);
        place.expect("a waiter is in the queue until its turn").1 = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for TurnWait {
    fn drop(&mut self) {
        if !self.done {
            self.inner.queue.borrow_mut().retain(|(ticket, _)| *ticket != self.ticket);
            self.inner.wake_first();
        }
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        self.inner.held.set(false);
        self.inner.wake_first();
    }
}

impl TurnInner {
    fn wake_first(&self) {
        if self.held.get() {
            return;
        }
        let waker = self.queue.borrow_mut().front_mut().and_then(|(_, waker)| waker.take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_turn_is_taken_in_the_order_of_asking() {
        let turn = Turn::default();
        let first = turn.try_take().expect("free");
        let mut second = Box::pin(turn.take());
        let mut third = Box::pin(turn.take());
        assert!(poll(third.as_mut()).is_none());
        assert!(poll(second.as_mut()).is_none());
        drop(first);
        assert!(poll(third.as_mut()).is_none(), "the second came before");
        assert!(turn.try_take().is_none(), "others wait");
        drop(second);
        assert!(poll(third.as_mut()).is_some());
    }

    #[test]
    fn who_gives_up_is_passed_over() {
        let turn = Turn::default();
        let first = turn.try_take().expect("free");
        let mut third = Box::pin(turn.take());
        let mut second = Box::pin(turn.take());
        let mut fourth = Box::pin(turn.take());
        assert!(poll(third.as_mut()).is_none() && poll(second.as_mut()).is_none());
        assert!(poll(fourth.as_mut()).is_none());
        drop(fourth);
        drop(first);
        assert!(poll(second.as_mut()).is_none(), "the one before it is called");
        // Called, and gone before it took its turn.
        drop(third);
        let second = poll(second.as_mut()).expect("its turn");
        assert!(poll(pin!(turn.take())).is_none());
        drop(second);
        assert!(turn.try_take().is_some(), "nobody waits any more");
    }

    #[test]
    fn a_signal_before_the_wait_is_kept() {
        let signal = Signal::default();
        signal.raise();
        signal.raise();
        assert!(poll(pin!(signal.wait())).is_some());
        assert!(poll(pin!(signal.wait())).is_none());
    }
}
